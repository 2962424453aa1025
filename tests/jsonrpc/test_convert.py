"""Parameters as the annotations of a function want them, and what is said of those that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.convert import Signature


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclass
class Shape:
    name: str
    points: list[Point]


class Options(TypedDict):
    color: str
    width: NotRequired[int]


class Kind(Enum):
    A = "a"


class Connection:
    """What is injected here."""


def many(
    number: int,
    real: float,
    point: Point,
    shape: Shape,
    options: Options,
    kind: Kind,
    choice: Literal["left", "right"],
    day: date,
    amount: Decimal,
    maybe: Optional[int] = None,  # noqa: UP045  both ways of writing it
    size: Annotated[int, msgspec.Meta(ge=1)] | None = 5,
    numbers: dict[int, str] = {},  # noqa: B006
) -> tuple[Any, ...]:
    return number, real, point, shape, options, kind, choice, day, amount, maybe, size, numbers


GOOD: dict[str, Any] = {
    "number": 1,
    "real": 2,
    "point": {"x": 3},
    "shape": {"name": "s", "points": [{"x": 4, "y": 5}]},
    "options": {"color": "red"},
    "kind": "a",
    "choice": "left",
    "day": "2026-01-02",
    "amount": "1.10",
}
WANTED = (
    1,
    2.0,
    Point(3),
    Shape("s", [Point(4, 5)]),
    {"color": "red"},
    Kind.A,
    "left",
    date(2026, 1, 2),
    Decimal("1.10"),
)


def raw(params: Any) -> Raw:
    return Raw(json.dumps(params).encode())


@pytest.mark.parametrize("params", [GOOD, list(GOOD.values())])
def test_parameters_are_what_their_annotations_say(params: Any) -> None:
    signature = Signature(many)
    assert signature.invoke(raw(params)) == (*WANTED, None, 5, {})
    # Decoded before, as a middleware has them.
    assert signature.call(params) == (*WANTED, None, 5, {})
    assert type(signature.invoke(raw(params))[1]) is float


def test_what_is_left_out_has_its_default_itself() -> None:
    shared: list[int] = []

    def f(a: int = 1, b: list[int] = shared, c: Any = None) -> Any:
        return a, b, c

    for params in (UNSET, raw([]), raw({}), raw([1]), raw({"c": None})):
        result = Signature(f).invoke(params)
        assert result == (1, [], None)
        assert result[1] is shared


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"number": "1"}, "'number': Expected `int`, got `str`"),
        ({"number": True}, "'number': Expected `int`, got `bool`"),
        ({"number": 1.5}, "'number': Expected `int`, got `float`"),
        ({"point": {"x": 1, "y": "u"}}, "'point': Expected `int`, got `str` - at `$.y`"),
        ({"shape": {"name": "s", "points": [{}]}}, "'shape': Object missing required field `x` - at `$.points[0]`"),
        ({"options": {}}, "'options': Object missing required field `color`"),
        ({"choice": "up"}, "'choice': Invalid enum value 'up'"),
        ({"day": "yesterday"}, "'day': Invalid RFC3339 encoded date"),
        ({"size": 0}, "'size': Expected `int` >= 1"),
        ({"unheard": 1}, "unknown 'unheard'"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_wrong(change: dict[str, Any], said: str) -> None:
    signature = Signature(many)
    params = GOOD | change
    calls: list[Callable[[], Any]] = [partial(signature.invoke, raw(params)), partial(signature.call, params)]
    for call in calls:
        with pytest.raises(RpcAnswerError) as caught:
            call()
        assert (caught.value.code, caught.value.data) == (-32602, said)
    if next(iter(change)) in GOOD:
        with pytest.raises(RpcAnswerError) as caught:
            signature.invoke(raw(list(params.values())))
        assert caught.value.data == said


def test_without_annotations_parameters_are_as_they_came() -> None:
    signature = Signature(lambda a, b=None: (a, b))
    assert signature.invoke(raw([1, {"x": [1.5]}])) == (1, {"x": [1.5]})
    assert signature.invoke(raw({"b": "1", "a": None})) == (None, "1")


def test_rest_parameters_are_converted_one_by_one() -> None:
    def f(first: str, *numbers: int, **points: Point) -> Any:
        return first, numbers, points

    signature = Signature(f)
    assert signature.invoke(raw(["a", 1, 2])) == ("a", (1, 2), {})
    assert signature.invoke(raw({"first": "a", "p": {"x": 1}})) == ("a", (), {"p": Point(1)})
    with pytest.raises(RpcAnswerError) as caught:
        signature.invoke(raw(["a", 1, "2"]))
    assert caught.value.data == "'numbers': Expected `int`, got `str`"
    with pytest.raises(RpcAnswerError) as caught:
        signature.invoke(raw({"first": "a", "p": 1}))
    assert caught.value.data == "'p': Expected `object`, got `int`"


@pytest.mark.parametrize("params", [[1, 2], {"a": 1, "b": 2}, [1], {"a": 1}])
def test_a_parameter_with_the_injected_annotation_is_none_of_the_json(params: Any) -> None:
    def first(who: Connection, a: int, b: int = 2) -> Any:
        return who, a, b

    def middle(a: int, who: Connection, b: int = 2) -> Any:
        return who, a, b

    def last(a: int, b: int = 2, who: Connection | None = None) -> Any:
        return who, a, b

    def by_name(a: int, b: int = 2, *, who: Connection) -> Any:
        return who, a, b

    def by_position(who: Connection, /, a: int, b: int = 2) -> Any:
        return who, a, b

    me = Connection()
    for function in (first, middle, last, by_name, by_position):
        signature = Signature(function, Connection)
        assert signature.invoke(raw(params), me) == (me, 1, 2)
        assert signature.call(params, me) == (me, 1, 2)
        assert [p.name for p in signature.listed] == ["a", "b"]
        with pytest.raises(RpcAnswerError, match="Invalid params"):
            signature.invoke(raw([1, 2, 3]), me)
        with pytest.raises(RpcAnswerError, match="Invalid params"):
            signature.invoke(raw({"a": 1, "who": 1}), me)


def test_an_injected_parameter_cannot_be_given_where_any_name_can() -> None:
    def f(who: Connection, **names: int) -> Any:
        return who, names

    signature, me = Signature(f, Connection), Connection()
    assert signature.invoke(raw({"a": 1}), me) == (me, {"a": 1})
    with pytest.raises(RpcAnswerError) as caught:
        signature.invoke(raw({"who": 1}), me)
    assert caught.value.data == "unknown 'who'"


def test_annotations_are_found_for_methods_partials_and_callable_objects() -> None:
    class Service:
        def add(self, a: int, b: int) -> int:
            return a + b

        @staticmethod
        def static(a: int) -> int:
            return a

        @classmethod
        def of_class(cls, a: int) -> int:
            return a

        def __call__(self, a: int) -> int:
            return a

    service = Service()
    functions: list[Any] = [service, service.static, service.of_class, partial(service.add, 1)]
    for function in functions:
        assert Signature(function).invoke(raw([2])) in (2, 3)
        with pytest.raises(RpcAnswerError):
            Signature(function).invoke(raw(["2"]))


def test_a_type_from_inside_a_function_is_known_where_the_function_uses_it() -> None:
    class Inner(msgspec.Struct):
        a: int

    def f(inner: Inner) -> Any:
        assert isinstance(inner, Inner)
        return inner.a

    assert Signature(f).invoke(raw([{"a": 1}])) == 1


def test_annotations_that_json_cannot_become_are_refused_when_registered() -> None:
    def unknown(a: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    def custom(a: Connection) -> None:
        pass

    def ambiguous(a: Point | Other) -> None:
        pass

    def optional(a: int, b: Connection | None = None) -> Any:
        return a, b

    with pytest.raises(ArgumentError, match="annotation 'Nowhere' of 'a' is not known"):
        Signature(unknown)
    with pytest.raises(ArgumentError, match=r"JSON is not converted to .*Connection.*, the type of 'a'"):
        Signature(custom)
    with pytest.raises(ArgumentError, match="JSON is not converted for 'a'"):
        Signature(ambiguous)
    assert Signature(optional).invoke(raw([1])) == (1, None)


class Other(msgspec.Struct):
    x: int


@given(
    st.lists(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
        max_size=4,
    )
)
def test_both_ways_of_decoding_agree(params: list[Any]) -> None:
    def f(a: int, b: float = 0.5, c: str | None = None) -> Any:
        return a, b, c

    def outcome(call: Any) -> Any:
        try:
            return call()
        except RpcAnswerError as error:
            return error.code, error.data

    signature = Signature(f)
    decoded = json.loads(json.dumps(params))
    assert outcome(lambda: signature.invoke(raw(params))) == outcome(lambda: signature.call(decoded))


def test_a_function_may_close_over_a_variable_that_has_no_value_yet() -> None:
    def use(number: int) -> int:
        return number + later

    signature = Signature(use)
    later = 1
    assert signature.call([2]) == 3
