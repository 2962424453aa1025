"""Real commands as a scenario runs them: Kamailio, sipwright and SIPp, each in a process group of its own.

A process is started on loopback ports that were free a moment before, its output goes to a file, and each is a
context manager: entering starts it and waits until it is ready, leaving ends its whole group, also when the test
fails, and asserts that it ended. Nothing here knows what a scenario is about.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from sipwright.redis.resp import Decoder, Word, encode_command

HOST = "127.0.0.1"
READY_SECONDS = 15.0
STOP_SECONDS = 5.0
SIPP_SCENARIOS = Path(__file__).parent / "sipp"


def require_program(name: str) -> str:
    """Return the path of a program; without it the test is skipped, or fails where `CI` is set."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed, and CI must have it")
        pytest.skip(f"{name} is not installed")
    return path


def require_kamailio_module(name: str) -> None:
    """As `require_program`, for a module that Debian has in a package of its own."""
    require_program("kamailio")
    places = ("lib*/kamailio/modules", "lib*/*/kamailio/modules")
    if not any(file for place in places for file in Path("/usr").glob(f"{place}/{name}.so")):
        if os.environ.get("CI"):
            pytest.fail(f"Kamailio's module {name} is not installed, and CI must have it")
        pytest.skip(f"Kamailio's module {name} is not installed")


def require_package(name: str) -> None:
    """As `require_program`, for a Python package; the extra `dev` has it."""
    if importlib.util.find_spec(name) is None:
        if os.environ.get("CI"):
            pytest.fail(f"the package {name} is not installed, and CI must have it")
        pytest.skip(f"the package {name} is not installed")


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Return a port of loopback that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class RunningProcess:
    """A command in a process group of its own, with its output in `log_file`.

    Subclasses say in `is_ready` when it serves; the base is ready at once.
    """

    popen: subprocess.Popen[bytes]

    def __init__(
        self,
        command: Sequence[str],
        log_file: Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = list(command)
        self.log_file = log_file
        self.cwd = cwd
        self.environment = {**os.environ, **(environment or {})}

    def __enter__(self) -> Self:
        with self.log_file.open("wb") as log:
            self.popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.cwd,
                env=self.environment,
                start_new_session=True,
            )
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = self.stop()
        if error is None:
            assert ended, f"{self.command[0]} did not end within {STOP_SECONDS:.0f} s of SIGTERM:\n{self.log[-3000:]}"

    @property
    def log(self) -> str:
        """All that the process has written so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def is_ready(self) -> bool:
        return True

    def wait_until_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait for `is_ready`; fail with the process's output when it ends or takes too long."""
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            if self.popen.poll() is not None:
                pytest.fail(f"{self.command[0]} ended with status {self.popen.returncode}:\n{self.log[-3000:]}")
            if time.monotonic() > deadline:
                pytest.fail(f"{self.command[0]} was not ready within {seconds:.0f} s:\n{self.log[-3000:]}")
            time.sleep(0.02)

    def wait_for_log(self, text: str, count: int = 1, seconds: float = 10.0) -> None:
        """Wait until the process has written a text so many times."""
        self.wait_until(lambda: self.log.count(text) >= count, f"{text!r} was not logged {count} times", seconds)

    def wait_until(self, is_so: Callable[[], bool], otherwise: str, seconds: float = 10.0) -> None:
        """Wait for a condition; fail with `otherwise` and the process's output when it takes too long."""
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > deadline:
                pytest.fail(f"{otherwise} within {seconds:.0f} s:\n{self.log[-3000:]}")
            time.sleep(0.01)

    def send_signal(self, number: signal.Signals) -> None:
        """Send the process, and no other of its group, a signal."""
        self.popen.send_signal(number)

    def send_signal_to_group(self, number: signal.Signals) -> None:
        """Send the whole group a signal, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)

    def wait(self, seconds: float) -> int:
        """Wait for the process's own end; return its exit status."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.command[0]} did not end within {seconds:.0f} s:\n{self.log[-3000:]}")

    def stop(self) -> bool:
        """Ask the process to end and wait for it, then kill what is left of its group; return whether it obeyed."""
        self.send_signal_to_group(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP_SECONDS)
        obeyed = self.popen.poll() is not None
        self.kill()
        return obeyed

    def kill(self) -> None:
        """End the whole group at once."""
        self.send_signal_to_group(signal.SIGKILL)
        self.popen.wait(STOP_SECONDS)


class SipServerProcess(RunningProcess):
    """A SIP server under test: it listens at `address` and is ready when it answers one OPTIONS with 2xx.

    The script must answer `OPTIONS sip:ready@...` with 200; `scripts.py` writes scripts that do.
    """

    def __init__(
        self,
        command: Sequence[str],
        log_file: Path,
        port: int,
        host: str = HOST,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(command, log_file, environment=environment)
        self.address = (host, port)

    def is_ready(self) -> bool:
        probe = (
            f"OPTIONS sip:ready@{HOST} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {HOST}:9;branch=z9hG4bK{time.monotonic_ns():x};rport\r\n"
            f"From: <sip:probe@{HOST}>;tag=probe\r\nTo: <sip:ready@{HOST}>\r\n"
            f"Call-ID: probe-{time.monotonic_ns():x}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n"
            "Content-Length: 0\r\n\r\n"
        )
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(0.1)
            client.connect(self.address)
            try:
                client.send(probe.encode())
                return client.recv(4096).startswith(b"SIP/2.0 2")
            except OSError:
                return False


class KamailioProcess(SipServerProcess):
    """Kamailio in the foreground with one UDP worker and the given script."""

    def __init__(self, cfg_text: str, directory: Path) -> None:
        kamailio = require_program("kamailio")
        config, port = directory / "kamailio.cfg", free_port()
        config.write_text(cfg_text, encoding="utf-8")
        super().__init__(
            [
                kamailio,
                "-DD",
                "-E",
                "-m",
                "64",
                "-M",
                "8",
                "-Y",
                str(directory),
                "-f",
                str(config),
                "-l",
                f"udp:{HOST}:{port}",
            ],
            directory / "kamailio.log",
            port,
        )


@dataclass(frozen=True)
class Statistics:
    """The counters that a server of ours logs: of each worker by its process id, and of all that there were.

    `indices` are the workers' indices by process id; with a reload under way an index has several processes.
    """

    workers: dict[int, dict[str, int]]
    indices: dict[int, int]
    totals: dict[str, int]


class SipwrightProcess(SipServerProcess):
    """Our server, run by the interpreter that runs the tests; it is ready when all workers are.

    `program` stands in the place of `-m sipwright`.
    """

    def __init__(
        self,
        cfg_text: str,
        directory: Path,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        host: str = HOST,
        port: int | None = None,
        program: Sequence[str] = ("-m", "sipwright"),
    ) -> None:
        self.config = directory / "sipwright.cfg"
        self.rewrite(cfg_text)
        port = port or free_port()
        listen = f"udp:[{host}]:{port}" if ":" in host else f"udp:{host}:{port}"
        command = [sys.executable, *program, "run", "-E", "-f", str(self.config), "-l", listen, *arguments]
        super().__init__(command, directory / "sipwright.log", port, host, environment)

    def is_ready(self) -> bool:
        return " is ready on " in self.log and super().is_ready()

    def rewrite(self, cfg_text: str) -> None:
        """Put another script in the place of the one that the server runs; it reads either of them, never a half."""
        written = self.config.with_suffix(".new")
        written.write_text(cfg_text, encoding="utf-8")
        written.replace(self.config)

    def reload(self, *, is_good: bool = True) -> None:
        """Have the script read again, and wait until the server says that it was, or that it was not."""
        text = "INFO [main] reloaded " if is_good else "the script was not reloaded, nothing has changed"
        before = self.log.count(text)
        self.send_signal(signal.SIGHUP)
        self.wait_for_log(text, before + 1)

    def statistics(self) -> Statistics:
        """Have the counters logged, and read them; they are a second old at most."""
        end = "INFO [main] statistics: "
        before = self.log.count(end)
        self.send_signal(signal.SIGUSR1)
        self.wait_until(lambda: self.log.count(end) > before, "no statistics")
        lines = self.log.split(end)
        blocks = _STATISTICS.findall(lines[before])
        return Statistics(
            workers={int(pid): _counters(text) for _index, pid, text in blocks},
            indices={int(pid): int(index) for index, pid, _text in blocks},
            totals=_counters(lines[before + 1].partition("\n")[0]),
        )

    def workers(self) -> dict[int, int]:
        """Return the process id of each index's worker; there must be one of each."""
        indices = self.statistics().indices
        assert len(set(indices.values())) == len(indices), f"an index has several processes: {indices}"
        return {index: pid for pid, index in indices.items()}


_STATISTICS = re.compile(r"INFO \[main\] statistics of worker (\d+) \(pid (\d+)\): ?(.*)")


def _counters(text: str) -> dict[str, int]:
    return {name: int(number) for name, _, number in (word.rpartition("=") for word in text.split())}


class PythonProcess(RunningProcess):
    """A Python file, run by the interpreter that runs the tests; it is ready when it has printed `ready_text`."""

    def __init__(self, file: Path, arguments: Sequence[str], log_file: Path, ready_text: str) -> None:
        super().__init__([sys.executable, "-u", str(file), *arguments], log_file)
        self.ready_text = ready_text

    def is_ready(self) -> bool:
        return self.ready_text in self.log


class RedisProcess(RunningProcess):
    """A Redis server that keeps nothing on disk, on a port that it has again when it is started again."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        program = require_program("redis-server")
        self.port = free_port(socket.SOCK_STREAM)
        self.url = f"redis://{HOST}:{self.port}/0"
        command = [program, "--port", str(self.port), "--bind", HOST, "--save", "", "--appendonly", "no"]
        super().__init__([*command, "--dir", str(directory), *arguments], directory / "redis.log")

    def is_ready(self) -> bool:
        try:
            # An error when it wants a password.
            return self.run("PING") is not None
        except OSError:
            return False

    def run(self, *words: Word, db: int = 0) -> Any:
        """Carry out a command on a connection of its own, and return its reply."""
        with socket.create_connection((HOST, self.port), timeout=3) as connection:
            replies = self._exchange(connection, [("SELECT", db), words])
            return replies[1]

    def _exchange(self, connection: socket.socket, commands: Sequence[Sequence[Word]]) -> list[Any]:
        connection.sendall(b"".join(map(encode_command, commands)))
        decoder, replies = Decoder(), list[Any]()
        while len(replies) < len(commands):
            data = connection.recv(65536)
            if not data:
                raise OSError("closed by the server")
            replies += decoder.feed(data)
        return replies


class SippProcess(RunningProcess):
    """SIPp as a client, with one of the scenarios of `sipp/` (named without `.xml`) against a server's address.

    It ends by itself after `calls` calls, status 0 when all of them went as the scenario says. `messages` is what it
    sent and received. `service` is the user part of the requests' URI.
    """

    def __init__(
        self,
        scenario: str,
        server: tuple[str, int],
        directory: Path,
        calls: int = 1,
        rate: int = 100,
        service: str = "service",
    ) -> None:
        sipp = require_program("sipp")
        self.message_file = directory / f"sipp-{scenario}-messages.log"
        command = [sipp, f"{server[0]}:{server[1]}", "-sf", str(SIPP_SCENARIOS / f"{scenario}.xml")]
        command += ["-i", HOST, "-p", str(free_port()), "-m", str(calls), "-r", str(rate), "-nostdin", "-s", service]
        command += ["-timeout", "20s", "-timeout_error", "-trace_msg", "-message_file", str(self.message_file)]
        command += ["-trace_err", "-error_file", str(directory / f"sipp-{scenario}-errors.log")]
        super().__init__(command, directory / f"sipp-{scenario}.log", cwd=directory)

    @property
    def messages(self) -> str:
        """The trace of all messages, as SIPp writes it."""
        return self.message_file.read_text(encoding="utf-8", errors="replace")
