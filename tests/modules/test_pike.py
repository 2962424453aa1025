from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest

from sipwright.errors import ConfigErrors, SipwrightError
from sipwright.modules.pike import canonical
from sipwright.testing import ScriptDriver, sip_request

Load = Callable[..., Any]

SCRIPT = """
    loadmodule "sl"
    loadmodule "pv"
    loadmodule "kex"
    loadmodule "pike"
    modparam("pike", "sampling_time_unit", 2)
    modparam("pike", "reqs_density_per_unit", 10)
    modparam("pike", "remove_latency", 10)
    request_route { pike_check_req(); $var(code) = $rc; sl_send_reply("200", "$var(code)"); }
"""


class Flood:
    """A server that answers each request with what `pike_check_req()` gave."""

    def __init__(self, script: str = SCRIPT) -> None:
        self.driver = ScriptDriver(script)
        self.number = 0

    def send(self, count: int, address: str = "192.0.2.1") -> list[tuple[str, int]]:
        """Send so many requests and return the codes, equal ones in a row with their number."""
        codes = []
        for _ in range(count):
            self.number += 1
            request = sip_request(branch=f"z9hG4bK{self.number}", call_id=str(self.number))
            codes.append(self.driver.receive(request, (address, 5060))[0].reason)
        return [(code, len(list(group))) for code, group in groupby(codes)]

    def wait(self, seconds: float) -> None:
        self.driver.advance(seconds)


def test_an_address_is_blocked_from_the_request_on_that_makes_too_many() -> None:
    flood = Flood()
    assert flood.send(30) == [("1", 9), ("-2", 1), ("-1", 20)]
    # Each address by itself.
    assert flood.send(9, "192.0.2.2") == [("1", 9)]
    assert flood.send(12, "2001:db8::1") == [("1", 9), ("-2", 1), ("-1", 2)]
    assert flood.send(9, "2001:db8::2") == [("1", 9)]


def test_it_is_free_again_after_a_unit_with_few_requests() -> None:
    flood = Flood()
    flood.send(30)
    flood.wait(2)
    # All of the next unit it is blocked, also with few requests.
    assert flood.send(9) == [("-1", 9)]
    flood.wait(2)
    assert flood.send(12) == [("1", 9), ("-2", 1), ("-1", 2)]


def test_a_flood_that_goes_on_stays_blocked() -> None:
    flood = Flood()
    flood.send(10)
    for _ in range(5):
        flood.wait(2)
        # What is blocked counts, too.
        assert flood.send(10) == [("-1", 10)]
    flood.wait(4)
    assert flood.send(1) == [("1", 1)]


def test_a_rate_below_the_limit_is_never_blocked() -> None:
    flood = Flood()
    for _ in range(10):
        assert flood.send(9) == [("1", 9)]
        flood.wait(2)


def test_it_is_told_and_counted() -> None:
    flood = Flood()
    flood.send(30)
    assert flood.driver.log == ["pike: blocking 192.0.2.1, 10 requests within 2 s"]
    counters = flood.driver.statistics()
    assert (counters["pike:blocked_ips"], counters["pike:blocked_requests"]) == (1, 21)
    flood.wait(2)
    flood.send(3)
    flood.wait(6)
    assert flood.driver.log[1:] == ["pike: 192.0.2.1 is not blocked any more"]
    assert flood.driver.statistics()["pike:blocked_requests"] == 24
    flood.send(10)
    assert len(flood.driver.log) == 3


def test_kamailios_counter_of_blocked_addresses_can_be_read() -> None:
    flood = Flood(SCRIPT.replace('sl_send_reply("200", "$var(code)")', 'sl_send_reply("200", "$stat(blocked_ips)")'))
    assert flood.send(12) == [("0", 9), ("1", 3)]


def test_the_level_of_the_lines_is_set() -> None:
    flood = Flood("debug=-1\n" + SCRIPT + 'modparam("pike", "pike_log_level", 3)')
    flood.driver._core.services.log.setLevel("INFO")
    flood.send(30)
    assert flood.driver.log == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("1.2.3", None),
        ("", None),
        ("alice.example.org", None),
    ],
)
def test_addresses_of_texts(text: str, address: str | None) -> None:
    assert canonical(text) == address


def test_an_address_that_the_script_names_is_counted_with_the_sources(load: Load) -> None:
    worker = load("pike", params=[("pike", "reqs_density_per_unit", 3)])
    # That of the context.
    assert worker.call("pike_check_ip", "192.0.2.1") == 1
    assert worker.call("pike_check_req") == 1
    assert worker.call("pike_check_ip", "192.0.2.1") == -2
    assert worker.call("pike_check_ip", "2001:DB8::1") == 1
    assert worker.call("pike_check_ip", "[2001:db8:0::1]") == 1
    assert worker.call("pike_check_ip", "2001:db8::1") == -2
    assert worker.call("pike_check_ip", "nonsense") == -1
    assert worker.services.lines[-1] == ("ERROR", "pike_check_ip: 'nonsense' is no IP address")


# ---- several workers


def test_requests_that_are_spread_over_workers_are_counted_together(load: Load) -> None:
    params = [("pike", "reqs_density_per_unit", 100)]
    workers = [load("pike", params=params)]
    workers += [load("pike", params=params, beside=workers[0]) for _ in range(3)]
    chance = random.Random(1)
    codes = [chance.choice(workers).call("pike_check_ip", "192.0.2.7") for _ in range(1000)]
    # As in one: exactly so many pass, and one of them finds it.
    assert codes[:100] == [1] * 99 + [-2]
    assert Counter(codes) == {1: 99, -2: 1, -1: 900}
    assert sum(line[1].startswith("pike: blocking") for worker in workers for line in worker.services.lines) == 1
    # In the next unit all of them know it, those too that had none of its requests.
    workers[0].services.fake_clock.advance(2)
    assert [worker.call("pike_check_ip", "192.0.2.7") for worker in workers] == [-1] * 4
    workers[0].services.fake_clock.advance(2)
    assert [worker.call("pike_check_ip", "192.0.2.7") for worker in workers] == [1] * 4


class CountingStore:
    """A store that counts how often it is asked."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        return getattr(self.store, name)


def test_a_source_that_is_known_to_be_blocked_costs_no_look_at_the_store(load: Load) -> None:
    worker = load("pike", params=[("pike", "reqs_density_per_unit", 10)])
    store = worker.module("pike")._store = CountingStore(worker.module("pike")._store)
    for _ in range(10):
        worker.call("pike_check_ip", "192.0.2.1")
    asked = store.asked
    for _ in range(1000):
        assert worker.call("pike_check_ip", "192.0.2.1") == -1
    assert store.asked == asked


def test_a_worker_begins_to_count_so_many_addresses_in_a_unit_and_lets_the_others_through(load: Load) -> None:
    params = [("pike", "max_sources", 50), ("pike", "reqs_density_per_unit", 3)]
    worker = load("pike", params=params)
    store = worker.services.shared_store("pike:sources")
    for number in range(1000):
        assert worker.call("pike_check_ip", f"10.0.{number // 250}.{number % 250}") == 1
    assert len(store.items()) == 50
    assert worker.services.statistics()["pike:uncounted_requests"] == 950
    # Those that are counted still are, and those that another worker counts.
    assert [worker.call("pike_check_ip", "10.0.0.7") for _ in range(3)] == [1, -2, -1]
    other = load("pike", params=params, beside=worker)
    assert other.call("pike_check_ip", "10.0.3.9") == 1
    assert [worker.call("pike_check_ip", "10.0.3.9") for _ in range(2)] == [1, -2]
    # In the next unit there is room again.
    worker.services.fake_clock.advance(2)
    assert [worker.call("pike_check_ip", "10.0.3.10") for _ in range(3)] == [1, 1, -2]


def test_nothing_is_kept_of_addresses_that_are_quiet(load: Load) -> None:
    worker = load("pike", params=[("pike", "reqs_density_per_unit", 3)])
    for number in range(100):
        for _ in range(1 + number % 5):
            worker.call("pike_check_ip", f"10.0.0.{number}")
    worker.services.fake_clock.advance(8)
    module = worker.module("pike")
    assert (module._full, module._reported) == ({}, {})
    assert module._store._items == {}


def test_nobody_is_blocked_when_the_counts_cannot_be_reached(load: Load) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise SipwrightError("the store is gone")

    worker = load("pike", params=[("pike", "reqs_density_per_unit", 3)])
    worker.module("pike")._store = Broken()
    assert [worker.call("pike_check_ip", "192.0.2.1") for _ in range(10)] == [1] * 10
    worker.services.fake_clock.advance(10)
    assert len(worker.services.timers) == 1


@pytest.mark.parametrize("name", ["sampling_time_unit", "reqs_density_per_unit", "max_sources"])
def test_parameters_are_at_least_1(name: str) -> None:
    with pytest.raises(ConfigErrors, match=f"parameter '{name}' must be at least 1, not 0"):
        ScriptDriver(SCRIPT + f'modparam("pike", "{name}", 0)')


@pytest.mark.parametrize("call", ["pike_check_req();", 'pike_check_ip("$si");'])
def test_routes_are_kamailios(call: str) -> None:
    for good in ("onreply_route[A]", "event_route[core:worker-one-init]", "reply_route"):
        ScriptDriver(SCRIPT + f"{good} {{ {call} }}")
    for bad in ("failure_route[A]", "branch_route[A]", "onsend_route"):
        with pytest.raises(ConfigErrors, match="cannot be called from"):
            ScriptDriver(SCRIPT + f"{bad} {{ {call} }}")
