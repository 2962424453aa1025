from __future__ import annotations

import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context, Handling
from sipwright.script.loglevels import DAEMON
from sipwright.script.settings import Settings
from sipwright.sip.message import Request
from sipwright.sip.parse import parse
from sipwright.workers import log
from sipwright.workers.log import DirectLog, LogSettings, OpenLog, QueuedLog, log_settings, open_log
from sipwright.workers.logsink import MayWait, StderrSink

SETTINGS = LogSettings(logging.INFO, True, "", "", Path("/nowhere"), DAEMON, "sipwright", None, 0)

logger = logging.getLogger("sipwright")


class SlowSink:
    """Takes nothing while it is `stuck`, and everything else at once."""

    limit = 4096
    end = b"\n"
    has_time = True

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pieces = 0
        self.stuck = False
        self.closed = False
        self.asked = 0.0

    def head(self, record: logging.LogRecord) -> bytes:
        return b""

    def take(self, queue: deque[bytes]) -> tuple[bytes, int]:
        lines = list(queue)
        queue.clear()
        return b"".join(lines), len(lines)

    def write(self, piece: bytes, may_wait: MayWait) -> bool:
        began = time.monotonic()
        while self.stuck:
            if not may_wait():
                self.asked = time.monotonic() - began
                return False
            time.sleep(0.005)
        self.pieces += 1
        self.lines += piece.decode().splitlines()
        return True

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _log_is_put_back() -> Iterator[None]:
    root, level = logging.getLogger(), logger.level
    before = root.handlers[:]
    yield
    for handler in root.handlers[:]:
        if isinstance(handler, OpenLog):
            handler.close()
    logger.setLevel(level)
    assert root.handlers == before
    assert logging.logThreads


@pytest.fixture
def sink() -> SlowSink:
    return SlowSink()


def opened(made: Any) -> Any:
    """Make a log that of this process."""
    logger.setLevel(logging.INFO)
    made.enter()
    return made


@pytest.fixture
def queued(sink: SlowSink) -> QueuedLog:
    made: QueuedLog = opened(QueuedLog(SETTINGS, sink, 0))
    return made


@pytest.fixture
def direct(sink: SlowSink) -> DirectLog:
    made: DirectLog = opened(DirectLog(SETTINGS, sink, None))
    return made


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def has_lines(sink: SlowSink, count: int) -> bool:
    return len(sink.lines) == count


# A worker's


def test_lines_of_a_worker_are_written_by_a_thread_in_their_order(queued: QueuedLog, sink: SlowSink) -> None:
    for number in range(100):
        logger.info("line %d", number)
    until(lambda: len(sink.lines) == 100)
    assert sink.lines == [f"INFO [w0] line {number}" for number in range(100)]
    assert sink.pieces < 10
    assert queued.dropped == 0


def test_a_line_that_comes_after_a_pause_is_written_too(queued: QueuedLog, sink: SlowSink) -> None:
    for count in range(1, 6):
        logger.info("line")
        until(partial(has_lines, sink, count))
        time.sleep(0.03)


def test_whoever_logs_never_waits_and_a_full_queue_says_later_what_it_lost(
    queued: QueuedLog, sink: SlowSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAX_QUEUED", 1000)
    sink.stuck = True
    logger.info("first")
    until(lambda: queued._taken)
    slowest = 0.0
    for _ in range(200):
        began = time.monotonic()
        logger.info("x" * 50)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 0.1
    kept = 200 - queued.dropped
    assert 10 < kept < 30
    lost = queued.dropped
    sink.stuck = False
    until(lambda: len(sink.lines) == 1 + kept + 1)
    assert sink.lines[1] == f"WARNING [w0] {lost} log lines were lost: the log could not be written fast enough"
    assert queued.counters() == {"log:dropped": lost}
    logger.info("last")
    until(lambda: sink.lines[-1] == "INFO [w0] last")
    assert sum("lost" in line for line in sink.lines) == 1


def test_one_line_that_was_lost_is_one_line(queued: QueuedLog, sink: SlowSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_QUEUED", 0)
    sink.stuck = True
    logger.info("a")
    logger.info("b")
    sink.stuck = False
    until(lambda: len(sink.lines) == 2)
    assert sink.lines[1] == "WARNING [w0] 1 log line was lost: the log could not be written fast enough"


def test_closing_writes_what_is_queued(queued: QueuedLog, sink: SlowSink) -> None:
    for number in range(50):
        logger.info("line %d", number)
    queued.close()
    assert len(sink.lines) == 50
    assert sink.closed
    assert queued not in logging.getLogger().handlers
    queued.close()


def test_closing_waits_a_bounded_time(queued: QueuedLog, sink: SlowSink) -> None:
    sink.stuck = True
    logger.info("never")
    began = time.monotonic()
    queued.close(0.2)
    assert 0.2 <= time.monotonic() - began < 0.7
    assert queued.dropped == 1
    assert not queued._thread.is_alive()


def test_a_log_that_cannot_be_written_to_counts_its_lines(sink: SlowSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "write", lambda _piece, _may_wait: False)
    made = opened(QueuedLog(SETTINGS, sink, 0))
    logger.info("one")
    logger.info("two")
    until(lambda: made.dropped == 2)


def test_lines_of_several_threads_all_arrive(queued: QueuedLog, sink: SlowSink) -> None:
    def write(name: str) -> None:
        for number in range(200):
            logger.info("%s %d", name, number)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queued.close()
    assert len(sink.lines) == 800
    assert len(set(sink.lines)) == 800


def test_a_log_follows_the_worker_it_belongs_to(queued: QueuedLog, sink: SlowSink) -> None:
    sources: list[Callable[[], dict[str, int]]] = []
    handling = Handling()
    queued.follow(SimpleNamespace(handling=handling, add_statistics=sources.append))
    assert sources[0]() == {"log:dropped": 0}
    message = parse(
        b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
        b"To: <sip:a@b>\r\nCall-ID: abc@host\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
    assert isinstance(message, Request)
    no_socket: Any = None
    with handling.of(Context(message, ("127.0.0.1", 5070), no_socket, RouteKind.REQUEST)):
        logger.info("inside")
        queued._refused = 1
        until(lambda: len(sink.lines) == 2)
    logger.info("outside")
    queued.close()
    assert sink.lines == [
        "INFO [w0 abc@host z9hG4bK1] inside",
        # The thread tells it, and belongs to no message.
        "WARNING [w0] 1 log line was lost: the log could not be written fast enough",
        "INFO [w0] outside",
    ]


# The supervisor's


def test_the_supervisor_has_no_thread_and_writes_at_once(direct: DirectLog, sink: SlowSink) -> None:
    logger.warning("worker 1 has ended")
    assert sink.lines == ["WARNING [main] worker 1 has ended"]
    assert not any(thread.name == "log" for thread in threading.enumerate())


def test_the_supervisor_waits_a_moment_once_and_says_later_what_was_lost(direct: DirectLog, sink: SlowSink) -> None:
    sink.stuck = True
    logger.info("first\nsecond")
    assert sink.asked >= log.PATIENCE
    logger.info("third")
    assert sink.asked < log.PATIENCE / 2
    assert direct.counters() == {"log:dropped": 3}
    sink.stuck = False
    logger.info("last")
    assert sink.lines == [
        "WARNING [main] 3 log lines were lost: the log could not be written fast enough",
        "INFO [main] last",
    ]
    sink.stuck = True
    logger.info("lost")
    assert sink.asked >= log.PATIENCE


def test_a_forked_process_leaves_the_log_that_it_inherited() -> None:
    script = """
import logging, os, sys
from sipwright.script.settings import Settings
from sipwright.workers.log import log_settings, open_log
settings = log_settings(Settings())
main = open_log(settings, None)
log = logging.getLogger("sipwright")
log.info("before")
pid = os.fork()
if pid == 0:
    mine = open_log(settings, 3)
    log.info("forked")
    mine.close()
    os._exit(0)
os.waitpid(pid, 0)
log.info("after")
main.close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    lines = [line.partition(" INFO ")[2] for line in done.stderr.splitlines()]
    assert lines == ["[main] before", "[w3] forked", "[main] after"]


# Both


def test_opening_a_log_again_closes_the_one_before(capfd: pytest.CaptureFixture[str]) -> None:
    open_log(SETTINGS, 0)
    logger.info("one")
    second = open_log(SETTINGS, 1)
    logger.info("two")
    second.close()
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(" INFO ")[2] for line in lines] == ["[w0] one", "[w1] two"]


def test_lines_of_other_loggers_warnings_and_forgotten_errors_go_to_the_log(queued: QueuedLog, sink: SlowSink) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("in a finalizer")

    logging.getLogger("asyncio").error("Task was destroyed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # pytest has put its own in the place of ours
        warnings.warn("old", RuntimeWarning, stacklevel=1)
    Broken()
    gc.collect()
    queued.close()
    text = "\n".join(sink.lines)
    assert "ERROR [w0] Task was destroyed" in text
    assert "RuntimeWarning: old" in text
    assert "ERROR [w0] ValueError: in a finalizer" in text


def test_a_line_that_cannot_be_put_together_says_so_and_harms_nobody(queued: QueuedLog, sink: SlowSink) -> None:
    logger.info("wrong", extra={"about": 5})
    queued.close()
    assert len(sink.lines) == 1
    assert "a log line could not be put together: AttributeError" in sink.lines[0]


# How to log


def test_the_command_line_wins_over_the_script(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    script = Settings(log_stderror=False, log_engine="json", log_engine_data="M", debug=3)
    assert log_settings(script, syslog=path) == LogSettings(
        logging.DEBUG, False, "json", "M", path, DAEMON, "sipwright", None, 0
    )
    settings = log_settings(script, to_stderr=True, engine="json:j", syslog=path)
    assert (settings.to_stderr, settings.engine, settings.flags) == (True, "json", "j")


def test_without_a_syslog_daemon_the_log_goes_to_stderr(tmp_path: Path) -> None:
    assert log_settings(Settings(log_stderror=False), syslog=tmp_path / "nobody").to_stderr


def test_an_unknown_engine_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="unknown log engine 'xml'"):
        log_settings(Settings(), engine="xml")


def test_a_process_that_forgets_to_close_its_log_still_writes_it() -> None:
    script = (
        "import logging; from sipwright.script.settings import Settings\n"
        "from sipwright.workers.log import log_settings, open_log\n"
        "open_log(log_settings(Settings()), 0); logging.getLogger('sipwright').info('last words')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stderr.endswith("INFO [w0] last words\n")


def test_a_full_pipe_holds_neither_worker_nor_supervisor_up() -> None:
    reader, writer = os.pipe()
    try:
        with contextlib.closing(StderrSink(writer)) as filler:
            while filler.write(b"x" * 1000 + b"\n", lambda: False):
                pass
        worker = QueuedLog(SETTINGS, StderrSink(writer), 0)
        main = DirectLog(SETTINGS, StderrSink(writer), None)
        record = logging.LogRecord("sipwright", logging.INFO, "", 0, "x" * 1000, None, None)
        began = time.monotonic()
        for _ in range(20_000):
            worker.handle(record)
        for _ in range(100):
            main.handle(record)
        assert time.monotonic() - began < 5
        assert worker.dropped > 10_000
        assert main.dropped == 100
        worker.close(0.1)
        main.close()
        assert time.monotonic() - began < 7
    finally:
        os.close(reader)
        os.close(writer)
