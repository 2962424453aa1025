"""Module json: parts of JSON texts, `$(var(result){json.parse,path.to[0].member})`.

A member that is missing, `null`, or of a text that is no JSON is `$null`.
"""

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


class Json(Module):
    """Parts of JSON texts."""

    name = "json"
    ignored_params = ("json_escape_str",)

    @transform("json.parse")
    def json_parse(self, value: Value, path: JsonPath) -> Value:
        """The value at a path: a number or text as it is, anything else as JSON text."""
        return None if value is None else get_path(str(value), path)
