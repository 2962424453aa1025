from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

from sipwright.cli.main import main
from sipwright.sip.build import reply
from sipwright.sip.message import Request
from sipwright.sip.parse import parse


class Output(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., Output]


@pytest.fixture
def _log_is_put_back() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "sipwright", "sipwright.jsonrpc")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def command(_log_is_put_back: None, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `sipwright` in this process."""

    def run(*arguments: str) -> Output:
        capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Output(status, captured.out, captured.err)

    return run


class Process:
    """`sipwright` as a process of its own that has said `ready`."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self._popen = subprocess.Popen([sys.executable, "-m", "sipwright", *arguments], stdout=file, stderr=file)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        deadline = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.log)
            if found:
                return found
            assert self._popen.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self._popen.send_signal(number)

    def wait(self, timeout: float = 10.0) -> int:
        return self._popen.wait(timeout)

    def end(self) -> None:
        self._popen.kill()
        self._popen.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start `sipwright` as a process and wait for a text in its output; it is ended after the test."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str, is_ready: str = "ready") -> Process:
            process = Process(arguments, tmp_path / f"log-{os.urandom(4).hex()}")
            stack.callback(process.end)
            process.wait_for(is_ready)
            return process

        yield begin


@pytest.fixture
def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Uas:
    """A SIP server in a thread: `answer(request)` returns what is sent, as (status, reason) pairs."""

    def __init__(self, answer: Callable[[Request], Sequence[tuple[int, str]]]) -> None:
        self._answer = answer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.requests: list[Request] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while True:
            data, source = self._socket.recvfrom(65535)
            if not data:
                return
            request = parse(data)
            assert isinstance(request, Request)
            self.requests.append(request)
            for status, reason in self._answer(request):
                self._socket.sendto(reply(request, status, reason, source=source, to_tag="uas"), source)

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()


@pytest.fixture
def make_uas() -> type[Uas]:
    return Uas
