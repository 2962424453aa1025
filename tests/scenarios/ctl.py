"""`sipwright ctl`, run as a command against one server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class Ctl:
    """The commands of the server whose control socket is at `path`, or in that directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *words: str) -> tuple[int, str, str]:
        """Return exit status, stdout and stderr."""
        command = [sys.executable, "-m", "sipwright", "ctl", "--control", str(self.path), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    def ask(self, method: str, *params: Any) -> Any:
        """Return the result; it must be one."""
        status, out, err = self.run("--json", method, *([json.dumps(params)] if params else []))
        assert status == 0, err
        return json.loads(out)

    def refused(self, method: str, *words: str) -> str:
        """Return what a command that must fail says."""
        status, out, err = self.run(method, *words)
        assert (status, out) == (1, "")
        return err.removeprefix(f"sipwright: {method}: ").rstrip()
