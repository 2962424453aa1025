"""The choice of a server, and the attempts to connect, without sockets."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest

from sipwright.errors import RpcConnectionError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.groups import Endpoint, Group
from sipwright.testing.fakerpc import FakeRpcServer


class FakeLoop:
    """A loop on which only time goes by; each attempt to connect is counted and left to the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.delays: list[float] = []
        self.attempts = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> Any:
        self.delays.append(delay)
        self.now += delay
        callback()

        class Handle:
            def cancel(self) -> None: ...

        return Handle()

    def create_task(self, coroutine: Any) -> Any:
        coroutine.close()
        self.attempts += 1


class FakeConnection:
    def __init__(self, server: str) -> None:
        self.server = server
        self.pending: dict[int, object] = {}
        self.is_blocked = False
        self.closed = False

    def close(self) -> None:
        self.closed = True


def make_endpoint(
    host: str = "a", loop: FakeLoop | None = None, max_attempts: int = -1, chance: float = 0.5
) -> Endpoint:
    def make(endpoint: Endpoint) -> Connection:
        raise NotImplementedError

    return Endpoint(
        cast("asyncio.AbstractEventLoop", loop or FakeLoop()),
        ServerAddress(host, 1),
        make,
        lambda connection, reason: None,
        reconnect_interval=3.0,
        max_attempts=max_attempts,
        random=lambda: chance,
    )


def connect(endpoint: Endpoint) -> FakeConnection:
    connection = FakeConnection(endpoint.name)
    endpoint.connection_ready(cast("Connection", connection))
    return connection


def lose(endpoint: Endpoint) -> None:
    assert endpoint.connection is not None
    endpoint.connection_ended(endpoint.connection, "lost")


def make_group(*priorities: tuple[str, int], max_pending: int = 100) -> tuple[Group, dict[str, Endpoint]]:
    endpoints = {name: make_endpoint(name) for name, _ in priorities}
    members = [(priority, endpoints[name]) for name, priority in priorities]
    return Group("", members, max_pending, lambda group: None), endpoints


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
    other = group.pick_other(["a:1", "b:1"])
    assert other is not None
    assert other.server == "c:1"
    assert group.pick_other(["a:1", "b:1", "c:1"]) is None


def test_a_server_may_be_in_several_groups() -> None:
    endpoint = make_endpoint()
    groups = [Group(name, [(1, endpoint), (2, endpoint)], 10, lambda group: None) for name in "xy"]
    connect(endpoint)
    assert [picks(group, 1) for group in groups] == [["a"], ["a"]]


def test_a_group_is_starting_until_every_server_was_tried_once() -> None:
    group, endpoints = make_group(("a", 1), ("b", 1))
    assert group.is_starting
    connect(endpoints["a"])
    assert group.is_starting
    connect(endpoints["b"])
    assert not group.is_starting


def test_the_delay_doubles_up_to_thirty_seconds_and_varies_by_a_quarter() -> None:
    for chance, factor in ((0.0, 0.75), (0.5, 1.0), (0.999999, 1.25)):
        loop = FakeLoop()
        endpoint = make_endpoint(loop=loop, chance=chance)
        for _ in range(6):
            endpoint._fail("refused")
        expected = [min(delay * factor, 30.0) for delay in (3.0, 6.0, 12.0, 24.0, 30.0, 30.0)]
        assert loop.delays == pytest.approx(expected, rel=1e-4)


def test_a_long_connection_is_tried_again_at_once_and_a_short_one_is_not() -> None:
    loop = FakeLoop()
    endpoint = make_endpoint(loop=loop)
    connect(endpoint)
    loop.now += 3.0
    lose(endpoint)
    connect(endpoint)
    lose(endpoint)
    connect(endpoint)
    lose(endpoint)
    assert loop.delays == [0.0, 3.0, 6.0]


@pytest.mark.parametrize(("max_attempts", "attempts"), [(0, 0), (1, 1), (3, 3)])
def test_a_budget_of_attempts_is_used_up(max_attempts: int, attempts: int) -> None:
    loop = FakeLoop()
    endpoint = make_endpoint(loop=loop, max_attempts=max_attempts)
    for _ in range(10):
        endpoint._fail("refused")
    assert loop.attempts == attempts


def test_a_success_resets_the_budget() -> None:
    loop = FakeLoop()
    endpoint = make_endpoint(loop=loop, max_attempts=2)
    endpoint._fail("refused")
    endpoint._fail("refused")
    connect(endpoint)
    for _ in range(10):
        if endpoint.connection:
            lose(endpoint)
        else:
            endpoint._fail("refused")
    assert loop.attempts == 4


def test_a_stopped_server_is_not_connected_any_more() -> None:
    loop = FakeLoop()
    endpoint = make_endpoint(loop=loop)
    first = connect(endpoint)
    endpoint.stop()
    assert first.closed
    lose(endpoint)
    assert loop.attempts == 0
    assert connect(endpoint).closed
    assert endpoint.connection is None


def test_a_retry_takes_nobodys_turn() -> None:
    group, endpoints = make_group(("a", 1), ("b", 1), ("c", 1))
    for endpoint in endpoints.values():
        connect(endpoint)
    assert picks(group, 2) == ["a", "b"]
    assert picks(group, 1) == ["c"]
    other = group.pick_other(["a:1"])
    assert other is not None
    assert other.server == "b:1"
    assert "".join(picks(group, 3)) == "acb"


def test_a_family_of_addresses_that_the_machine_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:

            async def addresses(*_args: Any, **_options: Any) -> list[Any]:
                return [
                    (9999, socket.SOCK_STREAM, 6, "", ("::1", rpc.port, 0, 0)),
                    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", rpc.port)),
                ]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
            async with Client(f"localhost:{rpc.port},1") as client:
                await client.connected(1)

    asyncio.run(main())


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", -1), ("a\0b", 1), ("a", 1 << 70)])
def test_an_impossible_address_is_a_failure_that_says_so(host: str, port: int) -> None:
    async def main() -> None:
        async with Client([ServerSpec(ServerAddress(host, port), 1)]) as client:
            with pytest.raises(RpcConnectionError, match="cannot connect"):
                await client.call("get", timeout=0.1)

    asyncio.run(main())
