"""What the parameters of this module's transformations may be."""

from __future__ import annotations

from typing import Annotated

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import ParamKind, Value
from sipwright.script.kinds import to_int, to_text_or_empty


def _to_character(value: Value) -> str:
    text = to_text_or_empty(value)
    if len(text) != 1:
        raise ArgumentError(f"expected one character, found {text!r}")
    return text


def _to_size(value: Value) -> int:
    number = to_int(value)
    if number < 0:
        raise ArgumentError(f"expected 0 or more, found {number}")
    return number


# `Character`: a text of one character. `Size`: an integer of 0 or more.
Character = Annotated[str, ParamKind("character", "one character", convert=_to_character)]
Size = Annotated[int, ParamKind("size", "an integer of 0 or more", convert=_to_size)]


def text_of(value: Value) -> str:
    """Return a value as the text that transformations work on; `$null` is the empty string."""
    return value if isinstance(value, str) else "" if value is None else str(value)
