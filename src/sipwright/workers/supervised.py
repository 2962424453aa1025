"""The server as its control interface sees it, when a supervisor runs it (`interface.Server`)."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sipwright.engine.commands import CommandInfo
from sipwright.timerqueue import TimerQueue
from sipwright.workers.configuration import Configuration
from sipwright.workers.control import Ask
from sipwright.workers.process import WorkerProcess
from sipwright.workers.scoreboard import Board
from sipwright.workers.slots import Slot

logger = logging.getLogger("sipwright")


class SupervisedServer:
    """The workers of a supervisor. `current` gives what is served now, `state` what the supervisor does."""

    def __init__(
        self,
        slots: Sequence[Slot],
        board: Board,
        timers: TimerQueue,
        *,
        current: Callable[[], Configuration],
        state: Callable[[], str],
        tell: Callable[[WorkerProcess, Ask], object],
        reload: Callable[[Callable[[str | None], object]], object],
    ) -> None:
        self.timers = timers
        self._slots = slots
        self._board = board
        self._current = current
        self._state = state
        self._tell = tell
        self._started = time.monotonic()
        self.reload = reload

    def script_path(self) -> str:
        """Return the file of the script."""
        return self._current().script.path

    def targets(self) -> Mapping[int, WorkerProcess | str]:
        """Return the worker of each index that serves with the current script, or why there is none."""
        return {slot.index: self._target(slot) for slot in self._slots}

    def _target(self, slot: Slot) -> WorkerProcess | str:
        generation = self._current().generation
        for process in reversed(slot.chain):
            # One that is starting carries out what it is asked once it is ready.
            if process.generation == generation and process.state in ("starting", "ready"):
                return "it does not read what it is asked" if process.is_deaf else process
        return "it is stopping" if self._state() == "stopping" else "it is being started again"

    def ask_worker(self, target: Any, message: Ask) -> None:
        """Send a worker a command."""
        self._tell(target, message)

    def worker_commands(self) -> Iterable[CommandInfo]:
        """Return the commands that a worker of the current script has told."""
        for target in self.targets().values():
            if not isinstance(target, str) and target.commands:
                return target.commands
        return []

    def processes(self) -> list[dict[str, Any]]:
        """Return a row for each process."""
        now = time.monotonic()
        rows = [
            {
                "worker": None,
                "pid": os.getpid(),
                "state": self._state(),
                "generation": self._current().generation,
                "age": round(now - self._started, 1),
            }
        ]
        rows += [_row(process, now) for slot in self._slots for process in slot.chain]
        return rows

    def totals(self) -> dict[str, int]:
        """Return the counters of all processes that there were."""
        return self._board.totals()

    def set_log_level(self, level: int) -> None:
        """Set the level of the supervisor's log."""
        logger.setLevel(level)


def _row(process: WorkerProcess, now: float) -> dict[str, Any]:
    return {
        "worker": process.index,
        "pid": process.pid,
        "state": process.state,
        "generation": process.generation,
        "age": round(now - process.started, 1),
        "heard": round(now - process.last_beat, 1),
        "transactions": process.counters.get("tm:live", 0),
        "suspended": process.counters.get("tm:suspended", 0),
    }
