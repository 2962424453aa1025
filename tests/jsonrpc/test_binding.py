"""Arguments as params: what Python itself would bind, for signatures and calls of all kinds."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.jsonrpc.binding import Binder

NAMES = ["a", "b", "c"]


@st.composite
def functions(draw: st.DrawFn) -> tuple[str, bool]:
    """A signature as text, and whether its params are sent as an array."""
    is_array = draw(st.booleans())
    parts: list[str] = []
    has_default = False
    for name in NAMES[: draw(st.integers(0, 3))]:
        has_default = has_default or draw(st.booleans())
        parts.append(f"{name}='{name}0'" if has_default else name)
    if is_array and draw(st.booleans()):
        parts.append("*more")
    if not is_array and draw(st.booleans()):
        parts.append("*, k=0" if draw(st.booleans()) else "*, k")
    if not is_array and draw(st.booleans()):
        parts.append("**names")
    return ", ".join(["self", *parts]), is_array


@given(
    functions(),
    st.lists(st.integers(1, 9), max_size=4),
    st.dictionaries(st.sampled_from([*NAMES, "k", "other"]), st.integers(1, 9)),
)
def test_params_are_what_the_function_itself_would_get(
    made: tuple[str, bool], args: list[int], kwargs: dict[str, int]
) -> None:
    text, is_array = made
    namespace: dict[str, Any] = {}
    exec(f"def f({text}): return dict(locals())", namespace)
    function = namespace["f"]
    binder = Binder("f", function, is_array)
    try:
        bound = inspect.signature(function).bind(None, *args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError, match=r"^f\(\) "):
            binder.params(tuple(args), kwargs)
        return
    params = binder.params(tuple(args), kwargs)
    if not args and not kwargs:
        assert params is None
        return
    # A server that has the same function gets the same arguments from them.
    there = function(None, *params) if isinstance(params, list) else function(None, **(params or {}))
    assert there == function(None, *args, **kwargs)
    if isinstance(params, dict):
        given_names = {name: value for name, value in bound.arguments.items() if name not in ("self", "names")}
        assert params == {**given_names, **bound.arguments.get("names", {})}
