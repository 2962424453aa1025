"""Where sipwright differs from Kamailio 5.6 with jsonrpcc on purpose: what each of the two does, case by case.

The same script and service run on both; every test says for each server what is seen. What both do alike is in
`test_differential.py`. Kamailio's process that talks to services does not survive an answer whose id it does not know
(late, doubled or invented): `test_service_faults.py` has those cases for sipwright alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.scripted_service import ABSENT, Call, ScriptedService, netstring, result_text
from tests.scenarios.scripts import ANSWER_ROUTES
from tests.scenarios.side_by_side import SERVERS, Running, running

pytestmark = pytest.mark.scenario

ROUTES = (
    ANSWER_ROUTES
    + """
route[SCENARIO] {
    if (is_method("ACK")) {
        t_check_trans();
        exit;
    }
    if ($rU == "notify") {
        jsonrpc_notification("notify", "$hdr(X-Params)");
        route(WENT_ON);
    }
    if ($rU == "in_string") {
        jsonrpc_request("in_string", "{'name': '$hdr(X-Name)'}", "RESPONSE", "ERROR", "$var(result)");
        route(WENT_ON);
    }
    if ($rU == "as_value") {
        jsonrpc_request("as_value", "{'name': $hdr(X-Name)}", "RESPONSE", "ERROR", "$var(result)");
        route(WENT_ON);
    }
    if ($rU == "avp") {
        jsonrpc_request("avp", "{}", "AVP", "ERROR", "$avp(result)");
    }
    if ($rU == "table") {
        jsonrpc_request("table", "{}", "TABLE", "ERROR", "$sht(results=>mine)");
    }
    if ($rU == "script_variable") {
        $var(kept) = "before";
        jsonrpc_request("script_variable", "{}", "KEPT", "ERROR", "$var(result)");
    }
    if ($rU == "chain") {
        jsonrpc_request("first", "{}", "CHAIN", "ERROR", "$var(result)");
    }
    if ($rU == "stateless") {
        jsonrpc_request("stateless", "{}", "STATELESS", "ERROR", "$var(result)");
    }
    if ($rU == "unknown_route") {
        $var(route) = "NOWHERE";
        jsonrpc_request("unknown_route", "{}", "$var(route)", "ERROR", "$var(result)");
        route(WENT_ON);
    }
    jsonrpc_request("$rU", "$hdr(X-Params)", "RESPONSE", "ERROR", "$var(result)");
    route(WENT_ON);
}

# Only reached when the call before gave 1 or -1.
route[WENT_ON] {
    $var(code) = $rc;
    append_to_reply("X-Code: $var(code)\\r\\n");
    t_newtran();
    t_reply("480", "Went On");
    exit;
}

route[AVP] {
    append_to_reply("X-Result: $avp(result)\\r\\n");
    t_reply("200", "OK");
}

route[TABLE] {
    append_to_reply("X-Result: $sht(results=>mine)\\r\\n");
    t_reply("200", "OK");
}

route[KEPT] {
    append_to_reply("X-Result: $var(kept)\\r\\n");
    t_reply("200", "OK");
}

route[CHAIN] {
    jsonrpc_request("second", "{}", "RESPONSE", "ERROR", "$var(result)");
    $var(code) = $rc;
    append_to_reply("X-Code: $var(code)\\r\\n");
    t_reply("480", "Went On");
}

route[STATELESS] {
    sl_send_reply("202", "Stateless");
}
"""
)

ANSWERS = {
    "null_result": '{"jsonrpc":"2.0","id":%d,"result":null}',
    "result_and_error": '{"jsonrpc":"2.0","id":%d,"result":"fine","error":{"code":1,"message":"no"}}',
    "neither": '{"jsonrpc":"2.0","id":%d}',
}


def answer(call: Call) -> None:
    if call.id is not None and call.method != "silent":
        text = ANSWERS.get(call.method, '{"jsonrpc":"2.0","id":%d,"result":"fine"}')
        call.connection.send_payload((text % call.id).encode())


@pytest.fixture(scope="module", params=sorted(SERVERS))
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Either server, running for all tests of this file that do it no lasting harm."""
    with running(request.param, ROUTES, answer, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture(params=sorted(SERVERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(server: Running, user: str, params: str = "{}", **headers: str) -> Any:
    return server.ask(user, headers={"X-Params": params, **{f"X-{k.title()}": v for k, v in headers.items()}})


# ---- parameters


@pytest.mark.parametrize("params", ["{'id': ", "{id: 1}", "{'a' 1}", "[1 2]", "nonsense"])
def test_parameters_that_cannot_be_parsed(shared: Running, params: str) -> None:
    seen = ask(shared, "plain", params)
    if shared.name == "kamailio":
        assert (seen.route, seen.wire) == ("RESPONSE", [("plain", None)])
    else:
        assert (seen.status, seen.reply.header("X-Code"), seen.wire) == (480, "-1", [])


def test_parameters_of_a_notification_that_cannot_be_parsed(shared: Running) -> None:
    before = len(shared.service.calls)
    seen = ask(shared, "notify", "{'id': ")
    if shared.name == "kamailio":
        assert seen.reply.header("X-Code") == "1"
        assert shared.service.wait_for_calls(before + 1)[-1].params is None
    else:
        assert seen.reply.header("X-Code") == "-1"
        assert len(shared.service.calls) == before


def test_text_after_the_parameters(shared: Running) -> None:
    seen = ask(shared, "plain", "{'id': 1} {'id': 2}")
    if shared.name == "kamailio":
        assert (seen.route, seen.wire) == ("RESPONSE", [("plain", {"id": 1})])
    else:
        assert (seen.status, seen.reply.header("X-Code"), seen.wire) == (480, "-1", [])


def test_variable_cannot_add_members(shared: Running) -> None:
    value = "x','admin':true,'y':'"
    sent = {"kamailio": {"name": "x", "admin": True, "y": ""}, "sipwright": {"name": value}}[shared.name]
    assert ask(shared, "in_string", name=value).wire == [("in_string", sent)]


def test_quote_in_a_variable_is_a_character(shared: Running) -> None:
    sent = {"kamailio": None, "sipwright": {"name": "O'Neill"}}[shared.name]
    assert ask(shared, "in_string", name="O'Neill").wire == [("in_string", sent)]


def test_variable_as_a_value_must_be_one_value(shared: Running) -> None:
    seen = ask(shared, "as_value", name="1, 'admin': true")
    if shared.name == "kamailio":
        assert seen.wire == [("as_value", {"name": 1, "admin": True})]
    else:
        assert (seen.status, seen.reply.header("X-Code"), seen.wire) == (480, "-1", [])


def test_missing_variable_in_a_string_is_empty(shared: Running) -> None:
    sent = {"kamailio": {"name": "<null>"}, "sipwright": {"name": ""}}[shared.name]
    assert ask(shared, "in_string").wire == [("in_string", sent)]


def test_missing_variable_as_a_value_is_null(shared: Running) -> None:
    sent = {"kamailio": None, "sipwright": {"name": None}}[shared.name]
    assert ask(shared, "as_value").wire == [("as_value", sent)]


@pytest.mark.parametrize("user", ["plain", "notify"])
def test_empty_parameters_send_no_params(tmp_path: Path, name: str, user: str) -> None:
    routes = ROUTES.replace("$hdr(X-Params)", "")
    with running(name, routes, answer, tmp_path) as server:
        server.ask(user)
        (call,) = server.service.wait_for_calls(1)
    assert call.params is {"kamailio": None, "sipwright": ABSENT}[name]


# ---- answers


def test_null_result_is_a_result(shared: Running) -> None:
    seen = ask(shared, "null_result")
    expected = {"kamailio": (500, "ERROR", "timeout"), "sipwright": (200, "RESPONSE", "null")}[shared.name]
    assert (seen.status, seen.route, seen.result) == expected


def test_error_beside_a_result_is_an_error(shared: Running) -> None:
    seen = ask(shared, "result_and_error")
    expected = {
        "kamailio": (200, "RESPONSE", "fine"),
        "sipwright": (500, "ERROR", {"code": 1, "message": "no"}),
    }[shared.name]
    assert (seen.status, seen.route, seen.result) == expected


def test_answer_with_neither_result_nor_error_is_an_error_at_once(shared: Running) -> None:
    seen = ask(shared, "neither")
    assert (seen.status, seen.route) == (500, "ERROR")
    if shared.name == "kamailio":
        assert seen.result == "timeout"
        assert seen.seconds > 0.45
    else:
        assert seen.result["code"] == -32603
        assert seen.seconds < 0.3


@pytest.mark.parametrize(
    ("variable", "kamailio"),
    [("avp", "<null>"), ("table", "<null>")],
)
def test_result_in_an_avp_or_table_is_kept(shared: Running, variable: str, kamailio: str) -> None:
    expected = {"kamailio": kamailio, "sipwright": "fine"}[shared.name]
    seen = ask(shared, variable)
    assert (seen.status, seen.result) == (200, expected)


# ---- suspension


def test_script_variable_survives_the_suspension(shared: Running) -> None:
    # Kamailio's is the one of the process that resumes, which never set it.
    assert ask(shared, "script_variable").result == {"kamailio": "0", "sipwright": "before"}[shared.name]


def test_resumed_route_can_ask_again(shared: Running) -> None:
    seen = ask(shared, "chain")
    if shared.name == "kamailio":
        assert (seen.status, seen.reply.header("X-Code"), seen.wire) == (480, "-1", [("first", {})])
    else:
        assert (seen.status, seen.route, seen.wire) == (200, "RESPONSE", [("first", {}), ("second", {})])


def test_stateless_reply_of_a_resumed_route_is_the_only_one(shared: Running) -> None:
    with shared.connect() as client:
        client.send(client.build("OPTIONS", user="stateless"))
        statuses = [reply.status for reply in [*client.replies(), *client.replies(0.3)]]
    assert statuses == {"kamailio": [202, 500], "sipwright": [202]}[shared.name]


def test_unknown_route_is_noticed_before_the_suspension(shared: Running) -> None:
    seen = ask(shared, "unknown_route")
    if shared.name == "kamailio":
        assert seen.status == 500
        assert seen.wire == [("unknown_route", {})]
    else:
        assert (seen.status, seen.reply.header("X-Code"), seen.wire) == (480, "-1", [])


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_retransmission_while_suspended_makes_no_second_call(shared: Running, method: str) -> None:
    before = len(shared.service.calls)
    with shared.connect() as client:
        request = client.build(method, user="silent", headers={"X-Params": "{}"})
        for _ in range(3):
            client.send(request)
            assert [reply.status for reply in client.replies(0.1)] == ([100] if method == "INVITE" else [])
        final = client.replies()[-1]
        client.send(client.derive(request, "ACK", final))
    assert (final.status, final.header("X-Result")) == (500, "timeout")
    assert len(shared.service.calls) - before == {"kamailio": 3, "sipwright": 1}[shared.name]


def test_matching_cancel_that_the_script_leaves_alone_is_answered(tmp_path: Path, name: str) -> None:
    routes = ROUTES.replace('is_method("ACK")', 'is_method("ACK|CANCEL")')
    with running(name, routes, answer, tmp_path) as server, server.connect() as client:
        invite = client.build("INVITE", user="silent", headers={"X-Params": "{}"})
        client.send(invite)
        assert [reply.status for reply in client.replies(0.1)] == [100]
        client.send(client.derive(invite, "CANCEL"))
        began, seen = time.monotonic(), list[tuple[int, str | None]]()
        while len(seen) < 2 and (reply := client.receive(max(0.0, began + 0.3 - time.monotonic()))):
            seen.append((reply.status, reply.header("CSeq")))
        final = client.receive(1.0)  # Kamailio's error route; our 487 repeated
        assert final is not None
        client.send(client.derive(invite, "ACK", final))
        assert client.receive(1.0) is None
        assert len(server.service.calls) == 1
    if name == "kamailio":
        assert (seen, final.status) == ([], 500)
    else:
        assert (sorted(seen), final.status) == ([(200, "1 CANCEL"), (487, "1 INVITE")], 487)


# ---- connections


def test_notification_that_nobody_can_take(tmp_path: Path, name: str) -> None:
    with running(name, ROUTES, answer, tmp_path, servers="127.0.0.1:1,1") as server:
        assert ask(server, "notify").reply.header("X-Code") == {"kamailio": "1", "sipwright": "-1"}[name]


@pytest.mark.parametrize(
    "bad",
    [b"abc:def,", b'07:{"id":1},', b"5:hello!", b"12345678901:", b"2:{},x"],
)
def test_bad_frame_fails_the_call_at_once(tmp_path: Path, name: str, bad: bytes) -> None:
    with running(name, ROUTES, lambda call: call.connection.send(bad), tmp_path) as server:
        seen = ask(server, "plain")
    expected = {"kamailio": "timeout", "sipwright": "failure"}[name]
    assert (seen.status, seen.route, seen.result) == (500, "ERROR", expected)
    assert (seen.seconds < 0.3) is (name == "sipwright")


def test_lost_connection_fails_the_call_at_once(tmp_path: Path, name: str) -> None:
    with running(name, ROUTES, lambda call: call.connection.close(), tmp_path) as server:
        seen = ask(server, "plain")
    expected = {"kamailio": "timeout", "sipwright": "failure"}[name]
    assert (seen.status, seen.route, seen.result) == (500, "ERROR", expected)
    assert (seen.seconds < 0.3) is (name == "sipwright")


def test_answer_may_come_in_pieces(tmp_path: Path, name: str) -> None:
    def dribble(call: Call) -> None:
        call.connection.send_bytewise(netstring(result_text(call, '"fine"')))

    with running(name, ROUTES, dribble, tmp_path) as server:
        seen = ask(server, "plain")
    expected = {"kamailio": (500, "ERROR", "timeout"), "sipwright": (200, "RESPONSE", "fine")}[name]
    assert (seen.status, seen.route, seen.result) == expected


def test_lost_server_is_connected_again(tmp_path: Path, name: str) -> None:
    """Kamailio 5.6 gives up by default: its max_conn_attempts is 0, whatever its manual says."""

    def close_first(call: Call) -> None:
        if call.connection is server.service.connections[0]:
            call.connection.close()
        else:
            answer(call)

    # Ours is told to be quick; Kamailio's interval is three seconds and cannot be changed.
    parameters = {"kamailio": "", "sipwright": 'modparam("jsonrpcc", "reconnect_interval", 200)'}[name]
    with running(name, ROUTES, close_first, tmp_path, parameters=parameters) as server:
        assert ask(server, "plain").status == 500
        deadline = time.monotonic() + 4.5
        while (seen := ask(server, "plain")).status != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
    assert seen.status == {"kamailio": 500, "sipwright": 200}[name]


def test_calls_are_shared_out_evenly_within_a_priority(tmp_path: Path, name: str) -> None:
    with ScriptedService(answer) as first, ScriptedService(answer) as second, ScriptedService(answer) as third:
        services = (first, second, third)
        servers = " ".join(f"127.0.0.1:{service.port},1" for service in services)
        with running(name, ROUTES, answer, tmp_path, servers=servers) as server:
            server.wait_until_connected(*services)
            for _ in range(9):
                assert ask(server, "plain").status == 200
        shares = [len(service.calls) for service in services]
    assert shares == {"kamailio": [9, 0, 0], "sipwright": [3, 3, 3]}[name]
