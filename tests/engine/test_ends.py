"""Nothing is left of a transaction, however it ends: not in the tables, not in timers, not as reference cycles."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from sipwright.script.context import Context
from sipwright.script.rpc import prepare_params

Requests = Callable[..., bytes]

NUMBER = 50
# What the scripts here do not answer.
LEFT_ALONE = ("ACK", "CANCEL")


def asking(server: Any) -> None:
    ok = server.route(lambda ctx: server.reply(ctx, 200), "RESPONSE")
    error = server.route(lambda ctx: server.reply(ctx, 500, "Error"), "ERROR")
    server.route(lambda ctx: 1 if ctx.message.method in LEFT_ALONE else server.ask(ctx, ok, error))


def asking_in_place(server: Any) -> None:
    params = prepare_params(["[]"])

    async def script(ctx: Context) -> int:
        if ctx.message.method in LEFT_ALONE:
            return 1
        code = await server.modules.jsonrpc.jsonrpc_call(ctx, "who", params, server.result)
        return int(server.reply(ctx, 200 if code > 0 else 500))

    server.route(script)


def suspending_by_hand(server: Any) -> None:
    server.route(lambda ctx: server.modules.tm.t_suspend(ctx) if ctx.message.method not in LEFT_ALONE else 1)


def failing(server: Any) -> None:
    def script(ctx: Context) -> int:
        if ctx.message.method in LEFT_ALONE:
            return 1
        raise ZeroDivisionError

    server.route(script)


def released(server: Any) -> None:
    def script(ctx: Context) -> int:
        server.modules.tm.t_suspend(ctx)
        return int(server.modules.tm.t_release(ctx))

    server.route(script)


def nothing(_server: Any, _call: Any) -> None:
    pass


def answered(_server: Any, call: Any) -> None:
    call.answer(b"1")


def timed_out(_server: Any, call: Any) -> None:
    call.end("timeout")


def overdue(server: Any, _call: Any) -> None:
    server.clock.advance(62)


SCRIPTS_AND_ENDS: list[tuple[Any, Any]] = [
    (asking, answered),
    (asking, timed_out),
    (asking, overdue),
    (asking, "cancel"),
    (asking_in_place, answered),
    (asking_in_place, timed_out),
    (asking_in_place, overdue),
    (asking_in_place, "cancel"),
    (suspending_by_hand, overdue),
    (suspending_by_hand, "cancel"),
    (failing, nothing),
    (released, nothing),
]


@pytest.mark.parametrize(
    ("method", "acknowledges", "script", "end"),
    [
        (method, acknowledges, script, end)
        for method, acknowledges in [("OPTIONS", False), ("INVITE", False), ("INVITE", True)]
        for script, end in SCRIPTS_AND_ENDS
        if method == "INVITE" or end != "cancel"
    ],
)
def test_nothing_is_left(
    server: Any, request_bytes: Requests, script: Any, end: Any, method: str, acknowledges: bool
) -> None:
    script(server)
    services = server.core.services
    # The first one fills caches.
    transact(server, request_bytes, "first", method, end, acknowledges)
    gc.collect()
    gc.disable()
    try:
        for number in range(NUMBER):
            transact(server, request_bytes, str(number), method, end, acknowledges)
        # Counted, not looked at one by one.
        assert server.stat("tm:live") == sum(1 for one in services._table if one.user is not None)
        server.clock.advance(70)
        cycles = gc.collect()
    finally:
        gc.enable()
    assert cycles == 0
    assert (server.stat("tm:current"), server.stat("tm:live"), server.stat("tm:suspended")) == (0, 0, 0)
    assert services._table._unacknowledged == {}
    assert len(services._labels) == 0
    # The sweep is all that waits.
    assert len(services.timers) == 1


def transact(server: Any, request_bytes: Requests, name: str, method: str, end: Any, acknowledges: bool) -> None:
    branch = f"z9hG4bK{name}"
    server.receive(request_bytes(method, branch=branch, call_id=name))
    call = server.client.calls.pop() if server.client.calls else None
    if end == "cancel":
        server.receive(request_bytes("CANCEL", branch=branch, call_id=name))
    else:
        end(server, call)
    if call is not None:
        # As PendingCall does at its end.
        call.argument = None
    if acknowledges and server.socket.sent:
        last = server.responses()[-1]
        of_its_own = "ack" if last.status < 300 else ""
        server.receive(request_bytes("ACK", branch=branch + of_its_own, call_id=name, to_tag=last.to_tag))
    server.socket.sent.clear()


def test_a_suspension_by_hand_that_was_continued_holds_no_timer(server: Any, request_bytes: Requests) -> None:
    tm = server.modules.tm
    go = server.route(lambda ctx: server.reply(ctx, 200), "GO")
    server.route(tm.t_suspend)
    server.receive(request_bytes())
    (suspension,) = server.core.services.suspensions
    label = server.core.services.transaction_label(suspension.context)
    timers = len(server.core.services.timers)
    assert tm.t_continue(suspension.context, *label, go) == 1
    assert server.statuses() == [200]
    # Timer J instead of that of the suspension.
    assert len(server.core.services.timers) == timers


def test_a_suspension_by_hand_is_continued_by_another_worker(server: Any, request_bytes: Requests) -> None:
    tm = server.modules.tm
    server.route(lambda ctx: server.reply(ctx, 200), "GO")
    server.route(tm.t_suspend)
    server.receive(request_bytes())
    services = server.core.services
    (suspension,) = services.suspensions
    _, label = services.transaction_label(suspension.context)
    assert not services.heard("tm:continue", b"%d NOWHERE" % label)
    assert not services.heard("tm:continue", b"%d GO" % (label + 1))
    assert not services.heard("other", b"")
    assert services.heard("tm:continue", b"%d GO" % label)
    assert server.statuses() == [200]
    assert not services.heard("tm:continue", b"%d GO" % label)


def test_a_transaction_of_another_worker_is_continued_there(server: Any, request_bytes: Requests) -> None:
    tm = server.modules.tm
    go = server.route(lambda ctx: server.reply(ctx, 200), "GO")
    told: list[tuple[int, str, bytes]] = []

    def tell(*note: Any) -> bool:
        told.append(note)
        return True

    def script(ctx: Context) -> int:
        services = server.core.services
        server.seen.append(tm.t_continue(ctx, 1, 17, go))
        services.tell_worker = tell
        server.seen.append(tm.t_continue(ctx, 1, 17, go))
        return int(server.reply(ctx, 200))

    server.route(script)
    server.receive(request_bytes())
    assert server.seen == [-1, 1]
    assert told == [(1, "tm:continue", b"17 GO")]


def test_what_is_suspended_when_a_server_stops_is_gone(server: Any, request_bytes: Requests) -> None:
    suspending_by_hand(server)
    server.receive(request_bytes("INVITE"))
    server.core.refuse()
    asyncio.run(server.core.stop())
    assert server.statuses() == [100, 408]
    server.clock.advance(70)
    assert (server.stat("tm:current"), server.stat("tm:suspended")) == (0, 0)


ENDS: dict[str, Callable[[Any, Any, Requests], object]] = {
    "answer": lambda _server, call, _request: call.answer(b"1"),
    "timeout": lambda _server, call, _request: call.end("timeout"),
    "cancel": lambda server, _call, request: server.receive(request("CANCEL")),
    "overdue": lambda server, _call, _request: server.clock.advance(62),
    "stop": lambda server, _call, _request: asyncio.run(server.core.stop()),
}


@pytest.mark.parametrize("script", [asking, asking_in_place])
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(ENDS, 2)))
def test_the_first_of_two_ends_is_the_only_one(
    server: Any, request_bytes: Requests, script: Any, first: str, second: str
) -> None:
    expected = {"answer": 200, "timeout": 500, "cancel": 487, "overdue": 408, "stop": 500}[first]
    script(server)
    server.receive(request_bytes("INVITE"))
    call = server.client.calls[0]
    ENDS[first](server, call, request_bytes)
    ENDS[second](server, call, request_bytes)
    finals = {(response.status, response.cseq_method) for response in server.responses() if response.status >= 200}
    assert finals - {(200, "CANCEL")} == {(expected, "INVITE")}
    assert server.stat("tm:suspended") == 0
    assert server.stat("core:script_errors") == 0
