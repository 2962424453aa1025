"""Timers of a handful of fixed delays (L0): owns the order in which they end, not the clock that ends them.

Protocol timers (RFC 3261 section 17, RPC deadlines) have few different delays, so the timers of one delay end in the
order in which they were started: one deque per delay, a timer is appended, and a cancelled one is dropped when it
comes to the front. Starting and cancelling cost under half a microsecond against two for `loop.call_later`
(benchmarks/timers.py). Delays that are not among the usual ones work too; they only cost a deque each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any


class Timer:
    """A started timer. `cancel()` it once it is not wanted; cancelling an ended one does nothing."""

    __slots__ = ("argument", "callback", "when")

    def __init__(self, when: float, callback: Callable[[Any], object], argument: Any) -> None:
        self.when = when
        self.callback: Callable[[Any], object] | None = callback
        self.argument: Any = argument

    def cancel(self) -> None:
        """Make sure that the timer does not end; what it holds is let go at once."""
        self.callback = None
        self.argument = None


class TimerQueue:
    """Timers by fixed delays, in seconds.

    `clock` tells the time in seconds. `arm(when)` is called when the earliest moment at which `expire()` has to be
    called moves forward; the owner then calls `expire()` at that time (late calls are harmless). When `expire`
    returns, the next moment has been armed again.
    """

    __slots__ = ("_armed", "_arm", "_clock", "_deques")

    def __init__(self, clock: Callable[[], float], arm: Callable[[float], object]) -> None:
        self._clock = clock
        self._arm = arm
        self._armed: float | None = None
        self._deques: dict[float, deque[Timer]] = {}

    def start(self, delay: float, callback: Callable[[Any], object], argument: Any = None) -> Timer:
        """Start a timer that calls `callback(argument)` after `delay` seconds."""
        when = self._clock() + delay
        timer = Timer(when, callback, argument)
        try:
            self._deques[delay].append(timer)
        except KeyError:
            self._deques[delay] = deque((timer,))
        armed = self._armed
        if armed is None or when < armed:
            self._armed = when
            self._arm(when)
        return timer

    def expire(self) -> None:
        """End every timer whose time has come, in the order of their delays, and arm the next moment."""
        now = self._clock()
        self._armed = None
        earliest: float | None = None
        for delay in list(self._deques):
            timers = self._deques[delay]
            while timers:
                timer = timers[0]
                callback = timer.callback
                if callback is not None:
                    if timer.when > now:
                        if earliest is None or timer.when < earliest:
                            earliest = timer.when
                        break
                    timer.callback = None
                    timers.popleft()
                    callback(timer.argument)
                else:
                    timers.popleft()
            if not timers:
                del self._deques[delay]
        if earliest is not None and (self._armed is None or earliest < self._armed):
            self._armed = earliest
            self._arm(earliest)

    def __len__(self) -> int:
        """Return how many timers are running; counts them one by one, so it is for tests and statistics."""
        return sum(1 for timers in self._deques.values() for timer in timers if timer.callback is not None)
