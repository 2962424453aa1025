"""The log of a process: owns the way of a line from whoever logs to a sink, and what is done when the sink is slow.

A worker never waits for its log: lines go into a bounded queue, and one thread writes all that is queued in as few
calls as can be. A full queue loses lines; they are counted, and the log says how many as soon as it can. The supervisor
forks and so has no threads: it writes itself, waits a moment at the most, and then counts lines as lost too.

How lines look is logformat.py, where they go logsink.py.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sipwright.script.loglevels import level_of
from sipwright.script.services import Services
from sipwright.script.settings import Settings, parse_log_engine
from sipwright.workers.logformat import Format, Ids, JsonFormat, TextFormat
from sipwright.workers.logsink import Sink, StderrSink, SyslogSink

SYSLOG = Path("/dev/log")

# So many bytes of lines may be queued: 30,000 lines of a usual length.
MAX_QUEUED = 4 << 20
# How long the thread lets lines gather once there is one, in seconds. Each wake-up takes the interpreter from the
# worker: with one for each line, a line in a busy worker costs 20 us of CPU instead of 8 (benchmarks/transactions.py).
GATHER = 0.01
# How long the supervisor waits with a line that the system does not take, in seconds.
PATIENCE = 0.1
CLOSE_TIMEOUT = 1.0

logger = logging.getLogger("sipwright")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What a process has to know to log: see `log_settings`."""

    level: int
    to_stderr: bool
    engine: str
    flags: str
    syslog: Path
    facility: int
    name: str
    prefix: Callable[[Any], str] | None
    prefix_mode: int


def log_settings(
    settings: Settings, *, to_stderr: bool = False, engine: str | None = None, syslog: Path | None = None
) -> LogSettings:
    """Return how to log, by a script's settings and the command line.

    `to_stderr` (`-E`) is for stderr whatever the script says; so is a `syslog` (default: SYSLOG) that is not there.
    `engine` is `json` or `json:FLAGS` (`--log-engine`), None for what the script says. ArgumentError: there is no such
    engine or flag.
    """
    syslog = SYSLOG if syslog is None else syslog
    name, flags = (settings.log_engine, settings.log_engine_data) if engine is None else parse_log_engine(engine)
    return LogSettings(
        level=level_of(settings.debug),
        to_stderr=to_stderr or settings.log_stderror or not syslog.exists(),
        engine=name,
        flags=flags,
        syslog=syslog,
        facility=settings.log_facility,
        name=settings.log_name,
        prefix=settings.log_prefix,
        prefix_mode=settings.log_prefix_mode,
    )


def open_log(settings: LogSettings, worker: int | None) -> OpenLog:
    """Begin to log in this process, after it was forked: as a worker of that index, or with None as the supervisor.

    A log that was inherited is left. In a worker this starts a thread. `close()` it before the process ends.
    """
    for handler in logging.getLogger().handlers[:]:
        if isinstance(handler, OpenLog):
            if handler.pid == os.getpid():
                handler.close()
            else:
                handler.leave()
    sink: Sink = (
        StderrSink()
        if settings.to_stderr
        else SyslogSink(settings.syslog, settings.name, settings.facility, os.getpid())
    )
    opened = DirectLog(settings, sink, worker) if worker is None else QueuedLog(settings, sink, worker)
    logger.setLevel(settings.level)
    opened.enter()
    return opened


class OpenLog(logging.Handler):
    """The log of this process, as the handler of all loggers."""

    def __init__(self, settings: LogSettings, sink: Sink, worker: int | None) -> None:
        super().__init__()
        self.pid = os.getpid()
        # Lines that were not queued, counted by whoever logs; that could not be written, counted by who writes.
        self._refused = 0
        self._unwritten = 0
        self._told = 0
        self._sink = sink
        self._head = sink.head
        self._end = sink.end
        self._ids = ids = Ids(worker, settings.prefix, settings.prefix_mode)
        limit = sink.limit - len(sink.head(_record(""))) - len("\n")
        self._format: Format = (
            JsonFormat(ids, limit, flags=settings.flags, pid=self.pid)
            if settings.engine == "json"
            else TextFormat(ids, limit, has_time=not sink.has_time)
        )
        self._lines = self._format.lines
        self._machinery = _Machinery()

    def follow(self, services: Services) -> None:
        """Let lines carry the ids of what a worker handles, and `log:dropped` be one of its counters."""
        self._ids.handling = services.handling
        services.add_statistics(self.counters)

    @property
    def dropped(self) -> int:
        """How many lines were lost so far."""
        return self._refused + self._unwritten

    def counters(self) -> dict[str, int]:
        """Return what `$stat(...)` reads."""
        return {"log:dropped": self.dropped}

    def enter(self) -> None:
        """Become the log of this process."""
        self._machinery.enter()
        logging.getLogger().addHandler(self)

    def leave(self) -> None:
        """No longer be the log of this process, without a look at what is still to be written."""
        self._step_back()
        self._sink.close()

    def _step_back(self) -> None:
        logging.getLogger().removeHandler(self)
        self._machinery.leave()

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a record. Without a lock: only one thread of a worker logs, and whoever writes takes care of itself."""
        try:
            self.emit(record)
        except Exception as error:  # the boundary to whoever logs
            self.emit(_record(f"a log line could not be put together: {error!r}"))
        return True

    def _lost_lines(self) -> list[bytes]:
        """Return the lines that tell how many lines were lost since the last time."""
        dropped = self.dropped
        count, self._told = dropped - self._told, dropped
        lines = "line was" if count == 1 else "lines were"
        return self._whole_lines(_record(f"{count} log {lines} lost: the log could not be written fast enough"))

    def _whole_lines(self, record: logging.LogRecord) -> list[bytes]:
        head, end = self._head(record), self._end
        return [head + line + end for line in self._lines(record)]


class DirectLog(OpenLog):
    """The log of a process without threads."""

    def __init__(self, settings: LogSettings, sink: Sink, worker: int | None) -> None:
        super().__init__(settings, sink, worker)
        self._is_patient = True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or lose it when it is not taken within PATIENCE; after that at once, until one is taken."""
        lines = deque(self._whole_lines(record))
        until = time.monotonic() + PATIENCE if self._is_patient else 0.0
        told = self._told
        if self.dropped > told and self._write(deque(self._lost_lines()), until):
            self._told = told
            self._unwritten += len(lines)
        else:
            self._unwritten += self._write(lines, until)

    def _write(self, lines: deque[bytes], until: float) -> int:
        """Write lines, up to the first that is not taken; return how many are lost."""
        while lines:
            piece, count = self._sink.take(lines)
            self._is_patient = self._sink.write(piece, lambda: time.monotonic() < until)
            if not self._is_patient:
                return count + len(lines)
        return 0

    def close(self) -> None:
        """Stop logging."""
        self.leave()
        super().close()


class QueuedLog(OpenLog):
    """The log of a worker: its lines are written by a thread."""

    def __init__(self, settings: LogSettings, sink: Sink, worker: int | None) -> None:
        super().__init__(settings, sink, worker)
        self._queue: deque[bytes] = deque()
        # Bytes that ever were queued, counted by whoever logs, and that were taken off again, counted by the thread.
        self._queued = 0
        self._taken = 0
        self._is_awake = False
        self._wake = threading.Event()
        self._give_up_at = math.inf
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or lose it when the queue is full. Never waits."""
        head, end = self._head(record), self._end
        for line in self._lines(record):
            whole = head + line + end
            if self._queued - self._taken > MAX_QUEUED:
                self._refused += 1
                continue
            self._queued += len(whole)
            self._queue.append(whole)
        # After the line is queued: the thread looks into the queue after it has said that it sleeps.
        if not self._is_awake:
            self._is_awake = True
            self._wake.set()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write what is queued, for `timeout` seconds at the most, and stop logging."""
        if self._is_closed:
            return
        self._step_back()
        self._give_up_at = time.monotonic() + timeout
        self._is_closed = True
        self._wake.set()
        self._thread.join(timeout + 1.0)
        if not self._thread.is_alive():
            self._sink.close()
        super().close()

    # ---- the thread

    def _run(self) -> None:
        while not self._is_closed:
            self._wake.wait()
            self._wake.clear()
            if not self._is_closed:
                time.sleep(GATHER)
            self._write_all()
            self._is_awake = False
            if self._queue:
                self._is_awake = True
                self._wake.set()
        self._write_all()

    def _write_all(self) -> None:
        queue, sink = self._queue, self._sink
        while queue:
            piece, count = sink.take(queue)
            self._taken += len(piece)
            if not sink.write(piece, self._may_wait):
                self._unwritten += count
            elif self.dropped > self._told:
                for line in self._lost_lines():
                    sink.write(line, self._may_wait)

    def _may_wait(self) -> bool:
        return time.monotonic() < self._give_up_at


class _Machinery:
    """What Python writes to stderr by itself, made part of the log, and what makes logging cheaper.

    Where in our own source a line was logged, and by which thread and process, is what nobody asks for; without it a
    line costs 1.7 us up to our handler instead of 3.3 (Python's logging HOWTO, "Optimization").
    """

    def __init__(self) -> None:
        self._flags: dict[str, Any] = {}
        self._hook = sys.unraisablehook

    def enter(self) -> None:
        """Begin."""
        self._flags = {name: getattr(logging, name) for name in _FLAGS}
        for name in _FLAGS:
            setattr(logging, name, None)
        logging.captureWarnings(True)
        self._hook, sys.unraisablehook = sys.unraisablehook, _log_unraisable

    def leave(self) -> None:
        """Put everything back."""
        if self._flags:
            for name, value in self._flags.items():
                setattr(logging, name, value)
            logging.captureWarnings(False)
            sys.unraisablehook = self._hook
            self._flags = {}


# The last one came with Python 3.12.
_FLAGS = [
    name
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")
    if hasattr(logging, name)
]


def _log_unraisable(found: Any) -> None:
    what = found.err_msg or "Exception ignored in"
    logger.error("%s: %r", what, found.object, exc_info=(found.exc_type, found.exc_value, found.exc_traceback))


def _record(text: str) -> logging.LogRecord:
    made = logging.LogRecord(logger.name, logging.WARNING, "", 0, text, (), None)
    # Of no message: the thread must not look at what the worker handles meanwhile.
    made.__dict__["about"] = None
    return made
