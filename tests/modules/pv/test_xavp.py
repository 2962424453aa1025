"""The sequences and their results were observed on Kamailio 5.6.3."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import ArgumentError


@pytest.fixture
def script(load: Any) -> Any:
    script = load("pv")
    script.set("xavp", "a=>b", 1)
    script.set("xavp", "a=>c", 2)
    script.set("xavp", "a[0]=>b", 3)
    script.set("xavp", "a[1]=>b", "q")
    return script


def test_a_root_without_index_gets_a_new_record_and_with_one_a_new_field(script: Any) -> None:
    assert script.get("xavp", "a=>b") == 3
    assert script.get("xavp", "a=>c") == 2
    assert script.get("xavp", "a[1]=>b") == "q"
    assert script.get("xavp", "a[-1]=>b[1]") == 1
    assert script.get("xavp", "a[0]=>b[1]") is None
    assert script.get("xavp", "a") == "<<xavp:a>>"
    assert script.get("cnt", script.variable("xavp", "a")) == 2
    assert script.get("cnt", script.variable("xavp", "a=>b")) == 3


def test_an_indexed_field_is_replaced_and_null_drops_it(script: Any) -> None:
    script.set("xavp", "a[1]=>b[1]", "old")
    assert script.get("xavp", "a[1]=>b[1]") == "old"
    script.set("xavp", "a[0]=>b", None)
    assert [script.get("xavp", "a=>b"), script.get("xavp", "a=>c")] == [None, 2]
    script.set("xavp", "a", None)
    assert script.get("xavp", "a=>b") == "q"


def test_what_is_not_there_cannot_be_indexed(script: Any) -> None:
    script.set("xavp", "a[7]=>b", "x")
    script.set("xavp", "a[0]=>z[4]", "x")
    script.set("xavp", "nope[0]=>f", "x")
    assert script.get("cnt", script.variable("xavp", "a")) == 2
    assert script.get("xavp", "a=>z") is None
    assert script.get("xavp", "nope=>f") is None


def test_plain_values_stack_and_star_drops_all(script: Any) -> None:
    script.set("xavp", "s", "str")
    script.set("xavp", "s", 5)
    script.set("xavp", "s[1]", "rep")
    assert [script.get("xavp", "s"), script.get("xavp", "s[1]")] == [5, "rep"]
    script.set("xavp", "s[*]", None)
    assert script.get("xavp", "s") is None


def test_an_index_may_be_a_variable(script: Any) -> None:
    script.set("var", "i", 1)
    assert script.get("xavp", ["a[", script.variable("var", "i"), "]=>b"]) == "q"


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ("a=>b=>c", "at most two levels"),
        ("a[x]=>b", "the index of an \\$xavp is an integer"),
        ("a[1=>b", "missing ']'"),
        ("=>b", "bad name ''"),
        (None, "needs a name"),
    ],
)
def test_a_malformed_path_is_an_error(load: Any, inner: str | None, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load("pv").get("xavp", inner)
