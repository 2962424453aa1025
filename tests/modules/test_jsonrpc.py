"""Module jsonrpc: what a script can rely on (the wire and the servers are tests/jsonrpc and tests/scenarios)."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sipwright.errors import ConfigErrors, RpcAnswerError
from sipwright.modules.jsonrpc.options import parse_options
from sipwright.script.loader import load_text
from sipwright.testing import NoAnswer, ScriptDriver, run_script, sip_request

MODULES = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "htable.so"
loadmodule "json.so"
loadmodule "textops.so"
loadmodule "jsonrpc.so"
modparam("htable", "htable", "t=>size=4")
"""
SERVERS = 'modparam("jsonrpc", "servers", "localhost:9999,2 10.10.0.1:9999,2 backup.server:9999,1")\n'
ROUTES = """
route[RESPONSE] { t_reply("200", "OK"); }
route[ERROR] { t_reply("500", "Error"); }
"""


def script(body: str, head: str = SERVERS) -> str:
    return MODULES + head + body + ROUTES


def asking(params: str = '"{}"', result: str = "$var(result)", options: str = "", before: str = "") -> str:
    more = f', "{options}"' if options else ""
    return script(
        f"request_route {{ {before}"
        f' $var(rc) = jsonrpc_request("get_user", {params}, "RESPONSE", "ERROR", "{result}"{more});'
        ' t_reply("503", "Not asked"); }'
    )


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load_text(text)
    return [error.message for error in caught.value.errors]


# ---- results (what the variable holds)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b'"Petros"', "Petros"),
        (b'"a\\u0041\\n"', "aA\n"),
        (b"1.10", "1.10"),
        (b"-0", "-0"),
        (b"12345678901234567890123", "12345678901234567890123"),
        (b"true", "true"),
        (b"null", "null"),
        (b'{ "a" : [1, 2.50] }', '{ "a" : [1, 2.50] }'),
        (b"[]", "[]"),
        (b'""', ""),
    ],
)
def test_a_result_is_stored_as_its_text(answer: bytes, text: str) -> None:
    run = run_script(asking(), sip_request(), rpc={"get_user": answer})
    assert (run.status, run.variables["result"]) == (200, text)


@pytest.mark.parametrize(
    ("variable", "reader"),
    [
        ("$var(x)", "$var(x)"),
        ("$shv(x)", "$shv(x)"),
        ("$sht(t=>key)", "$sht(t=>key)"),
        ("$avp(x)", "$avp(x)"),
        ("$xavp(a=>b)", "$xavp(a=>b)"),
        ("$sht(t=>$ci)", "$sht(t=>$ci)"),
    ],
)
def test_the_result_goes_into_any_writable_variable(variable: str, reader: str) -> None:
    cfg = script(
        f'request_route {{ jsonrpc_request("m", "", "SHOW", "ERROR", "{variable}"); }}'
        f'route[SHOW] {{ xlog("{reader}"); t_reply("200", "OK"); }}'
    )
    assert run_script(cfg, sip_request(), rpc={"m": "stored"}).log == ["<script>: stored"]


def test_what_happened_is_told_apart_by_the_jsonrpc_variable() -> None:
    cfg = script(
        """
        request_route { jsonrpc_request("m", "", "SHOW", "SHOW", "$var(x)", "timeout=100"); }
        route[SHOW] {
            xlog("$jsonrpc(status) $jsonrpc(code) $jsonrpc(message) $jsonrpc(data) $jsonrpc(server) $jsonrpc(method)");
            $var(ms) = $jsonrpc(ms);
            t_reply("200", "OK");
        }
        """
    )

    def log(rpc: Any) -> str:
        return run_script(cfg, sip_request(), rpc=rpc).log[-1].removeprefix("<script>: ")

    null = "<null>"
    assert log({"m": 1}) == f"ok {null} {null} {null} localhost:9999 m"
    assert log({"m": RpcAnswerError(-1, "no", {"a": 1})}) == 'error -1 no {"a":1} localhost:9999 m'
    assert log({"m": "timeout"}) == f"ok {null} {null} {null} localhost:9999 m"
    assert log({"m": NoAnswer.TIMEOUT}) == f"timeout {null} {null} {null} localhost:9999 m"
    assert log(None) == f"failure {null} {null} {null} {null} m"
    assert run_script(cfg, sip_request(), rpc={"m": NoAnswer.TIMEOUT}).variables["ms"] == 100


def test_a_result_is_taken_apart_by_a_transformation() -> None:
    cfg = script(
        'request_route { jsonrpc_request("m", "", "SHOW", "ERROR", "$var(x)"); }'
        'route[SHOW] { xlog("$(var(x){json.parse,user.phones[1].number})"); t_reply("200", "OK"); }'
    )
    run = run_script(cfg, sip_request(), rpc={"m": {"user": {"phones": [{}, {"number": "+306"}]}}})
    assert run.log == ["<script>: +306"]


# ---- parameters


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ("\"{'id': 1234, 'name': 'Petros',}\"", {"id": 1234, "name": "Petros"}),
        ('"[1, TRUE, /* two */ \'x\']"', [1, True, "x"]),
        ('""', None),
        ('"{\'user\': \'$fU\', \'n\': $var(n), \'missing\': \'$avp(no)\', \'null\': $avp(no)}"',
         {"user": "bob", "n": 7, "missing": "", "null": None}),
        ('"$var(doc)"', {"a": [1]}),
    ],
)  # fmt: skip
def test_parameters_are_the_lenient_dialect_with_variables_in_it(params: str, sent: Any) -> None:
    before = "$var(n) = 7; $var(doc) = \"{'a': [1]}\";"
    run = run_script(asking(params, before=before), sip_request(), rpc={"get_user": 1})
    assert run.calls == [("get_user", sent)]


def test_a_callers_header_cannot_add_members() -> None:
    evil = "x','admin':true,'y':'"
    request = sip_request(headers={"X-Name": evil})
    run = run_script(asking("\"{'name': '$hdr(X-Name)'}\""), request, rpc={"get_user": 1})
    assert run.calls == [("get_user", {"name": evil})]


def test_a_variable_that_fits_nowhere_makes_the_call_fail_before_suspension() -> None:
    run = run_script(asking("\"{'n': $fU}\""), sip_request(), rpc={"get_user": 1})
    assert run.status == 503
    assert run.variables["rc"] == -1
    assert run.calls == []
    assert run.statistics()["tm:suspended"] == 0
    assert "jsonrpc_request: bad parameters: $fU" in run.log[0]


def test_parameters_that_are_no_json_are_a_load_error_that_points_at_the_character() -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_text(script('request_route { jsonrpc_notification("m", "{\'a\': 1,, }"); }'))
    (error,) = caught.value.errors
    assert "bad JSON-RPC parameters" in error.message
    assert error.source[error.column - 1 :].startswith(", }")


def test_strict_parameters_are_only_rfc_8259() -> None:
    cfg = asking("\"{'id': 1}\"", options="strict")
    run = run_script(cfg, sip_request(), rpc={"get_user": 1})
    assert (run.status, run.calls) == (503, [])
    strict = SERVERS + 'modparam("jsonrpc", "params_mode", "strict")\n'
    assert run_script(cfg.replace(SERVERS, strict), sip_request(), rpc={"get_user": 1}).calls == []
    assert run_script(asking("'{\"id\": 1}'", options="strict"), sip_request(), rpc={"get_user": 1}).calls


def test_the_method_may_be_a_variable() -> None:
    cfg = script('request_route { jsonrpc_request("get_$rm", "", "RESPONSE", "ERROR", "$var(x)"); }')
    assert run_script(cfg, sip_request(), rpc={"get_OPTIONS": 1}).calls == [("get_OPTIONS", None)]


# ---- routes, options, local failures


def test_a_dynamic_route_that_is_unknown_makes_the_call_fail_before_suspension() -> None:
    cfg = script(
        'request_route { $var(r) = "NOWHERE"; $var(rc) = jsonrpc_request("m", "", "$var(r)", "ERROR", "$var(x)");'
        ' t_reply("503", "Not asked"); }'
    )
    run = run_script(cfg, sip_request(), rpc={"m": 1})
    assert (run.status, run.variables["rc"], run.calls) == (503, -1, [])
    run = run_script(cfg.replace("NOWHERE", "RESPONSE"), sip_request(), rpc={"m": 1})
    assert run.status == 200


def test_an_ack_cannot_be_suspended() -> None:
    run = run_script(asking(), sip_request("ACK"), rpc={"get_user": 1})
    assert (run.variables["rc"], run.calls) == (-1, [])


def test_options_hold_for_one_call() -> None:
    driver = ScriptDriver(asking(options="timeout=2000;retry=1;idempotent"), rpc={"get_user": NoAnswer.TIMEOUT})
    driver.receive(sip_request())
    assert driver.advance(1.9) == []
    assert [reply.status for reply in driver.advance(0.2)] == [500]


def test_the_module_timeout_holds_for_the_others() -> None:
    cfg = asking().replace(SERVERS, SERVERS + 'modparam("jsonrpc", "timeout", 1500)\n')
    driver = ScriptDriver(cfg, rpc={"get_user": NoAnswer.TIMEOUT})
    driver.receive(sip_request())
    assert driver.advance(1.4) == []
    assert [reply.status for reply in driver.advance(0.2)] == [500]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("timeout=soon", "option 'timeout' needs a number, found 'soon'"),
        ("timeout=0", "option 'timeout' needs a number, found '0'"),
        (
            "tries=2",
            "unknown option 'tries=2', expected one of timeout=MS, retry=N, hedge=MS, group=NAME, idempotent, strict",
        ),
    ],
)
def test_wrong_options_are_load_errors(options: str, message: str) -> None:
    (fault,) = faults(asking(options=options))
    assert message in fault


def test_an_unknown_group_is_a_load_error_or_makes_the_call_fail_and_a_known_one_is_used() -> None:
    groups = SERVERS + 'modparam("jsonrpc", "group", "billing=>localhost:9998,1")\n'
    known = asking(options="group=billing").replace(SERVERS, groups)
    assert run_script(known, sip_request(), rpc={"get_user": 1}).status == 200
    misspelt = asking(options="group=biling").replace(SERVERS, groups)
    assert faults(misspelt) == ["argument 6 (options) of jsonrpc_request: no group of servers is named 'biling'"]
    unknown = asking(options="group=$rU").replace(SERVERS, groups)
    run = run_script(unknown, sip_request(), rpc={"get_user": 1})
    assert run.variables["rc"] == -1
    assert "'alice'" in run.log[0]


def test_a_group_that_services_dial_into_is_known() -> None:
    dialed = SERVERS + 'modparam("jsonrpc", "token", "users=secret")\n'
    assert faults(asking(options="group=users").replace(SERVERS, dialed)) == [
        "argument 6 (options) of jsonrpc_request: no group of servers is named 'users'"
    ]
    dialed += 'modparam("jsonrpc", "listen", "tcp:127.0.0.1:9998")\n'
    load_text(asking(options="group=users").replace(SERVERS, dialed))


# ---- notifications


def test_a_notification_is_sent_and_the_script_goes_on() -> None:
    cfg = script(
        "request_route { $var(rc) = jsonrpc_notification(\"update_user\", \"{'id': 1234, 'name': 'Petros'}\");"
        ' sl_send_reply("200", "OK"); }'
    )
    run = run_script(cfg, sip_request(), rpc={})
    assert run.notifications == [("update_user", {"id": 1234, "name": "Petros"})]
    assert (run.status, run.variables["rc"]) == (200, 1)
    assert run.statistics()["tm:created"] == 0


def test_a_notification_that_nobody_can_take_fails() -> None:
    cfg = script('request_route { $var(rc) = jsonrpc_notification("m", ""); }')
    run = run_script(cfg, sip_request(), rpc=None)
    assert run.variables["rc"] == -1
    assert "no server is connected" in run.log[0]


# ---- in place, chained, from every kind of route


def test_a_call_in_place_goes_on_at_the_next_statement_even_in_a_nested_route() -> None:
    cfg = script(
        """
        request_route {
            $var(mine) = 5;
            route(LOOKUP);
            xlog("$var(mine) $var(rc) $var(x)");
            while ($var(n) < 2) {
                $var(n) = $var(n) + 1;
                jsonrpc_call("again", "[$var(n)]", "$var(y)");
            }
            t_reply("200", "OK");
        }
        route[LOOKUP] {
            $var(rc) = jsonrpc_call("who", "{'from': '$fU'}", "$var(x)");
            return 1;
        }
        """
    )
    run = run_script(cfg, sip_request(), rpc={"who": "alice", "again": 1})
    assert run.log == ["<script>: 5 1 alice"]
    assert run.calls == [("who", {"from": "bob"}), ("again", [1]), ("again", [2])]
    assert run.status == 200


@pytest.mark.parametrize(
    ("rpc", "rc", "text"),
    [
        ({"who": "x"}, 1, "x"),
        ({"who": RpcAnswerError(5, "no")}, -1, '{"code":5,"message":"no"}'),
        ({"who": NoAnswer.TIMEOUT}, -2, "timeout"),
        (None, -3, "failure"),
    ],
)
def test_a_call_in_place_tells_how_it_ended(rpc: Any, rc: int, text: str) -> None:
    cfg = script('request_route { $var(rc) = jsonrpc_call("who", "", "$var(x)"); t_reply("200", "OK"); }')
    variables = run_script(cfg, sip_request(), rpc=rpc).variables
    assert variables == {"rc": rc, "x": text}


@pytest.mark.parametrize("before", ["", 't_reply("200", "OK");'])
def test_a_call_in_place_that_cannot_be_made_is_a_failure(before: str) -> None:
    params = "[]" if before else "[$fU]"
    cfg = script(
        f'request_route {{ $var(x) = "old"; {before} $var(rc) = jsonrpc_call("who", "{params}", "$var(x)");'
        ' t_reply("200", "OK"); }'
    )
    run = run_script(cfg, sip_request(), rpc={"who": 1})
    assert run.variables == {"rc": -3, "x": "failure"}
    assert [reply.status for reply in run.replies] == [200]


def test_calls_are_chained_from_resumed_routes_and_from_error_routes() -> None:
    cfg = script(
        """
        request_route { jsonrpc_request("one", "", "RESPONSE", "SECOND", "$var(a)"); }
        route[SECOND] { jsonrpc_request("two", "", "THIRD", "ERROR", "$var(b)"); }
        route[THIRD] { jsonrpc_call("three", "", "$var(c)"); xlog("$var(a) $var(b) $var(c)"); t_reply("200", "OK"); }
        """
    )
    run = run_script(cfg, sip_request(), rpc={"one": NoAnswer.TIMEOUT, "two": 2, "three": 3})
    assert run.log == ["<script>: timeout 2 3"]
    assert run.status == 200


def test_calls_are_made_from_failure_routes() -> None:
    cfg = script(
        """
        modparam("tm", "max_suspend", 2)
        request_route {
            t_on_failure("F");
            jsonrpc_request("slow", "", "RESPONSE", "ERROR", "$var(a)", "timeout=9000");
        }
        failure_route[F] { jsonrpc_request("fast", "", "RESPONSE", "ERROR", "$var(a)"); }
        """
    )
    run = run_script(cfg, sip_request(), rpc={"slow": NoAnswer.TIMEOUT, "fast": 1})
    assert run.calls == [("slow", None), ("fast", None)]
    assert run.status == 200


def test_calls_are_made_from_event_routes_which_need_no_answer() -> None:
    cfg = script(
        """
        request_route { exit; }
        event_route[core:worker-one-init] { jsonrpc_request("config", "", "TAKE", "TAKE", "$shv(config)"); }
        route[TAKE] { xlog("$shv(config)"); }
        """
    )
    driver = ScriptDriver(cfg, rpc={"config": "loaded"})
    driver.advance(0.1)
    assert driver.log == ["<script>: loaded"]
    assert driver.statistics()["tm:live"] == 0


# ---- loading


def test_the_module_has_three_names() -> None:
    for name in ("jsonrpc", "jsonrpc-c", "jsonrpcc", "jsonrpc-c.so"):
        load_text(
            f'loadmodule "tm"\nloadmodule "{name}"\nmodparam("{name.removesuffix(".so")}", "servers", "a:1,1")\n'
            "request_route { exit; }"
        )


def test_tm_has_to_be_loaded_before_it() -> None:
    found = faults('loadmodule "jsonrpc.so"\nloadmodule "tm.so"\nrequest_route { exit; }')
    assert "module 'jsonrpc' needs module 'tm': load 'tm.so' before it" in found


def test_servers_are_required_but_may_be_empty_and_the_last_ones_count() -> None:
    assert faults(MODULES + "request_route { exit; }") == [
        'jsonrpc: the parameter "servers" is required, for example "localhost:9999,1"'
    ]
    load_text(MODULES + 'modparam("jsonrpc", "servers", "")\nrequest_route { exit; }')
    loaded = load_text(MODULES + SERVERS + 'modparam("jsonrpc", "servers", "last:1,1")\nrequest_route { exit; }')
    assert loaded.registry.modules["jsonrpc"].servers == "last:1,1"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("servers", "at"),
    [
        ("localhost", "localhost"),
        ("localhost:99999,1", "99999"),
        ("localhost:port,1", "port"),
        ("a:1,1 localhost:9999", "localhost:9999"),
        ("a:1,1 localhost:9999,high", "high"),
        ("a:1,1 :9999,1", ":9999"),
        ("a:1,1 [::1:9999,1", "[::1"),
    ],
)
def test_each_mistake_in_servers_is_a_load_error_that_points_at_it(servers: str, at: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_text(MODULES + f'modparam("jsonrpc", "servers", "{servers}")\nrequest_route {{ exit; }}')
    (error,) = caught.value.errors
    start = error.source.index(servers) + servers.index(at)
    assert start <= error.column - 1 <= start + len(at), f"{error}"
    assert error.line == MODULES.count("\n") + 1


def test_unknown_routes_are_load_errors_with_a_suggestion() -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_text(script('request_route { jsonrpc_request("m", "", "RESPONS", "EROR", "$var(x)"); }'))
    assert [(e.message, e.suggestion) for e in caught.value.errors] == [
        ("route[RESPONS] is not defined", "RESPONSE"),
        ("route[EROR] is not defined", "ERROR"),
    ]


def test_a_result_variable_that_cannot_be_written_is_a_load_error() -> None:
    (fault,) = faults(asking(result="$ci"))
    assert "$ci" in fault


# ---- what could leave a transaction suspended


def test_what_was_added_to_the_reply_is_not_spent_on_the_100_of_a_suspended_invite() -> None:
    driver = ScriptDriver(asking(before='append_to_reply("X-A: 1\\r\\n");'), rpc={"get_user": 1})
    trying, final = driver.receive(sip_request("INVITE"))
    assert (trying.status, trying.header("X-A")) == (100, None)
    assert (final.status, final.header("X-A")) == (200, "1")


@pytest.mark.parametrize("answer", ['t_reply("200", "OK");', 'sl_send_reply("200", "OK");'])
def test_what_was_answered_is_not_suspended(answer: str) -> None:
    driver = ScriptDriver(asking(before=answer), rpc={"get_user": 1})
    assert [reply.status for reply in driver.receive(sip_request())] == [200]
    assert driver.variables == {"rc": -1}
    assert driver.calls == []
    assert driver.statistics()["tm:live"] == 0


# ---- parameters of the client


def test_parameters_reach_the_client() -> None:
    seen: dict[str, Any] = {}

    class Driver(ScriptDriver):
        def _make_client(self, servers: str, **settings: Any) -> Any:
            seen.update(settings)
            return super()._make_client(servers, **settings)

    parameters = {
        "policy": '"least_pending"',
        "when_full": '"wait"',
        "max_waiting": 5,
        "idempotent_methods": '"get_user, get_quota"',
        "retry_lost": 0,
        "retry_codes": '"-32050,-32009..-32000"',
        "retry_delay": 20,
        "hedge": 30,
        "max_failures": 4,
        "probe_interval": 250,
        "probe_method": '"ping"',
        "cancel_method": '"rpc.cancel"',
        "min_srv_ttl": 9,
        "framing": '"newline"',
        "tls_server_name": '"example.org"',
        "group": '"billing=>a:1,1 b:2,2;policy=round_robin;max_pending=7"',
    }
    head = SERVERS + "".join(f'modparam("jsonrpc", "{name}", {value})\n' for name, value in parameters.items())
    Driver(script("request_route { exit; }", head))
    assert seen.pop("tls").server_name == "example.org"
    assert [(str(spec.address), spec.max_pending) for spec in seen["groups"]["billing"]] == [("a:1", 7), ("b:2", 7)]
    expected = {
        "policy": "least_pending",
        "policies": {"billing": "round_robin"},
        "when_full": "wait",
        "max_waiting": 5,
        "idempotent_methods": ["get_user", "get_quota"],
        "retry_lost": False,
        "retry_codes": (range(-32050, -32049), range(-32009, -31999)),
        "retry_delay": 0.02,
        "hedge": 0.03,
        "max_failures": 4,
        "probe_interval": 0.25,
        "probe_method": "ping",
        "cancel_method": "rpc.cancel",
        "min_srv_ttl": 9.0,
        "framing": "newline",
    }
    assert {name: seen[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ('"policy", "random"', "parameter 'policy' is one of round_robin, least_pending, not 'random'"),
        ('"when_full", "drop"', "parameter 'when_full' is one of refuse, wait, not 'drop'"),
        ('"framing", "lines"', "parameter 'framing' is one of netstring, newline, content-length, not 'lines'"),
        ('"retry_codes", "-32000..x"', "expected an error code, or a range of them like -32000..-32099, found 'x'"),
        ('"group", "a=>b:1,1;policy=random"', "policy is one of round_robin, least_pending, not 'random'"),
        ('"group", "a=>b:1,1;max_pending=0"', "max_pending needs a number, at least 1, found '0'"),
        ('"group", "a=>b:1,1;fast"', "unknown option 'fast' of a group, expected policy=NAME or max_pending=N"),
        ('"max_failures", -1', "parameter 'max_failures' must be at least 0, not -1"),
        ('"tls_ca_list", "/nowhere/ca.pem"', "jsonrpc: TLS: /nowhere/ca.pem: No such file or directory"),
        ('"tls_private_key", "/nowhere/key.pem"', "jsonrpc: TLS: a keyfile without a certfile: whose key is it?"),
    ],
)
def test_a_bad_parameter_is_told_at_load(parameter: str, message: str) -> None:
    assert message in faults(script("request_route { exit; }", f'{SERVERS}modparam("jsonrpc", {parameter})\n'))


def test_no_hedge_for_one_call_is_said_as_for_all() -> None:
    assert parse_options("hedge=0").hedge == math.inf
    assert parse_options("hedge=20").hedge == 0.02
