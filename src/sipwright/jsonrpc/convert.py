"""The signature of one function (L0): JSON to what its signature wants, prepared once, when it is registered.

Arrays and objects are decoded straight into the annotated types. Only when that fails, or for signatures that have
more than plain parameters, they are decoded to dicts and lists and looked at one by one, which is what tells a person
what is wrong. A parameter whose annotation is the class `injected` is none of the JSON: the caller gives its value.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from functools import partial
from inspect import Parameter
from typing import Any, Final

import msgspec
from msgspec import Raw, UnsetType
from msgspec.structs import astuple

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.messages import INVALID_PARAMS, NOT_JSON, decode_json

Function = Callable[..., Any]
_ANY_NUMBER: Final = 1 << 30
_BRACKET: Final = ord("[")


class Signature:
    """A function, and what it can be called with.

    `listed` are the parameters that JSON may have, in their order, `types` their types by name (Any where nothing is
    annotated), `result` the type of the result. Raises ArgumentError for an annotation that cannot be resolved, or that
    JSON cannot be converted to.
    """

    __slots__ = (
        "_at_least",
        "_at_most",
        "_by_name",
        "_decode_array",
        "_decode_object",
        "_inject_at",
        "_inject_name",
        "_position_only",
        "_positional",
        "_required",
        "_rest",
        "_rest_names",
        "function",
        "listed",
        "result",
        "types",
    )

    def __init__(self, function: Function, injected: type | None = None) -> None:
        self.function = function
        parameters, hints = _signature(function)
        self._inject_at, self._inject_name = _injected(parameters, hints, injected)
        self.listed = listed = [p for p in parameters if p.name != self._inject_name]
        self.types = {p.name: hints.get(p.name, Any) for p in listed}
        self.result: Any = hints.get("return", Any)
        kinds = {p.kind: p.name for p in listed}
        self._positional = [p.name for p in listed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._rest = kinds.get(Parameter.VAR_POSITIONAL)
        self._rest_names = kinds.get(Parameter.VAR_KEYWORD)
        required = [p for p in listed if p.default is p.empty and p.name not in (self._rest, self._rest_names)]
        only_by_name = any(p.kind is p.KEYWORD_ONLY for p in required)
        # Arrays: how many elements; a parameter that must be given by name makes every array too short.
        self._at_least = _ANY_NUMBER if only_by_name else sum(p.name in self._positional for p in required)
        self._at_most = len(self._positional) if self._rest is None else _ANY_NUMBER
        # Objects: which names.
        self._by_name = {p.name for p in listed if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        self._required = {p.name for p in required}
        self._position_only = [p.name for p in required if p.kind is p.POSITIONAL_ONLY]
        for parameter in listed:
            _check_type(function, parameter, self.types[parameter.name])
        self._decode_array: Callable[[Raw], Any] | None = None
        self._decode_object: Callable[[Raw], Any] | None = None
        if all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters):
            self._decode_array, self._decode_object = (self._decoder(is_array) for is_array in (True, False))

    def _decoder(self, is_array: bool) -> Callable[[Raw], Any]:
        fields: list[Any] = [
            (p.name, self.types[p.name])
            if p.default is p.empty
            else (p.name, self.types[p.name], msgspec.field(default_factory=partial(_same, p.default)))
            for p in self.listed
        ]
        shape = msgspec.defstruct("params", fields, array_like=is_array, forbid_unknown_fields=True, gc=False)
        return msgspec.json.Decoder(shape).decode

    def invoke(self, params: Raw | UnsetType, connection: Any = None) -> Any:
        """Call the function with the params member as it was read, UNSET for none.

        `connection` is what a parameter of the injected class gets. Raises RpcAnswerError -32602 when they do not fit;
        whatever the function raises.
        """
        if params is msgspec.UNSET:
            return self.call(None, connection)
        # 80 ns for the copy of the bytes; a wrong guess between array and object would cost ten times that.
        decode = self._decode_array if bytes(params)[0] == _BRACKET else self._decode_object
        if decode is None:
            return self.call(decoded(params), connection)
        try:
            values = astuple(decode(params))
        except NOT_JSON:
            return self.call(decoded(params), connection)
        if self._inject_name:
            at = self._inject_at
            return self.function(*values[:at], connection, *values[at:])
        return self.function(*values)

    def call(self, params: Any, connection: Any = None) -> Any:
        """Call the function with an array, an object or None for no parameters, decoded. Raises as `invoke` does."""
        arguments: list[Any] = []
        names: dict[str, Any] = {}
        if isinstance(params, dict):
            self._check_names(params)
            names = {name: self._convert(name, value) for name, value in params.items()}
        else:
            arguments = [self._convert(name, value) for name, value in self._named(params or [])]
        if self._inject_name:
            if self._inject_at <= len(arguments):
                arguments.insert(self._inject_at, connection)
            else:
                names[self._inject_name] = connection
        return self.function(*arguments, **names)

    def _named(self, arguments: list[Any] | tuple[Any, ...]) -> list[tuple[str, Any]]:
        count = len(arguments)
        if not self._at_least <= count <= self._at_most:
            raise invalid(self._expected_count(count))
        rest = [self._rest or ""] * (count - len(self._positional))
        return list(zip([*self._positional, *rest], arguments, strict=False))

    def _convert(self, name: str, value: Any) -> Any:
        wanted = self.types.get(name, self.types.get(self._rest_names or "", Any))
        if wanted is Any:
            return value
        try:
            return msgspec.convert(value, wanted, str_keys=True)
        except (msgspec.ValidationError, RecursionError) as error:
            raise invalid(f"{name!r}: {error}") from None

    def _check_names(self, params: dict[str, Any]) -> None:
        if self._position_only:
            raise invalid(f"{_list(self._position_only)} can only be given by position")
        missing = self._required - params.keys()
        if missing:
            raise invalid(f"missing {_list(sorted(missing))}")
        unknown = params.keys() - self._by_name
        if unknown and self._rest_names is None:
            raise invalid(f"unknown {_list(sorted(unknown))}")
        if self._inject_name in params:
            raise invalid(f"unknown {self._inject_name!r}")

    def _expected_count(self, count: int) -> str:
        if self._at_least == _ANY_NUMBER:
            return "parameters have to be given by name"
        if self._at_least == self._at_most:
            expected = str(self._at_least)
        elif self._at_most == _ANY_NUMBER:
            expected = f"at least {self._at_least}"
        else:
            expected = f"{self._at_least} to {self._at_most}"
        return f"expected {expected}, got {count}"


def _signature(function: Function) -> tuple[list[Parameter], dict[str, Any]]:
    """Return the parameters of a function and its annotations, those in quotes resolved."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        # A function in C that does not tell its signature: it has to check for itself.
        anything = [("arguments", Parameter.VAR_POSITIONAL), ("names", Parameter.VAR_KEYWORD)]
        return [Parameter(name, kind) for name, kind in anything], {}
    parameters = list(signature.parameters.values())
    hints = {p.name: p.annotation for p in parameters} | {"return": signature.return_annotation}
    hints = {name: hint for name, hint in hints.items() if hint is not Parameter.empty}
    return parameters, {name: _resolve(function, name, hint) for name, hint in hints.items()}


_EMPTY = types.CellType()


def _resolve(function: Function, name: str, hint: Any) -> Any:
    # Each by itself, so that the fault of one has its name.
    inner = inspect.unwrap(getattr(function, "func", function))
    inner = getattr(inner, "__func__", inner)
    if not hasattr(inner, "__globals__"):
        inner = vars(type(inner)).get("__call__", inner)
    code = getattr(inner, "__code__", None)
    cells = zip(code.co_freevars, inner.__closure__ or (), strict=True) if code is not None else ()
    try:
        # A variable may not have its value yet: what the annotation needs of them must have one.
        local = {variable: cell.cell_contents for variable, cell in cells if cell != _EMPTY}
        holder = types.SimpleNamespace(__annotations__={"hint": hint})
        found = typing.get_type_hints(holder, getattr(inner, "__globals__", {}), local, include_extras=True)["hint"]
    except Exception as error:  # whatever evaluating an annotation raises
        raise ArgumentError(f"{_name(function)}: the annotation {hint!r} of {name!r} is not known: {error}") from None
    return None if found is type(None) else found


def _injected(parameters: list[Parameter], hints: dict[str, Any], injected: type | None) -> tuple[int, str]:
    """Return the place and the name of the parameter that is no JSON, the empty name when there is none."""
    if injected is not None:
        for index, parameter in enumerate(parameters):
            hint = hints.get(parameter.name)
            if hint is injected or injected in typing.get_args(hint):
                return (_ANY_NUMBER if parameter.kind is parameter.KEYWORD_ONLY else index), parameter.name
    return 0, ""


def _check_type(function: Function, parameter: Parameter, wanted: Any) -> None:
    try:
        kind = msgspec.inspect.type_info(wanted)
        msgspec.json.Decoder(wanted)
    except Exception as error:  # TypeError, and what the type's own code raises
        raise ArgumentError(f"{_name(function)}: JSON is not converted for {parameter.name!r}: {error}") from None
    # One that may be left out is for callers in Python.
    if isinstance(kind, msgspec.inspect.CustomType) and parameter.default is parameter.empty:
        raise ArgumentError(f"{_name(function)}: JSON is not converted to {wanted!r}, the type of {parameter.name!r}")


def _same(value: Any) -> Any:
    return value


def decoded(params: Raw | UnsetType) -> Any:
    """Decode a params member, UNSET to None. Raises RpcAnswerError -32602 when a string in it is not Unicode."""
    if params is msgspec.UNSET:
        return None
    try:
        return decode_json(params)
    except NOT_JSON as error:
        raise invalid(str(error)) from None


def invalid(what: str) -> RpcAnswerError:
    """Return the error for parameters that do not fit."""
    return RpcAnswerError(INVALID_PARAMS, "Invalid params", what)


def _list(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _name(function: Function) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
