"""Where sipwright differs from Kamailio's janssonrpcc on purpose: what each of the two does, case by case.

The same script and services run on both; every test says for each what is seen.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.janssonrpcc_scripts import SCRIPT, Running, running, server
from tests.scenarios.processes import require_kamailio_module, require_program
from tests.scenarios.scripted_service import Call
from tests.scenarios.side_by_side import SERVERS

pytestmark = pytest.mark.scenario


def reply(call: Call, text: str) -> None:
    call.connection.send_payload(text.encode("utf-8", "surrogateescape"))


def answer(call: Call) -> None:
    """Answer with the name of the method, or as it says."""
    number, method = call.id, call.method
    if number is None or method == "silent":
        return
    if method == "hang_up":
        call.connection.close()
    elif method == "bad_netstring":
        call.connection.send(b"this is no netstring, and long")
    elif method == "not_utf_8":
        reply(call, f'{{"jsonrpc":"2.0","id":{number},"result":"\udcff"}}')
    elif method == "other_version":
        reply(call, f'{{"jsonrpc":"1.0","id":{number},"result":1}}')
    elif method == "no_version":
        reply(call, f'{{"id":{number},"result":1}}')
    elif method == "id_as_string":
        reply(call, f'{{"jsonrpc":"2.0","id":"{number}","result":1}}')
    else:
        reply(call, f'{{"jsonrpc":"2.0","id":{number},"result":"{method}"}}')


def silent(_call: Call) -> None:
    """Answer nothing."""


def hang_up(call: Call) -> None:
    """Answer nothing any more."""
    call.connection.close()


@pytest.fixture(params=sorted(SERVERS))
def name(request: pytest.FixtureRequest) -> str:
    require_kamailio_module("janssonrpcc")
    return str(request.param)


@pytest.fixture(scope="module", params=sorted(SERVERS))
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Either server, running for all tests of this file that do it no lasting harm."""
    require_kamailio_module("janssonrpcc")
    routes = """
    if ($rU == "in_string") {
        janssonrpc_request("svc", "in_string", '{"name": "$hdr(X-Name)"}', "route=RESPONSE");
    }
    """
    with running(request.param, tmp_path_factory.mktemp(request.param), [answer], server(0), routes) as started:
        yield started


# ---- names of connections


def test_connections_whose_names_begin_alike(name: str, tmp_path: Path) -> None:
    parameters = server(0, "users") + server(1, "users2")
    with running(name, tmp_path, [answer, answer], parameters) as started:
        for conn in ("users", "users2"):
            assert started.ask(conn, conn=conn).result == {"result": conn}
        methods = [[call.method for call in service.calls] for service in started.services]
        assert methods == ([["users", "users2"], []] if started.is_kamailio else [["users"], ["users2"]])
        # A name that nobody has.
        seen = started.ask("users3", conn="users3")
        if started.is_kamailio:
            assert seen.result == {"result": "users3"}
        else:
            assert (seen.internal_code, seen.calls) == (-50, [])


def test_a_connection_whose_name_begins_another_one(name: str, tmp_path: Path) -> None:
    parameters = server(0, "users2") + server(1, "users")
    with running(name, tmp_path, [answer, answer], parameters) as started:
        seen = started.ask("users", conn="users")
        if started.is_kamailio:
            assert (seen.internal_code, seen.calls) == (-50, [])
        else:
            assert seen.result == {"result": "users"}
            assert [len(service.calls) for service in started.services] == [0, 1]


# ---- further tries


def test_a_server_that_did_not_answer_is_not_asked_again_before_others(name: str, tmp_path: Path) -> None:
    parameters = server(0) + server(1, more=";priority=1")
    with running(name, tmp_path, [silent, answer], parameters) as started:
        seen = started.ask("get_user", "route=RESPONSE;retry=1;timeout=150")
        counts = [len(service.calls) for service in started.services]
        if started.is_kamailio:
            assert (seen.internal_code, counts) == (-100, [2, 0])
        else:
            assert (seen.result, counts) == ({"result": "get_user"}, [1, 1])
        # Both wait for one pause.
        assert 0.29 < seen.seconds < 0.6


def test_once_all_were_asked_the_first_one_is_again(name: str, tmp_path: Path) -> None:
    parameters = server(0) + server(1, more=";priority=1")
    with running(name, tmp_path, [silent, silent], parameters) as started:
        assert started.ask("get_user", "route=RESPONSE;retry=2;timeout=50").internal_code == -100
        counts = [len(service.calls) for service in started.services]
        assert counts == ([3, 0] if started.is_kamailio else [2, 1])


def test_a_server_that_had_as_many_calls_as_it_may_have_is_asked_again_afterwards(name: str, tmp_path: Path) -> None:
    with running(name, tmp_path, [answer], server(0, more=";hwm=1")) as started:
        assert started.ask("silent", "route=RESPONSE;timeout=100").internal_code == -100
        for _ in range(3):
            seen = started.ask("get_user")
            if started.is_kamailio:
                assert (seen.internal_code, seen.calls) == (-50, [])
            else:
                assert seen.result == {"result": "get_user"}


def test_a_lost_connection_ends_its_calls_at_once(name: str, tmp_path: Path) -> None:
    with running(name, tmp_path, [answer], server(0)) as started:
        seen = started.ask("hang_up", "route=RESPONSE;timeout=400")
        if started.is_kamailio:
            assert (seen.internal_code, seen.seconds > 0.39) == (-100, True)
        else:
            assert (seen.internal_code, seen.seconds < 0.2) == (-75, True)


def test_calls_of_a_lost_connection_are_sent_to_another_server_at_once(name: str, tmp_path: Path) -> None:
    parameters = server(0) + server(1, more=";priority=1")
    with running(name, tmp_path, [hang_up, answer], parameters) as started:
        seen = started.ask("get_user", "route=RESPONSE;retry=1;timeout=400")
        assert seen.result == {"result": "get_user"}
        if started.is_kamailio:
            # The time of the first try, and the pause behind it.
            assert seen.seconds > 0.79
        else:
            assert seen.seconds < 0.2


def test_what_is_no_netstring_ends_the_connection_at_once(name: str, tmp_path: Path) -> None:
    with running(name, tmp_path, [answer], server(0)) as started:
        seen = started.ask("bad_netstring", "route=RESPONSE;timeout=400")
        assert seen.internal_code == -75
        assert seen.seconds < 0.2


# ---- what a script gets wrong


@pytest.mark.parametrize("params", ['{"a": ', "nonsense", "5"])
def test_parameters_that_are_none(shared: Running, params: str) -> None:
    seen = shared.ask("get_user", params=params, seconds=1.0)
    assert seen.calls == []
    if shared.is_kamailio:
        assert seen.reply is None  # and the transaction stays suspended
    else:
        assert seen.result == {"internal_error": {"code": -1, "message": "Failed to build request"}}
        assert seen.seconds < 0.2
    assert shared.ask("get_user", "", params=params).code == (1 if shared.is_kamailio else -1)


def test_a_route_that_is_not_there(shared: Running) -> None:
    seen = shared.ask("get_user", "route=NOWHERE", seconds=1.0)
    if shared.is_kamailio:
        assert (seen.reply, len(seen.calls)) == (None, 1)
    else:
        assert (seen.code, seen.calls) == (-1, [])


def test_a_notification_that_nobody_can_be_sent(shared: Running) -> None:
    wrong: list[dict[str, Any]] = [{"params": '{"a": '}, {"conn": "nobody"}]
    for more in wrong:
        assert shared.ask("update", sip="MESSAGE", **more).code == (1 if shared.is_kamailio else -1)


def test_a_route_and_a_connection_that_are_not_there_are_told_at_load(tmp_path: Path) -> None:
    kamailio = require_program("kamailio")
    require_kamailio_module("janssonrpcc")
    routes = 'janssonrpc_request("svcs", "m", "", "route=RESPONS");'
    config = tmp_path / "wrong.cfg"
    config.write_text(SCRIPT.format(parameters=server(0).replace("PORT0", "9"), routes=routes, blocks=""))
    checked = run(kamailio, "-c", "-Y", str(tmp_path), "-f", str(config))
    assert checked.returncode == 0
    ours = run("sipwright", "check", str(config))
    assert ours.returncode != 0
    assert "no server has conn=svcs" in ours.stderr + ours.stdout
    assert "route[RESPONS] is not defined" in ours.stderr + ours.stdout


def test_three_arguments_under_the_right_name(tmp_path: Path) -> None:
    kamailio = require_program("kamailio")
    require_kamailio_module("janssonrpcc")
    config = tmp_path / "three.cfg"
    routes = 'janssonrpc_request("svc", "m", "");'
    config.write_text(SCRIPT.format(parameters=server(0).replace("PORT0", "9"), routes=routes, blocks=""))
    assert run(kamailio, "-c", "-Y", str(tmp_path), "-f", str(config)).returncode != 0
    assert run("sipwright", "check", str(config)).returncode == 0


def run(program: str, *arguments: str) -> Any:
    command = [sys.executable, "-m", "sipwright"] if program == "sipwright" else [program]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=30)


# ---- answers


@pytest.mark.parametrize("method", ["other_version", "no_version", "id_as_string"])
def test_answers_that_can_still_be_understood(shared: Running, method: str) -> None:
    seen = shared.ask(method, "route=RESPONSE;timeout=150")
    if shared.is_kamailio:
        assert seen.internal_code == -100
    else:
        assert seen.result == {"result": 1}


def test_an_answer_that_is_not_utf_8(shared: Running) -> None:
    seen = shared.ask("not_utf_8", "route=RESPONSE;timeout=150")
    assert seen.internal_code == (-100 if shared.is_kamailio else -10)


def test_numbers_keep_their_spelling(name: str, tmp_path: Path) -> None:
    def behave(call: Call) -> None:
        reply(call, f'{{"jsonrpc":"2.0","id":{call.id},"result":1.10}}')

    with running(name, tmp_path, [behave], server(0)) as started:
        seen = started.ask("price")
        assert seen.reply is not None
        text = seen.reply.header("X-Result")
        assert text == ('{"result":1.1000000000000001}' if started.is_kamailio else '{"result":1.10}')


def test_a_variable_cannot_add_members(shared: Running) -> None:
    evil = '","admin":true,"y":"'
    (call,) = shared.ask("in_string", name=evil).calls
    if shared.is_kamailio:
        assert call.params == {"name": "", "admin": True, "y": ""}
    else:
        assert call.params == {"name": evil}


def test_the_lenient_dialect_of_the_other_module(shared: Running) -> None:
    seen = shared.ask("get_user", params="{'id': 1,}", seconds=1.0)
    if shared.is_kamailio:
        assert (seen.reply, seen.calls) == (None, [])
    else:
        assert [call.params for call in seen.calls] == [{"id": 1}]


def test_a_request_from_a_resumed_route(name: str, tmp_path: Path) -> None:
    routes = 'if ($rU == "chain") { janssonrpc_request("svc", "first", "", "route=SECOND"); }'
    blocks = """
    route[SECOND] {
        $avp(first) = $var(jsrpc_result);
        janssonrpc_request("svc", "second", "", "route=RESPONSE");
        $var(code) = $rc;
        append_to_reply("X-Code: $var(code)\\r\\n");
        t_reply("480", "Went On");
    }
    """
    with running(name, tmp_path, [answer], server(0), routes, blocks) as started:
        seen = started.ask("chain", seconds=2.0)
        time.sleep(0.1)
        methods = [call.method for call in started.service.calls]
        if started.is_kamailio:
            assert (seen.code, methods) == (-1, ["first"])
        else:
            assert (seen.result, methods) == ({"result": "second"}, ["first", "second"])
