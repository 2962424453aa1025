"""A worker process as the supervisor sees it: owns the fork, the control connection and how its end is told."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Literal, Protocol, TypeAlias

from sipwright.engine.commands import CommandInfo
from sipwright.errors import ParseError
from sipwright.workers.control import FromWorker, FromWorkers, ToWorker, pack

# starting: forked. ready: its modules have started. retiring: a successor has taken over. abandoned: of a reload that
# came to nothing, killed. stopping: told to end. drained: it has nothing left to do.
State: TypeAlias = Literal["starting", "ready", "retiring", "abandoned", "stopping", "drained"]

_MAX_READ = 64 * 1024
# What may wait for a worker that does not read. It still gets what it has to obey.
MAX_WAITING = 4 << 20


class Closable(Protocol):
    """What a child closes because it is the supervisor's."""

    def close(self) -> None:
        """Close it."""


class WorkerProcess:
    """A forked worker of one index and one generation (reload).

    `place` is its place on the scoreboard. `heir` are the ends of the way to its successor: out, which is the worker's,
    and in, which the successor inherits. `started` and `last_beat` are the times (seconds) when it was forked and last
    heard of; `counters` its last ones, `commands` those that it knows. `has_hung_up`: it says nothing any more.
    """

    __slots__ = (
        "_messages",
        "_waiting",
        "commands",
        "control",
        "counters",
        "generation",
        "has_hung_up",
        "heir",
        "index",
        "is_reported",
        "last_beat",
        "pid",
        "place",
        "ready_at",
        "started",
        "state",
    )

    def __init__(
        self, index: int, generation: int, place: int, heir: tuple[socket.socket, socket.socket], now: float
    ) -> None:
        self.index = index
        self.place = place
        self.generation = generation
        self.heir = heir
        self.pid = 0
        self.control: socket.socket
        self.started = self.last_beat = now
        self.ready_at: float | None = None
        self.counters: dict[str, int] = {}
        self.commands: list[CommandInfo] = []
        self.state: State = "starting"
        # Whether its silence was reported.
        self.is_reported = False
        self.has_hung_up = False
        self._messages = FromWorkers()
        self._waiting = bytearray()

    def fork(self, run: Callable[[socket.socket], int], inherited: Iterable[Closable]) -> None:
        """Start the process: it closes `inherited`, runs `run(control)`, and ends with the status that this returns."""
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal for the supervisor that comes to the child in its first moments must not be told to the supervisor.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self.pid = os.fork()
        if self.pid == 0:
            _become_worker(run, theirs, [ours, *inherited], blocked)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        ours.setblocking(False)
        self.control = ours

    def tell(self, message: ToWorker) -> None:
        """Send the worker a message, or have it wait (`is_waiting`); one that has ended gets nothing."""
        self._waiting += pack(message)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the worker takes it now."""
        try:
            while self._waiting:
                del self._waiting[: self.control.send(self._waiting)]
        except BlockingIOError:
            return
        except OSError:
            # Its end is noticed elsewhere.
            self._waiting.clear()

    @property
    def is_waiting(self) -> bool:
        """Whether messages wait for the worker to read."""
        return bool(self._waiting)

    @property
    def is_deaf(self) -> bool:
        """Whether the worker has not read for so long that nothing should be asked of it."""
        return len(self._waiting) > MAX_WAITING

    def listen(self) -> list[FromWorker]:
        """Return what the worker says now."""
        messages: list[FromWorker] = []
        try:
            while data := self.control.recv(_MAX_READ):
                messages += self._messages.feed(data)
        except BlockingIOError:
            return messages
        except (OSError, ParseError):
            # As if it had hung up: nothing that it says can be understood any more.
            pass
        self.has_hung_up = True
        return messages

    def kill(self) -> None:
        """End the process at once; it cannot refuse."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def close(self) -> None:
        """Let go what the supervisor has of an ended process."""
        self.control.close()
        for end in self.heir:
            end.close()

    def __str__(self) -> str:
        return f"worker {self.index} (pid {self.pid})"


def describe_end(status: int) -> str:
    """Say how a process ended, from what waitpid() gives."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _become_worker(
    run: Callable[[socket.socket], int],
    control: socket.socket,
    inherited: Iterable[Closable],
    unblocked: Iterable[signal.Signals | int],
) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for thing in inherited:
            thing.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        status = run(control)
    finally:
        # Whatever was raised was logged by `run`; nothing of the supervisor's may run here.
        os._exit(status)
