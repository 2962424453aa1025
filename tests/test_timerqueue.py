from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.timerqueue import Timer, TimerQueue


class Owner:
    """Owns a queue as an event loop does: remembers what is armed, and expires when told."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 0.0
        self.armed: list[float] = []
        self.fired: list[object] = []
        self.queue = TimerQueue(lambda: self.now, self.armed.append, tick)

    def start(self, delay: float, name: object) -> Timer:
        return self.queue.start(delay, self.fired.append, name)

    def expire(self, now: float) -> list[object]:
        self.now = now
        self.fired.clear()
        self.queue.expire()
        return list(self.fired)


def test_timer_ends_at_its_time_and_not_before() -> None:
    owner = Owner()
    owner.start(0.5, "a")
    assert owner.expire(0.49) == []
    assert owner.expire(0.5) == ["a"]
    assert owner.expire(1.0) == []


def test_earliest_moment_is_armed_and_only_when_it_moves_forward() -> None:
    owner = Owner()
    owner.start(32.0, "a")
    owner.start(32.0, "b")
    owner.start(0.5, "c")
    owner.start(4.0, "d")
    assert owner.armed == [32.0, 0.5]
    owner.expire(0.5)
    assert owner.armed == [32.0, 0.5, 4.0]


def test_cancelled_timer_does_not_end_and_lets_go_of_its_argument() -> None:
    owner = Owner()
    timer = owner.start(0.5, "a")
    owner.start(0.5, "b")
    timer.cancel()
    assert timer.argument is None
    assert len(owner.queue) == 1
    assert owner.expire(0.5) == ["b"]
    timer.cancel()


def test_nothing_is_armed_when_no_timer_is_left() -> None:
    owner = Owner()
    owner.start(0.5, "a").cancel()
    owner.armed.clear()
    owner.expire(0.5)
    assert owner.armed == []
    owner.start(0.5, "b")
    assert owner.armed == [1.0]


def test_late_expiry_ends_timers_of_different_delays_by_their_times() -> None:
    owner = Owner()
    owner.start(4.0, 4.0)
    owner.start(1.0, 1.0)
    owner.now = 0.5
    owner.start(1.0, 1.5)
    owner.start(3.0, 3.5)
    assert owner.expire(9.0) == [1.0, 1.5, 3.5, 4.0]


def test_timer_may_start_and_cancel_timers_when_it_ends() -> None:
    owner = Owner()
    victim = owner.start(2.0, "victim")

    def act(_argument: object) -> None:
        victim.cancel()
        owner.start(1.0, "again")
        owner.start(0.25, "odd")

    owner.queue.start(1.0, act)
    assert owner.expire(1.0) == []
    assert owner.armed == [2.0, 1.0, 1.25]
    assert owner.expire(1.25) == ["odd"]
    assert owner.expire(2.0) == ["again"]


def test_exception_of_a_callback_passes_through_and_the_others_still_end() -> None:
    owner = Owner()
    owner.start(1.0, "before")

    def fail(_argument: object) -> None:
        raise ZeroDivisionError

    owner.queue.start(1.0, fail)
    owner.start(1.0, "after")
    owner.start(2.0, "later")
    with pytest.raises(ZeroDivisionError):
        owner.expire(1.0)
    assert owner.fired == ["before"]
    assert owner.armed[-1] == 1.0
    assert owner.expire(1.0) == ["after"]
    assert owner.expire(2.0) == ["later"]


def test_tick_makes_timers_end_in_batches() -> None:
    owner = Owner(tick=0.01)
    for number in range(30):
        owner.now = number / 1000
        owner.start(1.0, number)
    assert len(owner.expire(1.0)) == 1
    assert owner.armed[-1] == pytest.approx(1.01)
    assert len(owner.expire(owner.armed[-1])) == 10
    owner.start(0.001, "sooner")
    assert owner.armed[-1] == pytest.approx(1.011)


def test_ended_timer_leaves_no_reference_cycle() -> None:
    owner = Owner()

    class Holder:
        timer: Timer

    holder = Holder()
    holder.timer = owner.queue.start(1.0, lambda _holder: None, holder)
    gone = weakref.ref(holder)
    del holder
    gc.disable()
    try:
        owner.expire(1.0)
        assert gone() is None
    finally:
        gc.enable()


def test_deque_of_a_delay_goes_with_its_last_timer() -> None:
    owner = Owner()
    for number in range(1000):
        owner.start(1.0 + number / 1000, number)
    assert owner.expire(5.0) == list(range(1000))
    assert owner.queue._deques == {}
    assert owner.queue._fronts == []


Action = Callable[[Any], None]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("start"), st.sampled_from([0.2, 0.5, 1.0, 4.0, 32.0, 0.7, 0.01])),
            st.tuples(st.just("cancel"), st.integers(0, 30)),
            st.tuples(st.just("advance"), st.floats(0.0, 10.0)),
        ),
        max_size=40,
    )
)
def test_queue_does_what_a_sorted_list_of_moments_would(steps: list[tuple[str, Any]]) -> None:
    owner = Owner()
    timers: list[Timer] = []
    running: dict[int, float] = {}
    for what, value in steps:
        if what == "start":
            running[len(timers)] = owner.now + value
            timers.append(owner.start(value, len(timers)))
        elif what == "cancel" and value < len(timers):
            timers[value].cancel()
            running.pop(value, None)
        elif what == "advance":
            now = owner.now + value
            due = [number for number, when in running.items() if when <= now]
            fired = owner.expire(now)
            assert sorted(fired, key=str) == sorted(due, key=str)
            assert [timers[number].when for number in due] == [running.pop(number) for number in due]
            moments = [timers[number].when for number in fired if isinstance(number, int)]
            assert moments == sorted(moments)
        assert len(owner.queue) == len(running)
        if running:
            assert owner.armed[-1] <= min(running.values())
