"""Deadlines of calls: a clock that is told what time it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sipwright.jsonrpc.deadlines import Deadlines


class Call:
    def __init__(self, name: str = "") -> None:
        self.name = name
        self.when = 0.0
        self.table: dict[Call, None] = {}


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.armed: list[float] = []
        self.over: list[Call] = []
        self.deadlines: Deadlines[Call] = Deadlines(lambda: self.now, self.armed.append, self.end)
        self.takes_along: Call | None = None

    def end(self, call: Call) -> None:
        self.over.append(call)
        if self.takes_along is not None:
            self.takes_along.table.pop(self.takes_along, None)

    def run_until(self, now: float) -> None:
        """Do what a loop does: call `expire` at the moments that were armed last."""
        while self.armed and self.armed[-1] <= now:
            self.now = max(self.now, self.armed[-1])
            self.armed.clear()
            self.deadlines.expire()
        self.now = now


def test_calls_end_at_their_time_and_the_earliest_moment_is_armed() -> None:
    world = World()
    late, early = Call(), Call()
    assert world.deadlines.start(2.0, late) == 0.0
    world.deadlines.start(0.5, early)
    assert world.armed == [2.0, 0.5]
    world.run_until(1.0)
    assert world.over == [early]
    assert world.armed == [2.0]
    world.run_until(2.0)
    assert world.over == [early, late]
    assert len(world.deadlines) == 0


def test_a_call_that_was_taken_out_does_not_end() -> None:
    world = World()
    calls = [Call() for _ in range(3)]
    for call in calls:
        world.deadlines.start(1.0, call)
    del calls[1].table[calls[1]]
    assert len(world.deadlines) == 2
    world.run_until(5.0)
    assert world.over == [calls[0], calls[2]]


def test_a_call_may_be_taken_out_by_the_end_of_another() -> None:
    world = World()
    first, second = Call(), Call()
    world.deadlines.start(1.0, first)
    world.deadlines.start(1.0, second)
    world.takes_along = second
    world.run_until(1.0)
    assert world.over == [first]


def test_a_table_without_calls_goes_away() -> None:
    world = World()
    call = Call()
    world.deadlines.start(1.0, call)
    del call.table[call]
    world.run_until(1.0)
    assert world.deadlines._tables == {}
    assert world.armed == []


@given(
    st.lists(st.tuples(st.floats(0, 10), st.sampled_from([0.1, 0.5, 3.0]), st.booleans(), st.floats(0, 5)), max_size=30)
)
def test_every_call_ends_at_its_deadline_unless_it_was_taken_out(plan: list[tuple[float, float, bool, float]]) -> None:
    world = World()
    expected = []
    for start, timeout, is_answered, wait in sorted(plan):
        world.run_until(max(start, world.now))
        call = Call()
        world.deadlines.start(timeout, call)
        if is_answered:
            world.run_until(world.now + wait)
            call.table.pop(call, None)
        if not is_answered or wait >= timeout:
            expected.append(call)
    world.run_until(100.0)
    assert set(world.over) == set(expected)
    assert len(world.over) == len(expected)


def test_as_many_timeouts_as_calls_need_few_tables() -> None:
    # Timeouts that are computed from the time that is left differ for each call.
    world = World()
    timeouts = [0.5 + number / 7919 for number in range(5000)]
    calls = [Call(str(timeout)) for timeout in timeouts]
    for call, timeout in zip(calls, timeouts, strict=True):
        world.deadlines.start(timeout, call)
    assert len(world.deadlines._tables) < 200
    for number in range(1, 130):
        world.run_until(number / 100)
        ended = {call.name for call in world.over}
        must = {call.name for call in calls if call.when <= world.now * (1 - 1 / 16)}
        may = {call.name for call in calls if call.when <= world.now}
        assert must <= ended <= may
    world.run_until(2.0)
    assert len(world.over) == len(calls)


def test_a_few_timeouts_are_kept_to_exactly() -> None:
    world = World()
    timeouts = [0.5 + number / 7919 for number in range(40, 0, -1)]
    for timeout in timeouts:
        world.deadlines.start(timeout, Call(str(timeout)))
    world.run_until(0.5 + 20.5 / 7919)
    assert len(world.over) == 20
