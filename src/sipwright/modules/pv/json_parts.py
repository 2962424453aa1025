"""The transformation `{json.parse,path}`, which takes the results of JSON-RPC calls apart without another module."""

from __future__ import annotations

from typing import Annotated

from sipwright.jsonrpc.resulttext import get_path, parse_path
from sipwright.lang.namespace import ParamKind, Value
from sipwright.script.kinds import to_text, to_text_or_empty
from sipwright.script.module import Module, transform

Path = tuple[str | int, ...]


def _to_path(value: Value) -> Path:
    return parse_path(to_text(value))


# `JsonPath`: the steps of a path into a JSON text.
JsonPath = Annotated[Path, ParamKind("path", "a path into a JSON text, a.b[0].c", convert=_to_path)]


class JsonTransformations(Module):
    """Parts of JSON texts."""

    @transform("json.parse")
    def json_parse(self, value: Value, path: JsonPath) -> Value:
        """The value at a path as text, empty when it is missing or null; arrays and objects as JSON."""
        # As in Kamailio, a number is text here, too: scripts join it to other text.
        return to_text_or_empty(get_path(str(value), path))
