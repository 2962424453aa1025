"""Variables in code and in strings, bound and read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Body = Callable[..., list[Any]]
Compile = Callable[..., Any]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("$ru", "sip:bob@example.com"),
        ("$(ru)", "sip:bob@example.com"),
        ("$(ru{s.len})", "19"),
        ("$(ru{s.upper}{s.len})", "19"),
        ("$(rm{s.params,a,$var(k),$(ru{s.len})})", "OPTIONS:a|key|19"),
        ("$arg(a)", "a[None]"),
        ("$(arg(a)[-1])", "a[-1]"),
        ("$(arg(a)[*])", "a[*]"),
        ("$(arg(a)[$var(k)])", "a[$var(k)]"),
        ("$arg(t=>$var(k)!)", "t=>/<$var(k)>/![None]"),
        ("$avp(missing)", "<null>"),
        ("$var(missing)", "0"),
        ("$null", "<null>"),
        ("$def(NAME)", "five"),
        ("$defn(NONE)", ""),
    ],
)
def test_a_variable_reads_the_same_in_code_and_in_a_string(script: Compile, written: str, value: str) -> None:
    text = f'#!define NAME five\nrequest_route {{ $var(k) = "key"; log({written}); log("<{written}>"); }}\n'
    assert script(text).run() == [value, f"<{value}>"]


def test_a_name_may_contain_variables_on_the_left(script: Compile) -> None:
    compiled = script('request_route { $var(k) = "a"; $var(x$var(k)) = 1; $var(b) = $var(xa) + 1; }\n')
    compiled.run()
    assert compiled.context.vars == {"k": "a", "xa": 1, "b": 2}


def test_null_is_assigned_and_compared(script: Compile) -> None:
    compiled = script(
        'request_route { $avp(a) = 1; if ($avp(a) != $null) log("set");\n'
        '$avp(a) = $null; if ($avp(a) == $null) log("not"); }\n'
    )
    assert compiled.run() == ["set", "not"]


def test_strings_are_not_expanded_in_expressions(body: Body) -> None:
    assert body('$var(x) = "$rm"; log($var(x)); if ("$rm" == "OPTIONS") log("no");') == ["$rm"]


def test_old_conditions_are_variables(body: Body) -> None:
    conditions = 'method=="OPTIONS" && uri=~"^sip:bob" && src_ip==10.0.0.0/8 && uri==myself && proto==UDP && af==INET'
    assert body(f'if ({conditions} && msg:len < max_len) log("yes");', proto="udp", af=2, ml=100) == ["yes"]


@pytest.mark.parametrize(
    ("word", "variable"),
    [
        ("uri", "ru"),
        ("from_uri", "fu"),
        ("src_ip", "si"),
        ("src_port", "sp"),
        ("dst_ip", "Ri"),
        ("dst_port", "Rp"),
        ("af", "af"),
        ("msg:len", "ml"),
    ],
)
def test_each_word_of_old_conditions_is_its_variable(body: Body, word: str, variable: str) -> None:
    assert body(f'if ({word} == "7") log("yes");', **{variable: 7}) == ["yes"]


@pytest.mark.parametrize(
    ("address", "network", "inside"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.0.0.0/255.0.0.0", True),
        ("2001:db8::5", "2001:db8::/32", True),
        ("[2001:db8::5]", "2001:db8::5", True),
        ("::1", "10.0.0.0/8", False),
        ("no address", "10.0.0.0/8", False),
    ],
)
def test_addresses_are_compared_with_networks(body: Body, address: str, network: str, inside: bool) -> None:
    done = body(f'if (src_ip == {network}) log("in"); if ($si != {network}) log("out");', si=address)
    assert done == (["in"] if inside else ["out"])


def test_the_last_return_code_is_kept_only_for_scripts_that_read_it(script: Compile) -> None:
    compiled = script('request_route { fail(); if ($rc == -1) log("$retcode $?"); }\n')
    assert compiled.run() == [("fail",), "-1 -1"]
    compiled = script("request_route { fail(); }\n")
    compiled.run()
    assert compiled.context.rc == 1


def test_functions_of_core_leave_the_return_code_as_it_was(body: Body) -> None:
    assert body('fail(); setflag(7); $var(x) = $rc; log("$var(x)");')[-1] == "-1"


def test_a_value_that_is_missing_after_a_transformation_is_empty_in_strings(body: Body) -> None:
    missing = "$(avp(none){s.null})"
    done = body(f'log("[{missing}] [$avp(none)]"); log("{missing}"); log($avp(none));')
    assert done == ["[] [<null>]", "", "<null>"]
    assert body(f'if ({missing} == $null) log("null"); if ("a" + {missing} == "a") log("empty");') == ["null", "empty"]
