"""What is handled now, which the log asks for the ids of its lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sipwright.engine.run import Runner
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.script.suspend import Suspension

Requests = Callable[..., bytes]


@pytest.fixture
def handled(server: Any) -> Callable[[], str | None]:
    """Return the Call-ID of what is handled now."""

    def call_id() -> str | None:
        context = server.core.services.handling.context
        return None if context is None else context.message.call_id

    return call_id


def test_a_route_runs_while_its_message_is_handled_and_nothing_is_afterwards(
    server: Any, request_bytes: Requests, handled: Callable[[], str | None]
) -> None:
    server.route(lambda ctx: server.seen.append(handled()) or server.reply(ctx, 200))
    server.receive(request_bytes(call_id="abc@host"))
    assert server.seen == ["abc@host"]
    assert handled() is None


def test_a_resumed_route_runs_while_its_message_is_handled(
    server: Any, request_bytes: Requests, handled: Callable[[], str | None]
) -> None:
    found = server.route(lambda ctx: server.seen.append(handled()) or server.reply(ctx, 200), "FOUND")
    server.route(lambda ctx: server.ask(ctx, found, found))
    server.receive(request_bytes(call_id="abc@host"))
    assert handled() is None
    server.client.calls[0].answer(b"1")
    assert server.seen == ["abc@host"]
    assert handled() is None


def test_a_variable_takes_its_result_while_its_message_is_handled(
    server: Any, request_bytes: Requests, handled: Callable[[], str | None]
) -> None:
    server.result.set = lambda _ctx, _value: server.seen.append(handled())
    found = server.route(lambda ctx: server.reply(ctx, 200), "FOUND")
    server.route(lambda ctx: server.ask(ctx, found, found))
    server.receive(request_bytes(call_id="abc@host"))
    server.client.calls[0].answer(b"1")
    assert server.seen == ["abc@host"]
    assert handled() is None


def test_a_script_that_goes_on_inside_of_another_gives_the_log_back_to_it(
    server: Any, request_bytes: Requests, handled: Callable[[], str | None]
) -> None:
    waiting: list[Suspension] = []
    go_on = server.route(lambda ctx: server.seen.append(handled()) or server.reply(ctx, 200), "GO_ON")

    def run(ctx: Context) -> int:
        if ctx.message.call_id == "first":
            waiting.append(Suspension(ctx))
            assert server.core.services.suspend(waiting[0])
            return 0
        server.core.services.resume(waiting[0], go_on)
        server.seen.append(handled())
        return int(server.reply(ctx, 200))

    server.route(run)
    server.receive(request_bytes(branch="z9hG4bK1", call_id="first"))
    server.receive(request_bytes(branch="z9hG4bK2", call_id="second"))
    assert server.seen == ["first", "second"]


def test_an_error_in_a_resumed_route_leaves_nothing_handled(
    server: Any, request_bytes: Requests, handled: Callable[[], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = server.route(lambda _ctx: 1, "FOUND")
    server.route(lambda ctx: server.ask(ctx, found, found))
    server.receive(request_bytes())

    def fault(*_arguments: object) -> bool:
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(Runner, "run", fault)
    server.is_balanced = False
    with pytest.raises(RuntimeError):
        server.client.calls[0].answer(b"1")
    assert handled() is None


def test_what_is_suspended_for_too_long_is_handled_when_it_is_ended(
    server: Any, request_bytes: Requests, handled: Callable[[], str | None]
) -> None:
    lost = server.route(lambda ctx: server.seen.append(handled()) or server.reply(ctx, 503), "LOST", RouteKind.FAILURE)

    def run(ctx: Context) -> int:
        ctx.on_failure = lost
        return int(server.ask(ctx, lost, lost))

    server.route(run)
    server.receive(request_bytes(call_id="abc@host"))
    server.clock.advance(62.5)
    assert server.seen == ["abc@host"]
    assert handled() is None


def test_an_event_route_is_handled_as_a_message_of_its_own(
    server: Any, request_bytes: Requests, handled: Callable[[], str | None]
) -> None:
    server.route(lambda _ctx: server.seen.append(handled()) or 1, "x:y", RouteKind.EVENT)

    def run(ctx: Context) -> int:
        server.core.services.run_event_route("x:y")
        server.seen.append(handled())
        return int(server.reply(ctx, 200))

    server.route(run)
    server.receive(request_bytes(call_id="abc@host"))
    assert server.seen == ["event1@localhost", "abc@host"]
    assert handled() is None
