"""When a worker that died is started again."""

from __future__ import annotations

from sipwright.workers.restarts import LONGEST_DELAY, MOST_FAILURES, QUICK_SECONDS, Restarts


def test_a_worker_that_has_served_is_started_again_at_once_every_time() -> None:
    restarts = Restarts()
    assert [restarts.died(QUICK_SECONDS) for _ in range(20)] == [0.0] * 20


def test_one_that_dies_soon_after_each_start_waits_longer_and_longer_but_is_never_given_up() -> None:
    restarts = Restarts()
    delays = [restarts.died(0.1) for _ in range(20)]
    assert delays[:4] == [0.0, 0.1, 0.2, 0.4]
    assert delays[-1] == LONGEST_DELAY


def test_one_that_is_never_ready_is_given_up() -> None:
    restarts = Restarts()
    delays = [restarts.died(None) for _ in range(MOST_FAILURES)]
    assert delays[-1] is None
    assert None not in delays[:-1]


def test_having_been_ready_once_begins_the_count_anew() -> None:
    restarts = Restarts()
    for _ in range(MOST_FAILURES - 1):
        restarts.died(None)
    assert restarts.died(0.1) is not None
    assert restarts.died(None) is not None


def test_having_served_ends_the_delays() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.died(0.1)
    assert restarts.died(QUICK_SECONDS) == 0.0
    assert restarts.died(0.1) == 0.0
