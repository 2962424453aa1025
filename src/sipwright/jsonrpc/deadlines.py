"""The deadlines of pending calls (L0): owns which call ends when, not the clock that says so.

Calls have few different timeouts, so the calls of one timeout end in the order in which they were made: one table per
timeout, in that order, from which a call that ended is taken out again. `sipwright.timerqueue` orders protocol timers
in the same way but keeps a cancelled timer until its time comes: at 100,000 calls a second with a timeout of 5 s, half
a million of them, which the garbage collector visits again and again.

Whoever computes timeouts from the time that is left uses a new one for each call; a table for each would make every
look at the tables as long as there are calls (10,000 unanswered ones: 0.9 s of CPU, so 0.1). So beyond `MAX_EXACT`
tables, calls of similar timeouts share one, and end late by up to a sixteenth of their timeout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

MAX_EXACT = 64


class Timed(Protocol):
    """What a call has to have: its deadline, and the table it is in (`del call.table[call]` takes it out)."""

    when: float
    table: dict[Any, None]


C = TypeVar("C", bound=Timed)


class Deadlines(Generic[C]):
    """Calls by their timeout, in seconds.

    `clock` tells the time in seconds. `over(call)` is called for a call whose time is over, after it was taken out.
    `arm(when)` is called when the earliest moment at which `expire()` has to be called moves forward; the owner then
    calls `expire()` at that time (late calls are harmless).
    """

    __slots__ = ("_arm", "_armed", "_clock", "_over", "_tables")

    def __init__(self, clock: Callable[[], float], arm: Callable[[float], object], over: Callable[[C], object]) -> None:
        self._clock = clock
        self._arm = arm
        self._over = over
        self._armed = float("inf")
        self._tables: dict[float, dict[C, None]] = {}

    def start(self, timeout: float, call: C) -> float:
        """Give a call so many seconds; return the present time."""
        now = self._clock()
        call.when = when = now + timeout
        try:
            table = self._tables[timeout]
        except KeyError:
            table = self._new_table(timeout)
        table[call] = None
        call.table = table
        if when < self._armed:
            self._armed = when
            self._arm(when)
        return now

    def _new_table(self, timeout: float) -> dict[C, None]:
        if len(self._tables) >= MAX_EXACT and math.isfinite(timeout):
            fraction, exponent = math.frexp(timeout)
            timeout = math.ldexp(math.ceil(fraction * 32), exponent - 5)
        return self._tables.setdefault(timeout, {})

    def expire(self) -> None:
        """End every call whose time is over, and arm the next moment."""
        now = self._clock()
        self._armed = float("inf")
        ended: list[C] = []
        for timeout, table in list(self._tables.items()):
            if not table:
                del self._tables[timeout]
            for call in table:
                if call.when > now:
                    self._arm_earlier(call.when)
                    break
                ended.append(call)
        for call in ended:
            # A call before this one may have led to its end.
            if call in call.table:
                del call.table[call]
                self._over(call)

    def _arm_earlier(self, when: float) -> None:
        if when < self._armed:
            self._armed = when
            self._arm(when)

    def calls(self) -> list[C]:
        """Return those whose time is not over."""
        return [call for table in self._tables.values() for call in table]

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))
