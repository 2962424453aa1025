from __future__ import annotations

import fcntl
import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sipwright.script.loglevels import ALERT, BUG, DAEMON, NOTICE
from sipwright.workers.logsink import PIPE_BUF, SYSLOG_LINE, StderrSink, SyslogSink, severity_of


def no_time() -> bool:
    return False


def seconds(count: float) -> Callable[[], bool]:
    """Return a `may_wait` that is true for so long."""
    end = time.monotonic() + count
    return lambda: time.monotonic() < end


def record(level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("sipwright", level, "", 0, "", None, None)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def fill(sink: StderrSink) -> int:
    """Write until nothing more is taken; return how many bytes were."""
    line = b"x" * 1023 + b"\n"
    count = 0
    while sink.write(line, no_time):
        count += len(line)
    return count


# stderr


def test_a_pipe_that_nobody_reads_is_not_waited_for(pipe: tuple[int, int]) -> None:
    sink = StderrSink(pipe[1])
    assert fill(sink) >= PIPE_BUF
    began = time.monotonic()
    assert not sink.write(b"y\n", seconds(0.1))
    assert 0.1 <= time.monotonic() - began < 1
    sink.close()


def test_a_pipe_that_is_read_again_takes_what_waited(pipe: tuple[int, int]) -> None:
    sink = StderrSink(pipe[1])
    written = fill(sink)
    threading.Timer(0.1, os.read, (pipe[0], written)).start()
    assert sink.write(b"y\n", seconds(5))
    assert os.read(pipe[0], 100) == b"y\n"
    sink.close()


def test_others_who_have_the_same_pipe_keep_waiting_for_it(pipe: tuple[int, int]) -> None:
    sink = StderrSink(pipe[1])
    assert not fcntl.fcntl(pipe[1], fcntl.F_GETFL) & os.O_NONBLOCK
    assert fcntl.fcntl(sink._fd, fcntl.F_GETFL) & os.O_NONBLOCK
    sink.close()
    os.write(pipe[1], b"still open")


def test_a_pipe_that_cannot_be_opened_again_is_asked_before_each_write(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        sink = StderrSink(pipe[1])
    assert fill(sink) >= PIPE_BUF
    assert not sink.write(b"y\n", seconds(0.06))
    sink.close()


def test_a_pipe_that_nobody_can_read_any_more_loses_lines() -> None:
    reader, writer = os.pipe()
    sink = StderrSink(writer)
    os.close(reader)
    assert not sink.write(b"x\n", seconds(10))
    sink.close()
    os.close(writer)


def test_without_stderr_every_line_is_lost() -> None:
    sink = StderrSink(987)
    assert sink.head(record()) == b""
    assert not sink.write(b"x\n", seconds(10))
    sink.close()


def test_a_file_is_written_to_where_others_have_left_it(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(b"before\n")
        sink = StderrSink(file.fileno())
        assert sink.write(b"x" * 100_000 + b"\n", no_time)
        sink.close()
        file.write(b"after\n")
    lines = (tmp_path / "log").read_bytes().split(b"\n")
    assert [len(line) for line in lines] == [6, 100_000, 5, 0]


def test_a_socket_that_nobody_reads_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sink = StderrSink(ours.fileno())
        assert fill(sink) > 0
        assert ours.getblocking()
        theirs.recv(1 << 22)
        assert sink.write(b"y\n", seconds(5))
        sink.close()


def test_the_journal_is_told_the_severity_and_needs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = os.fstat(ours.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        sink = StderrSink(ours.fileno())
        assert sink.has_time
        assert sink.head(record(logging.WARNING)) == b"<4>"
        sink.close()
        monkeypatch.setenv("JOURNAL_STREAM", "1:2")
        other = StderrSink(ours.fileno())
        assert not other.has_time
        assert other.head(record()) == b""
        other.close()


def test_as_many_lines_as_a_pipe_takes_in_one_piece_go_together(pipe: tuple[int, int]) -> None:
    sink = StderrSink(pipe[1])
    line = b"x" * (PIPE_BUF // 4 - 1) + b"\n"
    queue = deque([line] * 5)
    assert sink.take(queue) == (line * 4, 4)
    assert sink.take(queue) == (line, 1)
    assert not queue
    sink.close()


WRITER = """
import sys
from collections import deque
from sipwright.workers.logsink import StderrSink
letter = sys.argv[1].encode()
sink = StderrSink()
sizes = [7, 100, 900, sink.limit - 1]
queue = deque(letter * size + b"\\n" for _ in range(int(sys.argv[2])) for size in sizes)
print("ready", flush=True)
sys.stdin.read()
while queue:
    assert sink.write(sink.take(queue)[0], lambda: True)
"""


@pytest.mark.scenario
@pytest.mark.parametrize(("kind", "rounds"), [("pipe", 1000), ("socket", 500), ("file", 100)])
def test_lines_of_several_processes_are_never_torn(kind: str, rounds: int, tmp_path: Path) -> None:
    ours: socket.socket | None = None
    if kind == "pipe":
        reader, writer = os.pipe()
    elif kind == "socket":
        ours, theirs = socket.socketpair()
        reader, writer = ours.fileno(), theirs.detach()
    else:
        writer = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    gate, opener = os.pipe()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, letter, str(rounds)], stdin=gate, stdout=subprocess.PIPE, stderr=writer
        )
        for letter in "abc"
    ]
    os.close(writer)
    os.close(gate)
    for process in started:
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"ready\n"
    # From now on they all write.
    os.close(opener)
    if kind == "file":
        assert [process.wait(30) for process in started] == [0, 0, 0]
        data = (tmp_path / "log").read_bytes()
    else:
        data = b"".join(iter(lambda: os.read(reader, 1 << 16), b""))
        assert [process.wait(30) for process in started] == [0, 0, 0]
    if ours is not None:
        ours.close()
    elif kind == "pipe":
        os.close(reader)
    lines = data.split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == 3 * 4 * rounds
    assert all(len(set(line)) == 1 for line in lines)
    # They were at work at the same time, or this would show nothing.
    assert len([1 for one, two in itertools.pairwise(lines) if one[:1] != two[:1]]) > 2


# syslog


class Daemon:
    """A syslog daemon that keeps what it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start()

    def start(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(5)

    def stop(self) -> None:
        self.socket.close()
        self.path.unlink()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "log")
    yield made
    made.socket.close()


def test_a_line_to_syslog_is_a_datagram_with_priority_name_and_process(daemon: Daemon) -> None:
    sink = SyslogSink(daemon.path, "sip", DAEMON, 4711)
    other = record()
    other.__dict__["facility"] = 17
    assert sink.head(record(NOTICE)) == b"<29>sip[4711]: "
    assert sink.head(other) == b"<142>sip[4711]: "
    queue = deque([sink.head(record(NOTICE)) + b"hello", b"more"])
    piece, count = sink.take(queue)
    assert sink.write(piece, no_time)
    assert (daemon.socket.recv(100), count, len(queue)) == (b"<29>sip[4711]: hello", 1, 1)
    sink.close()


def test_a_syslog_daemon_that_was_restarted_is_found_again_at_once(daemon: Daemon) -> None:
    sink = SyslogSink(daemon.path, "sip", DAEMON, 1)
    daemon.stop()
    assert not sink.write(b"lost", no_time)
    daemon.start()
    assert sink.write(b"first", no_time)
    daemon.stop()
    daemon.start()
    assert sink.write(b"second", no_time)
    assert daemon.socket.recv(100) == b"second"
    sink.close()


def test_a_syslog_daemon_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    sink = SyslogSink(tmp_path / "log", "sip", DAEMON, 1)
    made: list[Daemon] = []
    timer = threading.Timer(0.1, lambda: made.append(Daemon(tmp_path / "log")))
    timer.start()
    assert sink.write(b"hello", seconds(5))
    timer.join()
    assert made[0].socket.recv(100) == b"hello"
    sink.close()
    made[0].socket.close()


def test_a_syslog_daemon_that_does_not_read_is_not_waited_for(daemon: Daemon) -> None:
    sink = SyslogSink(daemon.path, "sip", DAEMON, 1)
    while sink.write(b"x" * 1000, no_time):
        pass
    began = time.monotonic()
    assert not sink.write(b"y", seconds(0.1))
    assert time.monotonic() - began < 1
    while daemon.socket.recv(2000) != b"x" * 1000:
        pass
    assert sink.write(b"z", seconds(5))
    sink.close()


def test_a_line_that_is_too_long_for_a_datagram_is_lost_and_the_next_one_is_not(daemon: Daemon) -> None:
    sink = SyslogSink(daemon.path, "sip", DAEMON, 1)
    assert not sink.write(b"x" * (1 << 20), seconds(5))
    assert sink.write(b"x" * SYSLOG_LINE, no_time)
    sink.close()


@pytest.mark.parametrize(
    ("level", "severity"),
    [(ALERT, 1), (BUG, 2), (logging.CRITICAL, 2), (logging.ERROR, 3), (NOTICE, 5), (logging.DEBUG, 7), (35, 4), (5, 7)],
)
def test_levels_have_a_severity_levels_in_between_that_of_the_lower_one(level: int, severity: int) -> None:
    assert severity_of(level) == severity
