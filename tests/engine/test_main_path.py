"""The main path: a request is answered, suspended and resumed; each of the ways to end comes first once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from sipwright.lang.namespace import RouteKind, Variable
from sipwright.script.context import Context
from sipwright.script.rpc import prepare_params
from sipwright.sip.message import Message, Request

Requests = Callable[..., bytes]


def suspending(server: Any) -> None:
    """Give the server the usual script: ask, then answer 200 or 500."""
    ok = server.route(lambda ctx: server.reply(ctx, 200), "RESPONSE")
    error = server.route(lambda ctx: server.reply(ctx, 500, "Error"), "ERROR")
    server.route(lambda ctx: server.ask(ctx, ok, error))


def waiting_in_place(server: Any) -> Callable[[Context], Any]:
    """Return a script that asks in place, then answers 200 or 500, and tells what it saw."""
    params = prepare_params(["[]"])

    async def script(ctx: Context) -> int:
        ctx.vars["before"] = "kept"
        try:
            rc = await server.modules.jsonrpc.jsonrpc_call(ctx, "who", params, server.result)
        finally:
            server.seen.append("ended")
        server.seen.append((rc, ctx.vars["before"], ctx.vars["result"]))
        return int(server.reply(ctx, 200 if rc > 0 else 500))

    return script


def test_a_suspended_request_goes_on_in_the_return_route_with_its_result(server: Any, request_bytes: Requests) -> None:
    suspending(server)
    assert server.receive(request_bytes()) == []
    (call,) = server.client.calls
    assert (call.method, call.params) == ("get_user", b'{"id":1}')
    assert server.stat("tm:suspended") == 1
    call.answer(b'"petros"')
    assert server.statuses() == [200]
    assert server.stat("tm:suspended") == 0
    assert server.stat("tm:live") == 0


@pytest.mark.parametrize("status", ["timeout", "failure"])
def test_a_call_without_an_answer_goes_on_in_the_error_route(server: Any, request_bytes: Requests, status: str) -> None:
    seen: list[Any] = []
    ok = server.route(lambda ctx: server.reply(ctx, 200), "RESPONSE")

    def failed(ctx: Context) -> int:
        seen.append(ctx.vars["result"])
        return int(server.reply(ctx, 503, "Sorry"))

    error = server.route(failed, "ERROR")
    server.route(lambda ctx: server.ask(ctx, ok, error))
    server.receive(request_bytes())
    server.client.calls[0].end(status)
    assert server.statuses() == [503]
    assert seen == [status]


def test_a_retransmission_is_absorbed_and_makes_no_second_call(server: Any, request_bytes: Requests) -> None:
    suspending(server)
    for _ in range(3):
        assert server.receive(request_bytes()) == []
    assert len(server.client.calls) == 1
    server.client.calls[0].answer(b"1")
    assert server.receive(request_bytes()) == [200]
    assert len(server.client.calls) == 1
    assert server.stat("tm:absorbed") == 3


def test_an_invite_is_answered_100_when_it_is_suspended_and_again_when_it_is_retransmitted(
    server: Any, request_bytes: Requests
) -> None:
    suspending(server)
    assert server.receive(request_bytes("INVITE")) == [100]
    assert server.receive(request_bytes("INVITE")) == [100]
    server.client.calls[0].answer(b"1")
    assert server.statuses() == [100, 100, 200]


def test_the_200_to_an_invite_is_repeated_until_its_ack(server: Any, request_bytes: Requests) -> None:
    suspending(server)
    server.receive(request_bytes("INVITE"))
    server.client.calls[0].answer(b"1")
    server.clock.advance(1.6)
    assert server.statuses() == [100, 200, 200, 200]
    tag = server.responses()[-1].to_tag
    server.routes[RouteKind.REQUEST, ""].run = lambda ctx: server.seen.append(ctx.message.method) or 1
    server.receive(request_bytes("ACK", branch="z9hG4bKack", to_tag=tag))
    server.clock.advance(10)
    assert server.statuses() == [100, 200, 200, 200]
    assert server.seen == ["ACK"]


def test_a_cancel_ends_a_suspended_invite_at_once_and_no_route_runs(server: Any, request_bytes: Requests) -> None:
    suspending(server)
    server.receive(request_bytes("INVITE"))
    call = server.client.calls[0]
    assert server.receive(request_bytes("CANCEL")) == [200, 487]
    assert call.cancelled
    assert server.stat("tm:suspended") == 0
    call.answer(b"1")
    assert server.statuses() == [100, 200, 487]
    responses = server.responses()
    assert responses[1].to_tag == responses[2].to_tag
    assert server.receive(request_bytes("ACK", to_tag=responses[2].to_tag)) == []
    server.clock.advance(10)
    assert server.statuses() == [100, 200, 487]
    assert server.stat("tm:live") == 0


def test_a_cancel_that_the_script_leaves_alone_is_answered_by_the_engine(server: Any, request_bytes: Requests) -> None:
    tm = server.modules.tm

    def script(ctx: Context) -> int:
        server.seen.append((ctx.message.method, tm.t_check_trans(ctx)))
        if ctx.message.method == "INVITE":
            server.reply(ctx, 180, "Ringing")
            tm.t_suspend(ctx)
            server.core.services.unsuspend(ctx.suspension)
            ctx.suspension = None
            ctx.answered = True  # as if it had been passed on
        return 1

    server.route(script)
    assert server.receive(request_bytes("INVITE")) == [180]
    assert server.receive(request_bytes("CANCEL")) == [200, 487]
    assert server.seen == [("INVITE", -1), ("CANCEL", 1)]


def test_a_cancel_without_its_invite_is_the_scripts_to_answer(server: Any, request_bytes: Requests) -> None:
    server.route(lambda ctx: server.modules.sl.sl_send_reply(ctx, 481, "Unknown"))
    assert server.receive(request_bytes("CANCEL")) == [481]


def test_calls_can_be_chained_from_a_resumed_route(server: Any, request_bytes: Requests) -> None:
    last = server.route(lambda ctx: server.reply(ctx, 200), "LAST")
    error = server.route(lambda ctx: server.reply(ctx, 500), "ERROR")
    again = server.route(lambda ctx: server.ask(ctx, last, error), "AGAIN")
    server.route(lambda ctx: server.ask(ctx, again, error))
    server.receive(request_bytes())
    server.client.calls[0].answer(b"1")
    assert server.statuses() == []
    server.client.calls[1].answer(b"2")
    assert server.statuses() == [200]


def test_a_resumed_route_keeps_variables_edits_and_its_kind(server: Any, request_bytes: Requests) -> None:
    error = server.route(lambda ctx: server.reply(ctx, 500), "ERROR")

    def resumed(ctx: Context) -> int:
        server.seen.append((ctx.vars["mine"], ctx.uri, ctx.kind, ctx.vars["result"]))
        return int(server.reply(ctx, 200))

    ok = server.route(resumed, "RESPONSE")

    def script(ctx: Context) -> int:
        ctx.vars["mine"] = 5
        ctx.uri = "sip:other@example.org"
        return int(server.ask(ctx, ok, error))

    server.route(script)
    server.receive(request_bytes())
    server.client.calls[0].answer(b"1.10")
    assert server.seen == [(5, "sip:other@example.org", RouteKind.REQUEST, "1.10")]


def test_a_resumed_route_that_answers_nothing_is_answered_500_and_logged(
    server: Any, request_bytes: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    ok = server.route(lambda _ctx: 1, "SILENT")
    server.route(lambda ctx: server.ask(ctx, ok, ok))
    server.receive(request_bytes())
    server.client.calls[0].answer(b"1")
    (response,) = server.responses()
    assert (response.status, response.reason) == (500, "I'm terribly sorry, server error occurred")
    assert "SILENT" in caplog.text


def test_an_error_in_a_script_is_logged_with_its_line_and_answered_500(
    server: Any, request_bytes: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_ctx: Context) -> int:
        raise ZeroDivisionError("division by zero")

    server.route(broken)
    assert server.receive(request_bytes()) == [500]
    assert "test_main_path.py:" in caplog.text
    assert "ZeroDivisionError: division by zero" in caplog.text
    assert server.stat("core:script_errors") == 1


def test_a_transaction_that_the_script_leaves_is_put_away_with_a_warning(
    server: Any, request_bytes: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    server.route(server.modules.tm.t_newtran)
    assert server.receive(request_bytes()) == []
    assert server.stat("tm:live") == 0
    assert "ended without an answer" in caplog.text


def test_nothing_is_sent_when_a_script_does_nothing(server: Any, request_bytes: Requests) -> None:
    server.route(lambda _ctx: 1)
    assert server.receive(request_bytes()) == []
    assert server.receive(request_bytes("ACK")) == []


def test_a_stateless_answer_has_one_tag_and_its_ack_is_absorbed(server: Any, request_bytes: Requests) -> None:
    def script(ctx: Context) -> int:
        server.seen.append(ctx.message.method)
        return int(server.modules.sl.sl_send_reply(ctx, 404, "Not Found"))

    server.route(script)
    server.receive(request_bytes("INVITE"))
    server.receive(request_bytes("INVITE"))
    first, second = server.responses()
    assert first.to_tag == second.to_tag
    assert server.receive(request_bytes("ACK", to_tag=first.to_tag)) == []
    assert server.seen == ["INVITE", "INVITE"]
    assert server.stat("tm:absorbed_acks") == 1


def test_a_malformed_request_never_reaches_the_script_and_is_answered_400(server: Any, request_bytes: Requests) -> None:
    server.route(lambda _ctx: pytest.fail("the script ran"))
    assert server.receive(request_bytes(cseq_method="INVITE")) == [400]
    assert server.receive(b"rubbish") == []
    assert server.receive(b"\r\n\r\n") == []
    assert server.stat("core:bad_msgs") == 2
    assert server.stat("core:keepalives") == 1


def test_a_stray_response_is_counted_and_dropped(server: Any, request_bytes: Requests) -> None:
    server.route(lambda ctx: server.reply(ctx, 200))
    server.receive(request_bytes())
    answer = server.socket.sent[0][0]
    assert server.receive(answer) == []
    assert server.stat("core:stray_replies") == 1


def test_a_suspension_that_lasts_too_long_ends_in_the_failure_route(server: Any, request_bytes: Requests) -> None:
    server.registry.set_param("tm", "max_suspend", 3)
    ok = server.route(lambda ctx: server.reply(ctx, 200), "RESPONSE")
    late = server.route(lambda ctx: server.reply(ctx, 504, "Late"), "LATE", RouteKind.FAILURE)

    def script(ctx: Context) -> int:
        server.modules.tm.t_on_failure(ctx, late)
        return int(server.ask(ctx, ok, ok))

    server.route(script)
    server.receive(request_bytes())
    server.clock.advance(5)
    assert server.statuses() == [504]
    assert server.client.calls[0].cancelled


def test_a_suspension_that_lasts_too_long_is_answered_408_without_a_failure_route(
    server: Any, request_bytes: Requests
) -> None:
    server.registry.set_param("tm", "max_suspend", 3)
    suspending(server)
    server.receive(request_bytes())
    server.clock.advance(5)
    assert server.statuses() == [408]


def test_beyond_max_suspended_the_script_goes_on_and_the_transaction_is_not_suspended(
    server: Any, request_bytes: Requests
) -> None:
    server.registry.set_param("tm", "max_suspended", 1)
    ok = server.route(lambda ctx: server.reply(ctx, 200), "RESPONSE")

    def script(ctx: Context) -> int:
        rc = int(server.ask(ctx, ok, ok))
        return rc if rc == 0 else int(server.reply(ctx, 503, "Busy"))

    server.route(script)
    assert server.receive(request_bytes(branch="z9hG4bKa")) == []
    assert server.receive(request_bytes(branch="z9hG4bKb")) == [503]
    server.client.calls[0].answer(b"1")
    assert server.statuses() == [503, 200]


def test_a_script_that_waits_in_place_goes_on_with_its_variables(server: Any, request_bytes: Requests) -> None:
    server.route(waiting_in_place(server))
    for branch in ("z9hG4bKa", "z9hG4bKb", "z9hG4bKc"):
        server.receive(request_bytes(branch=branch))
    first, second, third = server.client.calls
    second.end("timeout")
    first.answer(b'{"a":1}')
    third.end("failure")
    seen = [item for item in server.seen if item != "ended"]
    assert seen == [(-2, "kept", "timeout"), (1, "kept", '{"a":1}'), (-3, "kept", "failure")]
    assert server.statuses() == [500, 200, 500]


def test_a_cancel_while_a_script_waits_in_place_closes_it(server: Any, request_bytes: Requests) -> None:
    server.route(waiting_in_place(server))
    server.receive(request_bytes("INVITE"))
    assert server.receive(request_bytes("CANCEL")) == [200, 487]
    assert server.seen == ["ended"]


def test_a_server_that_stops_refuses_new_requests_and_ends_suspended_ones_in_the_error_route(
    server: Any, request_bytes: Requests
) -> None:
    suspending(server)
    server.receive(request_bytes(branch="z9hG4bKa"))
    server.core.refuse()
    assert server.receive(request_bytes(branch="z9hG4bKb")) == [503]
    assert 5 <= int(server.responses()[-1].header("Retry-After")) <= 15
    asyncio.run(server.core.stop())
    assert server.statuses() == [503, 500]
    assert server.stat("tm:live") == 0


def test_a_module_that_fails_at_the_end_keeps_nobody_waiting(
    server: Any, request_bytes: Requests, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspending(server)
    server.receive(request_bytes())

    async def destroy() -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(server.modules.jsonrpc, "destroy", destroy)
    asyncio.run(server.core.stop())
    assert server.statuses() == [408]
    assert "RuntimeError: broken" in caplog.text


def test_what_belongs_to_a_transaction_here_is_not_given_to_another_worker(
    server: Any, request_bytes: Requests
) -> None:
    suspending(server)
    server.receive(request_bytes("INVITE"))
    given: list[str] = []

    def hand_over(message: Message, _source: Any, _socket: Any) -> bool:
        assert isinstance(message, Request)
        given.append(message.method)
        return True

    server.core.hand_over(hand_over)
    # The repetition, and the CANCEL: its key is another one, but its INVITE is here.
    assert server.receive(request_bytes("INVITE")) == [100]
    assert server.receive(request_bytes("CANCEL")) == [200, 487]
    assert server.receive(request_bytes("ACK", to_tag=server.responses()[-1].to_tag)) == []
    assert not given
    for method in ("INVITE", "CANCEL", "ACK", "OPTIONS"):
        assert server.receive(request_bytes(method, "z9hG4bKother")) == []
    assert given == ["INVITE", "CANCEL", "ACK", "OPTIONS"]
    assert server.stat("core:rcv_requests") == 4


def test_a_fault_of_our_own_is_logged_with_the_datagram_and_the_server_goes_on(
    server: Any, request_bytes: Requests, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.route(lambda ctx: server.reply(ctx, 200))
    core = server.core
    receiver = core.receive.__self__
    with monkeypatch.context() as patch:
        patch.setattr(receiver, "_absorb", lambda _request: 1 / 0)
        server.receive(request_bytes())
    with monkeypatch.context() as patch:
        patch.setattr("sipwright.engine.receive.parse", lambda _data: 1 / 0)
        server.receive(request_bytes())
    assert caplog.text.count("fault in handling a datagram") == 2
    assert caplog.records[-1].levelno == logging.ERROR
    assert server.receive(request_bytes()) == [200]


@pytest.mark.parametrize("in_place", [True, False])
def test_a_result_that_cannot_be_stored_is_an_error_of_the_script(
    server: Any, request_bytes: Requests, caplog: pytest.LogCaptureFixture, in_place: bool
) -> None:
    def broken(_ctx: Context, _value: Any) -> None:
        raise KeyError("no room")

    server.result = Variable("$broken(x)", lambda _ctx: None, broken)
    if in_place:
        server.route(waiting_in_place(server))
    else:
        suspending(server)
    server.receive(request_bytes())
    server.client.calls[0].answer(b"1")
    assert server.statuses() == [500]
    assert server.stat("tm:suspended") == 0
    assert "KeyError: 'no room'" in caplog.text


def test_a_call_that_cannot_be_made_leaves_nothing_suspended(
    server: Any, request_bytes: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(*_arguments: Any, **_options: Any) -> None:
        raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")

    ok = server.route(lambda ctx: server.reply(ctx, 200), "RESPONSE")

    def script(ctx: Context) -> int:
        server.seen.append(server.ask(ctx, ok, ok))
        return int(server.reply(ctx, 503, "Not asked"))

    server.route(script)
    server.core  # noqa: B018 - starts the modules
    monkeypatch.setattr(server.modules.jsonrpc, "_submit", submit)
    assert server.receive(request_bytes()) == [503]
    assert server.seen == [-1]
    assert server.stat("tm:suspended") == 0


def test_a_script_that_awaits_anything_but_a_suspension_is_in_error(
    server: Any, request_bytes: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(ctx: Context) -> int:
        await asyncio.sleep(0)
        return int(server.reply(ctx, 200))

    server.route(script)
    assert server.receive(request_bytes()) == [500]
    assert "AttributeError" in caplog.text


def test_what_asks_again_while_a_server_stops_is_told_so_at_once(server: Any, request_bytes: Requests) -> None:
    error = server.route(lambda _ctx: 1, "ERROR")
    ok = server.route(lambda ctx: server.reply(ctx, 200), "RESPONSE")

    def failed(ctx: Context) -> int:
        server.seen.append(server.ask(ctx, ok, error))
        return int(server.reply(ctx, 503, "Stopping"))

    error.run = failed
    server.route(lambda ctx: server.ask(ctx, ok, error))
    server.receive(request_bytes())
    server.core.refuse()
    asyncio.run(server.core.stop())
    assert server.statuses() == [503]
    assert server.seen == [-1]


def test_a_sweep_that_fails_is_not_the_last_one(
    server: Any, request_bytes: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.registry.set_param("tm", "max_suspend", 3)
    suspending(server)
    core = server.core
    with monkeypatch.context() as patch:
        patch.setattr(type(core.services.suspensions), "sweep", lambda _self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            server.clock.advance(1.5)
    server.receive(request_bytes())
    server.clock.advance(5)
    assert server.statuses() == [408]


def test_a_worker_that_retires_hands_over_what_is_new_and_keeps_what_is_its_own(
    server: Any, request_bytes: Requests
) -> None:
    suspending(server)
    handed: list[str] = []

    def hand_over(message: Message, _source: Any, _socket: Any) -> bool:
        handed.append(getattr(message, "method", "response"))
        return True

    core = server.core
    assert server.receive(request_bytes("INVITE")) == [100]
    core.hand_over(hand_over)
    core.retire()
    assert server.receive(request_bytes("INVITE")) == [100]
    assert server.receive(request_bytes("OPTIONS", branch="z9hG4bKnew")) == []
    assert server.receive(request_bytes("CANCEL", branch="z9hG4bKother")) == []
    assert handed == ["OPTIONS", "CANCEL"]
    assert server.receive(request_bytes("CANCEL")) == [200, 487]
    assert server.receive(request_bytes("ACK", to_tag=server.responses()[-1].to_tag)) == []
    assert handed == ["OPTIONS", "CANCEL"]
    # What was handed over is counted where it goes to.
    assert server.stat("core:rcv_requests") == 4
