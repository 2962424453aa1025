from __future__ import annotations

from typing import Any

import pytest

from sipwright.testing import run_script, sip_request


def test_chance(compiled: Any) -> None:
    assert compiled.is_true("rand_event(100)", "rand_event(0)") == [True, False]
    assert compiled.value("$rc", "rand_set_prob(30); rand_get_prob();") == "30"
    assert compiled.value("$rc", "rand_set_prob(30); rand_reset_prob(); rand_get_prob();") == "10"


def test_hashes_are_those_of_kamailio(compiled: Any) -> None:
    assert compiled.value("$rc", 'core_hash("abc", "", 4);') == "3"
    assert compiled.value("$rc", 'core_hash("abc", "", 10);') == "835"
    assert compiled.value("$rc", 'core_hash("abc", "def", 4);') == "2"


def test_flags_of_the_server(compiled: Any) -> None:
    assert compiled.is_true("is_gflag(4)", "is_gflag(5)", body="set_gflag(4); set_gflag(5); reset_gflag(5);") == [
        True,
        False,
    ]


def test_locks(compiled: Any) -> None:
    assert compiled.is_true('lock("a")', 'trylock("a")', 'unlock("a")', 'trylock("a")') == [True, False, True, True]


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
