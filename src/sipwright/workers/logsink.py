"""Where lines of the log go: owns the stderr and the syslog of a process, and never waits longer than it is told to.

A sink takes whole lines and gives them to the system in as few calls as keep lines of several processes apart. What
the system does not take at once is tried again as long as `may_wait()` is true.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sipwright.script.loglevels import ALERT, BUG, NOTICE

# How long a sink waits for the system before it asks again whether it may, in seconds.
SLICE = 0.05
# So much the system writes to a pipe in one piece, whoever else writes there (POSIX: at least 512).
PIPE_BUF = min(select.PIPE_BUF, 4096)
# As much in one piece goes through a Unix stream socket, such as the journal's.
SOCKET_CHUNK = 1 << 14
FILE_CHUNK = 1 << 18
# The longest line for a file or terminal: a SIP message of a datagram fits, with all its escapes.
LONG_LINE = 1 << 17
# What syslog daemons take by default (rsyslog: 8 KiB).
SYSLOG_LINE = 8192

# RFC 5424 section 6.2.1; Kamailio's BUG is syslog's crit.
_SEVERITIES = {
    ALERT: 1,
    BUG: 2,
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    NOTICE: 5,
    logging.INFO: 6,
    logging.DEBUG: 7,
}

MayWait = Callable[[], bool]


class Sink(Protocol):
    """Takes lines, each with its head and end.

    `limit` is how many bytes a line may have, all included; `has_time` tells that it knows the time itself.
    """

    limit: int
    end: bytes
    has_time: bool

    def head(self, record: logging.LogRecord) -> bytes:
        """Return what stands before each line of a record."""

    def take(self, queue: deque[bytes]) -> tuple[bytes, int]:
        """Take what goes out in one piece off a queue that is not empty; return it, and how many lines it is."""

    def write(self, piece: bytes, may_wait: MayWait) -> bool:
        """Write one piece. False: it is lost."""

    def close(self) -> None:
        """Let the system's resources go."""


class StderrSink:
    """The standard error of this process, whatever that is: terminal, pipe, socket or file.

    What is read by somebody else may be full for ever. Setting it to non-blocking would set it so for all processes
    that have it, the shell too; so it is opened again, where that gives a description of its own, and otherwise
    (sockets) sent to with a flag. Where neither can be, the system is asked before each write.
    """

    end = b"\n"

    def __init__(self, fd: int = 2) -> None:
        self.has_time = _is_journal(fd)
        self._socket: socket.socket | None = None
        self._fd = -1
        self._asks_first = False
        self._chunk = self.limit = PIPE_BUF
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            return  # it is closed: every line is lost
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
            self._fd = self._socket.fileno()
            self._chunk = self.limit = SOCKET_CHUNK
        elif stat.S_ISREG(mode):
            # Not opened again: the place in the file is shared.
            self._fd = os.dup(fd)
            self._chunk, self.limit = FILE_CHUNK, LONG_LINE
        else:
            self._fd, self._asks_first = _open_again(fd)
            if not stat.S_ISFIFO(mode):
                self.limit = LONG_LINE

    def head(self, record: logging.LogRecord) -> bytes:
        """Return the severity, if this is the journal (sd-daemon(3)): `<6>`."""
        return b"<%d>" % severity_of(record.levelno) if self.has_time else b""

    def take(self, queue: deque[bytes]) -> tuple[bytes, int]:
        """Take as many lines as fit into one piece."""
        lines = [queue.popleft()]
        room = self._chunk - len(lines[0])
        while queue and len(queue[0]) <= room:
            line = queue.popleft()
            lines.append(line)
            room -= len(line)
        return b"".join(lines), len(lines)

    def write(self, piece: bytes, may_wait: MayWait) -> bool:
        """Write one piece."""
        rest = memoryview(piece)
        while rest:
            try:
                written = self._write(rest)
            except BlockingIOError:
                written = 0
            except OSError:
                return False
            rest = rest[written:]
            if rest and not written:
                if not may_wait():
                    return False
                _poll(self._fd, SLICE)
        return True

    def _write(self, data: memoryview) -> int:
        if self._fd < 0:
            raise OSError(errno.EBADF, "stderr is closed")
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._asks_first and not _poll(self._fd, 0):
            return 0
        return os.write(self._fd, data)

    def close(self) -> None:
        """Close what was opened here; stderr itself stays as it is."""
        if self._socket is not None:
            self._socket.close()
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class SyslogSink:
    """The local syslog daemon, over its Unix datagram socket: one datagram a line.

    A daemon that is restarted is found again; one that does not read is waited for.
    """

    limit = SYSLOG_LINE
    end = b""
    has_time = True

    def __init__(self, path: Path, name: str, facility: int, pid: int) -> None:
        self._path = str(path)
        self._tag = f"{name}[{pid}]: ".encode()
        self._facility = facility
        self._socket = self._connected()

    def head(self, record: logging.LogRecord) -> bytes:
        """Return priority, name and process id; a record's attribute `facility` is another one."""
        facility: int = record.__dict__.get("facility", self._facility)
        return b"<%d>%b" % (facility * 8 + severity_of(record.levelno), self._tag)

    def take(self, queue: deque[bytes]) -> tuple[bytes, int]:
        """Take one line."""
        return queue.popleft(), 1

    def write(self, piece: bytes, may_wait: MayWait) -> bool:
        """Send one line."""
        while True:
            for _ in range(2):
                if self._socket is None:
                    self._socket = self._connected()
                if self._socket is None:
                    break
                try:
                    self._socket.send(piece)
                except OSError as error:
                    if error.errno == errno.EMSGSIZE:
                        return False
                    if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                        break
                    # The daemon has gone; perhaps another one listens now.
                    self.close()
                else:
                    return True
            if not may_wait():
                return False
            if self._socket is None:
                time.sleep(SLICE)
            else:
                _poll(self._socket.fileno(), SLICE)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket | None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.connect(self._path)
        except OSError:
            made.close()
            return None
        return made


def severity_of(level: int) -> int:
    """Return syslog's severity for a level of `logging`."""
    found = _SEVERITIES.get(level)
    return found if found is not None else min((s for at, s in _SEVERITIES.items() if at <= level), default=7)


def _is_journal(fd: int) -> bool:
    """Tell whether a descriptor leads to the systemd journal (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _open_again(fd: int) -> tuple[int, bool]:
    """Return a non-blocking descriptor of what `fd` leads to, and whether it is to be asked before each write."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), False
    except OSError:
        # There is no /proc, or it belongs to another user: asking first is nearly as good.
        return os.dup(fd), True


def _poll(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))
