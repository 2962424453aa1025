"""Keeping a server connected: delays, budgets and the end, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.connecting import connect as connect_really
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.endpoint import Endpoint, OutgoingEndpoint
from tests.jsonrpc.test_groups import OWNER, connect, lose


class FakeLoop:
    """A loop on which only time goes by; each attempt to connect is counted and left to the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.delays: list[float] = []
        self.attempts = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Any:
        self.delays.append(delay)
        self.now += delay
        callback(*arguments)

        class Handle:
            def cancel(self) -> None: ...

        return Handle()

    def create_task(self, coroutine: Any) -> Any:
        coroutine.close()
        self.attempts += 1


def make_endpoint(loop: FakeLoop, *, max_attempts: int = -1, chance: float = 0.5) -> OutgoingEndpoint:
    def make(endpoint: Endpoint) -> Connection:
        raise NotImplementedError

    OWNER.groups = []
    return OutgoingEndpoint(
        cast("asyncio.AbstractEventLoop", loop),
        ServerAddress("a", 1),
        OWNER,
        make,
        max_pending=100,
        reconnect_interval=3.0,
        max_attempts=max_attempts,
        random=lambda: chance,
        connect=connect_really,
    )


def test_the_delay_doubles_up_to_thirty_seconds_and_varies_by_a_quarter() -> None:
    for chance, factor in ((0.0, 0.75), (0.5, 1.0), (0.999999, 1.25)):
        loop = FakeLoop()
        endpoint = make_endpoint(loop, chance=chance)
        for _ in range(6):
            endpoint._fail("refused")
        expected = [min(delay * factor, 30.0) for delay in (3.0, 6.0, 12.0, 24.0, 30.0, 30.0)]
        assert loop.delays == pytest.approx(expected, rel=1e-4)


def test_a_long_connection_is_tried_again_at_once_and_a_short_one_is_not() -> None:
    loop = FakeLoop()
    endpoint = make_endpoint(loop)
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
    endpoint = make_endpoint(loop, max_attempts=max_attempts)
    for _ in range(10):
        endpoint._fail("refused")
    assert loop.attempts == attempts


def test_a_success_resets_the_budget() -> None:
    loop = FakeLoop()
    endpoint = make_endpoint(loop, max_attempts=2)
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
    endpoint = make_endpoint(loop)
    first = connect(endpoint)
    endpoint.stop()
    assert first.closed
    lose(endpoint)
    assert loop.attempts == 0
    assert connect(endpoint).closed
    assert endpoint.connection is None


def test_a_server_that_leaves_keeps_its_connection_until_its_last_call_has_ended() -> None:
    class Later(FakeLoop):
        def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Any:
            self.later = callback

    loop = Later()
    endpoint = make_endpoint(loop)
    connection = connect(endpoint)
    connection.pending[1] = object()
    endpoint.leave()
    assert not endpoint.is_ready
    assert endpoint.state == "draining"
    loop.later()
    assert not connection.closed
    connection.pending.clear()
    loop.later()
    assert connection.closed


def test_the_state_is_told_for_an_operator() -> None:
    endpoint = make_endpoint(FakeLoop(), max_attempts=0)
    states = [endpoint.state]
    connection = connect(endpoint)
    states.append(endpoint.state)
    connection.is_blocked = True
    states.append(endpoint.state)
    connection.is_blocked, endpoint.is_out = False, True
    states.append(endpoint.state)
    lose(endpoint)
    states.append(endpoint.state)
    assert states == ["connecting", "connected", "blocked", "out", "given_up"]
