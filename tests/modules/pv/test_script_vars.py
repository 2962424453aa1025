from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import ArgumentError, StoreError
from tests.modules.conftest import FakeServices, Script


def test_a_var_is_zero_until_set_and_after_null(load: Any) -> None:
    script = load("pv")
    assert script.get("var", "x") == 0
    script.set("var", "x", "text")
    assert script.get("var", "x") == "text"
    script.set("var", "x", None)
    assert script.get("var", "x") == 0


def test_a_var_belongs_to_the_message_and_a_shv_to_all(load: Any) -> None:
    script = load("pv", params=[("pv", "varset", "x=i:5"), ("pv", "shvset", "debug=s:on")])
    script.set("var", "y", 1)
    script.set("shv", "y", 1)
    script.ctx = script.context()
    assert [script.get("var", "x"), script.get("var", "y")] == [5, 0]
    assert [script.get("shv", "debug"), script.get("shv", "y"), script.get("shv", "z")] == ["on", 1, 0]


def two_workers(*params: tuple[str, str, str]) -> tuple[Script, list[FakeServices]]:
    """Return the script and the services of two workers that share their stores."""
    script = Script("pv", params=params)
    services = [FakeServices(), FakeServices()]
    services[1].shared_store = services[0].shared_store
    return script, services


def test_a_shv_is_one_for_all_workers_and_its_initial_value_is_there_once() -> None:
    script, (first, second) = two_workers(("pv", "shvset", "debug=s:on"), ("pv", "shvset", "n=i:7"))
    variable = script.variable("shv", "debug")
    assert variable.set is not None
    script.registry.child_init(first)  # type: ignore[arg-type]
    assert [variable.get(script.ctx), script.get("shv", "n")] == ["on", 7]
    variable.set(script.ctx, None)
    script.registry.child_init(second)  # type: ignore[arg-type]
    assert [variable.get(script.ctx), script.get("shv", "n")] == [0, 7]


def test_no_store_is_opened_without_a_shv() -> None:
    script, (first, second) = two_workers()
    opened: list[str] = []
    first.shared_store = second.shared_store = opened.append
    script.registry.child_init(first)  # type: ignore[arg-type]
    assert opened == []
    script.variable("shv", "x")
    script.registry.child_init(second)  # type: ignore[arg-type]
    assert opened == ["pv:shv"]


def test_a_shv_that_finds_no_room_keeps_its_value_and_the_script_goes_on(load: Any) -> None:
    script = load("pv", params=[("pv", "shvset", "x=i:5")])
    store = script.services.shared_store("pv:shv")

    class Full:
        get = store.get

        def set(self, *_arguments: object, **_options: object) -> None:
            raise StoreError("full")

    script.module("pv")._shv = Full()
    script.set("shv", "x", 6)
    assert script.get("shv", "x") == 5


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [("x", "expected 'name=i:number' or 'name=s:text', found 'x'", 0), ("x=i:five", "expected an integer", 4)],
)
def test_a_wrong_definition_is_an_error(load: Any, text: str, message: str, offset: int) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        load("pv", params=[("pv", "shvset", text)])
    assert caught.value.offset == offset


def test_a_var_takes_neither_index_nor_dynamic_name(load: Any) -> None:
    script = load("pv")
    with pytest.raises(ArgumentError, match=r"\$var takes no index"):
        script.get("var", "x", 1)
    with pytest.raises(ArgumentError, match=r"the name in \$var\(...\) cannot contain variables"):
        script.get("var", script.variable("var", "y"))
    with pytest.raises(ArgumentError, match=r"\$var needs a name in parentheses"):
        script.get("var")


def test_null_is_nothing_and_random_is_a_positive_integer(load: Any) -> None:
    script = load("pv")
    assert script.get("null") is None
    assert 0 <= script.get("RANDOM") < 2**31
