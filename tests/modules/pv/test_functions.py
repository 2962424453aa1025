from __future__ import annotations

from typing import Any


def test_questions_about_values(load: Any) -> None:
    script = load("pv")
    x, y = script.variable("var", "x"), script.variable("avp", "y")
    assert [script.call("is_int", x), script.call("pv_isset", x), script.call("not_empty", x)] == [1, 1, -1]
    assert [script.call("is_int", y), script.call("pv_isset", y), script.call("typeof", y, "null")] == [-1, -1, 1]
    script.set("avp", "y", "text")
    assert [script.call("not_empty", y), script.call("typeof", y, "str"), script.call("typeof", y, "int")] == [1, 1, -1]
    assert script.call("pv_unset", y) == 1
    assert script.get("avp", "y") is None


def test_a_list_of_parameters_becomes_a_record_and_back(load: Any) -> None:
    script = load("pv")
    assert script.call("xavp_params_explode", "a=b;c=d;e=f", "x") == 1
    assert [script.get("xavp", "x=>a"), script.get("xavp", "x=>c")] == ["b", "d"]
    target = script.variable("var", "out")
    assert script.call("xavp_params_implode", "x", target) == 1
    assert script.get("var", "out") == "a=b;c=d;e=f;"
    assert script.call("xavp_params_explode", "", "x") == -1
    assert script.call("xavp_params_implode", "nope", target) == -1
