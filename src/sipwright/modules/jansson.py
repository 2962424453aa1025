"""Module jansson: values taken out of JSON texts and put into them.

Paths are those of `{json.parse}`: `a.b[0].c`. JSON is strict here (RFC 8259). A text that is no JSON is logged, and the
function gives -1.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from sipwright.errors import ArgumentError
from sipwright.jsonrpc.lenient import decode_spelled, encode
from sipwright.jsonrpc.resulttext import MISSING, parse_path, part_of
from sipwright.lang.namespace import ParamKind, Value, Variable
from sipwright.script.context import Context
from sipwright.script.kinds import NullableStr, Str, UpdatedVariable, WritableVariable, to_text_or_empty
from sipwright.script.module import Module, function

_KINDS = {
    "int": "integer",
    "integer": "integer",
    "real": "real",
    "str": "string",
    "string": "string",
    "obj": "object",
    "object": "object",
    "array": "array",
    "true": "true",
    "false": "false",
    "null": "null",
}
_CONSTANTS = {"true": True, "false": False, "null": None}


def _to_kind(value: Value) -> str:
    kind = _KINDS.get(to_text_or_empty(value))
    if kind is None:
        raise ArgumentError(f"'{value}' is no kind of value, which is one of {', '.join(_KINDS)}")
    return kind


def _to_path(value: Value) -> tuple[str | int, ...]:
    return parse_path(to_text_or_empty(value))


# `JsonPath`: the steps of a path. `JsonKind`: one of the names of kinds.
JsonPath = Annotated[tuple[str | int, ...], ParamKind("path", "a path into a JSON text, a.b[0].c", convert=_to_path)]
JsonKind = Annotated[str, ParamKind("kind", "the kind of a JSON value", convert=_to_kind)]


class Jansson(Module):
    """JSON texts in scripts."""

    name = "jansson"

    @function()
    def jansson_get(self, ctx: Context, path: JsonPath, json: NullableStr, target: WritableVariable) -> int:
        """Store the value at a path in a variable; false, and the variable as it was, when there is none.

        Integers are integers, `true` and `false` 1 and 0, a null is `$null`; other numbers are text, spelled as they
        are; arrays and objects JSON.
        """
        document = self._read("jansson_get", json)
        value = MISSING if document is MISSING else part_of(document, path)
        if value is MISSING:
            return -1
        return _store(ctx, target, _to_value(value))

    @function()
    def jansson_get_field(self, ctx: Context, json: NullableStr, path: JsonPath, target: WritableVariable) -> int:
        """Do as `jansson_get`, whose older form it is."""
        return self.jansson_get(ctx, path, json, target)

    @function()
    def jansson_array_size(self, ctx: Context, path: JsonPath, json: NullableStr, target: WritableVariable) -> int:
        """Store the number of items of the array at a path in a variable; false when there is no array."""
        document = self._read("jansson_array_size", json)
        items = None if document is MISSING else part_of(document, path)
        return _store(ctx, target, len(items)) if isinstance(items, list) else -1

    @function()
    def jansson_set(
        self, ctx: Context, kind: JsonKind, path: JsonPath, value: NullableStr, target: UpdatedVariable
    ) -> int:
        """Set the value at a path of the JSON text in a variable; objects on the way there are made.

        A variable that holds no text is an empty object.
        """
        return self._change(ctx, "jansson_set", kind, path, value, target, append=False)

    @function()
    def jansson_append(
        self, ctx: Context, kind: JsonKind, path: JsonPath, value: NullableStr, target: UpdatedVariable
    ) -> int:
        """Append a value to the array at a path of the JSON text in a variable; it is made when there is none.

        Where there is an object, the members of an object become its own.
        """
        return self._change(ctx, "jansson_append", kind, path, value, target, append=True)

    @function()
    def jansson_xdecode(self, ctx: Context, json: NullableStr, xavp: Str) -> int:
        """Make an `$xavp` of an object, or one of each object of an array, the last as the newest.

        Its members are fields, as `jansson_get` stores them: arrays and objects are JSON.
        """
        document = self._read("jansson_xdecode", json)
        if document is MISSING:
            return -1
        if ctx.xavps is None:
            ctx.xavps = {}
        for item in document if isinstance(document, list) else [document]:
            members = item.items() if isinstance(item, dict) else ()
            ctx.xavps.setdefault(xavp, []).append({name: [_to_value(value)] for name, value in members})
        return 1

    @function()
    def jansson_xencode(self, ctx: Context, xavp: Str, target: WritableVariable) -> int:
        """Store the newest `$xavp` of a name as a JSON object in a variable; false when there is none with fields."""
        items = (ctx.xavps or {}).get(xavp)
        record = items[-1] if items else None
        if not isinstance(record, dict):
            return -1
        return _store(ctx, target, encode({name: values[-1] for name, values in record.items() if values}).decode())

    def _change(
        self,
        ctx: Context,
        what: str,
        kind: str,
        path: tuple[str | int, ...],
        value: str,
        target: Variable,
        *,
        append: bool,
    ) -> int:
        text = target.get(ctx)
        document = self._read(what, text) if isinstance(text, str) else {}
        if document is MISSING:
            return -1
        try:
            made = _make(kind, value)
        except (ValueError, RecursionError):
            self.services.log.error("%s: %r is no %s", what, value, kind)
            return -1
        if append:
            there = _container(document, path, [])
            if isinstance(there, list):
                there.append(made)
            elif isinstance(there, dict) and isinstance(made, dict):
                there.update(made)
            else:
                self.services.log.error("%s: there is no array at the path", what)
                return -1
        elif not path or not _put(_container(document, path[:-1], {}), path[-1], made):
            self.services.log.error("%s: there is nothing at the path that a value can be put into", what)
            return -1
        return _store(ctx, target, encode(document).decode())

    # The document, an array or object; MISSING: it is none, which was logged.
    def _read(self, what: str, text: str) -> Any:
        try:
            document = decode_spelled(text)
        except (ValueError, RecursionError) as error:
            self.services.log.error("%s: not JSON: %s", what, error)
            return MISSING
        return document if isinstance(document, (dict, list)) else MISSING


def _to_value(value: Any) -> Value:
    if isinstance(value, (str, bool, int)) or value is None:
        return int(value) if isinstance(value, bool) else value
    return encode(value).decode()


def _make(kind: str, text: str) -> Any:
    if kind in _CONSTANTS:
        return _CONSTANTS[kind]
    if kind == "string":
        return text
    value = decode_spelled(text)
    if kind == "real" and isinstance(value, int) and not isinstance(value, bool):
        return msgspec.Raw(f"{value}.0".encode())
    wanted = {"integer": int, "object": dict, "array": list}.get(kind, (int, msgspec.Raw))
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise ValueError(text)
    return value


# What the path leads to; members that are missing are made, the last one as `made`.
def _container(document: Any, path: tuple[str | int, ...], made: Any) -> Any:
    for position, step in enumerate(path):
        found = part_of(document, (step,))
        if found is MISSING:
            found = made if position == len(path) - 1 else {}
            if not _put(document, step, found):
                return None
        document = found
    return document


def _put(container: Any, step: str | int, value: Any) -> bool:
    if isinstance(container, dict) and isinstance(step, str):
        container[step] = value
        return True
    if isinstance(container, list) and isinstance(step, int) and -len(container) <= step < len(container):
        container[step] = value
        return True
    return False


def _store(ctx: Context, target: Variable, value: Value) -> int:
    assert target.set is not None
    target.set(ctx, value)
    return 1
