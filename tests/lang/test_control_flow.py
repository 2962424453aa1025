"""Control flow: what runs, in which order, and what value a route has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Body = Callable[..., list[Any]]


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
