from __future__ import annotations

from typing import Any

import pytest

from sipwright.testing import NoAnswer, ScriptDriver, run_script, sip_request


def test_chance(compiled: Any) -> None:
    assert compiled.is_true("rand_event(100)", "rand_event(0)") == [True, False]
    assert compiled.value("$rc", "rand_set_prob(30); rand_get_prob();") == "30"
    assert compiled.value("$rc", "rand_set_prob(30); rand_reset_prob(); rand_get_prob();") == "10"


def test_hashes_are_those_of_kamailio(compiled: Any) -> None:
    assert compiled.value("$rc", 'core_hash("abc", "", 4);') == "3"
    assert compiled.value("$rc", 'core_hash("abc", "", 10);') == "835"
    assert compiled.value("$rc", 'core_hash("abc", "def", 4);') == "2"


def test_flags_of_the_server(compiled: Any) -> None:
    body = "set_gflag(4); set_gflag(5); reset_gflag(5); reset_gflag(7);"
    conditions = [f"is_gflag({flag})" for flag in (4, 5, 6, 7, 36)]
    before = 'modparam("cfgutils", "initial_gflags", 192)'
    loads = 'loadmodule "cfgutils.so"\n'
    driver = compiled.run(
        body + "".join(f'if ({condition}) xlog("{condition}");' for condition in conditions), before=loads + before
    )
    assert [line.removeprefix("<script>: ") for line in driver.log] == ["is_gflag(4)", "is_gflag(6)", "is_gflag(36)"]


def test_flags_are_those_of_all_workers(load: Any) -> None:
    first, second = load("cfgutils"), load("cfgutils")
    store = first.services.shared_store
    second.services.shared_store = store
    assert store("cfgutils:gflags").items() == []
    first.call("set_gflag", 3)
    assert [second.call("is_gflag", 3), second.call("is_gflag", 4)] == [1, -1]


def test_locks(compiled: Any) -> None:
    assert compiled.is_true('lock("a")', 'trylock("a")', 'unlock("a")', 'trylock("a")') == [True, False, True, True]


def test_a_message_that_takes_a_lock_again_is_told_so(compiled: Any) -> None:
    assert compiled.log('lock("a"); lock("a"); xlog("$rc");') == ["lock('a'): this message has it already", "-1"]


def test_a_lock_that_another_message_holds_is_waited_for_or_not() -> None:
    driver = ScriptDriver(
        """
        loadmodule "tm.so"
        loadmodule "pv.so"
        loadmodule "sl.so"
        loadmodule "textops.so"
        loadmodule "jsonrpc.so"
        loadmodule "cfgutils.so"
        modparam("jsonrpc", "servers", "127.0.0.1:9999,1")
        request_route {
            if (is_method("OPTIONS")) {
                lock("a");
                jsonrpc_call("m", "[]", "$var(x)");
                unlock("a");
            } else if (is_method("INFO")) {
                if (!trylock("a")) { sl_send_reply("480", "Locked"); exit; }
            } else {
                lock("a");
            }
            sl_send_reply("200", "$rm");
        }
        """,
        rpc={"m": NoAnswer.TIMEOUT},
    )
    for method in ("OPTIONS", "INFO", "MESSAGE"):
        driver.receive(sip_request(method, call_id=method, branch=f"z9hG4bK{method}"))
    assert [reply.reason for reply in driver.replies] == ["Locked"]
    driver.advance(0.6)
    assert [reply.reason for reply in driver.replies] == ["Locked", "OPTIONS", "MESSAGE"]


def test_routes_that_may_not_exist(compiled: Any) -> None:
    more = 'route[X] { xlog("in X"); return 7; }'
    body = """
        if (check_route_exists("X")) xlog("yes");
        route_if_exists("X"); xlog("$rc");
        route_if_exists("Y"); xlog("$rc");
    """
    assert compiled.log(body, more=more) == ["yes", "in X", "7", "-1"]


def test_a_route_that_may_not_exist_may_wait() -> None:
    run = run_script(
        'loadmodule "tm.so" loadmodule "pv.so" loadmodule "cfgutils.so" loadmodule "jsonrpc.so"\n'
        'modparam("jsonrpc", "servers", "127.0.0.1:9999,1")\n'
        'request_route { route_if_exists("X"); t_reply("200", "$rc $var(r)"); }\n'
        'route[X] { jsonrpc_call("m", "", "$var(r)"); return 7; }',
        sip_request(),
        rpc={"m": "result"},
    )
    assert run.replies[-1].reason == "7 result"


@pytest.mark.parametrize("call", ['sleep("1");', 'usleep("$var(x)");'])
def test_sleeping_is_refused(compiled: Any, call: str) -> None:
    assert "sleeping would stop the whole worker" in compiled.fault(call)
