"""The same script and service give the same SIP replies and the same JSON-RPC calls as Kamailio 5.6 with jsonrpcc.

Each test runs on both servers with one expectation. Where sipwright differs on purpose, the case is in
`test_differential_mends.py`, with an expectation for each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.processes import SippProcess
from tests.scenarios.scripted_service import Call, ScriptedService, error_text, result_text
from tests.scenarios.scripts import ANSWER_ROUTES
from tests.scenarios.side_by_side import SERVERS, Running, running
from tests.scenarios.sip_client import SipClient

pytestmark = pytest.mark.scenario

RESULTS = {
    "string": ('"text"', "text"),
    "empty_string": ('""', ""),
    "unicode": ('"h\\u00e9llo \\u20ac"', "héllo €"),
    "quotes": ('"say \\"hi\\" \\/ \\\\"', 'say "hi" / \\'),
    "integer": ("42", "42"),
    "negative": ("-7", "-7"),
    "decimal": ("1.10", "1.10"),
    "true": ("true", "true"),
    "false": ("false", "false"),
    "object": ('{"name":"Petros","tries":[1,2.50,null],"nested":{"ok":true}}', None),
    "array": ('["a",{"b":1}]', None),
    "empty_object": ("{}", None),
    "empty_array": ("[]", None),
}
ERRORS = {
    "error_object": ('{"code": -32601, "message": "Method not found"}', None),
    "error_with_data": ('{"code": 1, "message": "no", "data": {"why": [1, 2]}}', None),
    "error_string": ('"not today"', "not today"),
    "error_number": ("7", "7"),
}
ODD_ANSWERS = {
    "id_as_string": '{"jsonrpc":"2.0","id":"%d","result":"fine"}',
    "other_version": '{"jsonrpc":"1.7","id":%d,"result":"fine"}',
    "no_version": '{"id":%d,"result":"fine"}',
    "null_error_beside_the_result": '{"jsonrpc":"2.0","id":%d,"result":"fine","error":null}',
    "further_members": '{"jsonrpc":"2.0","id":%d,"result":"fine","elapsed":3}',
    "white_space": ' {\r\n\t"jsonrpc" : "2.0" ,\n"id" : %d , "result" : "fine" } ',
}

ROUTES = (
    ANSWER_ROUTES
    + """
route[SCENARIO] {
    if (is_method("ACK")) {
        t_check_trans();
        exit;
    }
    if (is_method("BYE")) {
        sl_send_reply("200", "OK");
        exit;
    }
    if ($rU == "notify") {
        jsonrpc_notification("update_user", "{'id': 1234, 'name': 'Petros'}");
        $var(code) = $rc;
        append_to_reply("X-Code: $var(code)\\r\\n");
        sl_send_reply("200", "OK");
        exit;
    }
    if ($rU == "in_string") {
        jsonrpc_request("in_string", "{'name': '$hdr(X-Name)', 'user': '$fU'}", "RESPONSE", "ERROR", "$var(result)");
    }
    if ($rU == "as_value") {
        jsonrpc_request("as_value", "{'name': $hdr(X-Name)}", "RESPONSE", "ERROR", "$var(result)");
    }
    if ($rU == "unset") {
        jsonrpc_request("unset", "{'text': '$var(unset)', 'value': $var(unset)}", "RESPONSE", "ERROR", "$var(result)");
    }
    if ($rU == "dynamic") {
        $var(method) = "ask_" + $rm;
        $var(route) = "RESP";
        jsonrpc_request("$var(method)", "['$rU', $cs]", "$var(route)ONSE", "ERROR", "$var(result)");
    }
    if ($rU == "shared_variable") {
        jsonrpc_request("string", "{}", "SHARED", "ERROR", "$shv(result)");
    }
    if ($rU == "state") {
        $avp(kept) = "avp value";
        setflag(3);
        append_hf("X-Added: added\\r\\n");
        $ru = "sip:rewritten@example.test";
        jsonrpc_request("string", "{}", "STATE", "ERROR", "$var(result)");
    }
    if ($rU == "no_reply") {
        jsonrpc_request("string", "{}", "SILENT", "ERROR", "$var(result)");
    }
    jsonrpc_request("$rU", "$hdr(X-Params)", "RESPONSE", "ERROR", "$var(result)");
    t_reply("480", "Went On");
}

route[SHARED] {
    append_to_reply("X-Result: $shv(result)\\r\\n");
    t_reply("200", "OK");
}

route[STATE] {
    append_to_reply("X-State: $avp(kept); $ru; $fU; $rm\\r\\n");
    if (isflagset(3)) {
        append_to_reply("X-Flag: set\\r\\n");
    }
    t_reply("200", "OK");
}

route[SILENT] {
    xlog("no reply is sent here\\n");
}
"""
)


def answer(call: Call) -> None:
    """Answer as the method's name says; `silent` is not answered at all."""
    if call.id is None or call.method == "silent":
        return
    if call.method in ERRORS:
        payload = error_text(call, ERRORS[call.method][0])
    elif call.method in ODD_ANSWERS:
        payload = (ODD_ANSWERS[call.method] % call.id).encode()
    else:
        payload = result_text(call, RESULTS.get(call.method, ('"fine"', ""))[0])
    call.connection.send_payload(payload)


@pytest.fixture
def client(shared: Running) -> Iterator[SipClient]:
    with shared.connect() as connected:
        yield connected


@pytest.fixture(scope="module", params=sorted(SERVERS))
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Either server, running for all tests of this file that do it no lasting harm."""
    with running(request.param, ROUTES, answer, tmp_path_factory.mktemp(request.param)) as server:
        yield server


def ask(shared: Running, user: str, params: str = "{'id': 1234}", **headers: str) -> Any:
    return shared.ask(user, headers={"X-Params": params, **{f"X-{k.title()}": v for k, v in headers.items()}})


# ---- results


@pytest.mark.parametrize("name", RESULTS)
def test_result_reaches_the_return_route_as_text(shared: Running, name: str) -> None:
    sent, text = RESULTS[name]
    seen = ask(shared, name)
    assert (seen.status, seen.route) == (200, "RESPONSE")
    assert seen.result == (json.loads(sent) if text is None else text)
    assert seen.wire == [(name, {"id": 1234})]


def test_numbers_inside_a_result_keep_their_spelling(shared: Running) -> None:
    assert "2.50" in str(ask(shared, "object").reply.header("X-Result"))


@pytest.mark.parametrize("name", ERRORS)
def test_error_reaches_the_error_route_as_text(shared: Running, name: str) -> None:
    sent, text = ERRORS[name]
    seen = ask(shared, name)
    assert (seen.status, seen.route) == (500, "ERROR")
    assert seen.result == (json.loads(sent) if text is None else text)


@pytest.mark.parametrize("name", ODD_ANSWERS)
def test_answer_that_is_a_little_odd_is_taken(shared: Running, name: str) -> None:
    seen = ask(shared, name)
    assert (seen.status, seen.route, seen.result) == (200, "RESPONSE", "fine")


def test_call_without_an_answer_times_out_after_half_a_second(shared: Running) -> None:
    seen = ask(shared, "silent")
    assert (seen.status, seen.route, seen.result) == (500, "ERROR", "timeout")
    assert 0.45 < seen.seconds < 1.0


# ---- what is sent


def test_request_has_the_members_of_json_rpc_in_the_known_order(shared: Running) -> None:
    (call,) = ask(shared, "string").calls
    assert list(call.members) == ["id", "jsonrpc", "method", "params"]
    assert call.members["jsonrpc"] == "2.0"
    assert type(call.id) is int


def test_notification_is_sent_without_an_id_and_the_script_goes_on(shared: Running) -> None:
    seen = shared.ask("notify")
    assert (seen.status, seen.reply.header("X-Code")) == (200, "1")
    call = shared.service.wait_for_calls(len(shared.service.calls) + 1 - len(seen.calls))[-1]
    assert call.members == {"jsonrpc": "2.0", "method": "update_user", "params": {"id": 1234, "name": "Petros"}}


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("{'id': 1234}", {"id": 1234}),
        ('{"id": 1234}', {"id": 1234}),
        ("{'a': 1, \"b\": 'c'}", {"a": 1, "b": "c"}),
        ("[1, 2, ]", [1, 2]),
        ("{'a': 1, }", {"a": 1}),
        ("[TRUE, True, true, FALSE, NULL]", [True, True, True, False, None]),
        ("/* note */ [1] ", [1]),
        ("[007, -0, 1e3, 2.50]", [7, 0, 1000.0, 2.5]),
        ("{'a': 1, 'a': 2}", {"a": 2}),
        ("{'quote': 'say \"hi\"'}", {"quote": 'say "hi"'}),
        ("['\\u00e9', '\\n', '\\\\']", ["é", "\n", "\\"]),
        ("['é']", ["é"]),
        ("[[[]], {}]", [[[]], {}]),
        ('"scalar"', "scalar"),
        ("17", 17),
    ],
)
def test_parameters_are_written_in_json_cs_dialect(shared: Running, text: str, sent: Any) -> None:
    assert ask(shared, "string", text).wire == [("string", sent)]


def test_variables_in_a_string_are_its_characters(shared: Running) -> None:
    assert ask(shared, "in_string", name="Zoë 17").wire == [("in_string", {"name": "Zoë 17", "user": "alice"})]


@pytest.mark.parametrize("text", ["17", "1.5", "true", "null", '{"a": [1]}', '"quoted"'])
def test_variable_that_stands_for_a_value_is_sent_as_that_value(shared: Running, text: str) -> None:
    assert ask(shared, "as_value", name=text).wire == [("as_value", {"name": json.loads(text)})]


def test_unset_script_variable_is_zero(shared: Running) -> None:
    assert shared.ask("unset").wire == [("unset", {"text": "0", "value": 0})]


def test_method_and_routes_may_be_variables(shared: Running) -> None:
    seen = shared.ask("dynamic")
    assert (seen.status, seen.route) == (200, "RESPONSE")
    assert seen.wire == [("ask_OPTIONS", ["dynamic", 1])]


# ---- suspension


def test_script_does_not_go_on_after_a_request(shared: Running) -> None:
    assert ask(shared, "string").reply.reason == "OK"


def test_result_may_go_to_a_shared_variable(shared: Running) -> None:
    assert shared.ask("shared_variable").result == "text"


def test_avp_flag_and_uri_survive_the_suspension(shared: Running) -> None:
    seen = shared.ask("state")
    assert seen.reply.header("X-State") == "avp value; sip:rewritten@example.test; alice; OPTIONS"
    assert seen.reply.header("X-Flag") == "set"


def test_resumed_route_without_a_reply_ends_in_500(shared: Running) -> None:
    reply = shared.ask("no_reply").reply
    assert reply.status == 500
    assert reply.reason.startswith("I'm terribly sorry, server error occurred")


def test_invite_gets_100_while_it_waits_and_200_repeated_until_its_ack(client: SipClient) -> None:
    invite = client.build("INVITE", user="string", headers={"X-Params": "[]"})
    client.send(invite)
    replies = client.replies()
    assert [reply.status for reply in replies] == [100, 200]
    repeated = client.receive(1.0)
    assert repeated is not None
    assert (repeated.status, repeated.header("To")) == (200, replies[-1].header("To"))
    ack = client.derive(invite, "ACK", repeated)
    ack.via = client.build("ACK").via
    client.send(ack)
    assert client.receive(1.5) is None


def test_refused_invite_is_repeated_until_its_ack(client: SipClient) -> None:
    invite = client.build("INVITE", user="error_string", headers={"X-Params": "[]"})
    client.send(invite)
    replies = client.replies()
    assert [reply.status for reply in replies] == [100, 500]
    repeated = client.receive(1.0)
    assert repeated is not None
    assert repeated.status == 500
    client.send(client.derive(invite, "ACK", repeated))
    assert client.receive(1.5) is None


def test_retransmission_after_the_answer_gets_the_same_reply(client: SipClient) -> None:
    request = client.build("MESSAGE", user="string", headers={"X-Params": "[]"})
    client.send(request)
    first = client.replies()[-1]
    client.send(request)
    again = client.replies()[-1]
    assert (again.status, again.headers) == (first.status, first.headers)


def test_answers_in_another_order_reach_their_own_transactions(tmp_path: Path, name: str) -> None:
    held: list[Call] = []

    def answer_backwards(call: Call) -> None:
        held.append(call)
        if len(held) == 3:
            for waiting in reversed(held):
                waiting.connection.send_payload(result_text(waiting, json.dumps(waiting.params[0])))

    with running(name, ROUTES, answer_backwards, tmp_path) as server, server.connect() as client:
        requests = {str(n): client.build("OPTIONS", headers={"X-Params": f"['{n}']"}) for n in range(3)}
        for request in requests.values():
            client.send(request)
        replies = [client.replies()[-1] for _ in requests]
    assert {reply.header("Call-ID"): reply.header("X-Result") for reply in replies} == {
        request.call_id: number for number, request in requests.items()
    }


# ---- choice of server


@pytest.fixture(params=sorted(SERVERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_no_server_at_all_is_a_failure_at_once(tmp_path: Path, name: str) -> None:
    with running(name, ROUTES, answer, tmp_path, servers="127.0.0.1:1,1") as server:
        seen = ask(server, "string")
    assert (seen.status, seen.route, seen.result) == (500, "ERROR", "failure")
    assert seen.seconds < 0.3


def test_higher_priority_is_asked_first_and_the_next_when_it_is_gone(tmp_path: Path, name: str) -> None:
    with ScriptedService(answer) as high, ScriptedService(answer) as low:
        servers = f"127.0.0.1:{low.port},1 127.0.0.1:{high.port},2"
        with running(name, ROUTES, answer, tmp_path, servers=servers) as server:
            low.wait_for_connections()
            server.wait_until_connected(high)
            assert [ask(server, "string").status for _ in range(4)] == [200] * 4
            assert (len(high.calls), len(low.calls)) == (4, 0)
            high.close()
            statuses = [ask(server, "string").status for _ in range(4)]
    assert statuses[1:] == [200] * 3
    assert len(low.calls) >= 3


# ---- SIPp


@pytest.mark.parametrize(
    ("scenario", "user", "replies"),
    [
        ("options", "string", {"200 OPTIONS"}),
        ("message", "string", {"200 MESSAGE"}),
        ("invite", "string", {"100 INVITE", "200 INVITE", "200 BYE"}),
    ],
)
def test_sipp_sees_the_same(shared: Running, tmp_path: Path, scenario: str, user: str, replies: set[str]) -> None:
    before = len(shared.service.calls)
    with SippProcess(scenario, shared.server.address, tmp_path, calls=20, service=user) as sipp:
        status = sipp.wait(20)
    assert status == 0, sipp.messages[-3000:]
    received = re.findall(r"^SIP/2.0 (\d+) .*?^CSeq: \d+ (\w+)", sipp.messages, re.MULTILINE | re.DOTALL)
    assert {f"{code} {method}" for code, method in received} == replies
    assert {call.method for call in shared.service.calls[before:]} == {user}
    assert len(shared.service.calls) - before == 20
