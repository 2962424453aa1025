"""Module jsonrpc: several calls at once."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import RpcAnswerError
from sipwright.testing import NoAnswer, ScriptDriver, run_script, sip_request
from tests.modules.test_jsonrpc import faults, script

SHOW = """
route[RESPONSE] { t_reply("200", "$jsonrpc(user.result)/$jsonrpc(quota.result)/$jsonrpc(failed)"); }
route[ERROR] {
  $var(each) = "user=" + $jsonrpc(user.status) + " quota=" + $jsonrpc(quota.status);
  t_reply("500", "$jsonrpc(failed): $jsonrpc(status) $jsonrpc(code) $var(each)");
}
"""
TWO = "\"user=get_user:{'id': '$fU'}\", \"quota=get_quota:[1]\""


def asking(calls: str = TWO) -> str:
    body = f'request_route {{ jsonrpc_parallel("RESPONSE", "ERROR", {calls}); t_reply("503", "Not asked"); }}'
    return script(body).rpartition("route[RESPONSE]")[0] + SHOW


def reason(answers: Any, text: str | None = None) -> str:
    driver = run_script(asking() if text is None else text, sip_request(), rpc=answers)
    assert not driver.is_suspended
    [reply] = driver.replies
    return f"{reply.status} {reply.reason}"


def test_the_script_goes_on_when_all_have_answered() -> None:
    driver = ScriptDriver(asking(), rpc={"get_user": lambda params: params, "get_quota": 7})
    replies = driver.receive(sip_request())
    assert driver.calls == [("get_user", {"id": "bob"}), ("get_quota", [1])]
    assert [(reply.status, reply.reason) for reply in replies] == [(200, '{"id":"bob"}/7/<null>')]


def test_nothing_is_sent_before_the_last_answer() -> None:
    driver = ScriptDriver(asking(), rpc={"get_user": "x", "get_quota": NoAnswer.TIMEOUT})
    assert driver.receive(sip_request()) == []
    assert driver.is_suspended


@pytest.mark.parametrize(
    ("answers", "shown"),
    [
        (
            {"get_user": RpcAnswerError(404, "no"), "get_quota": NoAnswer.TIMEOUT},
            "500 user: error 404 user=error quota=cancelled",
        ),
        (
            {"get_user": NoAnswer.TIMEOUT, "get_quota": RpcAnswerError(1, "no")},
            "500 quota: error 1 user=cancelled quota=error",
        ),
        ({"get_user": 1, "get_quota": NoAnswer.TIMEOUT}, "500 quota: timeout <null> user=ok quota=timeout"),
        (None, "500 user: failure <null> user=failure quota=cancelled"),
    ],
)
def test_the_first_failure_leads_to_the_error_route_and_gives_the_others_up(answers: Any, shown: str) -> None:
    assert reason(answers) == shown


def test_a_failure_does_not_wait_for_the_others() -> None:
    driver = ScriptDriver(asking(), rpc={"get_user": NoAnswer.TIMEOUT, "get_quota": RpcAnswerError(1, "no")})
    assert [reply.status for reply in driver.receive(sip_request())] == [500]
    assert not driver.is_suspended


def test_an_optional_call_may_fail() -> None:
    text = asking('"user=get_user:[]", "quota=get_quota;optional;timeout=50:[]"')
    assert reason({"get_user": 1, "get_quota": NoAnswer.TIMEOUT}, text) == "200 1/<null>/<null>"
    assert reason({"get_user": RpcAnswerError(1, "no"), "get_quota": 2}, text).startswith("500 user: error 1")


def test_calls_have_options_of_their_own() -> None:
    text = asking('"user=get_user;timeout=40;idempotent:[]", "quota=get_quota"')
    driver = ScriptDriver(text, rpc={"get_user": NoAnswer.TIMEOUT, "get_quota": 1})
    driver.receive(sip_request())
    assert driver.calls == [("get_user", []), ("get_quota", None)]
    driver.advance(0.05)
    assert driver.replies[0].status == 500


def test_a_cancel_gives_all_of_them_up() -> None:
    driver = ScriptDriver(asking(), rpc={"get_user": NoAnswer.TIMEOUT, "get_quota": NoAnswer.TIMEOUT})
    driver.receive(sip_request("INVITE"))
    driver.receive(sip_request("CANCEL"))
    assert [reply.status for reply in driver.replies] == [100, 200, 487]
    assert not driver.is_suspended


def test_in_place_the_script_goes_on_at_the_next_statement() -> None:
    body = f"""request_route {{
      $var(rc) = jsonrpc_call_parallel({TWO});
      t_reply("200", "$var(rc) $jsonrpc(user.result) $jsonrpc(failed)");
    }}"""
    assert reason({"get_user": "u", "get_quota": 1}, script(body)) == "200 1 u <null>"
    body = body.replace("$var(rc) = ", "").replace("$var(rc)", "$rc")
    assert reason({"get_user": "u", "get_quota": RpcAnswerError(1, "")}, script(body)) == "200 -1 u quota"
    assert reason({"get_user": "u", "get_quota": NoAnswer.TIMEOUT}, script(body)) == "200 -2 u quota"
    assert reason(None, script(body)) == "200 -3 <null> user"


def test_when_nobody_can_be_asked_nothing_is_left_of_an_earlier_answer() -> None:
    body = f"""request_route {{
      jsonrpc_call_parallel({TWO});
      if (!jsonrpc_call_parallel("user=get_user:{{'id': $fU}}", "quota=get_quota"))
        t_reply("200", "$jsonrpc(user.status) $jsonrpc(quota.result) $jsonrpc(failed)");
    }}"""
    assert reason({"get_user": RpcAnswerError(1, ""), "get_quota": 1}, script(body)) == "200 <null> <null> <null>"


def test_calls_can_be_chained() -> None:
    body = f"""request_route {{ jsonrpc_parallel("AGAIN", "ERROR", {TWO}); }}
    route[AGAIN] {{ jsonrpc_parallel("SHOW", "ERROR", "third=get_third:['$jsonrpc(user.result)']"); }}
    route[SHOW] {{ t_reply("200", "$jsonrpc(third.result) $jsonrpc(user.result)"); }}
    """
    answers = {"get_user": "u", "get_quota": 1, "get_third": lambda params: params[0] + "!"}
    assert reason(answers, script(body)) == "200 u! <null>"


def test_parameters_that_do_not_fit_ask_nobody() -> None:
    text = asking('"user=get_user:[]", "quota=get_quota:{\'x\': $fU}"')
    driver = ScriptDriver(text, rpc={"get_user": 1, "get_quota": 1})
    assert [reply.status for reply in driver.receive(sip_request())] == [503]
    assert driver.calls == []
    assert "jsonrpc_parallel: quota: bad parameters" in " ".join(driver.log)


def test_when_one_cannot_be_asked_the_others_are_given_up_and_the_script_goes_on() -> None:
    driver = ScriptDriver(asking(), rpc={"get_user": 1, "get_quota": 1})
    submit, made = driver._clients[0].submit, []

    def refuse(method: str, *arguments: Any, **options: Any) -> Any:
        if method == "get_quota":
            raise ValueError("the method is no Unicode text")
        made.append(submit(method, *arguments, **options))
        return made[-1]

    # The module has taken it from the client when the worker began.
    driver._script.registry.modules["jsonrpc"]._submit = refuse  # type: ignore[attr-defined]
    assert [reply.status for reply in driver.receive(sip_request())] == [503]
    assert not driver.is_suspended
    assert [call.status for call in made] == ["cancelled"]
    assert "jsonrpc_parallel: the method is no Unicode text" in " ".join(driver.log)


def test_two_calls_of_one_name_ask_nobody() -> None:
    driver = ScriptDriver(asking('"a=x:[]", "a=y:[]"'), rpc={"x": 1, "y": 1})
    assert [reply.status for reply in driver.receive(sip_request())] == [503]
    assert driver.calls == []
    assert "two calls have the name 'a'" in " ".join(driver.log)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ('"get_user:[]"', "'get_user' is no call: expected NAME=METHOD:PARAMS"),
        ('"a=:[]"', "'a=' is no call"),
        ('"a b=x:[]"', "'a b' is no name of a call"),
        ('"a=$fU:[]"', "cannot contain variables"),
        ('"a=x;fast:[]"', "unknown option 'fast'"),
        ("\"a=x:{'y': }\"", "bad JSON-RPC parameters"),
        ('"$var(call)"', "cannot contain variables"),
        ('"a=x;group=bilings:[]"', "argument 3 (calls) of jsonrpc_parallel: no group of servers is named 'bilings'"),
        ('"a=x", "b=y", "c"', "argument 5 (calls) of jsonrpc_parallel: 'c' is no call"),
    ],
)
def test_each_mistake_is_told_at_load(calls: str, message: str) -> None:
    assert any(message in fault for fault in faults(asking(calls))), faults(asking(calls))


def test_at_least_one_call_is_needed() -> None:
    body = 'request_route { jsonrpc_parallel("RESPONSE", "ERROR"); }'
    assert faults(script(body)) == ["jsonrpc_parallel takes at least 3 arguments, not 2"]


def test_a_variable_that_there_is_not_is_told_at_load() -> None:
    body = 'request_route { xlog("$jsonrpc(a.results)"); }'
    assert any("$jsonrpc(a.results) is unknown" in fault for fault in faults(script(body)))
