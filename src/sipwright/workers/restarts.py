"""When a worker that died is started again: owns the delays, and when it is time to give up."""

from __future__ import annotations

# A worker that dies within this time after it was ready is started again with a delay, lest it does nothing but start.
QUICK_SECONDS = 2.0
FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
# So many of one index that die, one after another, before they are ready: it is not going to work.
MOST_FAILURES = 5


class Restarts:
    """The deaths of one index's workers."""

    __slots__ = ("_failures", "_quick")

    def __init__(self) -> None:
        self._failures = 0
        self._quick = 0

    def died(self, lifetime: float | None) -> float | None:
        """Take note of a death, `lifetime` seconds after the worker was ready, None: it never was.

        Return in how many seconds to start another one; None: give up.
        """
        if lifetime is not None and lifetime >= QUICK_SECONDS:
            self._failures = self._quick = 0
            return 0.0
        self._failures = self._failures + 1 if lifetime is None else 0
        if self._failures >= MOST_FAILURES:
            return None
        self._quick += 1
        # The first one is not made to wait: a worker can be killed in its first seconds, too.
        return 0.0 if self._quick == 1 else min(FIRST_DELAY * 2.0 ** (self._quick - 2), LONGEST_DELAY)
