from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sipwright.errors import ArgumentError, JsonParseError
from sipwright.lang.namespace import Value, Variable
from sipwright.script.context import Handling
from sipwright.script.rpc import RpcSuspension, prepare_params


def variable(name: str) -> Variable:
    return Variable(f"$var({name})", lambda context: context[name])


def test_params_without_variables_are_written_at_load() -> None:
    assert prepare_params(["{'a': 1,}"]).constant == b'{"a":1}'
    assert prepare_params([""]).constant == b""


def test_params_with_variables_are_filled_at_each_call() -> None:
    context: Any = {"a": 'x"y', "b": 5}
    params = prepare_params(["{'a': '", variable("a"), "', 'b': ", variable("b"), "}"])
    assert params.constant is None
    assert params.fill(context) == b'{"a":"x\\"y","b":5}'
    context["b"] = "{bad"
    with pytest.raises(JsonParseError):
        params.fill(context)


def test_the_same_params_can_be_read_as_strict_json() -> None:
    strict = prepare_params(['{"a": 1}']).strict()
    assert strict.constant == b'{"a":1}'
    assert strict.strict() is strict
    with pytest.raises(JsonParseError):
        prepare_params(["{'a': 1}"]).strict()


def test_what_is_no_json_is_an_argument_fault_with_its_place() -> None:
    with pytest.raises(ArgumentError, match="bad JSON-RPC parameters") as caught:
        prepare_params(["{'a': 1,, }"])
    assert caught.value.offset == 8


class World:
    """A transaction that waits, what its variable was given, and what the services were told."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.given: list[Value] = []
        self.failed: list[Exception] = []
        self.services: Any = SimpleNamespace(
            handling=Handling(), fail=lambda _suspension, error: self.failed.append(error)
        )
        context: Any = object()
        self.context = context
        self.suspension: RpcSuspension = RpcSuspension(
            context, self.services, Variable("$var(x)", lambda _context: None, self.take)
        )

    def take(self, _context: Any, value: Value) -> None:
        assert self.services.handling.context is self.context
        if self.fault is not None:
            raise self.fault
        self.given.append(value)


def test_a_text_is_given_as_work_on_the_transaction() -> None:
    world = World()
    assert world.suspension.give("text")
    assert (world.given, world.services.handling.context) == (["text"], None)


def test_a_transaction_that_has_ended_is_given_nothing() -> None:
    world = World()
    world.suspension.ended = True
    assert not world.suspension.give("text")
    assert world.given == []


def test_a_variable_that_fails_ends_the_transaction() -> None:
    fault = RuntimeError("full")
    world = World(fault)
    assert not world.suspension.give("text")
    assert (world.failed, world.services.handling.context) == ([fault], None)


def test_whoever_gives_up_cancels_the_call() -> None:
    world = World()
    world.suspension.abandoned()
    cancelled = []
    world.suspension.call = SimpleNamespace(cancel=lambda: cancelled.append(True))
    world.suspension.abandoned()
    assert cancelled == [True]
