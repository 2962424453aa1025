from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.cli.rpc.latencies import Latencies


def filled(*seconds: float) -> Latencies:
    latencies = Latencies()
    for one in seconds:
        latencies.add(one)
    return latencies


def test_nothing_counted_is_all_zero() -> None:
    empty = Latencies()
    assert (empty.count, empty.mean, empty.percentile(50), empty.highest) == (0, 0.0, 0.0, 0.0)


def test_a_percentile_is_the_time_within_which_so_many_ended() -> None:
    latencies = filled(*(number / 1000 for number in range(1, 101)))
    assert latencies.percentile(50) == pytest.approx(0.050, rel=0.001)
    assert latencies.percentile(99) == pytest.approx(0.099, rel=0.001)
    assert latencies.percentile(99.9) == pytest.approx(0.100, rel=0.001)
    assert latencies.percentile(100) == pytest.approx(0.100, rel=0.001)
    assert (latencies.lowest, latencies.highest) == (0.001, 0.1)
    assert latencies.mean == pytest.approx(0.0505)


@given(st.lists(st.floats(min_value=0, max_value=1e5), min_size=1), st.floats(min_value=0.1, max_value=100))
def test_a_percentile_is_right_to_three_digits(seconds: list[float], percent: float) -> None:
    latencies = filled(*seconds)
    # The smallest of the times that has so many percent of all times at or below it, as the definition says.
    place = next(i for i in range(1, len(seconds) + 1) if i >= len(seconds) * percent / 100 - 1e-9)
    exact = sorted(seconds)[place - 1]
    assert latencies.percentile(percent) == pytest.approx(exact, rel=1 / 1000, abs=1e-6)


def test_memory_does_not_grow_with_the_calls() -> None:
    latencies = Latencies()
    for number in range(200_000):
        latencies.add(number / 1000)  # up to 200 s, each another time
    assert len(latencies._buckets) < 30_000
