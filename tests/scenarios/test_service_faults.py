"""A service that misbehaves harms one call at the most: the server goes on, and nothing of the call is left behind.

One server runs for all cases; the user part of the request is the method of the call, and the method says how the
service misbehaves. After every case a call to a well-behaved method succeeds and all counters are zero.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from tests.scenarios.scripted_service import Behaviour, Call, ScriptedService, netstring, result_text
from tests.scenarios.scripts import ANSWER_ROUTES
from tests.scenarios.settled import STATS, assert_settled, read_counters
from tests.scenarios.side_by_side import Running, running

pytestmark = pytest.mark.scenario

TIMEOUT_MS = 400
RECONNECT_MS = 20
PARAMETERS = f"""
modparam("jsonrpc", "timeout", {TIMEOUT_MS})
modparam("jsonrpc", "reconnect_interval", {RECONNECT_MS})
"""
ROUTES = (
    ANSWER_ROUTES
    + """
route[SCENARIO] {"""
    + STATS
    + """
    if (is_method("ACK")) {
        exit;
    }
    if ($rU == "big") {
        jsonrpc_request("big", "{}", "LENGTH", "ERROR", "$var(result)");
    }
    jsonrpc_request("$rU", "{}", "RESPONSE", "ERROR", "$var(result)");
}

route[LENGTH] {
    append_to_reply("X-Result: $(var(result){s.len})\\r\\n");
    t_reply("200", "OK");
}
"""
)

OK = (200, "fine")
TIMEOUT = (500, "timeout")
FAILURE = (500, "failure")


def good(call: Call) -> bytes:
    return netstring(result_text(call, '"fine"'))


def sends(make: Callable[[Call], bytes]) -> Behaviour:
    """Return a behaviour that sends some bytes in one piece."""
    return lambda call: call.connection.send(make(call))


def reset(call: Call) -> None:
    call.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.connection.socket.close()


def send_then_close(data: Callable[[Call], bytes]) -> Behaviour:
    def behave(call: Call) -> None:
        call.connection.send(data(call))
        call.connection.close()

    return behave


def with_id(text: str) -> Callable[[Call], bytes]:
    """Return a good answer but for its id, given as JSON text."""
    return lambda _: netstring(f'{{"jsonrpc":"2.0","id":{text},"result":"fine"}}'.encode())


BIG = 200_000
UNKNOWN = with_id("987654321")

# method: how the service behaves, and what becomes of the request
CASES: dict[str, tuple[Behaviour, tuple[int, str]]] = {
    "single_bytes": (lambda call: call.connection.send_bytewise(good(call)), OK),
    "twice": (sends(lambda call: good(call) + good(call)), OK),
    "twice_bytewise": (lambda call: call.connection.send_bytewise(good(call) * 2, 0), OK),
    "unknown_id_first": (sends(lambda call: UNKNOWN(call) + good(call)), OK),
    "unknown_id_after": (sends(lambda call: good(call) + UNKNOWN(call)), OK),
    "unknown_id_only": (sends(UNKNOWN), TIMEOUT),
    "many_unknown_ids": (sends(lambda call: UNKNOWN(call) * 1000 + good(call)), OK),
    "id_null": (sends(with_id("null")), TIMEOUT),
    "id_object": (sends(with_id('{"a":1}')), TIMEOUT),
    "id_fraction": (sends(with_id("1.5")), TIMEOUT),
    "id_huge": (sends(with_id("9" * 400)), TIMEOUT),
    "not_at_all": (lambda _: None, TIMEOUT),
    "wrong_length_short": (sends(lambda call: good(call).replace(b":", b"0:", 1)[1:]), FAILURE),
    "wrong_length_long": (sends(lambda call: b"%d:" % (len(good(call)) + 9) + good(call)), TIMEOUT),
    "no_comma": (sends(lambda call: good(call)[:-1] + b";"), FAILURE),
    "leading_zero": (sends(lambda call: b"0" + good(call)), FAILURE),
    "no_digits": (sends(lambda call: b":{},"), FAILURE),
    "not_a_netstring": (sends(lambda call: b"HTTP/1.1 400 Bad Request\r\n\r\n"), FAILURE),
    "too_long": (sends(lambda call: b"2000000:"), FAILURE),
    "ten_digits": (sends(lambda call: b"1234567890:"), FAILURE),
    "endless_digits": (sends(lambda call: b"1" * 100_000), FAILURE),
    "closes": (lambda call: call.connection.close(), FAILURE),
    "resets": (reset, FAILURE),
    "closes_mid_frame": (send_then_close(lambda call: good(call)[:20]), FAILURE),
    "closes_mid_length": (send_then_close(lambda call: good(call)[:1]), FAILURE),
    "answers_and_closes": (send_then_close(good), OK),
    "in_a_batch": (sends(lambda call: netstring(b"[" + result_text(call, '"fine"') + b"]")), OK),
    "with_a_notification": (sends(lambda call: netstring(b'{"jsonrpc":"2.0","method":"hello"}') + good(call)), OK),
    "with_a_request": (sends(lambda call: netstring(b'{"jsonrpc":"2.0","id":"x","method":"hello"}') + good(call)), OK),
    "big": (sends(lambda call: netstring(result_text(call, json.dumps("x" * BIG)))), (200, str(BIG))),
}

# A payload that is no JSON-RPC answer cannot be told to belong to any call.
NOT_AN_ANSWER = {
    "empty": b"",
    "not_json": b"hello",
    "not_utf8": b'{"jsonrpc":"2.0","id":1,"result":"\xff\xfe"}',
    "a_number": b"17",
    "empty_object": b"{}",
    "empty_batch": b"[]",
    "deep": b"[" * 100_000,
    "half": b'{"jsonrpc":"2.0",',
}


def behave(call: Call) -> None:
    if call.id is None:
        return
    if call.method in CASES:
        CASES[call.method][0](call)
    elif call.method in NOT_AN_ANSWER:
        call.connection.send_payload(NOT_AN_ANSWER[call.method])
    else:
        call.connection.send(good(call))


@contextlib.contextmanager
def answering(server: Running, method: str, behaviour: Behaviour) -> Iterator[None]:
    """Give one method of the running service another behaviour for a while."""
    server.service.behaviour = lambda call: (behaviour if call.method == method else behave)(call)
    yield
    server.service.behaviour = behave


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Our server, running for all tests of this file."""
    with running("sipwright", ROUTES, behave, tmp_path_factory.mktemp("faults"), parameters=PARAMETERS) as started:
        yield started


@pytest.fixture(autouse=True)
def _goes_on_and_leaves_nothing(server: Running) -> Iterator[None]:
    yield
    deadline = time.monotonic() + 3
    while server.ask("well_behaved").status != 200:  # the connection may have to be made again
        assert time.monotonic() < deadline, "the server does not answer any more"
        time.sleep(0.02)
    assert_settled(server.server.address)
    time.sleep(1.5 * RECONNECT_MS / 1000)  # a connection that has lasted for the interval is made again at once
    assert "Traceback" not in server.server.log


@pytest.mark.parametrize("fault", CASES)
def test_service_misbehaves(server: Running, fault: str) -> None:
    before = len(server.service.calls)
    seen = server.ask(fault)
    assert (seen.status, seen.reply.header("X-Result")) == CASES[fault][1]
    assert len(server.service.calls) - before == 1
    if seen.result != "timeout":
        assert seen.seconds < TIMEOUT_MS / 1000, "the call ended with its timeout only"


def test_request_of_the_service_is_answered_with_an_error(server: Running) -> None:
    server.service.answers.clear()
    server.ask("with_a_request")
    deadline = time.monotonic() + 1
    while not server.service.answers and time.monotonic() < deadline:
        time.sleep(0.01)
    (answer,) = server.service.answers
    assert (answer["id"], answer["error"]["code"]) == ("x", -32601)


@pytest.mark.parametrize("fault", NOT_AN_ANSWER)
def test_payload_that_is_no_answer_does_not_end_the_server(server: Running, fault: str) -> None:
    seen = server.ask(fault)
    assert seen.status == 500
    assert seen.result in {"timeout", "failure"}


@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_late_answer_is_dropped(server: Running, method: str) -> None:
    late: list[Call] = []
    with answering(server, "late", late.append), server.connect() as client:
        request = client.build(method, user="late")
        client.send(request)
        final = client.replies()[-1]
        assert (final.status, final.header("X-Result")) == TIMEOUT
        client.send(client.derive(request, "ACK", final))
        (call,) = late
        call.connection.send(good(call))
        assert client.receive(0.3) is None


def test_answers_come_in_another_order_and_all_in_one_piece(server: Running) -> None:
    held: list[Call] = []

    def answer_backwards(call: Call) -> None:
        held.append(call)
        if len(held) == 20:
            call.connection.send(b"".join(good(waiting) for waiting in reversed(held)))

    with answering(server, "backwards", answer_backwards), server.connect() as client:
        requests = [client.build("OPTIONS", user="backwards") for _ in range(20)]
        for request in requests:
            client.send(request)
        replies = [client.replies()[-1] for _ in requests]
    assert {reply.header("Call-ID") for reply in replies} == {request.call_id for request in requests}
    assert {reply.status for reply in replies} == {200}


def test_all_calls_of_a_lost_connection_fail_at_once(server: Running) -> None:
    held: list[Call] = []

    def close_at_the_tenth(call: Call) -> None:
        held.append(call)
        if len(held) == 10:
            call.connection.close()

    with answering(server, "lost", close_at_the_tenth), server.connect() as client:
        began = time.monotonic()
        for _ in range(10):
            client.send(client.build("OPTIONS", user="lost"))
        results = {client.replies()[-1].header("X-Result") for _ in range(10)}
    assert results == {"failure"}
    assert time.monotonic() - began < TIMEOUT_MS / 1000


def test_cancel_while_suspended_ends_both_transactions_and_the_late_answer_is_dropped(server: Running) -> None:
    late: list[Call] = []
    with answering(server, "cancelled", late.append), server.connect() as client:
        invite = client.build("INVITE", user="cancelled")
        client.send(invite)
        assert [reply.status for reply in client.replies(0.1)] == [100]
        assert read_counters(server.server.address) == {"X-Live": 1, "X-Suspended": 1, "X-Pending": 1}
        client.send(client.derive(invite, "CANCEL"))
        finals = [client.replies()[-1] for _ in range(2)]
        assert sorted((reply.status, reply.header("CSeq")) for reply in finals) == [
            (200, "1 CANCEL"),
            (487, "1 INVITE"),
        ]
        refused = next(reply for reply in finals if reply.status == 487)
        client.send(client.derive(invite, "ACK", refused))
        (call,) = late
        call.connection.send(good(call))
        assert client.receive(0.3) is None


def test_service_that_is_gone_for_a_while_is_found_again(server: Running) -> None:
    port = server.service.port
    server.service.close()
    seen = server.ask("well_behaved")
    assert (seen.status, seen.result) == FAILURE
    server.service = ScriptedService(behave, port)
    server.service.wait_for_connections()
