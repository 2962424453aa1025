"""The choice of a server: by priority, by turns, by weight and by pending calls, without sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import ArgumentError
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.endpoint import Endpoint
from sipwright.jsonrpc.groups import Group, Member
from sipwright.jsonrpc.turns import MAX_TURNS, Policy


class FakePeer:
    requests = 0


class FakeConnection:
    def __init__(self, server: str, limit: int) -> None:
        self.server = server
        self.limit = limit
        self.pending: dict[int, object] = {}
        self.peer = FakePeer()
        self.is_blocked = False
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Owner:
    """What an endpoint tells goes to its groups, as the pool does it."""

    def __init__(self) -> None:
        self.groups: list[Group] = []

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        for group in self.groups:
            if endpoint in group.endpoints:
                group.refresh()

    def endpoint_connected(self, endpoint: Endpoint) -> None: ...

    def endpoint_lost(self, connection: Connection, reason: str) -> None: ...


OWNER = Owner()


def make_endpoint(name: str, max_pending: int = 100) -> Endpoint:
    return Endpoint(cast("asyncio.AbstractEventLoop", None), ServerAddress(name, 1), name, OWNER, max_pending)


def connect(endpoint: Endpoint) -> FakeConnection:
    connection = FakeConnection(endpoint.name, endpoint.max_pending)
    endpoint.connection_ready(cast("Connection", connection))
    return connection


def lose(endpoint: Endpoint) -> None:
    assert endpoint.connection is not None
    endpoint.connection_ended(endpoint.connection, "lost")


def make_group(
    *priorities: tuple[str, int], max_pending: int = 100, policy: Policy = "round_robin", weights: str = ""
) -> tuple[Group, dict[str, Endpoint]]:
    endpoints = {name: make_endpoint(name, max_pending) for name, _ in priorities}
    numbers = [int(digit) for digit in weights] or [1] * len(priorities)
    members = [Member(endpoints[n], (-p, 0), weight) for (n, p), weight in zip(priorities, numbers, strict=True)]
    group = Group("", lambda group: None, policy, members)
    OWNER.groups = [group]
    return group, endpoints


def picks(group: Group, count: int) -> list[str]:
    return [connection.server[0] if (connection := group.pick()) else "-" for _ in range(count)]


def test_calls_go_round_the_servers_of_the_highest_priority() -> None:
    group, endpoints = make_group(("a", 2), ("b", 2), ("c", 1), ("d", 2))
    for endpoint in endpoints.values():
        connect(endpoint)
    assert "".join(picks(group, 7)) == "abdabda"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17, 100])
def test_equal_servers_get_numbers_of_calls_that_differ_by_at_most_one(count: int) -> None:
    group, endpoints = make_group(("a", 1), ("b", 1), ("c", 1))
    for endpoint in endpoints.values():
        connect(endpoint)
    numbers = Counter(picks(group, count))
    assert max(numbers.values()) - min(numbers[name] for name in "abc") <= 1


def test_without_servers_or_connections_nothing_is_picked() -> None:
    assert picks(make_group()[0], 1) == ["-"]
    group, _ = make_group(("a", 1))
    assert picks(group, 1) == ["-"]
    assert not group.is_ready


def test_a_lower_priority_takes_over_and_the_higher_one_takes_it_back_at_once() -> None:
    group, endpoints = make_group(("a", 2), ("b", 1))
    connect(endpoints["b"])
    assert picks(group, 1) == ["b"]
    connect(endpoints["a"])
    assert picks(group, 2) == ["a", "a"]
    lose(endpoints["a"])
    assert picks(group, 1) == ["b"]


def test_a_server_that_comes_back_joins_the_round_and_the_others_keep_their_turn() -> None:
    group, endpoints = make_group(("a", 1), ("b", 1), ("c", 1))
    connect(endpoints["a"]), connect(endpoints["b"])
    assert picks(group, 1) == ["a"]
    connect(endpoints["c"])
    assert "".join(picks(group, 6)) == "bacbac"
    lose(endpoints["a"])
    assert "".join(picks(group, 4)) == "bcbc" or "".join(picks(group, 4)) == "cbcb"


def test_a_server_with_too_many_pending_calls_is_passed_over() -> None:
    group, endpoints = make_group(("a", 2), ("b", 2), ("c", 1), max_pending=1)
    a, b, c = (connect(endpoints[name]) for name in "abc")
    a.pending[1] = object()
    assert picks(group, 2) == ["b", "b"]
    b.pending[1] = object()
    assert picks(group, 1) == ["c"]
    c.pending[1] = object()
    assert picks(group, 1) == ["-"]
    a.pending.clear()
    assert picks(group, 1) == ["a"]


def test_a_server_that_does_not_read_is_out_of_the_choice_until_it_does() -> None:
    group, endpoints = make_group(("a", 2), ("b", 1))
    a = connect(endpoints["a"])
    connect(endpoints["b"])
    a.is_blocked = True
    endpoints["a"].connection_blocked(cast("Connection", a))
    assert picks(group, 1) == ["b"]
    a.is_blocked = False
    endpoints["a"].connection_ready(cast("Connection", a))
    assert picks(group, 1) == ["a"]
    assert endpoints["a"].connects == 1


def test_another_server_is_one_that_was_not_asked() -> None:
    group, endpoints = make_group(("a", 2), ("b", 2), ("c", 1))
    for endpoint in endpoints.values():
        connect(endpoint)
    other = group.pick_other(["a", "b"])
    assert other is not None
    assert other.server == "c"
    assert group.pick_other(["a", "b", "c"]) is None


def test_a_server_may_be_in_several_groups() -> None:
    endpoint = make_endpoint("a")
    groups = [
        Group(name, lambda group: None, members=[Member(endpoint, (1, 0)), Member(endpoint, (2, 0))]) for name in "xy"
    ]
    OWNER.groups = groups
    connect(endpoint)
    assert [picks(group, 1) for group in groups] == [["a"], ["a"]]


def test_a_group_is_starting_until_every_server_was_tried_once() -> None:
    group, endpoints = make_group(("a", 1), ("b", 1))
    assert group.is_starting
    connect(endpoints["a"])
    assert group.is_starting
    connect(endpoints["b"])
    assert not group.is_starting


def test_a_retry_takes_nobodys_turn() -> None:
    group, endpoints = make_group(("a", 1), ("b", 1), ("c", 1))
    for endpoint in endpoints.values():
        connect(endpoint)
    assert picks(group, 2) == ["a", "b"]
    assert picks(group, 1) == ["c"]
    other = group.pick_other(["a"])
    assert other is not None
    assert other.server == "b"
    assert "".join(picks(group, 3)) == "acb"


def test_weights_are_kept_exactly_and_spread() -> None:
    group, endpoints = make_group(("a", 1), ("b", 1), ("c", 1), weights="512")
    for endpoint in endpoints.values():
        connect(endpoint)
    assert "".join(picks(group, 8)) == "acaabaca"
    assert Counter(picks(group, 8000)) == {"a": 5000, "b": 1000, "c": 2000}


@given(st.lists(st.integers(1, 65535), min_size=1, max_size=6))
def test_any_weights_are_kept_within_rounding_in_a_ring_of_bounded_length(weights: list[int]) -> None:
    names = "abcdef"[: len(weights)]
    endpoints = {name: make_endpoint(name) for name in names}
    members = [Member(endpoints[name], (0, 0), weight) for name, weight in zip(names, weights, strict=True)]
    group = OWNER.groups = [Group("", lambda group: None, members=members)]
    for endpoint in endpoints.values():
        connect(endpoint)
    assert len(group[0]._top) <= MAX_TURNS + len(weights)
    numbers = Counter(picks(group[0], len(group[0]._top)))
    for name, weight in zip(names, weights, strict=True):
        # Each has at least one turn, so the share of a tiny weight is more than it should be.
        assert numbers[name] / len(group[0]._top) == pytest.approx(weight / sum(weights), abs=0.02)


def test_the_fewest_pending_calls_for_the_weight_decide() -> None:
    group, endpoints = make_group(("a", 1), ("b", 1), policy="least_pending", weights="12")
    a, b = connect(endpoints["a"]), connect(endpoints["b"])
    picked = ""
    for number in range(6):
        [name] = picks(group, 1)
        picked += name
        {"a": a, "b": b}[name].pending[number] = None
    assert sorted(picked) == list("aabbbb")
    b.pending.clear()
    assert picks(group, 2) == ["b", "b"]


def test_idle_servers_are_taken_by_turns_also_when_the_fewest_pending_calls_decide() -> None:
    group, endpoints = make_group(("a", 1), ("b", 1), ("c", 1), policy="least_pending")
    for endpoint in endpoints.values():
        connect(endpoint)
    assert "".join(picks(group, 6)) == "abcabc"


def test_a_drained_member_gets_no_calls_in_its_group_only() -> None:
    a, b = make_endpoint("a"), make_endpoint("b")
    groups = [Group(name, lambda g: None, members=[Member(a, (0, 0)), Member(b, (0, 0))]) for name in "xy"]
    OWNER.groups = groups
    connect(a), connect(b)
    groups[0].members[0].is_drained = True
    groups[0].refresh()
    assert [picks(group, 2) for group in groups] == [["b", "b"], ["a", "b"]]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no policy is named 'random', expected one of round_robin, least_pending"):
        Group("", lambda group: None, cast("Any", "random"))
