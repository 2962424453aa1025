"""The notices of all workers, as the supervisor keeps them: owns which ones hold, and for whom.

A notice goes with the process that has put it up. A lasting one stays for all processes of its generation (reload),
whoever has put it up: workers that are started in place of others find it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sipwright.workers.control import Notice
from sipwright.workers.process import WorkerProcess

# More than anything needs: what a module puts up should not grow with what it does.
MAX_NOTICES = 100_000


@dataclass(slots=True)
class _Kept:
    value: bytes | None
    stamp: int


class Noticeboard:
    """Which notices there are."""

    def __init__(self) -> None:
        self._lasting: dict[int, dict[str, _Kept]] = {}
        self._passing: dict[str, tuple[WorkerProcess, bytes]] = {}

    def put(self, process: WorkerProcess, notice: Notice) -> bool:
        """Take a notice of a worker. True: the others are to be told of it."""
        if notice.is_lasting:
            return self._put_lasting(process.generation, notice)
        known = self._passing.get(notice.name)
        if notice.value is None:
            if known is None or known[0] is not process:
                return False
            del self._passing[notice.name]
            return True
        if len(self._passing) >= MAX_NOTICES and known is None:
            return False
        self._passing[notice.name] = process, notice.value
        return known is None or known[1] != notice.value

    def _put_lasting(self, generation: int, notice: Notice) -> bool:
        notices = self._lasting.setdefault(generation, {})
        known = notices.get(notice.name)
        if known is None:
            if len(notices) >= MAX_NOTICES:
                return False
            notices[notice.name] = _Kept(notice.value, notice.stamp)
            return notice.value is not None
        if notice.stamp < known.stamp:
            # Of an earlier command, which this worker has carried out later than others did.
            return False
        known.stamp = notice.stamp
        if known.value == notice.value:
            return False
        known.value = notice.value
        return True

    def is_for(self, notice: Notice, process: WorkerProcess, by: WorkerProcess) -> bool:
        """Tell whether a notice that one process has put up is for another one."""
        return process is not by and (not notice.is_lasting or process.generation == by.generation)

    def seen_by(self, generation: int) -> dict[str, bytes]:
        """Return the notices for a process that is started."""
        lasting = self._lasting.get(generation, {})
        notices = {name: kept.value for name, kept in lasting.items() if kept.value is not None}
        return {**notices, **{name: value for name, (_, value) in self._passing.items()}}

    def lasting(self, generation: int) -> list[str]:
        """Return the names of what commands have changed in a generation."""
        return sorted(name for name, kept in self._lasting.get(generation, {}).items() if kept.value is not None)

    def left(self, process: WorkerProcess) -> Iterator[str]:
        """Take away what a process that has ended had put up; give the names."""
        gone = [name for name, (by, _) in self._passing.items() if by is process]
        for name in gone:
            del self._passing[name]
            yield name

    def forget(self, is_alive: set[int]) -> None:
        """Forget what was for generations that have no process any more."""
        for generation in self._lasting.keys() - is_alive:
            del self._lasting[generation]
