"""A script module of a third party that makes trouble in a worker's start, as a file says that can change meanwhile.

It is installed into a folder of its own, as pip would do it: a Python file and what says its entry point.
"""

from __future__ import annotations

from pathlib import Path

SOURCE = '''
import os
import signal
import time
from pathlib import Path

from sipwright.errors import ArgumentError, StartError
from sipwright.script.module import Module, Param


class Nuisance(Module):
    """Does what the file says, in `init` or in a worker whose index is in `workers`."""

    name = "nuisance"
    file = Param(str, "")
    workers = Param(str, "0123456789")

    def mod_init(self):
        self.obey("init")

    def child_init(self, services):
        super().child_init(services)
        if str(services.worker) in self.workers:
            self.obey("child")

    async def destroy(self):
        self.obey("destroy")

    def obey(self, when):
        text = Path(self.file).read_text() if os.path.exists(self.file) else ""
        stage, _, order = text.partition(" ")
        if stage != when:
            return
        if order == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif order == "fail":
            raise StartError("the nuisance has no licence")
        elif order == "raise":
            raise RuntimeError("the nuisance is broken")
        elif order.startswith("nap "):
            time.sleep(float(order[4:]))
'''


class Nuisance:
    """The installed module. `environment` has to be that of the server, `script` the lines of its head."""

    def __init__(self, directory: Path) -> None:
        site, self._file = directory / "site", directory / "orders"
        info = site / "nuisance-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "nuisance_module.py").write_text(SOURCE)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nuisance\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[sipwright.modules]\nnuisance = nuisance_module:Nuisance\n")
        self.environment = {"PYTHONPATH": str(site)}
        self.head = f'loadmodule "nuisance.so"\nmodparam("nuisance", "file", "{self._file}")\n'

    def orders(self, text: str) -> None:
        """Say what it does from now on: `init`, `child` or `destroy`, and `die`, `fail`, `raise` or `nap SECONDS`."""
        self._file.write_text(text)
