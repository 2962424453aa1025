"""The transformation `{json.parse,path}`, which takes the results of JSON-RPC calls apart without another module."""

from __future__ import annotations

from typing import Annotated

from sipwright.jsonrpc.resulttext import get_path, parse_path
from sipwright.lang.namespace import ParamKind, Value
from sipwright.script.kinds import to_text
from sipwright.script.module import Module, transform

Path = tuple[str | int, ...]


def _to_path(value: Value) -> Path:
    return parse_path(to_text(value))


JsonPath = Annotated[Path, ParamKind("path", "a path into a JSON text, a.b[0].c", convert=_to_path)]


class JsonTransformations(Module):
    """Parts of JSON texts."""

    @transform("json.parse")
    def json_parse(self, value: Value, path: JsonPath) -> Value:
        """The value at a path, `$null` when it is missing or null; numbers and texts as they are, all else as JSON."""
        return None if value is None else get_path(str(value), path)
