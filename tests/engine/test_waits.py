"""Scripts that wait for a variable: what is seen from outside is what a script does that has it at hand."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest

from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.script.suspend import Wait
from tests.engine.conftest import Server

Requests = Callable[..., bytes]


class Waiting:
    """Variables that the test gives their values: `await waiting(ctx)` in a script, `give(value)` in the test."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.waits: list[Wait] = []

    async def __call__(self, ctx: Context) -> Any:
        wait = Wait(ctx)
        if not self.server.core.services.hold(wait):
            return "refused"
        self.waits.append(wait)
        return await wait

    def give(self, value: Any = "value") -> bool:
        went_on: bool = self.server.core.services.go_on(self.waits.pop(0), value)
        return went_on


@pytest.fixture
def waiting(server: Any) -> Waiting:
    return Waiting(server)


def exiting(server: Any, ctx: Context) -> int:
    return 0


def replying(server: Any, ctx: Context) -> int:
    return int(server.reply(ctx, 404))


def replying_stateless(server: Any, ctx: Context) -> int:
    return int(server.modules.sl.sl_send_reply(ctx, 404, "No"))


def replying_somehow(server: Any, ctx: Context) -> int:
    return int(server.modules.sl.send_reply(ctx, 404, "No"))


def making_and_replying(server: Any, ctx: Context) -> int:
    server.seen.append(server.modules.tm.t_newtran(ctx))
    return int(server.reply(ctx, 404))


def making_and_leaving(server: Any, ctx: Context) -> int:
    server.seen.append(server.modules.tm.t_newtran(ctx))
    return 0


def failing(server: Any, ctx: Context) -> int:
    raise ZeroDivisionError


def suspending(server: Any, ctx: Context) -> int:
    server.seen.append(server.modules.tm.t_suspend(ctx))
    return 0


SCRIPTS = [
    exiting,
    replying,
    replying_stateless,
    replying_somehow,
    making_and_replying,
    making_and_leaving,
    failing,
    suspending,
]


@pytest.mark.parametrize("method", ["OPTIONS", "INVITE", "ACK", "CANCEL"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_that_waited_leaves_what_it_leaves_without(
    method: str, script: Callable[[Any, Context], int], request_bytes: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = []
    for waits in (False, True):
        server: Any = Server()
        waiting = Waiting(server)

        async def waits_before(ctx: Context, server: Any = server, waiting: Waiting = waiting) -> int:
            server.seen.append(await waiting(ctx))
            server.seen.append((ctx.transaction is None, ctx.answered))
            return script(server, ctx)

        def at_once(ctx: Context, server: Any = server) -> int:
            server.seen.append("value")
            server.seen.append((ctx.transaction is None, ctx.answered))
            return script(server, ctx)

        server.route(waits_before if waits else at_once)
        caplog.clear()
        server.receive(request_bytes(method, to_tag="x") if method == "ACK" else request_bytes(method))
        if waits:
            assert server.statuses() == []
            assert waiting.give()
        numbers = {name: server.stat(f"tm:{name}") for name in ("created", "current", "suspended", "absorbed")}
        lines = [record.getMessage() for record in caplog.records]
        places = [line.partition(" (")[0].rpartition(":")[2] for line in lines]
        outcomes.append((server.statuses(), server.seen, numbers, places))
    assert outcomes[0] == outcomes[1]


def test_nothing_is_sent_while_a_script_waits_and_retransmissions_are_absorbed(
    server: Any, waiting: Waiting, request_bytes: Requests
) -> None:
    async def script(ctx: Context) -> int:
        return int(server.reply(ctx, 200 if await waiting(ctx) == "yes" else 500))

    server.route(script)
    for _ in range(3):
        assert server.receive(request_bytes("INVITE")) == []
        server.clock.advance(0.5)
    assert len(waiting.waits) == 1
    assert (server.stat("tm:suspended"), server.stat("tm:absorbed"), server.stat("tm:created")) == (1, 2, 0)
    waiting.give("yes")
    assert server.statuses() == [200]
    assert server.stat("tm:created") == 1


def test_a_script_that_waited_and_drops_a_request_takes_its_repetition_as_a_new_one(
    server: Any, waiting: Waiting, request_bytes: Requests
) -> None:
    async def script(ctx: Context) -> int:
        server.seen.append(await waiting(ctx))
        return 0

    server.route(script)
    for number in range(2):
        server.receive(request_bytes())
        waiting.give(number)
    assert (server.seen, server.statuses(), server.stat("core:unanswered")) == ([0, 1], [], 0)
    assert server.stat("tm:current") == 0


def test_cancel_ends_an_invite_whose_script_waits(server: Any, waiting: Waiting, request_bytes: Requests) -> None:
    async def script(ctx: Context) -> int:
        try:
            await waiting(ctx)
        finally:
            server.seen.append("ended")
        return int(server.reply(ctx, 200))

    server.route(script)
    server.receive(request_bytes("INVITE"))
    assert sorted(server.receive(request_bytes("CANCEL"))) == [200, 487]
    assert len({response.to_tag for response in server.responses()}) == 1
    assert server.seen == ["ended"]
    assert not waiting.give()
    assert sorted(server.statuses()) == [200, 487]
    assert (server.stat("tm:cancelled"), server.stat("tm:suspended")) == (1, 0)
    assert server.receive(request_bytes("ACK", to_tag=server.responses()[0].to_tag)) == []
    assert server.receive(request_bytes("INVITE")) == []


@pytest.mark.parametrize("waits", [False, True])
def test_cancel_of_an_invite_that_rings_is_answered_whether_its_script_waited_or_not(
    server: Any, waiting: Waiting, request_bytes: Requests, waits: bool
) -> None:
    async def script(ctx: Context) -> int:
        if waits:
            await waiting(ctx)
        if ctx.message.method == "INVITE":
            # Answered as far as the engine knows: it was passed on.
            server.reply(ctx, 180, "Ringing")
            ctx.answered = True
        return 1

    server.route(script)
    server.receive(request_bytes("INVITE"))
    if waits:
        waiting.give()
    server.receive(request_bytes("CANCEL"))
    if waits:
        waiting.give()
    assert server.statuses()[0] == 180
    assert sorted(server.statuses()[1:]) == [200, 487]


def test_an_ack_and_an_event_wait_without_a_transaction(server: Any, waiting: Waiting, request_bytes: Requests) -> None:
    async def script(ctx: Context) -> int:
        server.seen.append((ctx.message.method, ctx.kind, await waiting(ctx)))
        return 1

    server.route(script, "test:event", RouteKind.EVENT)
    server.route(script)
    server.receive(request_bytes("ACK", to_tag="x"))
    server.receive(request_bytes("ACK", to_tag="x"))
    server.core.services.run_event_route("test:event")
    assert server.stat("tm:suspended") == 3
    for number in range(3):
        waiting.give(number)
    assert server.seen == [
        ("ACK", RouteKind.REQUEST, 0),
        ("ACK", RouteKind.REQUEST, 1),
        ("OPTIONS", RouteKind.EVENT, 2),
    ]
    assert (server.statuses(), server.stat("tm:created")) == ([], 0)


def test_a_script_may_wait_many_times_and_be_suspended_between(
    server: Any, waiting: Waiting, request_bytes: Requests
) -> None:
    async def after(ctx: Context) -> int:
        server.seen.append(await waiting(ctx))
        server.seen.append(await waiting(ctx))
        return 0

    async def script(ctx: Context) -> int:
        server.seen.append(await waiting(ctx))
        server.seen.append(await waiting(ctx))
        return int(server.ask(ctx, ok, ok))

    ok = server.route(after, "RESPONSE")
    server.route(script)
    server.receive(request_bytes("INVITE"))
    waiting.give(1)
    assert server.statuses() == []
    waiting.give(2)
    assert server.statuses() == [100]
    server.client.calls[0].answer(b"1")
    waiting.give(3)
    assert server.stat("core:unanswered") == 0
    waiting.give(4)
    # A resumed route that ends without an answer is answered 500, waited or not.
    assert (server.seen, server.statuses(), server.stat("core:unanswered")) == ([1, 2, 3, 4], [100, 500], 1)


def test_a_script_that_waits_after_it_has_answered_is_let_to(
    server: Any, waiting: Waiting, request_bytes: Requests
) -> None:
    async def script(ctx: Context) -> int:
        server.reply(ctx, 200)
        server.seen.append(await waiting(ctx))
        return 0

    server.route(script)
    assert server.receive(request_bytes()) == [200]
    assert server.receive(request_bytes()) == [200]
    waiting.give(1)
    assert server.seen == [1]


def test_too_many_that_wait_are_refused(server: Any, waiting: Waiting, request_bytes: Requests) -> None:
    async def script(ctx: Context) -> int:
        return int(server.reply(ctx, 503 if await waiting(ctx) == "refused" else 200))

    server.route(script)
    server.core.services.limit_suspensions(60, 2)
    for branch in ("z9hG4bK1", "z9hG4bK2", "z9hG4bK3"):
        server.receive(request_bytes(branch=branch))
    assert server.statuses() == [503]
    waiting.give()
    waiting.give()
    assert server.statuses() == [503, 200, 200]


def test_a_wait_that_nobody_ends_is_given_up(
    server: Any, waiting: Waiting, request_bytes: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(ctx: Context) -> int:
        await waiting(ctx)
        return 1

    server.route(script)
    server.receive(request_bytes("INVITE"))
    server.clock.advance(62)
    assert (server.stat("tm:suspended"), server.stat("tm:overdue"), server.statuses()) == (0, 1, [])
    assert "suspended for too long" in caplog.text
    # It is as if it had never come.
    server.receive(request_bytes("INVITE"))
    assert server.stat("tm:suspended") == 1


class TestASuspensionByHand:
    """A script may read a variable after t_suspend(), and while it waits for it the transaction stays suspended."""

    def script(self, server: Any, waiting: Waiting) -> None:
        async def script(ctx: Context) -> int:
            server.modules.tm.t_suspend(ctx)
            server.numbers = server.core.services.transaction_label(ctx)
            server.seen.append(await waiting(ctx))
            return 0

        server.route(script)
        server.continued = server.route(lambda ctx: server.reply(ctx, 200), "CONTINUED")

    def go_on(self, server: Any) -> int:
        return int(server.modules.tm.t_continue(None, *server.numbers, server.continued))

    def test_it_goes_on_when_its_script_has_ended(self, server: Any, waiting: Waiting, request_bytes: Requests) -> None:
        self.script(server, waiting)
        server.receive(request_bytes())
        waiting.give(1)
        assert (server.stat("tm:suspended"), server.statuses()) == (1, [])
        assert self.go_on(server) == 1
        assert (server.seen, server.statuses(), server.stat("tm:suspended")) == ([1], [200], 0)

    def test_it_goes_on_after_its_script(self, server: Any, waiting: Waiting, request_bytes: Requests) -> None:
        self.script(server, waiting)
        server.receive(request_bytes())
        assert self.go_on(server) == 1
        assert server.statuses() == []
        waiting.give(1)
        assert (server.seen, server.statuses(), server.stat("tm:suspended")) == ([1], [200], 0)
        assert self.go_on(server) == -1

    def test_cancel_ends_both(self, server: Any, waiting: Waiting, request_bytes: Requests) -> None:
        self.script(server, waiting)
        server.receive(request_bytes("INVITE"))
        assert sorted(server.receive(request_bytes("CANCEL"))) == [200, 487]
        assert server.stat("tm:suspended") == 0
        assert not waiting.give()
        server.clock.advance(200)
        assert sorted(server.statuses()[:3]) == [100, 200, 487]


def test_what_waits_when_a_server_stops_is_given_up(
    server: Any, waiting: Waiting, request_bytes: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(ctx: Context) -> int:
        await waiting(ctx)
        return 1

    server.route(script)
    server.receive(request_bytes())
    asyncio.run(server.core.stop())
    assert server.stat("tm:suspended") == 0


def test_nothing_is_left_of_a_wait(server: Any, waiting: Waiting, request_bytes: Requests) -> None:
    async def script(ctx: Context) -> int:
        await waiting(ctx)
        return 0 if ctx.message.method == "OPTIONS" else int(server.reply(ctx, 404))

    server.route(script)
    # What other tests' logs still hold.
    gc.collect()
    before = _waiting_things()
    gc.disable()
    try:
        for number in range(20):
            server.receive(request_bytes("OPTIONS", branch=f"z9hG4bKa{number}"))
            waiting.give()
            server.receive(request_bytes("MESSAGE", branch=f"z9hG4bKb{number}"))
            waiting.give()
            server.receive(request_bytes("INVITE", branch=f"z9hG4bKc{number}"))
            server.receive(request_bytes("CANCEL", branch=f"z9hG4bKc{number}"))
            waiting.waits.clear()
        server.clock.advance(100)
        assert _waiting_things() == before
    finally:
        gc.enable()
    assert server.stat("tm:current") == 0


def test_the_log_of_an_error_names_the_line_behind_the_wait(
    server: Any, waiting: Waiting, request_bytes: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(ctx: Context) -> int:
        raise ValueError(await waiting(ctx))

    server.route(script)
    server.receive(request_bytes())
    with caplog.at_level(logging.ERROR):
        waiting.give("wrong")
    assert "ValueError: wrong" in caplog.text
    assert server.statuses() == [500]


def test_a_request_that_cannot_wait_and_is_left_without_an_answer_is_answered_503(
    server: Any, waiting: Waiting, request_bytes: Requests
) -> None:
    server.registry.set_param("tm", "max_suspended", 1)

    async def script(ctx: Context) -> int:
        seen = await waiting(ctx)
        server.seen.append(seen)
        return int(server.reply(ctx, 404)) if ctx.message.method == "MESSAGE" else 0

    server.route(script)
    assert server.receive(request_bytes("OPTIONS", branch="z9hG4bKa")) == []
    assert server.receive(request_bytes("OPTIONS", branch="z9hG4bKb")) == [503]
    assert server.receive(request_bytes("MESSAGE", branch="z9hG4bKc")) == [404]
    waiting.give()
    assert server.seen == ["refused", "refused", "value"]
    assert server.statuses() == [503, 404]
    assert server.stat("tm:suspend_refused") == 2


def _waiting_things() -> int:
    return sum(isinstance(one, (Context, Wait)) for one in gc.get_objects())
