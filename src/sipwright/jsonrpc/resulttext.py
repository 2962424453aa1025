"""Results as scripts see them (L0): owns the text of a result or error, and the way to a part of a JSON text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sipwright.errors import ArgumentError, JsonParseError
from sipwright.jsonrpc.lenient import decode_spelled, encode, parse, to_json

_STEP: Final = re.compile(
    r"(?:^|\.)(?P<name>[^.\[\]]+)"
    r"|\[(?P<index>-?[0-9]{1,9})\]"
    r"|\[(?P<quote>['\"])(?P<quoted>.*?)(?P=quote)\]",
    re.DOTALL,
)
MISSING: Final = object()
"""What `part_of` returns where there is nothing."""

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1


def member_text(raw: bytes) -> str:
    """Return the `result` or `error` member of a response as the text that a script gets.

    `raw` is the member's strict JSON. A string gives its characters, anything else the text that was sent: numbers
    keep their spelling, null is `null`. Bytes that are not UTF-8 are decoded with surrogateescape.
    """
    text = raw.decode("utf-8", "surrogateescape")
    if text[:1] != '"':
        return text
    if "\\" not in text:
        return text[1:-1]
    try:
        return str(_decode_string(raw))
    except ValueError:
        # A lone surrogate in an escape sequence, or a byte that is not UTF-8: U+FFFD stands for it.
        return str(parse(text))


_decode_string: Final = msgspec.json.Decoder(str).decode


def parse_path(path: str) -> tuple[str | int, ...]:
    """Return the steps of a path into a JSON text: `a.b[0].c`, `$.a.b`, `[2]`, `a['x.y']`; none for `""` and `"$"`.

    An index counts from 0, or with a minus sign from the end.
    # Kamailio: in a plain name `%` stands for `.` (json_trans.c, its default escape character).
    Raises ArgumentError with the offset of the part that is not understood.
    """
    position = 1 if path[:1] == "$" and path[1:2] in ("", ".", "[") else 0
    steps: list[str | int] = []
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            raise ArgumentError("a JSON path has the form a.b[0].c", position)
        if step.lastgroup == "name":
            steps.append(step["name"].replace("%", "."))
        elif step.lastgroup == "index":
            steps.append(int(step["index"]))
        else:
            steps.append(step["quoted"])
        position = step.end()
    return tuple(steps)


def get_path(text: str, steps: Sequence[str | int]) -> int | str | None:
    """Return the part of a JSON text (strict or lenient) that the steps lead to; None when there is none.

    An integer of up to 64 bits is an int; other numbers are texts, spelled as they were; a string its characters;
    `true` and `false` texts; arrays and objects JSON text. A null gives None, as does a text that is not JSON.
    # Kamailio: a null and a missing member are both empty text, and so is everything in a text that is not JSON.
    """
    value = part_of(_decode(text), steps)
    if value is MISSING:
        return None
    if value is None or isinstance(value, str):
        return value
    if value.__class__ is int and _LEAST <= value <= _MOST:
        return int(value)
    return encode(value).decode()


def part_of(value: Any, steps: Sequence[str | int]) -> Any:
    """Return the part of a decoded JSON value that the steps lead to; `MISSING` when there is none."""
    for step in steps:
        if isinstance(value, dict):
            value = value.get(str(step), MISSING)
        elif isinstance(value, list):
            index = step if isinstance(step, int) else int(step) if step.isascii() and step.isdigit() else len(value)
            value = value[index] if -len(value) <= index < len(value) else MISSING
        else:
            return MISSING
    return value


def _decode(text: str) -> Any:
    try:
        return decode_spelled(text)
    except (ValueError, RecursionError):
        pass
    try:
        data = to_json(text)
        return decode_spelled(data) if data else None
    except (JsonParseError, ValueError, RecursionError):
        return None
