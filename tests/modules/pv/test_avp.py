from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import ArgumentError


def test_assignment_pushes_and_null_drops_the_newest(load: Any) -> None:
    script = load("pv")
    for value in (1, "b", 3):
        script.set("avp", "x", value)
    assert script.get("avp", "x") == 3
    assert [script.get("avp", "x", i) for i in (0, 1, 2, 3, -1)] == [3, "b", 1, None, 1]
    assert script.get("avp", "x", "*") == "3, b, 1"
    assert script.get("cnt", script.variable("avp", "x")) == 3
    script.set("avp", "x", None)
    assert script.get("avp", "x") == "b"
    script.set("avp", "x", None, 1)
    assert script.get("avp", "x", "*") == "b"


def test_index_star_replaces_or_drops_all(load: Any) -> None:
    script = load("pv")
    script.set("avp", "x", 1)
    script.set("avp", "x", 2)
    script.set("avp", "x", "z", "*")
    assert script.get("avp", "x", "*") == "z"
    script.set("avp", "x", None, "*")
    assert script.get("avp", "x") is None
    assert script.get("cnt", script.variable("avp", "x")) == 0


def test_names_may_be_typed_or_in_variables(load: Any) -> None:
    script = load("pv")
    script.set("avp", "s:name", "text")
    script.set("avp", "i:5", "five")
    assert [script.get("avp", "name"), script.get("avp", "5"), script.get("avp", "i:5")] == ["text", None, "five"]
    script.set("var", "k", "name")
    assert script.get("avp", script.variable("var", "k")) == "text"
    script.set("var", "k", 5)
    assert script.get("avp", script.variable("var", "k")) == "five"
    assert script.get("avp", ["na", script.variable("null")]) is None


def test_an_avp_without_a_name_and_a_count_of_something_else_are_errors(load: Any) -> None:
    script = load("pv")
    with pytest.raises(ArgumentError, match=r"\$avp needs a name"):
        script.get("avp")
    with pytest.raises(ArgumentError, match=r"\$cnt\(...\) counts an \$avp or an \$xavp"):
        script.get("cnt", script.variable("var", "x"))
