"""Module janssonrpcc beside Kamailio's: the same script and services give the same replies, results and calls.

Each test runs on both servers with one expectation, that of Kamailio's documentation. What differs on purpose is in
`test_janssonrpcc_mends.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.janssonrpcc_scripts import Running, running, server
from tests.scenarios.processes import free_port, require_kamailio_module
from tests.scenarios.scripted_service import Call, ScriptedService
from tests.scenarios.side_by_side import SERVERS
from tests.scenarios.sip_client import SipClient

pytestmark = pytest.mark.scenario

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
RESULTS = {
    "string": '"say \\"hi\\" h\\u00e9"',
    "integer": "42",
    "true": "true",
    "null": "null",
    "object": '{"name": "Petros", "list": [1, {"a": null}], "empty": {}}',
    "array": "[]",
}
ERRORS = {
    "error_object": '{"code": -32601, "message": "Method not found", "data": [1]}',
    "error_in_range": '{"code": -32050, "message": "again"}',
    "error_string": '"not today"',
    "error_number": "7",
}
ODD = {
    "null_error_beside_the_result": '"result":"fine","error":null',
    "further_members": '"result":"fine","elapsed":3',
    "both": '"result":5,"error":{"code":1,"message":"no"}',
    "neither": '"elapsed":3',
}
PARAMETERS = (
    server(0)
    + f'modparam("janssonrpcc", "server", "conn=down;addr=127.0.0.1;port={free_port()}")\n'
    + 'modparam("janssonrpcc", "retry_codes", "-32603, -32000..-32099")\n'
)
ROUTES = """
    if ($rU == "three_arguments") {
        jsansonrpc_request("svc", "three_arguments", '{"id": 1}');
        route(WENT_ON);
    }
    if ($rU == "no_params") {
        janssonrpc_request("svc", "no_params", "", "route=RESPONSE");
    }
    if ($rU == "null_params") {
        janssonrpc_request("svc", "null_params", $null, "route=RESPONSE");
    }
    if ($rU == "variables") {
        $var(name) = "svc";
        $var(id) = 7;
        $var(route) = "RESP";
        janssonrpc_request("$var(name)", "$rU", '{"id": $var(id), "text": "$rm", "list": [$cs]}',
            "route=$var(route)ONSE;timeout=1000");
    }
"""


def answer(call: Call) -> None:
    """Answer as the method's name says; `silent` and its like are not answered at all."""
    method = call.method
    if call.id is None or method.startswith("silent"):
        return
    if method in ERRORS:
        members = f'"error":{ERRORS[method]}'
    else:
        members = ODD.get(method) or f'"result":{RESULTS.get(method, "1")}'
    call.connection.send_payload(f'{{"jsonrpc":"2.0","id":{call.id},{members}}}'.encode())


@pytest.fixture(scope="module", params=sorted(SERVERS))
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Either server, running for all tests of this file that need nothing of their own."""
    require_kamailio_module("janssonrpcc")
    directory = tmp_path_factory.mktemp(request.param)
    with running(request.param, directory, [answer], PARAMETERS, ROUTES) as started:
        yield started


@pytest.fixture(params=sorted(SERVERS))
def name(request: pytest.FixtureRequest) -> str:
    require_kamailio_module("janssonrpcc")
    return str(request.param)


def without_id(seen: Any) -> Any:
    """Leave out the ids, which each server counts in its own way."""
    if isinstance(seen, dict):
        return {key: without_id(value) for key, value in seen.items() if key != "id"}
    return seen


REQUEST = {"jsonrpc": "2.0", "params": {"x": 1}}


def internal_error(code: int, message: str, method: str) -> dict[str, Any]:
    return {"internal_error": {"code": code, "message": message, "data": {**REQUEST, "method": method}}}


# ---- answers


@pytest.mark.parametrize("method", RESULTS)
def test_results(shared: Running, method: str) -> None:
    seen = shared.ask(method)
    assert seen.result == {"result": json.loads(RESULTS[method])}


@pytest.mark.parametrize("method", ERRORS)
def test_errors(shared: Running, method: str) -> None:
    seen = shared.ask(method)
    assert seen.result == {"error": json.loads(ERRORS[method])}


@pytest.mark.parametrize("method", ["null_error_beside_the_result", "further_members"])
def test_answers_that_are_odd_but_good(shared: Running, method: str) -> None:
    assert shared.ask(method).result == {"result": "fine"}


def test_answers_with_both_members_or_neither_are_bad_responses(shared: Running) -> None:
    for method, members in [("both", {"result": 5, "error": {"code": 1, "message": "no"}}), ("neither", {})]:
        bad = internal_error(-20, "Bad response result", method)
        assert without_id(shared.ask(method).result) == {**members, **bad, "data": {**REQUEST, "method": method}}


def test_the_text_has_no_white_space_and_the_members_of_an_internal_error_their_order(shared: Running) -> None:
    reply = shared.ask("object").reply
    assert reply is not None
    assert reply.header("X-Result") == '{"result":{"name":"Petros","list":[1,{"a":null}],"empty":{}}}'
    reply = shared.ask("any", conn="down").reply
    assert reply is not None
    text = reply.header("X-Result")
    assert text is not None
    assert text.startswith('{"internal_error":{"message":"Retry failed","code":-50,"data":{')


def test_no_answer_is_a_timeout_after_the_time_of_the_option(shared: Running) -> None:
    seen = shared.ask("silent", "route=RESPONSE;timeout=200")
    assert without_id(seen.result) == internal_error(-100, "Message timeout", "silent")
    assert 0.19 < seen.seconds < 0.4
    seen = shared.ask("silent")
    assert 0.49 < seen.seconds < 0.7


def test_nobody_who_can_be_asked_is_a_failed_retry(shared: Running) -> None:
    seen = shared.ask("any", conn="down")
    assert without_id(seen.result) == internal_error(-50, "Retry failed", "any")
    assert seen.seconds < 0.2


# ---- requests


def test_a_request_on_the_wire(shared: Running) -> None:
    (call,) = shared.ask("integer").calls
    assert list(call.members) == ["id", "jsonrpc", "method", "params"]
    assert without_id(call.members) == {**REQUEST, "method": "integer"}


@pytest.mark.parametrize("method", ["no_params", "null_params"])
def test_no_params_are_no_member(shared: Running, method: str) -> None:
    (call,) = shared.ask(method).calls
    assert list(call.members) == ["id", "jsonrpc", "method"]


def test_every_argument_may_have_variables(shared: Running) -> None:
    seen = shared.ask("variables")
    assert seen.result == {"result": 1}
    assert [call.params for call in seen.calls] == [{"id": 7, "text": "OPTIONS", "list": [1]}]


def test_a_notification(shared: Running) -> None:
    before = len(shared.service.calls)
    seen = shared.ask("update_user", params='{"id": 1234}', sip="MESSAGE")
    assert (seen.code, seen.result) == (1, "before")
    call = shared.service.wait_for_calls(before + 1)[-1]
    assert call.members == {"jsonrpc": "2.0", "method": "update_user", "params": {"id": 1234}}


@pytest.mark.parametrize("options", ["bogus=1", "route=RESPONSE;timeout=0", "route=RESPONSE;retry=-2"])
def test_wrong_options_are_minus_1(shared: Running, options: str) -> None:
    seen = shared.ask("integer", options)
    assert (seen.code, seen.calls) == (-1, [])


def test_options_may_end_with_a_semicolon(shared: Running) -> None:
    assert shared.ask("integer", "route=RESPONSE;").result == {"result": 42}


# ---- without a route


@pytest.mark.parametrize("method", ["integer", "error_object", "silent"])
def test_without_a_route_the_script_goes_on_and_the_variable_stays(shared: Running, method: str) -> None:
    before = len(shared.service.calls)
    seen = shared.ask(method, "timeout=100")
    assert (seen.code, seen.result) == (1, "before")
    assert seen.seconds < 0.1
    assert shared.service.wait_for_calls(before + 1)[-1].method == method


def test_the_form_of_three_arguments(shared: Running) -> None:
    before = len(shared.service.calls)
    assert shared.ask("three_arguments").code == 1
    assert shared.service.wait_for_calls(before + 1)[-1].params == {"id": 1}


def test_an_error_without_a_route_is_logged(shared: Running) -> None:
    shared.ask("error_object", "")
    shared.process.wait_for_log("Method not found")


# ---- further tries


def moments(started: Running, method: str) -> list[float]:
    """Return when the calls of a method came, in seconds from the first."""
    times = [call.time for call in started.service.calls if call.method == method]
    return [round(time - times[0], 2) for time in times]


def about(*expected: float) -> Any:
    return pytest.approx(list(expected), abs=0.08)


def test_tries_after_timeouts_and_the_growing_pauses_between_them(shared: Running) -> None:
    seen = shared.ask("silent_twice", "route=RESPONSE;retry=2;timeout=150")
    assert without_id(seen.result) == internal_error(-100, "Message timeout", "silent_twice")
    # Each try has 150 ms; the pauses are 1 and 4 times as long.
    assert moments(shared, "silent_twice") == about(0, 0.3, 1.05)
    assert seen.seconds == pytest.approx(1.2, abs=0.1)


def test_tries_where_nobody_can_be_asked(shared: Running) -> None:
    seen = shared.ask("any", "route=RESPONSE;retry=2;timeout=150", conn="down")
    assert without_id(seen.result) == internal_error(-50, "Retry failed", "any")
    assert seen.seconds == pytest.approx(0.75, abs=0.1)


def test_an_answer_to_a_later_try_is_the_answer(name: str, tmp_path: Path) -> None:
    def behave(call: Call) -> None:
        if len(started.service.calls) == 2:
            answer(call)

    with running(name, tmp_path, [behave], server(0)) as started:
        seen = started.ask("string", "route=RESPONSE;retry=5;timeout=100")
        assert seen.result == {"result": 'say "hi" hé'}
        assert len(seen.calls) == 2
        time.sleep(0.3)
        assert len(started.service.calls) == 2


def test_codes_that_are_tried_again_without_a_route_only(shared: Running) -> None:
    seen = shared.ask("error_in_range", "route=RESPONSE;retry=2;timeout=100")
    assert seen.result == {"error": json.loads(ERRORS["error_in_range"])}
    assert len(seen.calls) == 1
    before = len(shared.service.calls)
    assert shared.ask("error_in_range", "retry=2;timeout=100").code == 1
    shared.service.wait_for_calls(before + 3)
    time.sleep(0.2)
    calls = shared.service.calls[before:]
    assert [call.method for call in calls] == ["error_in_range"] * 3
    assert [round(call.time - calls[0].time, 2) for call in calls] == about(0, 0.1, 0.5)
    before = len(shared.service.calls)
    shared.ask("error_object", "retry=2;timeout=50")
    time.sleep(0.4)
    assert len(shared.service.calls) == before + 1


# ---- servers


def test_a_lower_priority_number_is_asked_first(name: str, tmp_path: Path) -> None:
    parameters = server(0, more=";priority=10") + server(1, more=";priority=2")
    with running(name, tmp_path, [answer, answer], parameters) as started:
        for _ in range(6):
            assert started.ask("integer").result == {"result": 42}
        assert [len(service.calls) for service in started.services] == [0, 6]


def test_servers_of_one_priority_get_calls_in_the_proportion_of_their_weights(name: str, tmp_path: Path) -> None:
    weights = [1, 5, 0]
    parameters = "".join(server(number, more=f";weight={weight}") for number, weight in enumerate(weights))
    with running(name, tmp_path, [answer] * 3, parameters) as started:
        for _ in range(120):
            started.ask("integer")
        light, heavy, spare = (len(service.calls) for service in started.services)
        # Kamailio chooses by chance: 20 and 100 on the average.
        assert light + heavy + spare == 120
        assert 85 <= heavy <= 115
        assert spare <= 5


def test_other_connections_have_other_servers(name: str, tmp_path: Path) -> None:
    parameters = server(0, "first") + server(1, "second")
    with running(name, tmp_path, [answer, answer], parameters) as started:
        started.ask("a", conn="first")
        started.ask("b", conn="second")
        assert [[call.method for call in service.calls] for service in started.services] == [["a"], ["b"]]


def test_a_server_at_its_high_water_mark_is_passed_over(name: str, tmp_path: Path) -> None:
    parameters = server(0, more=";hwm=1") + server(1, more=";priority=1")
    with running(name, tmp_path, [answer, answer], parameters) as started:
        started.ask("silent", "timeout=1000")
        started.service.wait_for_calls(1)
        assert started.ask("integer").result == {"result": 42}
        assert [len(service.calls) for service in started.services] == [1, 1]


def test_the_answer_goes_into_the_variable_of_the_parameter(name: str, tmp_path: Path) -> None:
    parameters = server(0) + 'modparam("janssonrpcc", "result_pv", "$shv(answer)")\n'
    routes = '    if ($rU == "shared") { janssonrpc_request("svc", "integer", "", "route=SHARED"); }\n'
    blocks = 'route[SHARED] { append_to_reply("X-Result: $shv(answer)\\r\\n"); t_reply("200", "OK"); }\n'
    with running(name, tmp_path, [answer], parameters, routes, blocks) as started:
        assert started.ask("shared").result == {"result": 42}


# ---- the example


def test_the_example_answers_alike(name: str, tmp_path: Path) -> None:
    def behave(call: Call) -> None:
        if call.method == "get_user":
            user = call.params["name"]
            members = '"error":{"code":404,"message":"Nobody Of That Name"}' if user == "carol" else '"result":{}'
            if user in ("alice", "ready"):
                members = '"result":{"place":"at home"}'
            if user != "slow":
                call.connection.send_payload(f'{{"jsonrpc":"2.0","id":{call.id},{members}}}'.encode())

    head = "#!KAMAILIO\nchildren=1\nlog_stderror=yes\ndisable_tcp=yes\nauto_aliases=no\n"
    with ScriptedService(behave) as service:
        head += f"#!define PORT {service.port}\n#!define BACKUP_PORT {service.port}\n"
        text = (EXAMPLES / "janssonrpcc.cfg").read_text().replace("#!KAMAILIO\n", head)
        with SERVERS[name](text, tmp_path) as process:
            replies = []
            for user in ("alice", "bob", "carol", "slow"):
                with SipClient(process.address) as client:
                    reply = client.ask("OPTIONS", user=user)
                    replies.append((reply.status, reply.reason, reply.header("X-Place")))
    assert replies == [
        (200, "OK", "at home"),
        (480, "Nobody Knows Where", None),
        (404, "Nobody Of That Name", None),
        (504, "No Answer In Time", None),
    ]
