"""Bounds: what is turned away, with what words, and how often the log says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from sipwright.engine.admission import QUIET_SECONDS, Episode
from sipwright.errors import ConfigErrors
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.script.rpc import prepare_params
from sipwright.testing import NoAnswer, ScriptDriver, sip_request
from sipwright.testing.script import CLIENT

Requests = Callable[..., bytes]


def test_beyond_max_transactions_a_request_is_answered_503_and_no_script_runs(
    server: Any, request_bytes: Requests
) -> None:
    server.registry.set_param("tm", "max_transactions", 2)
    server.route(lambda ctx: server.seen.append(ctx.message.branch) or server.reply(ctx, 200))
    assert [server.receive(request_bytes(branch=f"z9hG4bK{n}")) for n in range(4)] == [[200], [200], [503], [503]]
    assert server.seen == [b"z9hG4bK0", b"z9hG4bK1"]
    assert (server.stat("tm:overload"), server.stat("tm:current"), server.stat("tm:refused")) == (2, 2, 0)


def test_a_full_worker_goes_on_with_the_transactions_that_it_has(server: Any, request_bytes: Requests) -> None:
    server.registry.set_param("tm", "max_transactions", 1)

    def script(ctx: Context) -> int:
        server.seen.append(ctx.message.method)
        return 1 if ctx.message.method == "ACK" else int(server.reply(ctx, 486))

    server.route(script)
    assert server.receive(request_bytes("INVITE")) == [486]
    # The retransmission and the ACK are the transaction's, the ACK of a 2xx is no new transaction.
    assert server.receive(request_bytes("INVITE")) == [486]
    assert server.receive(request_bytes("ACK", to_tag=server.responses()[0].to_tag)) == []
    assert server.receive(request_bytes("ACK", branch="z9hG4bKother")) == []
    assert server.seen == ["INVITE", "ACK"]


def test_a_full_worker_still_cancels(server: Any, request_bytes: Requests) -> None:
    server.registry.set_param("tm", "max_transactions", 1)
    ok = server.route(lambda ctx: server.reply(ctx, 200), "OK")
    server.route(lambda ctx: server.ask(ctx, ok, ok))
    assert server.receive(request_bytes("INVITE")) == [100]
    assert server.receive(request_bytes("OPTIONS", branch="z9hG4bKother")) == [503]
    assert server.receive(request_bytes("CANCEL")) == [200, 487]


def test_it_takes_requests_again_when_transactions_have_ended(server: Any, request_bytes: Requests) -> None:
    server.registry.set_param("tm", "max_transactions", 1)
    server.route(lambda ctx: server.reply(ctx, 200))
    server.receive(request_bytes(branch="z9hG4bKa"))
    assert server.receive(request_bytes(branch="z9hG4bKb")) == [503]
    server.clock.advance(32)
    assert server.receive(request_bytes(branch="z9hG4bKc")) == [200]


def test_0_is_no_bound(server: Any, request_bytes: Requests) -> None:
    server.registry.set_param("tm", "max_transactions", 0)
    server.route(lambda ctx: server.reply(ctx, 200))
    assert [server.receive(request_bytes(branch=f"z9hG4bK{n}")) for n in range(50)] == [[200]] * 50


def test_large_requests_count_more_often(server: Any, request_bytes: Requests) -> None:
    server.registry.set_param("tm", "max_transactions", 50)
    server.route(lambda ctx: server.reply(ctx, 200))
    pad = b"X-Pad: " + b"x" * 20_000 + b"\r\nMax-Forwards"
    for number in range(2):
        large = request_bytes(branch=f"z9hG4bK-large-{number}").replace(b"Max-Forwards", pad)
        assert server.receive(large) == [200]
    server.clock.advance(1)
    # 2 and 19 for each of them.
    statuses = [server.receive(request_bytes(branch=f"z9hG4bK{number}")) for number in range(20)]
    assert statuses == [[200]] * 10 + [[503]] * 10
    # They end, and there is room for more.
    server.clock.advance(34)
    assert server.core.services._table.weight == 0
    statuses = [server.receive(request_bytes(branch=f"z9hG4bK-again-{number}")) for number in range(50)]
    assert statuses == [[200]] * 50


def test_a_server_that_stops_takes_no_requests_also_after_a_while(server: Any, request_bytes: Requests) -> None:
    server.route(lambda ctx: server.reply(ctx, 200))
    server.core.refuse()
    server.clock.advance(3)
    assert server.receive(request_bytes()) == [503]


def retry_after(server: Any) -> list[int]:
    return [int(response.header("Retry-After")) for response in server.responses() if response.status == 503]


def test_clients_are_told_different_times_and_each_of_them_always_the_same(
    server: Any, request_bytes: Requests
) -> None:
    for name, value in (("max_transactions", 1), ("retry_after_min", 10), ("retry_after_max", 19)):
        server.registry.set_param("tm", name, value)
    server.route(lambda ctx: server.reply(ctx, 200))
    server.receive(request_bytes())
    server.socket.sent.clear()
    for _ in range(2):
        for number in range(500):
            # Not server.receive(), which reads all replies again each time.
            server.core.receive(request_bytes(branch=f"z9hG4bK{number}x"), CLIENT, server.socket)
    seconds = retry_after(server)
    assert seconds[:500] == seconds[500:]
    assert {*seconds} == {*range(10, 20)}
    assert all(50 < seconds.count(second) < 200 for second in range(10, 20))


def test_the_least_time_is_not_above_the_most() -> None:
    script = 'loadmodule "tm"\nmodparam("tm", "retry_after_min", 20)\nrequest_route { exit; }'
    with pytest.raises(ConfigErrors, match=r"retry_after_max \(15 s\) is below retry_after_min \(20 s\)"):
        ScriptDriver(script)


def test_overload_is_two_lines_in_the_log_and_not_one_per_request(
    server: Any, request_bytes: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    server.registry.set_param("tm", "max_transactions", 1)
    server.route(lambda ctx: server.reply(ctx, 200))
    with caplog.at_level(logging.INFO):
        server.receive(request_bytes(branch="z9hG4bKa"))
        for second in range(3):
            for number in range(10):
                server.receive(request_bytes(branch=f"z9hG4bK{second}-{number}"))
            server.clock.advance(1)
        server.clock.advance(60)
    lines = [record.getMessage() for record in caplog.records if "overload" in record.getMessage()]
    assert lines == [
        "overload: there are as many transactions as there may be (max_transactions, 1): new requests get a 503",
        "overload is over: 30 requests were answered 503 within 3 s",
    ]


def test_an_episode_that_goes_on_is_one(caplog: pytest.LogCaptureFixture) -> None:
    episode = Episode(logging.getLogger("sipwright.test"), "began at %d", "%d times in %d s")
    for _ in range(10):
        episode.happened(7)
        for _ in range(QUIET_SECONDS - 1):
            episode.tick()
    assert caplog.messages == ["began at 7"]
    for _ in range(3 * QUIET_SECONDS):
        episode.tick()
    assert caplog.messages == ["began at 7", f"10 times in {1 + 9 * (QUIET_SECONDS - 1)} s"]
    episode.happened(8)
    assert caplog.messages[2:] == ["began at 8"]


# ---- too many suspended

HEAD = """
    loadmodule "tm"
    loadmodule "sl"
    loadmodule "pv"
    loadmodule "xlog"
    loadmodule "jsonrpc"
    modparam("tm", "max_suspended", 1)
    modparam("jsonrpc", "servers", "127.0.0.1:9999,1")
"""
ROUTES = 'route[OK] { t_reply("200", "OK"); } route[ERROR] { t_reply("500", "Error"); }'
ASK = 'jsonrpc_request("who", "", "OK", "ERROR", "$var(x)");'


def full(script: str) -> ScriptDriver:
    """Return a server in which one transaction is suspended, so that no other can be."""
    driver = ScriptDriver(HEAD + script + ROUTES, rpc={"who": NoAnswer.TIMEOUT})
    driver.receive(sip_request(branch="z9hG4bKfirst", call_id="first"))
    assert driver.is_suspended
    driver.log.clear()
    return driver


@pytest.mark.parametrize(
    "body",
    [
        ASK,
        'jsonrpc_call("who", "", "$var(x)"); if ($rc == -3) exit;',
        "if (t_suspend()) exit;",
        f"t_newtran(); {ASK}",
        f'append_to_reply("X-Left: over"); {ASK}',
    ],
    ids=["jsonrpc_request", "jsonrpc_call", "t_suspend", "with a transaction", "with a header for another reply"],
)
def test_a_request_that_could_not_be_suspended_and_is_not_answered_gets_503(body: str) -> None:
    driver = full('loadmodule "textops"\n' * ("append" in body) + f"request_route {{ {body} }}")
    (reply,) = driver.receive(sip_request("INVITE"))
    assert (reply.status, reply.reason) == (503, "Service Unavailable")
    assert 5 <= int(reply.header("Retry-After") or "") <= 15
    assert reply.header("X-Left") is None
    counters = driver.statistics()
    assert (counters["tm:overload"], counters["tm:suspend_refused"], counters["tm:suspended"]) == (1, 1, 1)
    # Nothing is left but what absorbs retransmissions, where the script made it.
    assert counters["tm:live"] == 1
    assert driver.log == ["overload: 1 transactions are suspended (max_suspended): no more can be"]


def test_a_script_may_do_something_else_instead() -> None:
    driver = full(f'request_route {{ {ASK} t_reply("480", "Not now"); }}')
    (reply,) = driver.receive(sip_request())
    assert (reply.status, reply.header("Retry-After")) == (480, None)
    counters = driver.statistics()
    assert (counters["tm:overload"], counters["tm:suspend_refused"]) == (0, 1)


def test_an_ack_has_no_answer_and_a_cancel_that_of_its_invite() -> None:
    driver = full(f'request_route {{ if ($rm == "INVITE") {{ t_reply("180", "Ringing"); t_newtran(); }} {ASK} }}')
    assert driver.receive(sip_request("ACK")) == []
    assert [reply.status for reply in driver.receive(sip_request("CANCEL"))] == []
    assert driver.statistics()["tm:suspend_refused"] == 2


def test_a_resumed_route_that_could_not_ask_again_and_does_not_answer_gets_503_too(
    server: Any, request_bytes: Requests
) -> None:
    ok = server.route(lambda ctx: server.reply(ctx, 200), "OK")

    def ask_again(ctx: Context) -> int:
        server.core.services.suspensions.limit = -1
        return int(server.ask(ctx, ok, ok))

    again = server.route(ask_again, "AGAIN")
    server.route(lambda ctx: server.ask(ctx, again, again))
    server.receive(request_bytes())
    server.client.calls[0].answer(b"1")
    assert server.statuses() == [503]
    assert 5 <= int(server.responses()[-1].header("Retry-After")) <= 15
    assert (server.stat("tm:overload"), server.stat("core:unanswered"), server.stat("tm:live")) == (1, 0, 0)


def test_a_failure_route_that_could_not_ask_and_does_not_answer_gets_503_too(
    server: Any, request_bytes: Requests
) -> None:
    server.registry.set_param("tm", "max_suspend", 3)

    def failed(ctx: Context) -> int:
        server.core.services.suspensions.limit = -1
        return int(server.ask(ctx, failure, failure))

    failure = server.route(failed, "FAILED", RouteKind.FAILURE)

    def script(ctx: Context) -> int:
        ctx.on_failure = failure
        return int(server.ask(ctx, failure, failure))

    server.route(script)
    server.receive(request_bytes())
    server.clock.advance(10)
    assert server.statuses() == [503]


def test_a_suspension_that_succeeds_later_makes_the_refused_one_forgotten(server: Any, request_bytes: Requests) -> None:
    silent = server.route(lambda _ctx: 1, "SILENT")

    def script(ctx: Context) -> int:
        suspensions = server.core.services.suspensions
        limit, suspensions.limit = suspensions.limit, -1
        assert server.ask(ctx, silent, silent) == -1
        suspensions.limit = limit
        return int(server.ask(ctx, silent, silent))

    server.route(script)
    server.receive(request_bytes())
    server.client.calls[0].answer(b"1")
    assert server.statuses() == [500]


def test_what_asks_again_while_a_server_stops_and_does_not_answer_gets_503(
    server: Any, request_bytes: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    params = prepare_params(["[]"])

    async def script(ctx: Context) -> int:
        for _ in range(2):
            server.seen.append(await server.modules.jsonrpc.jsonrpc_call(ctx, "who", params, server.result))
        return 1

    server.route(script)
    server.receive(request_bytes())
    server.core.refuse()
    asyncio.run(server.core.stop())
    assert server.seen == [-3, -3]
    assert server.statuses() == [503]
    # Stopping is no overload.
    assert (server.stat("tm:refused"), server.stat("tm:overload"), server.stat("tm:suspend_refused")) == (1, 0, 0)
    assert "overload" not in caplog.text


def test_suspensions_that_are_refused_are_two_lines_in_the_log() -> None:
    driver = full(f"request_route {{ {ASK} }}")
    for number in range(20):
        driver.receive(sip_request(branch=f"z9hG4bK{number}", call_id=str(number)))
    driver.advance(0.4)
    assert len(driver.log) == 1
    driver.advance(20)
    assert driver.log[1:] == ["overload is over: 20 suspensions were refused within 1 s"]
