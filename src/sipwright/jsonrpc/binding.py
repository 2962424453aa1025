"""The arguments of a Python call as JSON-RPC params (L0): by name for an object, by position for an array.

The signature is looked at once. A call whose arguments fit costs a microsecond; one whose arguments do not is what
`inspect` is asked about, for the text of its TypeError.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any, Final

POSITIONAL: Final[tuple[Any, ...]] = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
VARIABLE: Final[tuple[Any, ...]] = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class Binder:
    """Binds the arguments of a method (without `self`) and makes params of them.

    `name` is what errors call the function. Raises TypeError, when made, for a signature that cannot be sent in this
    manner: an object has no place for arguments without a name, an array none for those without a position.
    """

    __slots__ = (
        "_at_least",
        "_is_array",
        "_known",
        "_name",
        "_names",
        "_required",
        "_signature",
        "_takes_any_name",
        "_takes_any_number",
    )

    def __init__(self, name: str, function: Callable[..., Any], is_array: bool) -> None:
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        if not parameters or parameters[0].kind not in POSITIONAL:
            raise TypeError(f"{name} has no self")
        del parameters[0]
        for parameter in parameters:
            _check(name, parameter, is_array)
        self._name = name
        self._is_array = is_array
        self._signature = signature.replace(parameters=parameters)
        self._names = tuple(p.name for p in parameters if p.kind in POSITIONAL)
        self._known = frozenset(p.name for p in parameters if p.kind not in VARIABLE)
        self._required = frozenset(p.name for p in parameters if p.default is p.empty and p.kind not in VARIABLE)
        self._at_least = len(self._required)
        self._takes_any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._takes_any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters)

    def params(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | list[Any] | None:
        """Return the params of a call, None when nothing is given. Raises TypeError when the arguments do not fit.

        A default is not sent, except in an array before something that is given.
        """
        if self._is_array:
            if not kwargs and self._at_least <= len(args) <= len(self._names):
                return list(args) or None
            return self._array(self._bind(args, kwargs)) or None
        if len(args) <= len(self._names):
            params = dict(zip(self._names, args, strict=False))
            params.update(kwargs)
            if (
                len(params) == len(args) + len(kwargs)
                and self._required <= params.keys()
                and (self._takes_any_name or params.keys() <= self._known)
            ):
                return params or None
        self._bind(args, kwargs)
        raise AssertionError  # it fits: then it was returned above

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
        try:
            return self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{self._name}() {error}") from None

    def _array(self, given: Mapping[str, Any]) -> list[Any]:
        values: list[Any] = []
        defaults: list[Any] = []
        for parameter in self._signature.parameters.values():
            if parameter.name not in given:
                defaults.append(parameter.default)
            elif parameter.kind is parameter.VAR_POSITIONAL:
                values += given[parameter.name]
            else:
                values += [*defaults, given[parameter.name]]
                defaults.clear()
        return values

    def unfit(self, function: Callable[..., Any]) -> str:
        """Return why another method cannot take all calls that this one makes; empty if it can."""
        parameters = list(inspect.signature(function).parameters.values())[1:]
        required = {p.name for p in parameters if p.default is p.empty and p.kind not in VARIABLE}
        if self._is_array:
            places = [p for p in parameters if p.kind in POSITIONAL]
            if not any(p.kind is p.VAR_POSITIONAL for p in parameters) and (
                len(places) < len(self._names) or self._takes_any_number
            ):
                return f"takes {len(places)} arguments"
            return f"demands {len(required)} arguments" if len(required) > self._at_least else ""
        takes = {p.name for p in parameters if p.kind not in VARIABLE and p.kind is not p.POSITIONAL_ONLY}
        lacking = self._known - takes
        if not any(p.kind is p.VAR_KEYWORD for p in parameters) and (lacking or self._takes_any_name):
            return f"does not take {_list(lacking) or 'any name'}"
        demanded = required - self._required
        return f"demands {_list(demanded)}" if demanded else ""


def _check(name: str, parameter: Parameter, is_array: bool) -> None:
    if is_array:
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD):
            raise TypeError(f"{name}: {str(parameter)!r} has no position, but params are sent as an array")
    elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
        raise TypeError(f"{name}: {str(parameter)!r} has no name, but params are sent as an object (params='array'?)")


def _list(names: set[str] | frozenset[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))
