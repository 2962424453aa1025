"""Module janssonrpcc: what a script can rely on (beside Kamailio's own: tests/scenarios/test_janssonrpcc.py)."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from sipwright.errors import ConfigErrors, RpcAnswerError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec
from sipwright.script.loader import load_text
from sipwright.testing import NoAnswer, ScriptDriver, run_script, sip_request

HEAD = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "htable.so"
loadmodule "jansson.so"
loadmodule "janssonrpcc.so"
modparam("htable", "htable", "t=>size=4")
modparam("janssonrpcc", "server", "conn=users;addr=10.0.0.1;port=9999")
modparam("janssonrpcc", "server", "conn=tests;srv=_test1._tcp.example.net")
"""
ROUTE = """
route[RESPONSE] { xlog("$var(jsrpc_result)"); t_reply("200", "OK"); }
"""


def script(body: str, head: str = HEAD, routes: str = ROUTE) -> str:
    return f"{head}request_route {{ {body} }}{routes}"


def asking(options: str = "route=RESPONSE", params: str = "'{\"id\": 1}'", before: str = "") -> str:
    return script(
        f'{before} $var(rc) = janssonrpc_request("users", "get_user", {params}, "{options}");'
        ' t_reply("503", "Went on");'
    )


def faults(text: str) -> list[tuple[str, str | None]]:
    with pytest.raises(ConfigErrors) as caught:
        load_text(text)
    return [(error.message, error.suggestion) for error in caught.value.errors]


def told(run: ScriptDriver) -> Any:
    """Return what the route was told."""
    return json.loads(run.log[-1].removeprefix("<script>: "))


# ---- with a route


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"a": 1}, '{"result":{"a":1}}'),
        (b'{ "a": 1.10 }', '{"result":{"a":1.10}}'),
        (None, '{"result":null}'),
        (RpcAnswerError(-1, "no"), '{"error":{"code":-1,"message":"no"}}'),
    ],
)
def test_the_script_goes_on_in_its_route_with_the_answer_as_one_json_text(answer: Any, text: str) -> None:
    run = run_script(asking(), sip_request(), rpc={"get_user": answer})
    assert (run.status, run.log) == (200, [f"<script>: {text}"])
    assert run.calls == [("get_user", {"id": 1})]


def test_no_answer_is_an_internal_error_with_the_request_in_it() -> None:
    run = run_script(asking("route=RESPONSE;timeout=200"), sip_request(), rpc={"get_user": NoAnswer.TIMEOUT})
    request = {"id": 1, "jsonrpc": "2.0", "method": "get_user", "params": {"id": 1}}
    assert told(run) == {"internal_error": {"message": "Message timeout", "code": -100, "data": request}}
    run = run_script(asking(), sip_request(), rpc=None)
    del request["id"]
    assert told(run) == {"internal_error": {"message": "Retry failed", "code": -50, "data": request}}


def test_a_request_is_tried_again_as_its_options_say() -> None:
    times: list[float] = []

    def rpc(_method: str, _params: Any) -> Any:
        times.append(driver.clock.now)
        return NoAnswer.TIMEOUT if len(times) < 3 else "at last"

    driver = ScriptDriver(asking("route=RESPONSE;retry=2;timeout=200"), rpc=rpc)
    driver.receive(sip_request())
    driver.advance(3)
    assert told(driver) == {"result": "at last"}
    # Each try has 0.2 s; the pauses behind them are 0.2 and 0.8 s.
    assert [round(time - times[0], 1) for time in times] == [0.0, 0.4, 1.4]


@pytest.mark.parametrize("variable", ["$shv(x)", "$sht(t=>key)", "$sht(t=>$ci)", "$avp(x)", "$xavp(a=>b)", "$var(r)"])
def test_the_answer_goes_into_any_writable_variable(variable: str) -> None:
    head = HEAD.replace('loadmodule "pv.so"\n', "") + f'modparam("janssonrpcc", "result_pv", "{variable}")\n'
    cfg = script(
        'janssonrpc_request("users", "m", "", "route=SHOW");',
        head + 'loadmodule "pv.so"\n',
        f'route[SHOW] {{ xlog("{variable}"); t_reply("200", "OK"); }}',
    )
    assert run_script(cfg, sip_request(), rpc={"m": 1}).log == ['<script>: {"result":1}']


def test_what_cannot_be_built_ends_in_the_route_too() -> None:
    run = run_script(asking(params='"$hdr(X-P)"'), sip_request(headers={"X-P": "{bad"}), rpc={"get_user": 1})
    assert told(run) == {"internal_error": {"message": "Failed to build request", "code": -1}}
    assert run.log[0].startswith("janssonrpc_request: bad parameters: $hdr(X-P) is not a JSON value")
    run = run_script(asking(params='"$hdr(X-P)"'), sip_request(headers={"X-P": "5"}), rpc={"get_user": 1})
    assert told(run) == {"internal_error": {"message": "Failed to build request", "code": -1}}
    assert run.calls == []
    assert run.statistics()["tm:suspended"] == 0


def test_a_connection_that_nobody_has_ends_in_the_route_too() -> None:
    cfg = script('$var(c) = "user"; janssonrpc_request("$var(c)", "m", "[1]", "route=RESPONSE");')
    run = run_script(cfg, sip_request(), rpc={"m": 1})
    assert told(run)["internal_error"]["code"] == -50
    assert run.log[0] == "janssonrpc_request: no server has conn=user"
    assert run.calls == []


def test_options_that_turn_out_wrong_are_minus_1_and_nothing_is_suspended() -> None:
    for options in ("route=NOWHERE", "bogus=1", "route=RESPONSE;timeout=0", "route=RESPONSE;retry=x"):
        cfg = asking("$var(o)", before=f'$var(o) = "{options}";')
        run = run_script(cfg, sip_request(), rpc={"get_user": 1})
        assert (run.status, run.variables["rc"], run.calls) == (503, -1, [])
    assert (
        run_script(asking("route=$var(o)", before='$var(o) = "RESPONSE";'), sip_request(), rpc={"get_user": 1}).status
        == 200
    )


def test_an_ack_cannot_be_suspended() -> None:
    run = run_script(asking(), sip_request("ACK"), rpc={"get_user": 1})
    assert (run.variables["rc"], run.calls) == (-1, [])


def test_a_cancel_gives_the_request_up_with_its_further_tries() -> None:
    driver = ScriptDriver(asking("route=RESPONSE;retry=-1;timeout=100"), rpc={"get_user": NoAnswer.TIMEOUT})
    invite = sip_request("INVITE")
    driver.receive(invite)
    driver.advance(0.15)
    assert driver.statistics()["janssonrpcc:resting"] == 1
    replies = driver.receive(invite.replace(b"INVITE sip:", b"CANCEL sip:").replace(b"1 INVITE", b"1 CANCEL"))
    assert sorted(reply.status for reply in replies) == [200, 487]
    driver.advance(30)
    assert len(driver.calls) == 1
    assert driver.statistics()["janssonrpcc:resting"] == 0


def test_a_request_that_is_tried_for_ever_ends_with_the_limit_of_suspension() -> None:
    driver = ScriptDriver(asking("route=RESPONSE;retry=-1;timeout=1000"), rpc={"get_user": NoAnswer.TIMEOUT})
    driver.receive(sip_request())
    driver.advance(62)
    assert driver.status == 408
    tries = len(driver.calls)
    assert tries > 3
    driver.advance(120)
    assert (len(driver.calls), driver.statistics()["janssonrpcc:resting"]) == (tries, 0)


def test_requests_can_be_chained_and_made_from_a_resumed_route() -> None:
    cfg = script(
        'janssonrpc_request("users", "first", "", "route=AGAIN");',
        routes=ROUTE
        + 'route[AGAIN] { janssonrpc_request("users", "second", "[$var(jsrpc_result)]", "route=RESPONSE"); }',
    )
    run = run_script(cfg, sip_request(), rpc={"first": 1, "second": 2})
    assert run.calls == [("first", None), ("second", [{"result": 1}])]
    assert told(run) == {"result": 2}


def test_at_the_stop_of_the_server_the_route_runs() -> None:
    driver = ScriptDriver(asking("route=RESPONSE;retry=3;timeout=100"), rpc={"get_user": NoAnswer.TIMEOUT})
    driver.receive(sip_request(branch="z9hG4bK1", call_id="a"))
    driver.advance(0.15)
    driver.receive(sip_request(branch="z9hG4bK2", call_id="b"))
    assert [reply.status for reply in driver.stop()] == [200, 200]
    codes = [json.loads(line.removeprefix("<script>: "))["internal_error"]["code"] for line in driver.log[-2:]]
    assert codes == [-5, -5]


# ---- without a route


def test_without_a_route_the_script_goes_on_and_never_sees_the_answer() -> None:
    cfg = asking("", before='$var(jsrpc_result) = "before";')
    run = run_script(cfg, sip_request(), rpc={"get_user": 1})
    assert (run.status, run.variables["rc"], run.variables["jsrpc_result"]) == (503, 1, "before")
    assert run.calls == [("get_user", {"id": 1})]
    assert run.log == []


def test_what_goes_wrong_without_a_route_is_logged() -> None:
    run = run_script(asking(""), sip_request(), rpc={"get_user": RpcAnswerError(-7, "no")})
    assert run.variables["rc"] == 1
    (line,) = run.log
    assert line.startswith('janssonrpc_request to users: the answer is an error: {"code":-7,"message":"no"}: ')
    assert line.endswith(': {"error":{"code":-7,"message":"no"}}')


def test_an_error_with_one_of_the_codes_is_tried_again() -> None:
    head = HEAD + 'modparam("janssonrpcc", "retry_codes", "-32603, -32000..-32099")\n'
    cfg = asking("retry=2;timeout=100").replace(HEAD, head)
    driver = ScriptDriver(cfg, rpc={"get_user": RpcAnswerError(-32050, "again")})
    driver.receive(sip_request())
    driver.advance(3)
    assert len(driver.calls) == 3
    driver = ScriptDriver(cfg, rpc={"get_user": RpcAnswerError(-32100, "no")})
    driver.receive(sip_request())
    driver.advance(3)
    assert len(driver.calls) == 1


def test_without_a_route_what_cannot_be_sent_is_minus_1() -> None:
    for call in (
        'janssonrpc_request("users", "m", "$hdr(X-P)")',
        'janssonrpc_request("$hdr(X-P)", "m", "[]")',
        'jsansonrpc_request("users", "m", "$hdr(X-P)")',
        'janssonrpc_notification("users", "m", "$hdr(X-P)")',
        'janssonrpc_notification("$hdr(X-P)", "m", "[]")',
    ):
        run = run_script(script(f"$var(rc) = {call};"), sip_request(headers={"X-P": "{bad"}), rpc={"m": 1})
        assert (run.variables["rc"], run.calls, run.notifications, len(run.log)) == (-1, [], [], 1), call


def test_the_form_of_three_arguments_has_its_right_name_and_kamailios() -> None:
    for name in ("janssonrpc_request", "jsansonrpc_request"):
        run = run_script(script(f'$var(rc) = {name}("users", "m", $null);'), sip_request(), rpc={"m": 1})
        assert (run.variables["rc"], run.calls) == (1, [("m", None)])


def test_requests_that_nobody_waits_for_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipwright.modules.janssonrpcc.MAX_UNAWAITED", 2)
    cfg = script('$var(rc) = janssonrpc_request("users", "m", "", "retry=-1"); xlog("$var(rc)");')
    driver = ScriptDriver(cfg, rpc={"m": NoAnswer.TIMEOUT})
    for number in range(3):
        driver.receive(sip_request("ACK", call_id=str(number)))
    codes = [line for line in driver.log if line.startswith("<script>")]
    assert codes == ["<script>: 1", "<script>: 1", "<script>: -1"]
    driver = ScriptDriver(cfg, rpc={"m": 1})
    for number in range(5):
        driver.receive(sip_request("ACK", call_id=str(number)))
    assert driver.log == ["<script>: 1"] * 5


def test_a_notification_is_1_once_it_is_on_its_way() -> None:
    cfg = script('$var(rc) = janssonrpc_notification("users", "update", \'{"id": "$fU"}\');')
    run = run_script(cfg, sip_request(), rpc={})
    assert (run.variables["rc"], run.notifications) == (1, [("update", {"id": "bob"})])
    run = run_script(cfg, sip_request(), rpc=None)
    assert (run.variables["rc"], run.log) == (-1, ["janssonrpc_notification: no server of users can be asked"])


def test_a_callers_header_cannot_add_members() -> None:
    evil = '","admin":true,"y":"'
    request = sip_request(headers={"X-Name": evil})
    run = run_script(asking(params='\'{"name": "$hdr(X-Name)"}\''), request, rpc={"get_user": 1})
    assert run.calls == [("get_user", {"name": evil})]


# ---- at load


@pytest.mark.parametrize(
    ("call", "message", "suggestion"),
    [
        (
            'janssonrpc_request("user", "m", "")',
            "argument 1 (conn) of janssonrpc_request: no server has conn=user",
            "users",
        ),
        (
            'janssonrpc_notification("x", "m", "")',
            "argument 1 (conn) of janssonrpc_notification: no server has conn=x",
            None,
        ),
        ('janssonrpc_request("users", "m", "", "route=RESPONS")', "route[RESPONS] is not defined", "RESPONSE"),
        (
            'janssonrpc_request("users", "m", "", "rout=RESPONSE")',
            "argument 4 (options) of janssonrpc_request: unknown option 'rout'",
            "route",
        ),
        (
            'janssonrpc_request("users", "m", "{bad")',
            "argument 3 (params) of janssonrpc_request: bad JSON-RPC parameters: a key in quotes or '}' is expected",
            None,
        ),
        (
            'janssonrpc_request("users", "m", "5")',
            "argument 3 (params) of janssonrpc_request: bad JSON-RPC parameters: expected an object or an array",
            None,
        ),
        ('janssonrpc_request("users", "m")', "janssonrpc_request takes 3 or 4 arguments, not 2", None),
        ('jsansonrpc_request("users", "m", "", "")', "jsansonrpc_request takes 3 arguments, not 4", None),
        ('janssonrpc_notification("users", "m", "", "")', "janssonrpc_notification takes 3 arguments, not 4", None),
    ],
)
def test_what_is_wrong_with_a_call_is_told_at_load(call: str, message: str, suggestion: str | None) -> None:
    ((found, suggested),) = faults(script(f"{call};"))
    assert found.startswith(message)
    assert suggested == suggestion


def test_the_fault_of_an_option_points_at_it() -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_text(script('janssonrpc_request("users", "m", "", "retry=1;route=NOWHERE");'))
    (error,) = caught.value.errors
    assert error.source[error.column - 1 :].startswith('NOWHERE"')


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ('"server", "conn=a;addr=h;port=x"', "'port' is a number from 0 to 65535, not 'x'"),
        ('"server", "addr=h;port=1"', "a server needs the name of its connection: 'conn=NAME;addr=HOST;port=N'"),
        ('"retry_codes", "x"', "expected an error code, or a range of them like -32000..-32099, found 'x'"),
        ('"result_pv", "$ci"', "$ci cannot be written to"),
        ('"result_pv", "x"', "parameter 'result_pv' is one writable variable, in quotes, like \"$var(x)\""),
        ('"min_srv_ttl", 0', "parameter 'min_srv_ttl' must be at least 1, not 0"),
        ('"keep_alive", -1', "parameter 'keep_alive' must be at least 0, not -1"),
        ('"servers", "x"', "module 'janssonrpcc' has no parameter 'servers'"),
    ],
)
def test_what_is_wrong_with_a_parameter_is_told_at_load(param: str, message: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_text(script("exit;", HEAD + f'modparam("janssonrpcc", {param})\n'))
    (error,) = caught.value.errors
    assert (error.message, error.line) == (message, HEAD.count("\n") + 1)


def test_the_default_variable_needs_module_pv() -> None:
    head = 'loadmodule "tm.so"\nloadmodule "janssonrpcc.so"\n'
    ((message, _),) = faults(script("exit;", head, ""))
    assert message.startswith(
        "parameter 'result_pv' of module janssonrpcc: unknown variable '$var': it is in module pv"
    )


def test_tm_is_needed_before() -> None:
    assert faults(script("exit;", 'loadmodule "janssonrpcc.so"\n', "")) == [
        ("module 'janssonrpcc' needs module 'tm': load 'tm.so' before it", None)
    ]


def test_the_client_is_made_as_the_parameters_say(load: Any) -> None:
    module = load(
        *("tm", "pv", "janssonrpcc"),
        params=[
            ("janssonrpcc", "server", "conn=a;addr=10.0.0.1;port=1;priority=3;weight=7;hwm=5"),
            ("janssonrpcc", "server", "conn=a;srv=_rpc._tcp.example.net;hwm=9"),
            ("janssonrpcc", "min_srv_ttl", 30),
            ("janssonrpcc", "keep_alive", 60),
        ],
        starts=False,
    ).module("janssonrpcc")
    made: dict[str, Any] = {}

    def rpc_client(servers: str, **settings: Any) -> Any:
        made.update(settings, servers=servers)
        return SimpleNamespace(start=lambda: None, submit=None)

    module.child_init(SimpleNamespace(rpc_client=rpc_client, add_statistics=repr, add_command=lambda *_, **__: None))
    assert made.pop("connect").keywords == {"keep_alive": 60}
    assert made == {
        "servers": "",
        "groups": {
            "a": [
                ServerSpec(ServerAddress("10.0.0.1", 1), -3, 7, 5),
                ServerSpec(ServerAddress("_rpc._tcp.example.net", 0, "srv"), 0, 1, 9),
            ]
        },
        "min_srv_ttl": 30.0,
        "retry_lost": True,
    }


def test_commands_tell_the_servers_and_the_counters() -> None:
    driver = ScriptDriver(asking("retry=3;timeout=100"), rpc={"get_user": NoAnswer.TIMEOUT})
    driver.receive(sip_request())
    driver.advance(0.15)
    listed = driver.command("janssonrpcc.servers")
    assert [(server["group"], server["address"]) for server in listed] == [
        ("users", "10.0.0.1:9999"),
        ("tests", "srv:_test1._tcp.example.net"),
    ]
    counters = driver.command("janssonrpcc.stats")
    assert (counters["calls"], counters["resting"]) == (1, 1)


def test_the_servers_are_told_with_the_priorities_and_weights_of_the_script() -> None:
    lines = ("addr=a;port=1;priority=2;weight=5", "addr=b;port=1;priority=2;weight=0", "addr=c;port=1;priority=7")
    params = "".join(f'modparam("janssonrpcc", "server", "conn=users;{line}")\n' for line in lines)
    text = asking("").replace('modparam("janssonrpcc", "server", "conn=users;addr=10.0.0.1;port=9999")\n', params)
    driver = ScriptDriver(text, rpc=None)
    listed = driver.command("janssonrpcc.servers")
    assert [(row["address"], row["priority"], row["weight"]) for row in listed] == [
        ("a:1", 2, 5),
        ("b:1", 2, 0),
        ("c:1", 7, 1),
        ("srv:_test1._tcp.example.net", 0, 1),
    ]
