"""The transformations of lists and lines, `{param.*}` and `{line.*}`, and `{val.*}` for values that may be missing."""

from __future__ import annotations

import json

from sipwright.lang.namespace import Value
from sipwright.modules.pv.kinds import Character, text_of
from sipwright.script.kinds import Int, NullableStr
from sipwright.script.module import Module, transform
from sipwright.sip.grammar import unquote


class ListTransformations(Module):
    """Parameters of a list `name=value;name=value`, lines of a text, and defaults."""

    @transform("param.value")
    def param_value(self, value: Value, name: NullableStr, delimiter: Character = ";") -> Value:
        """The value of a parameter, empty when it is missing; names match in any case."""
        return next((text for found, text in split_params(value, delimiter) if found.lower() == name.lower()), "")

    @transform("param.in")
    def param_in(self, value: Value, name: NullableStr, delimiter: Character = ";") -> Value:
        """1 when there is a parameter of that name, else 0."""
        return int(any(found.lower() == name.lower() for found, _ in split_params(value, delimiter)))

    @transform("param.valueat")
    def param_valueat(self, value: Value, index: Int, delimiter: Character = ";") -> Value:
        """The value of the parameter at a position; a negative one counts from the end."""
        return _at(split_params(value, delimiter), index)[1]

    @transform("param.name")
    def param_name(self, value: Value, index: Int, delimiter: Character = ";") -> Value:
        """The name of the parameter at a position; a negative one counts from the end."""
        return _at(split_params(value, delimiter), index)[0]

    @transform("param.count")
    def param_count(self, value: Value, delimiter: Character = ";") -> Value:
        """How many parameters there are."""
        return len(split_params(value, delimiter))

    @transform("line.count")
    def line_count(self, value: Value) -> Value:
        """How many lines a text has."""
        return len(_lines(value))

    @transform("line.at")
    def line_at(self, value: Value, index: Int) -> Value:
        """The line at a position, from 0; a negative one counts from the end."""
        lines = _lines(value)
        return lines[index] if -len(lines) <= index < len(lines) else ""

    @transform("line.sw")
    def line_sw(self, value: Value, beginning: NullableStr) -> Value:
        """The first line that begins with a text, empty when there is none."""
        return next((line for line in _lines(value) if line.startswith(beginning)), "")

    @transform("val.n0", of_null=True)
    def val_n0(self, value: Value) -> Value:
        """The value, 0 for `$null`."""
        return 0 if value is None else value

    @transform("val.ne", of_null=True)
    def val_ne(self, value: Value) -> Value:
        """The value, the empty string for `$null`."""
        return "" if value is None else value

    @transform("val.json", of_null=True)
    def val_json(self, value: Value) -> Value:
        """The value as the characters of a JSON string, without quotes around them."""
        return json.dumps(text_of(value), ensure_ascii=False)[1:-1]

    @transform("val.jsonqe", of_null=True)
    def val_jsonqe(self, value: Value) -> Value:
        """The value as a JSON string with its quotes; an integer as it is."""
        return value if isinstance(value, int) else json.dumps(text_of(value), ensure_ascii=False)


def split_params(value: Value, delimiter: str) -> list[tuple[str, str]]:
    """Split a list to names and values, unquoted; a delimiter in quotes does not count."""
    params = []
    for item in _split(text_of(value), delimiter):
        name, _, text = item.partition("=")
        if name.strip():
            params.append((name.strip(), unquote(text.strip())))
    return params


def _split(text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return text.split(delimiter)
    items = [""]
    quoted = escaped = False
    for character in text:
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = character == "\\" and not escaped
        if character == delimiter and not quoted:
            items.append("")
        else:
            items[-1] += character
    return items


def _at(params: list[tuple[str, str]], index: int) -> tuple[str, str]:
    return params[index] if -len(params) <= index < len(params) else ("", "")


def _lines(value: Value) -> list[str]:
    return [line.removesuffix("\r") for line in text_of(value).removesuffix("\n").split("\n")]
