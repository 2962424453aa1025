"""Control flow: what runs, in which order, and what value a route has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Body = Callable[..., list[Any]]
Compile = Callable[..., Any]


def test_if_and_else_choose_by_the_condition(body: Body) -> None:
    assert body('if (is_method("OPTIONS")) { log("a"); } else { log("b"); }') == ["a"]
    assert body('if (is_method("OPTIONS")) log("a"); else log("b");', rm="INVITE") == ["b"]


@pytest.mark.parametrize(
    ("condition", "done"),
    [
        ('is_method("OPTIONS")', ["yes"]),
        ('!is_method("OPTIONS")', ["no"]),
        ('is_method("INVITE") || is_method("OPTIONS")', ["yes"]),
        ('is_method("INVITE") && is_method("OPTIONS")', ["no"]),
        ('!(is_method("INVITE") || is_method("OPTIONS"))', ["no"]),
        ('!(is_method("INVITE") && is_method("OPTIONS"))', ["yes"]),
        ('$var(x) == 0 && !is_method("INVITE")', ["yes"]),
        ('$var(x) == 1 || is_method("INVITE")', ["no"]),
        ("end()", [("end",)]),
        ("!end()", [("end",)]),
        ("end() || anywhere()", [("end",)]),
        ("!(end() && anywhere())", [("end",)]),
        ("fail() || end() || anywhere()", [("fail",), ("end",)]),
        ("fail() && end()", [("fail",), "no"]),
        ("anywhere() && !fail() && end()", [("anywhere",), ("fail",), ("end",)]),
        ("code(5) + 1 == 2", ["yes"]),
        ("code(-5) < 0", ["no"]),
        ("code(0) + 1 == 1", []),
        ("$var(x) == 0 && (code(3) + code(2) > 1)", ["yes"]),
        ("$var(x) == 1 || (code(3) + code(2) > 1)", ["yes"]),
        ("$var(x) == 1 && (code(0) + 1)", ["no"]),
    ],
)
def test_a_call_that_returns_0_ends_the_script_wherever_it_stands(body: Body, condition: str, done: list[Any]) -> None:
    assert body(f'if ({condition}) log("yes"); else log("no");') == done


def test_a_call_that_returns_0_in_the_condition_of_a_loop_ends_the_script(body: Body) -> None:
    assert body('while (anywhere() && end()) { log("in"); } log("behind");') == [("anywhere",), ("end",)]
    assert body('while (end()) { log("in"); } log("behind");') == [("end",)]


def test_operands_are_evaluated_from_left_to_right(script: Compile) -> None:
    text = """
    request_route {
        $var(x) = 1;
        $var(y) = $var(x) + route(CHANGE);
        log("$var(y)");
        if ($var(x) + route(CHANGE) == 3) log("before the call");
    }
    route[CHANGE] { $var(x) = $var(x) + 1; return 1; }
    """
    assert script(text).run() == ["2", "before the call"]


def test_the_value_of_a_route_that_ends_with_break_or_a_runaway_loop_is_false(script: Compile) -> None:
    text = """
    request_route {
        if (route(BREAK)) log("true"); else log("false");
        if (route(RUNAWAY)) log("true"); else log("false");
    }
    route[BREAK] { anywhere(); break; }
    route[RUNAWAY] { while (1) { $var(x) = 1; } }
    """
    assert script(text).run() == [("anywhere",), "false", "false"]


def test_of_several_cases_that_hold_the_first_one_runs(body: Body) -> None:
    cases = 'case /"^O": log("first"); case "OPTIONS": log("second"); break; case /"S$": log("third"); break;'
    assert body(f"switch ($rm) {{ {cases} }}") == ["first", "second"]
