"""The methods of a server (L0): names to functions, and the check that parameters fit a function's signature.

The check is made before the function is called, from a summary of the signature that is taken once, at registration:
so a TypeError inside a function is never mistaken for wrong parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import UNSET, Raw, UnsetType

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.messages import INVALID_PARAMS, METHOD_NOT_FOUND, NOT_JSON, decode_json

Function = Callable[..., Any]


class Method:
    """A function with a summary of its signature."""

    __slots__ = ("_at_least", "_at_most", "_by_name", "_position_only", "_required", "_takes_any_name", "function")

    def __init__(self, function: Function) -> None:
        self.function = function
        parameters = _parameters(function)
        kinds = [p.kind for p in parameters]
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        only_by_name = [p for p in required if p.kind is p.KEYWORD_ONLY]
        # Arrays: how many elements; a parameter that must be given by name makes every array too short.
        self._at_least = sum(p.default is p.empty for p in positional) if not only_by_name else 1 << 30
        self._at_most = (1 << 30) if inspect.Parameter.VAR_POSITIONAL in kinds else len(positional)
        # Objects: which names.
        self._by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        self._takes_any_name = inspect.Parameter.VAR_KEYWORD in kinds
        self._required = {p.name for p in required}
        self._position_only = [p.name for p in required if p.kind is p.POSITIONAL_ONLY]

    def call(self, params: Any) -> Any:
        """Call the function with an array, an object or None for no parameters.

        Raises RpcAnswerError -32602 when they do not fit; whatever the function raises.
        """
        if isinstance(params, dict):
            self._check_names(params)
            return self.function(**params)
        arguments = params or ()
        count = len(arguments)
        if not self._at_least <= count <= self._at_most:
            raise _invalid(self._expected_count(count))
        return self.function(*arguments)

    def _check_names(self, params: dict[str, Any]) -> None:
        if self._position_only:
            raise _invalid(f"{_list(self._position_only)} can only be given by position")
        missing = self._required - params.keys()
        if missing:
            raise _invalid(f"missing {_list(sorted(missing))}")
        if not self._takes_any_name:
            unknown = params.keys() - self._by_name
            if unknown:
                raise _invalid(f"unknown {_list(sorted(unknown))}")

    def _expected_count(self, count: int) -> str:
        if self._at_least == 1 << 30:
            return "parameters have to be given by name"
        if self._at_least == self._at_most:
            expected = str(self._at_least)
        elif self._at_most == 1 << 30:
            expected = f"at least {self._at_least}"
        else:
            expected = f"{self._at_least} to {self._at_most}"
        return f"expected {expected}, got {count}"


class Dispatcher:
    """The table of methods."""

    __slots__ = ("_methods",)

    def __init__(self) -> None:
        self._methods: dict[str, Method] = {}

    def add(self, name: str, function: Function) -> None:
        """Make a function callable under a name.

        Raises ArgumentError when the name is taken or empty, TypeError when `function` cannot be called.
        """
        if not callable(function):
            raise TypeError(f"method {name!r} is not callable: {function!r}")
        if not name:
            raise ArgumentError("a method must have a name")
        if name in self._methods:
            raise ArgumentError(f"there is a method {name!r} already")
        self._methods[name] = Method(function)

    def call(self, name: str, params: Raw | UnsetType) -> Any:
        """Call a method with the params member as it was read; return what the function returns, maybe a coroutine.

        Raises RpcAnswerError -32601 for an unknown method, -32602 for parameters that do not fit; whatever the
        function raises.
        """
        method = self._methods.get(name)
        if method is None:
            raise RpcAnswerError(METHOD_NOT_FOUND, "Method not found")
        if params is UNSET:
            return method.call(None)
        try:
            decoded = decode_json(params)
        except NOT_JSON as error:
            raise _invalid(str(error)) from None
        return method.call(decoded)

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)


def _parameters(function: Function) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError:
        # A function in C that does not tell its signature: it has to check for itself.
        anything = [("arguments", inspect.Parameter.VAR_POSITIONAL), ("names", inspect.Parameter.VAR_KEYWORD)]
        return [inspect.Parameter(name, kind) for name, kind in anything]


def _invalid(what: str) -> RpcAnswerError:
    return RpcAnswerError(INVALID_PARAMS, "Invalid params", what)


def _list(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
