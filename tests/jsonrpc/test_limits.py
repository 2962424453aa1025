"""Rates and places, on a clock that the test moves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.limits import MAX_WAITING, TOO_MANY_CALLS, Limits, Places, TokenBucket


def test_a_bucket_lets_a_seconds_worth_through_at_once_and_then_one_after_the_other() -> None:
    bucket = TokenBucket(4)
    assert [bucket.take(10.0) for _ in range(4)] == [0.0] * 4
    assert bucket.take(10.0) == 0.25
    assert bucket.take(10.125) == 0.125
    assert bucket.take(10.25) == 0.0
    assert bucket.take(10.25) == 0.25
    # A long rest is worth a second, and not more.
    assert [bucket.take(100.0) for _ in range(5)] == [0.0] * 4 + [0.25]


def test_a_rate_below_one_lets_one_through_at_a_time() -> None:
    bucket = TokenBucket(0.1)
    assert bucket.take(0.0) == 0.0
    assert bucket.take(5.0) == pytest.approx(5.0)
    assert bucket.take(10.0) == 0.0


@given(st.floats(0.1, 50), st.lists(st.floats(0, 2), max_size=100))
def test_never_more_than_the_rate_and_one_burst_are_let_through(rate: float, pauses: list[float]) -> None:
    bucket, now, taken = TokenBucket(rate), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now) == 0.0
    assert taken <= now * rate + max(1.0, rate) + 1e-6


def test_whoever_waits_the_told_time_is_let_through() -> None:
    bucket, now = TokenBucket(3), 0.0
    for _ in range(20):
        wait = bucket.take(now)
        if wait:
            now += wait + 1e-9
            assert bucket.take(now) == 0.0


def test_places_are_given_on_in_the_order_of_coming() -> None:
    places = Places(2)
    assert [places.take(name) for name in "abcd"] == [True, True, False, False]
    assert [places.leave(), places.leave(), places.leave()] == ["c", "d", None]
    assert places.taken == 1
    assert places.take("e")


def test_so_many_wait_and_one_more_is_refused() -> None:
    places = Places(1)
    for number in range(MAX_WAITING + 1):
        places.take(number)
    with pytest.raises(RpcAnswerError) as caught:
        places.take("late")
    assert caught.value.code == TOO_MANY_CALLS


def test_limits_of_a_method_come_before_those_of_the_server_and_infinity_is_none() -> None:
    server = Limits(True, 5, None, 1.0)
    assert server.changed(None, None, None, None) == server
    assert server.changed(False, 3, 2.0, math.inf) == Limits(False, 3, 2.0, None)


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"concurrency": -1}, {"timeout": 0.0}, {"timeout": math.nan}])
def test_a_limit_that_lets_nothing_through_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=f"{next(iter(wrong))} is a number above 0"):
        Limits(**wrong)  # type: ignore[arg-type]
