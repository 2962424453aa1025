"""The registry: modules are found by name, and their declarations are all that a script needs to know of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import RouteKind, Value, Variable
from sipwright.script import absent
from sipwright.script import registry as registry_file
from sipwright.script.kinds import Int, LazyStr, Regex, Str
from sipwright.script.module import Module, Param, VariableUse, function, pvar, pvar_factory, transform
from sipwright.script.registry import Registry, module_name
from sipwright.script.settings import Settings


class Meter(Module):
    """A third party's module, with one of each declaration."""

    name = "meter"
    requires = ("tm",)
    event_routes = ("meter:full",)
    ignored_params = ("shm_size",)
    limit = Param(int, 10, minimum=1, maximum=100)
    mode = Param(str, "soft", choices=("soft", "hard"))

    def __init__(self, require: Any) -> None:
        super().__init__(require)
        self.count = 0

    def mod_init(self) -> None:
        if self.mode == "hard" and self.limit > 50:
            raise ArgumentError("meter: a hard limit is at most 50")

    @function(routes=RouteKind.REQUEST)
    def meter_add(self, _ctx: Any, amount: Int, note: Str = "") -> int:
        self.count += amount
        return 1 if self.count <= self.limit else -1

    @function("meter_log")
    def log_with_level(self, _ctx: Any, level: Str, text: LazyStr) -> int:
        return 1

    @function("meter_log")
    def log_without_level(self, _ctx: Any, text: LazyStr) -> int:
        return 1

    @function()
    def meter_match(self, _ctx: Any, pattern: Regex) -> int:
        return 1

    @pvar("meter", "metre", setter="set_meter")
    def pv_meter(self, _ctx: Any) -> Value:
        return self.count

    def set_meter(self, _ctx: Any, value: Value) -> None:
        self.count = int(value or 0)

    @pvar_factory("unit")
    def pv_unit(self, use: VariableUse) -> Variable:
        name = use.fixed_inner()
        return Variable(use.text, lambda _ctx: name)

    @transform("meter.plus")
    def plus(self, value: Value, amount: Int = 1) -> Value:
        return int(value or 0) + amount


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    real = registry_file.find_module

    def find(short: str) -> type[Module] | None:
        return Meter if short == "meter" else real(short)

    monkeypatch.setattr(registry_file, "find_module", find)
    registry = Registry(Settings())
    registry.load_module("tm.so")
    registry.load_module("/usr/lib/kamailio/modules/meter.so")
    return registry


def test_a_module_is_named_with_and_without_directory_and_ending() -> None:
    assert [module_name(n) for n in ("tm", "tm.so", "/usr/lib/kamailio/modules/tm.so")] == ["tm"] * 3
    assert {module_name(n) for n in ("jsonrpc", "jsonrpc-c.so", "jsonrpcc.so")} == {"jsonrpc"}


def test_a_function_has_its_parameters_kinds_and_route_kinds_from_its_annotations(registry: Registry) -> None:
    (spec,) = registry.functions("meter_add")
    assert [(p.name, p.kind.name, p.optional) for p in spec.params] == [
        ("amount", "integer", False),
        ("note", "string", True),
    ]
    assert spec.routes is RouteKind.REQUEST
    assert spec.call(None, 4) == 1
    assert spec.call(None, 7) == -1


def test_a_function_may_be_declared_for_several_arities(registry: Registry) -> None:
    assert sorted(len(spec.params) for spec in registry.functions("meter_log")) == [1, 2]
    assert not registry.functions("meter_missing")


def test_a_variable_reads_and_writes_through_its_methods(registry: Registry) -> None:
    variable = registry.variable("$meter", "meter", None, None)
    assert variable.set is not None
    variable.set(None, 7)
    assert registry.variable("$metre", "metre", None, None).get(None) == 7
    assert registry.variable("$unit(kWh)", "unit", ["kWh"], None).get(None) == "kWh"


@pytest.mark.parametrize(
    ("name", "inner", "index", "message"),
    [
        ("metr", None, None, "unknown variable '$metr'"),
        ("meter", ["x"], None, "$meter takes no name in parentheses"),
        ("meter", None, 1, "$meter takes no index"),
        ("unit", None, None, "$unit needs a name in parentheses, like $unit(x)"),
    ],
)
def test_a_wrong_use_of_a_variable_is_told(registry: Registry, name: str, inner: Any, index: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        registry.variable(f"${name}", name, inner, index)
    assert caught.value.message == message


def test_an_unknown_variable_has_a_suggestion(registry: Registry) -> None:
    with pytest.raises(ArgumentError) as caught:
        registry.variable("$metr", "metr", None, None)
    assert caught.value.suggestion == "$metre"


def test_a_name_of_a_module_that_is_not_loaded_is_told_with_the_module(registry: Registry) -> None:
    assert registry.elsewhere("function", "xlog") == 'it is in module xlog, which is not loaded: loadmodule "xlog.so"'
    assert registry.elsewhere("function", "nowhere_at_all") is None
    with pytest.raises(ArgumentError, match=r"it is in module pv, which is not loaded"):
        registry.variable("$var(x)", "var", ["x"], None)


def test_a_transformation_takes_its_parameters_by_kind(registry: Registry) -> None:
    assert registry.transformation("meter", "plus", [])(None, 2) == 3
    assert registry.transformation("meter", "plus", [["5"]])(None, 2) == 7
    amount = Variable("$var(n)", lambda ctx: ctx["n"])
    assert registry.transformation("meter", "plus", [[amount]])({"n": "4"}, 2) == 6
    with pytest.raises(ArgumentError, match="takes 0 to 1 parameters, found 2"):
        registry.transformation("meter", "plus", [["1"], ["2"]])
    with pytest.raises(ArgumentError, match="unknown transformation"):
        registry.transformation("meter", "minus", [])


def test_parameters_are_checked_when_they_are_set(registry: Registry) -> None:
    meter = registry.modules["meter"]
    assert isinstance(meter, Meter)
    assert meter.limit == 10
    registry.set_param("meter", "limit", 20)
    registry.set_param("meter", "limit", "30")
    assert meter.limit == 30
    for value, message in ((0, "at least 1"), (101, "at most 100"), ("many", "is an integer")):
        with pytest.raises(ArgumentError, match=message):
            registry.set_param("meter", "limit", value)
    with pytest.raises(ArgumentError, match="is one of soft, hard, not 'medium'"):
        registry.set_param("meter", "mode", "medium")
    registry.set_param("meter", "shm_size", 4)
    assert 'parameter "shm_size" of module meter has no effect here' in registry.notes


def test_an_unknown_parameter_or_module_is_told_with_a_suggestion(registry: Registry) -> None:
    with pytest.raises(ArgumentError) as caught:
        registry.set_param("meter", "limits", 1)
    assert caught.value.suggestion == "limit"
    with pytest.raises(ArgumentError, match="module 'sl' is not loaded"):
        registry.set_param("sl", "default_code", 500)
    with pytest.raises(ArgumentError) as caught:
        registry.load_module("jsonrp.so")
    assert caught.value.suggestion == "jsonrpc"


def test_what_kamailio_has_and_sipwright_has_not_is_told_as_such(registry: Registry) -> None:
    with pytest.raises(ArgumentError, match="module 'rr' of Kamailio is not part of sipwright"):
        registry.load_module("rr.so")
    registry.set_param("rr", "enable_full_lr", 0)  # told once is enough
    assert registry.elsewhere("function", "t_relay") == "sipwright answers requests and does not relay them"


def test_the_lists_of_absent_names_name_nothing_that_is_here() -> None:
    here = set(registry_file.builtin_module_names())
    assert not here & absent.MODULES
    functions = set(Registry(Settings()).names("function"))
    assert not functions & {*absent.RELAYING, *absent.KEPT}


def test_a_module_that_needs_another_is_refused_without_it() -> None:
    registry = Registry(Settings())
    with pytest.raises(ArgumentError) as caught:
        registry.load_module("jsonrpc.so")
    assert caught.value.message == "module 'jsonrpc' needs module 'tm': load 'tm.so' before it"


def test_mod_init_sees_all_parameters(registry: Registry) -> None:
    registry.set_param("meter", "mode", "hard")
    registry.set_param("meter", "limit", 60)
    with pytest.raises(ArgumentError, match="a hard limit is at most 50"):
        registry.mod_init()


def test_event_routes_and_names_come_from_the_modules(registry: Registry) -> None:
    assert "meter:full" in registry.event_routes()
    assert "meter_add" in registry.names("function")
    assert {"meter", "metre", "unit"} <= set(registry.names("variable"))
    assert "meter.plus" in registry.names("transformation")
    assert {"tm", "sl", "jsonrpc", "pv"} <= set(registry.names("module"))
    assert {"listen", "children", "debug"} <= set(registry.names("global"))


def test_a_module_that_only_manages_kamailio_is_accepted_with_a_note(registry: Registry) -> None:
    registry.load_module("ctl.so")
    registry.set_param("ctl", "binrpc", "unix:/run/kamailio.sock")
    assert "module ctl has no effect here" in registry.notes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("t_relay", "sipwright answers requests and does not relay them"),
        ("save", "sipwright has no registrar"),
        ("auth_check", "sipwright does not check credentials"),
        ("sql_query", "sipwright has no databases"),
    ],
)
def test_functions_that_cannot_be_here_are_told_so(name: str, message: str) -> None:
    assert absent.said_of_function(name) == message


def test_the_life_of_modules_has_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[tuple[str, str]] = []

    class First(Module):
        name = "first"

        def mod_init(self) -> None:
            happened.append((self.name, "mod_init"))

        def child_init(self, services: Any) -> None:
            happened.append((self.name, "child_init"))

        def ready(self) -> None:
            happened.append((self.name, "ready"))

        async def destroy(self) -> None:
            happened.append((self.name, "destroy"))

        def mod_destroy(self, shared_store: Any) -> None:
            assert shared_store is open_store
            happened.append((self.name, "mod_destroy"))

    class Second(First):
        name = "second"

    def open_store(_name: str) -> Any:
        raise AssertionError("no store is asked for")

    registry = Registry(Settings())
    monkeypatch.setattr(registry_file, "find_module", {"first": First, "second": Second}.get)
    registry.load_module("first")
    registry.load_module("second")
    registry.mod_init()
    registry.child_init(None)  # type: ignore[arg-type]
    asyncio.run(registry.destroy())
    registry.mod_destroy(open_store)
    assert happened == [
        ("first", "mod_init"),
        ("second", "mod_init"),
        ("first", "child_init"),
        ("second", "child_init"),
        ("first", "ready"),
        ("second", "ready"),
        ("second", "destroy"),
        ("first", "destroy"),
        ("first", "mod_destroy"),
        ("second", "mod_destroy"),
    ]
