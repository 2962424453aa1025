"""How busy the machine's processors are, from one look to the next (Linux: /proc/stat)."""

from __future__ import annotations

from pathlib import Path

STAT = Path("/proc/stat")
# Of the first line, behind `cpu`: user nice system idle iowait irq softirq steal guest ...; guest is in user already.
_COUNTED = 8
_IDLE = slice(3, 5)


class CpuLoad:
    """The load of all processors together since the last look, 0.0 to 1.0."""

    __slots__ = ("_file", "_idle", "_total")

    def __init__(self, file: Path = STAT) -> None:
        self._file = file
        self._total, self._idle = self._times()

    def look(self) -> float:
        """Return the load since the last look; 0.0 when no time has passed, or the system does not tell."""
        total, idle = self._times()
        passed, spent_idle = total - self._total, idle - self._idle
        self._total, self._idle = total, idle
        return min(1.0, max(0.0, 1.0 - spent_idle / passed)) if passed > 0 else 0.0

    def _times(self) -> tuple[int, int]:
        try:
            with self._file.open(encoding="ascii") as lines:
                times = [int(word) for word in lines.readline().split()[1 : 1 + _COUNTED]]
        except (OSError, ValueError):
            return 0, 0
        return sum(times), sum(times[_IDLE])
