"""Timers of a handful of fixed delays (L0): owns the order in which they end, not the clock that ends them.

Protocol timers (RFC 3261 section 17, RPC deadlines) have few different delays, so the timers of one delay end in the
order in which they were started: one deque per delay, a timer is appended, and a cancelled one is dropped when it
comes to the front. A heap holds the moment of each deque's front, so that any number of different delays works too:
an odd one costs a deque while it runs. Starting and ending cost under half the price of `loop.call_later`
(benchmarks/timers.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

# While `expire` runs it will arm the next moment itself: nothing is earlier than this.
_EXPIRING = float("-inf")


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
    """Timers by delays, in seconds.

    `clock` tells the time in seconds and never goes back. `arm(when)` is called when the earliest moment at which
    `expire()` has to be called moves forward; the owner then calls `expire()` at that time (late calls are harmless).
    When `expire` returns, the next moment has been armed again. `tick` is the least time, in seconds, from one
    `expire` to the next that it arms: with thousands of timers a second they end in batches, each at most `tick` late.
    """

    __slots__ = ("_arm", "_armed", "_clock", "_deques", "_fronts", "_tick")

    def __init__(self, clock: Callable[[], float], arm: Callable[[float], object], tick: float = 0.0) -> None:
        self._clock = clock
        self._arm = arm
        self._tick = tick
        self._armed: float | None = None
        self._deques: dict[float, deque[Timer]] = {}
        # (moment of the front, delay) of each deque; a front that was cancelled keeps its moment.
        self._fronts: list[tuple[float, float]] = []

    def start(self, delay: float, callback: Callable[[Any], object], argument: Any = None) -> Timer:
        """Start a timer that calls `callback(argument)` after `delay` seconds."""
        when = self._clock() + delay
        timer = Timer(when, callback, argument)
        try:
            self._deques[delay].append(timer)
        except KeyError:
            self._deques[delay] = deque((timer,))
            heappush(self._fronts, (when, delay))
            armed = self._armed
            if armed is None or when < armed:
                self._armed = when
                self._arm(when)
        return timer

    def expire(self) -> None:
        """End every timer whose time has come, the earliest first, and arm the next moment.

        An exception of a callback passes through; the other timers end at the next call, which is armed.
        """
        now = self._clock()
        fronts = self._fronts
        self._armed = _EXPIRING
        try:
            while fronts and fronts[0][0] <= now:
                delay = heappop(fronts)[1]
                # Up to here this deque goes first; then another one's front is earlier.
                until = fronts[0][0] if fronts and fronts[0][0] < now else now
                timers = self._deques[delay]
                try:
                    _end(timers, until)
                finally:
                    if timers:
                        heappush(fronts, (timers[0].when, delay))
                    else:
                        del self._deques[delay]
        finally:
            self._armed = None
            if fronts:
                self._armed = when = max(fronts[0][0], now + self._tick)
                self._arm(when)

    def __len__(self) -> int:
        """Return how many timers are running; counts them one by one, so it is for tests and statistics."""
        return sum(1 for timers in self._deques.values() for timer in timers if timer.callback is not None)


def _end(timers: deque[Timer], until: float) -> None:
    while timers:
        timer = timers[0]
        callback = timer.callback
        if callback is None:
            timers.popleft()
        elif timer.when <= until:
            timers.popleft()
            argument = timer.argument
            # The argument often holds the timer: let go of it, so that no cycle is left.
            timer.callback = timer.argument = None
            callback(argument)
        else:
            return
