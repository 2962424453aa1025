"""The server as its control interface sees it, when it is one process without supervisor (`-D`)."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sipwright.engine.commands import CommandInfo
from sipwright.engine.services import WorkerServices
from sipwright.errors import ArgumentError
from sipwright.workers.answering import Answering, add_worker_commands
from sipwright.workers.clients import AsyncClients
from sipwright.workers.control import Ask
from sipwright.workers.interface import Interface, Target
from sipwright.workers.privileges import Identity
from sipwright.workers.socketfile import open_control
from sipwright.workers.streams import OpenStreams


class LoneServer:
    """A worker that serves its own control interface."""

    def __init__(
        self, script_path: str, services: WorkerServices, loop: asyncio.AbstractEventLoop, version: str
    ) -> None:
        self.timers = services.timers
        self.index = services.worker
        self.pid = os.getpid()
        self._script_path = script_path
        self._services = services
        self._loop = loop
        self._started = time.monotonic()
        self._streams = OpenStreams()
        self._directory: Path | None = None
        services.private_directory = self._private_directory
        add_worker_commands(services, _do_nothing)
        self._answering = Answering(services, loop)
        self._interface = Interface(self, version)

    def open_streams(self, addresses: Sequence[str]) -> None:
        """Open the listening sockets that modules want. StartError: one of them cannot be opened."""
        self._streams.open(addresses, Identity())
        self._services.streams = self._streams.of(addresses)

    def close(self) -> None:
        """Close them, and remove the server's own directory."""
        self._streams.keep(())
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _private_directory(self) -> Path:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="sipwright-"))
        return self._directory

    async def open_control(self, path: str, runtime_directory: Path | None) -> OpenControl:
        """Begin to serve: at a path, at the default for an empty text, nowhere for `none`. StartError: it cannot be."""
        clients = AsyncClients(self._loop, self._interface.ask)
        file = open_control(path, Identity(), runtime_directory)
        if file is not None:
            await clients.listen(file.socket)
        return OpenControl(clients, _do_nothing if file is None else file.remove)

    def script_path(self) -> str:
        """Return the file of the script."""
        return self._script_path

    def targets(self) -> Mapping[int, Target | str]:
        """Return this process."""
        return {self.index: self}

    def ask_worker(self, target: Target, message: Ask) -> None:
        """Carry out a command of the worker, in the next turn of the loop: whoever asks has to be ready for it."""
        done = partial(self._interface.answered, target, message.number)
        self._loop.call_soon(self._answering.run, message.number, message.name, message.params, done)

    def worker_commands(self) -> Iterable[CommandInfo]:
        """Return the commands that the worker knows."""
        return self._services.commands

    def processes(self) -> list[dict[str, Any]]:
        """Return the row of this process."""
        counters = self._services.statistics()
        return [
            {
                "worker": self.index,
                "pid": self.pid,
                "state": "ready",
                "generation": 0,
                "age": round(time.monotonic() - self._started, 1),
                "heard": 0.0,
                "transactions": counters.get("tm:live", 0),
                "suspended": counters.get("tm:suspended", 0),
            }
        ]

    def reload(self, _done: Callable[[str | None], object], /) -> object:
        """Refuse: there is nobody who could start another process."""
        raise ArgumentError("a server that runs with -D cannot read its script anew: start it again")

    def totals(self) -> dict[str, int]:
        """Return the counters."""
        return self._services.statistics()

    def set_log_level(self, level: int) -> None:
        """Set the level of the log."""
        logging.getLogger("sipwright").setLevel(level)


class OpenControl:
    """The control interface while it is served."""

    def __init__(self, clients: AsyncClients, remove: Callable[[], object]) -> None:
        self._clients = clients
        self._remove = remove

    def close(self) -> None:
        """Disconnect everybody, and remove the socket's file."""
        self._clients.close()
        self._remove()


def _do_nothing() -> None:
    pass
