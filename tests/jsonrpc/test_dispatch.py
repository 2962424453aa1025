"""The method table: parameters that do not fit a signature are refused before the function runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.dispatch import Dispatcher, Method


def plain(a: Any, b: Any = 2) -> Any:
    return a, b


def rest(a: Any, *more: Any) -> Any:
    return a, more


def named(a: Any, *, key: Any) -> Any:
    return a, key


def anything(*args: Any, **names: Any) -> Any:
    return args, names


def by_position(a: Any, b: Any = 1, /, c: Any = 2) -> Any:
    return a, b, c


def optional_names(*, x: Any = 1, y: Any = 2) -> Any:
    return x, y


FUNCTIONS: list[Callable[..., Any]] = [plain, rest, named, anything, by_position, optional_names]
PARAMS = st.one_of(
    st.none(),
    st.lists(st.integers(), max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "c", "key", "x"]), st.integers(), max_size=4),
)


@given(st.sampled_from(FUNCTIONS), PARAMS)
def test_the_check_agrees_with_python_about_every_signature(function: Callable[..., Any], params: Any) -> None:
    arguments: list[Any] = params if isinstance(params, list) else []
    names: dict[str, Any] = params if isinstance(params, dict) else {}
    try:
        inspect.signature(function).bind(*arguments, **names)
        fits = True
    except TypeError:
        fits = False
    if fits:
        assert Method(function).call(params) == function(*arguments, **names)
    else:
        with pytest.raises(RpcAnswerError) as caught:
            Method(function).call(params)
        assert caught.value.code == -32602


@pytest.mark.parametrize(
    ("function", "params", "data"),
    [
        (plain, [], "expected 1 to 2, got 0"),
        (plain, [1, 2, 3], "expected 1 to 2, got 3"),
        (rest, [], "expected at least 1, got 0"),
        (named, [1], "parameters have to be given by name"),
        (plain, {}, "missing 'a'"),
        (plain, {"a": 1, "z": 1, "y": 1}, "unknown 'y', 'z'"),
        (by_position, {"a": 1}, "'a' can only be given by position"),
    ],
)
def test_the_refusal_says_what_is_wrong(function: Callable[..., Any], params: Any, data: str) -> None:
    with pytest.raises(RpcAnswerError) as caught:
        Method(function).call(params)
    assert caught.value.data == data


def test_a_type_error_inside_a_function_is_its_own() -> None:
    def broken() -> None:
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        Method(broken).call(None)


def test_methods_are_called_with_the_params_as_they_were_read() -> None:
    dispatcher = Dispatcher()
    dispatcher.add("plain", plain)
    assert dispatcher.call("plain", Raw(b"[1,5]")) == (1, 5)
    assert dispatcher.call("plain", Raw(b'{"a":"x"}')) == ("x", 2)
    with pytest.raises(RpcAnswerError) as caught:
        dispatcher.call("plain", UNSET)
    assert caught.value.code == -32602
    with pytest.raises(RpcAnswerError) as caught:
        dispatcher.call("plain", Raw(b'["\xff"]'))
    assert caught.value.code == -32602


def test_an_unknown_method_is_not_found() -> None:
    with pytest.raises(RpcAnswerError) as caught:
        Dispatcher().call("nope", UNSET)
    assert (caught.value.code, caught.value.message) == (-32601, "Method not found")


def test_methods_partials_callables_and_functions_in_c_can_be_registered() -> None:
    class Adder:
        def __call__(self, a: int, b: int) -> int:
            return a + b

        def bound(self, a: int) -> int:
            return a

    dispatcher = Dispatcher()
    dispatcher.add("object", Adder())
    dispatcher.add("bound", Adder().bound)
    dispatcher.add("partial", partial(plain, 1))
    dispatcher.add("max", max)
    assert dispatcher.call("object", Raw(b"[1,2]")) == 3
    assert dispatcher.call("bound", Raw(b"[1]")) == 1
    assert dispatcher.call("partial", Raw(b"[7]")) == (1, 7)
    assert dispatcher.call("max", Raw(b"[3,4]")) == 4
    assert list(dispatcher) == ["object", "bound", "partial", "max"]


def test_a_wrong_registration_is_refused() -> None:
    dispatcher = Dispatcher()
    dispatcher.add("a", plain)
    with pytest.raises(ArgumentError, match="already"):
        dispatcher.add("a", rest)
    with pytest.raises(ArgumentError, match="name"):
        dispatcher.add("", rest)
    with pytest.raises(TypeError, match="callable"):
        dispatcher.add("b", 5)  # type: ignore[arg-type]
