"""Pipes: which requests pass, by algorithm, in one worker and in several."""

from __future__ import annotations

import random
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from sipwright.errors import SipwrightError
from sipwright.script import pipes as pipes_file
from sipwright.script.cpuload import CpuLoad
from sipwright.script.pipes import FEEDBACK, NETWORK, NOP, RED, TAILDROP, Pipes
from sipwright.script.store import MemoryStores
from sipwright.testing.clock import FakeClock

INTERVAL = 10


class Server:
    """What workers share, and the number that they read of the network."""

    def __init__(self) -> None:
        self.fake = FakeClock(1000.0)
        self.clock = self.fake.time
        self.timers = self.fake.timers
        self.shared_store = MemoryStores(self.clock).open
        self.queued = 0

    def statistics(self) -> dict[str, int]:
        return {"core:udp_queued": self.queued}

    def worker(self, max_pipes: int = 1000) -> Pipes:
        services: Any = self
        return Pipes(services, "test", INTERVAL, max_pipes)


@pytest.fixture
def server() -> Server:
    return Server()


def passing(pipes: Pipes, count: int, algorithm: str, limit: int, name: str = "a") -> list[tuple[bool, int]]:
    """Send so many requests; return whether they pass, equal ones in a row with their number."""
    verdicts = [pipes.passes(name, algorithm, limit) for _ in range(count)]
    return [(verdict, len(list(group))) for verdict, group in groupby(verdicts)]


def test_taildrop_lets_the_first_requests_of_an_interval_through(server: Server) -> None:
    pipes = server.worker()
    for _ in range(3):
        assert passing(pipes, 25, TAILDROP, 10) == [(True, 10), (False, 15)]
        server.fake.advance(INTERVAL - 1)
        assert passing(pipes, 5, TAILDROP, 10) == [(False, 5)]
        server.fake.advance(1)
    assert pipes.limited == 60
    assert passing(pipes, 3, TAILDROP, 0, "nothing") == [(False, 3)]


def test_pipes_are_apart(server: Server) -> None:
    pipes = server.worker()
    assert passing(pipes, 4, TAILDROP, 3, "a") == [(True, 3), (False, 1)]
    assert passing(pipes, 4, TAILDROP, 3, "b") == [(True, 3), (False, 1)]


def test_a_limit_that_is_raised_lets_more_through_at_once(server: Server) -> None:
    pipes = server.worker()
    passing(pipes, 5, TAILDROP, 3)
    assert passing(pipes, 10, TAILDROP, 8) == [(True, 4), (False, 6)]
    assert passing(pipes, 1, TAILDROP, 3) == [(False, 1)]


# Observed on Kamailio 5.6.3, ratelimit and pipelimit, limit 10: requests of one interval, how many of the next pass.
@pytest.mark.parametrize(
    ("before", "one_of"), [(0, 1), (9, 1), (10, 1), (19, 1), (20, 2), (25, 2), (29, 2), (30, 3), (31, 3), (45, 4)]
)
def test_red_lets_every_nth_request_through_after_n_times_the_limit(server: Server, before: int, one_of: int) -> None:
    pipes = server.worker()
    assert passing(pipes, before, RED, 10) == ([(True, before)] if before else [])
    server.fake.advance(INTERVAL)
    expected = [(False, one_of - 1), (True, 1)] * 4 if one_of > 1 else [(True, 4)]
    assert passing(pipes, 4 * one_of, RED, 10) == expected


def test_red_without_a_limit_lets_everything_through(server: Server) -> None:
    pipes = server.worker()
    for _ in range(2):
        assert passing(pipes, 20, RED, 0) == [(True, 20)]
        server.fake.advance(INTERVAL)


def test_red_looks_at_the_last_interval_only(server: Server) -> None:
    pipes = server.worker()
    passing(pipes, 100, RED, 10)
    server.fake.advance(2 * INTERVAL)
    assert passing(pipes, 20, RED, 10) == [(True, 20)]


@pytest.mark.parametrize("algorithm", [TAILDROP, RED])
def test_several_workers_count_together(server: Server, algorithm: str) -> None:
    workers = [server.worker() for _ in range(4)]
    chance = random.Random(1)
    verdicts = []
    for _ in range(2):
        verdicts.append([chance.choice(workers).passes("a", algorithm, 100) for _ in range(1000)])
        server.fake.advance(INTERVAL)
    if algorithm == TAILDROP:
        assert verdicts == [[True] * 100 + [False] * 900] * 2
    else:
        assert verdicts == [[True] * 1000, ([False] * 9 + [True]) * 100]


def test_what_no_longer_passes_costs_no_look_at_the_store(server: Server) -> None:
    pipes = server.worker()
    passing(pipes, 11, TAILDROP, 10)
    pipes._store = None  # type: ignore[assignment]  # whoever asks it fails
    assert passing(pipes, 1000, TAILDROP, 10) == [(False, 1000)]


def test_network_lets_nothing_through_while_too_much_waits(server: Server) -> None:
    pipes = server.worker()
    server.queued = 5001
    assert passing(pipes, 3, NETWORK, 5000) == [(False, 3)]
    server.queued = 5000
    # Looked at once an interval.
    assert passing(pipes, 3, NETWORK, 5000) == [(False, 3)]
    server.fake.advance(INTERVAL)
    assert passing(pipes, 3, NETWORK, 5000) == [(True, 3)]
    assert passing(pipes, 3, NETWORK, 4999, "b") == [(False, 3)]


def test_feedback_turns_away_more_until_the_load_is_what_was_wanted(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine that is as busy as requests pass.
    busy = 1.0
    monkeypatch.setattr(CpuLoad, "look", lambda _self: busy)
    pipes = server.worker()
    assert passing(pipes, 100, FEEDBACK, 60) == [(True, 100)]
    shares = []
    for _ in range(40):
        server.fake.advance(INTERVAL)
        passed = sum(pipes.passes("a", FEEDBACK, 60) for _ in range(100))
        busy = passed / 100
        shares.append(passed)
    assert shares[:2] == [90, 82]
    assert all(58 <= share <= 62 for share in shares[20:])
    # Idle again: everything passes, and the rate does not go below nothing.
    busy = 0.0
    server.fake.advance(10 * INTERVAL)
    assert passing(pipes, 100, FEEDBACK, 60) == [(True, 100)]
    assert pipes._drop_rates == {60: 0.0}


def test_feedback_spreads_what_it_turns_away(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuLoad, "look", lambda _self: 1.0)
    pipes = server.worker()
    pipes.passes("a", FEEDBACK, 0)
    server.fake.advance(2 * INTERVAL)
    # Half of them, never many in a row.
    runs = passing(pipes, 100, FEEDBACK, 0)
    assert sum(count for passes, count in runs if passes) == 50
    assert max(count for _, count in runs) <= 3


def test_feedback_reads_the_load_of_this_machine(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu 0 0 0 100\n")
    monkeypatch.setattr(pipes_file, "CpuLoad", lambda: CpuLoad(stat))
    pipes = server.worker()
    pipes.passes("a", FEEDBACK, 20)
    stat.write_text("cpu 100 0 0 100\n")
    server.fake.advance(INTERVAL)
    assert pipes._drop_rates == {20: 20.0}


def test_nop_lets_everything_through(server: Server) -> None:
    assert passing(server.worker(), 10, NOP, 0) == [(True, 10)]


def test_a_worker_begins_to_count_so_many_pipes_in_an_interval(server: Server) -> None:
    pipes = server.worker(max_pipes=5)
    for number in range(20):
        assert passing(pipes, 2, TAILDROP, 1, str(number)) == ([(True, 1), (False, 1)] if number < 5 else [(True, 2)])
    assert pipes.uncounted == 30
    assert server.shared_store("test:counts").count() == 5
    # Those that another worker counts are counted here, too.
    assert server.worker().passes("7", TAILDROP, 1)
    assert not pipes.passes("7", TAILDROP, 1)
    server.fake.advance(INTERVAL)
    assert passing(pipes, 2, TAILDROP, 1, "7") == [(True, 1), (False, 1)]


def test_nothing_is_kept_of_pipes_that_are_quiet(server: Server) -> None:
    pipes = server.worker()
    for number in range(50):
        passing(pipes, 3, TAILDROP, 1, f"t{number}")
        passing(pipes, 3, RED, 1, f"r{number}")
    server.fake.advance(3 * INTERVAL)
    pipes.passes("x", TAILDROP, 1)
    assert (pipes._over, pipes._former) == ({}, {})
    assert server.shared_store("test:counts").count() == 1


def test_nothing_is_turned_away_when_the_counts_cannot_be_reached(server: Server) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise SipwrightError("the store is gone")

    pipes = server.worker()
    pipes._store = Broken()
    assert passing(pipes, 20, TAILDROP, 1) == [(True, 20)]
    assert passing(pipes, 20, RED, 1) == [(True, 20)]
    server.fake.advance(3 * INTERVAL)
    assert len(server.timers) == 1
