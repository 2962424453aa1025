"""Module json: members of JSON objects, and `{json.parse,path}`, which module pv has here."""

from __future__ import annotations

from typing import Any

from sipwright.errors import JsonParseError
from sipwright.jsonrpc.lenient import decode_spelled, encode, to_json
from sipwright.script.context import Context
from sipwright.script.kinds import NullableStr, WritableVariable
from sipwright.script.module import Module, function


class Json(Module):
    """JSON texts in scripts, in the forgiving dialect of json-c."""

    name = "json"
    requires = ("pv",)
    ignored_params = ("json_escape_str",)

    @function()
    def json_get_field(self, ctx: Context, json: NullableStr, name: NullableStr, target: WritableVariable) -> int:
        """Store a member of an object as JSON in a variable, a string with its quotes; false when there is none."""
        return self._store(ctx, "json_get_field", json, name, target, quotes=True)

    @function()
    def json_get_string(self, ctx: Context, json: NullableStr, name: NullableStr, target: WritableVariable) -> int:
        """Store a member of an object in a variable, a string as its characters, all else as JSON."""
        return self._store(ctx, "json_get_string", json, name, target, quotes=False)

    def _store(self, ctx: Context, what: str, json: str, name: str, target: WritableVariable, *, quotes: bool) -> int:
        try:
            document: Any = decode_spelled(to_json(json))
        except (JsonParseError, ValueError, RecursionError) as error:
            self.services.log.error("%s: not JSON: %s", what, error)
            return -1
        value = document.get(name) if isinstance(document, dict) else None
        if value is None:
            # Kamailio: a null is as good as missing.
            return -1
        assert target.set is not None
        target.set(ctx, value if isinstance(value, str) and not quotes else encode(value).decode())
        return 1
