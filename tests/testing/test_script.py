"""`run_script` and `ScriptDriver`: a script is run for real, and only its surroundings are fake."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import ConfigErrors, RpcAnswerError
from sipwright.testing import NoAnswer, ScriptDriver, run_script, sip_request

SCRIPT = """
#!KAMAILIO
#!ifndef METHOD
#!define METHOD "get_user"
#!endif
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "jsonrpc.so"
modparam("jsonrpc", "servers", "127.0.0.1:9999,1")
modparam("jsonrpc", "group", "other=>127.0.0.1:9998,1")

request_route {
    jsonrpc_notification("seen", "{'from': '$fU'}");
    jsonrpc_request(METHOD, "{'id': 1234}", "RESPONSE", "ERROR", "$var(result)");
    t_reply("503", "Not asked");
}
route[RESPONSE] { xlog("Result received: $var(result)\\n"); t_reply("200", "OK"); }
route[ERROR] { xlog("L_ERR", "Error received: $var(result)\\n"); t_reply("500", "Error"); }
"""


def test_a_result_ends_in_the_return_route() -> None:
    run = run_script(SCRIPT, sip_request("MESSAGE"), rpc={"get_user": {"name": "Petros"}})
    assert run.status == 200
    assert run.calls == [("get_user", {"id": 1234})]
    assert run.notifications == [("seen", {"from": "bob"})]
    assert run.variables == {"result": '{"name":"Petros"}'}
    assert run.log == ['<script>: Result received: {"name":"Petros"}']
    assert not run.is_suspended


@pytest.mark.parametrize(
    ("rpc", "text"),
    [
        ({"get_user": NoAnswer.TIMEOUT}, "timeout"),
        ({"get_user": NoAnswer.FAILURE}, "failure"),
        (None, "failure"),
        ({}, '{"code":-32601,"message":"Method not found"}'),
        ({"get_user": RpcAnswerError(7, "no", [1])}, '{"code":7,"message":"no","data":[1]}'),
        ({"get_user": lambda params: RpcAnswerError(params["id"], "no")}, '{"code":1234,"message":"no"}'),
    ],
)
def test_everything_else_ends_in_the_error_route(rpc: Any, text: str) -> None:
    run = run_script(SCRIPT, sip_request(), rpc=rpc)
    assert run.status == 500
    assert run.variables == {"result": text}


def test_services_may_be_a_function_of_method_and_params() -> None:
    run = run_script(SCRIPT, sip_request(), rpc=lambda method, params: f"{method} {params}")
    assert run.variables == {"result": "get_user {'id': 1234}"}


def test_bytes_are_a_result_as_it_stands() -> None:
    assert run_script(SCRIPT, sip_request(), rpc={"get_user": b"1.10"}).variables == {"result": "1.10"}


def test_defines_are_set_before_the_script_is_read() -> None:
    run = run_script(SCRIPT, sip_request(), rpc={"who": 1}, defines={"METHOD": '"who"'})
    assert run.status == 200


def test_a_driver_shows_each_step() -> None:
    driver = ScriptDriver(SCRIPT, rpc={"get_user": NoAnswer.TIMEOUT})
    assert [reply.status for reply in driver.receive(sip_request("INVITE"))] == [100]
    assert driver.is_suspended
    assert driver.advance(0.4) == []
    assert [reply.status for reply in driver.advance(0.2)] == [500]
    assert driver.statistics()["tm:suspended"] == 0


def test_stopping_ends_what_is_suspended_in_the_error_route() -> None:
    driver = ScriptDriver(SCRIPT, rpc={"get_user": NoAnswer.TIMEOUT})
    driver.receive(sip_request())
    assert [reply.status for reply in driver.stop()] == [500]
    assert driver.variables == {"result": "failure"}


def test_a_wrong_script_is_refused_with_all_its_faults() -> None:
    with pytest.raises(ConfigErrors) as caught:
        run_script("request_route { nothing_known(); other(); }", sip_request())
    assert [error.line for error in caught.value.errors] == [1, 1]


def test_a_script_without_an_answer_has_no_status() -> None:
    run = run_script("request_route { return 1; }", sip_request())
    assert run.status is None
    assert run.replies == []


def test_commands_of_modules_can_be_run() -> None:
    driver = ScriptDriver('loadmodule "sl.so"\nrequest_route { exit; }')
    services = driver._core.services

    async def later(params: Any) -> Any:
        return {"seen": params}

    services.add_command("a.now", lambda params: (params["x"], 2), params=["x"])
    services.add_command("a.later", later)
    assert driver.command("a.now", {"x": 1}) == [1, 2]
    assert driver.command("a.later") == {"seen": None}
    with pytest.raises(RpcAnswerError, match="Invalid params"):
        driver.command("a.now")
