"""A clock that is moved by hand: owns the time and the timers of a test, and waits for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sipwright.timerqueue import Timer, TimerQueue


class FakeClock:
    """The time of a test, in seconds, with the timers that were started on it.

    Give `clock.time` to code that wants to know the time and `clock.start_timer` to code that starts timers, then
    move on with `advance`: 32 seconds of SIP timers end in no time, each at its own moment:

        clock = FakeClock()
        clock.start_timer(32.0, print, "Timer J")
        clock.advance(32.0)  # prints
    """

    __slots__ = ("_armed", "now", "start_timer", "timers")

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.timers = TimerQueue(self.time, self._arm)
        self.start_timer: Callable[[float, Callable[[Any], object], Any], Timer] = self.timers.start
        self._armed: float | None = None

    def time(self) -> float:
        """Return the time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`; each timer that ends on the way sees the time at which it ends."""
        until = self.now + seconds
        while (when := self._armed) is not None and when <= until:
            self._expire(when)
        self.now = until

    def run(self) -> None:
        """Move on until no timer is running; for timers that start each other for ever, use `advance`."""
        while self._armed is not None and len(self.timers) > 0:
            self._expire(self._armed)

    def _expire(self, when: float) -> None:
        # A timer of a negative delay ended in the past.
        self.now = max(self.now, when)
        self._armed = None
        self.timers.expire()

    def _arm(self, when: float) -> None:
        self._armed = when
