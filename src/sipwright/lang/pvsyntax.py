"""The syntax of pseudo-variables: owns the reading of `$...`, in code and inside strings, not what the names mean.

    $name   $name(inner)   $(name(inner)[index]{class.transformation,param,...})

The inner name, the index and the parameters of transformations may contain variables themselves. All offsets are
into the text that was given; faults are ArgumentErrors with such an offset.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sipwright.errors import ArgumentError


@dataclass(slots=True)
class Transform:
    """`{class.name,params...}`."""

    cls: str
    name: str
    params: list[list[TextPart]]
    start: int


@dataclass(slots=True)
class Pv:
    """A pseudo-variable as it is written; `text[start:end]` of the text it was read from."""

    text: str
    name: str
    inner: list[TextPart] | None
    index: int | Pv | Literal["*"] | None
    transforms: list[Transform]
    start: int
    end: int


TextPart: TypeAlias = str | Pv

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|\?")
_TRANSFORM_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\.([A-Za-z_][A-Za-z0-9_.]*)")
_INDEX = re.compile(r"\s*(-?\d+|\*)\s*\]")
_VARIABLE_START = re.compile(r"\$(?=[A-Za-z_(?])")


def read_pv(text: str, start: int) -> Pv:
    """Read the variable whose `$` is at `start`. ArgumentError: it is none, or is not closed."""
    at = start + 1
    if text[at : at + 1] == "(":
        return _read_bracketed(text, start)
    name = _NAME.match(text, at)
    if name is None:
        raise ArgumentError("a variable name must follow '$'; a dollar sign in a string is written '$$'", start)
    at = name.end()
    inner = None
    if text[at : at + 1] == "(":
        close = _find_close(text, at, "(", ")", start)
        inner = split_text(text, at + 1, close, lone_dollar=True)
        at = close + 1
    return Pv(text[start:at], name[0], inner, None, [], start, at)


def split_text(text: str, start: int = 0, end: int | None = None, *, lone_dollar: bool = False) -> list[TextPart]:
    """Split text into literal pieces and variables; `$$` is a dollar.

    A `$` that begins no variable is a fault, unless `lone_dollar` lets it stand for itself.
    """
    end = len(text) if end is None else end
    parts: list[TextPart] = []
    literal: list[str] = []
    at = start
    while (dollar := text.find("$", at, end)) >= 0:
        literal.append(text[at:dollar])
        if text.startswith("$$", dollar) and dollar + 2 <= end:
            literal.append("$")
            at = dollar + 2
        elif _VARIABLE_START.match(text, dollar) or not lone_dollar:
            pv = read_pv(text[:end], dollar)
            if piece := "".join(literal):
                parts.append(piece)
            literal.clear()
            parts.append(pv)
            at = pv.end
        else:
            literal.append("$")
            at = dollar + 1
    literal.append(text[at:end])
    if piece := "".join(literal):
        parts.append(piece)
    return parts


def _read_bracketed(text: str, start: int) -> Pv:
    at = start + 2
    name = _NAME.match(text, at)
    if name is None:
        raise ArgumentError("a variable name must follow '$('", at)
    at = name.end()
    inner = index = None
    transforms: list[Transform] = []
    if text[at : at + 1] == "(":
        close = _find_close(text, at, "(", ")", start)
        inner = split_text(text, at + 1, close, lone_dollar=True)
        at = close + 1
    if text[at : at + 1] == "[":
        index, at = _read_index(text, at + 1, start)
    while text[at : at + 1] == "{":
        close = _find_close(text, at, "{", "}", start)
        transforms.append(_read_transform(text, at + 1, close))
        at = close + 1
    if text[at : at + 1] != ")":
        found = f"'{text[at]}'" if at < len(text) else "the end"
        raise ArgumentError(f"')' expected to close '$(', found {found}", min(at, len(text)))
    at += 1
    return Pv(text[start:at], name[0], inner, index, transforms, start, at)


def _read_index(text: str, at: int, start: int) -> tuple[int | Pv | Literal["*"], int]:
    fixed = _INDEX.match(text, at)
    if fixed is not None:
        return ("*" if fixed[1] == "*" else int(fixed[1])), fixed.end()
    if text[at : at + 1] != "$":
        raise ArgumentError("an index is an integer, '*' or a variable", at)
    pv = read_pv(text, at)
    if text[pv.end : pv.end + 1] != "]":
        raise ArgumentError("']' expected after the index", pv.end if pv.end < len(text) else start)
    return pv, pv.end + 1


def _read_transform(text: str, start: int, end: int) -> Transform:
    match = _TRANSFORM_NAME.match(text, start, end)
    if match is None:
        raise ArgumentError("a transformation is written {class.name}, like {s.len}", start)
    at = match.end()
    if at == end:
        return Transform(match[1], match[2], [], start)
    if text[at] != ",":
        raise ArgumentError(f"',' or '}}' expected after {{{match[0]}", at)
    if match[1] == "re":  # its parameter is a whole /expression/replacement/flags
        return Transform(match[1], match[2], [split_text(text, at + 1, end, lone_dollar=True)], start)
    bounds = []
    piece = at = at + 1
    while at < end:
        character = text[at]
        if character == "$" and _VARIABLE_START.match(text, at):
            at = read_pv(text[:end], at).end
            continue
        if character == ",":
            bounds.append((piece, at))
            piece = at + 1
        at += 1
    bounds.append((piece, end))
    params = [split_text(text, first, last, lone_dollar=True) for first, last in bounds]
    if len(params) > 1 and not params[-1] and not params[-2]:  # {s.select,1,,}: a comma is the parameter
        params[-2:] = [[","]]
    return Transform(match[1], match[2], params, start)


# Find what closes the bracket at `at`; brackets of the same sort nest.
def _find_close(text: str, at: int, opening: str, closing: str, start: int) -> int:
    depth = 0
    for position in range(at, len(text)):
        character = text[position]
        if character == opening:
            depth += 1
        elif character == closing:
            depth -= 1
            if depth == 0:
                return position
    raise ArgumentError(f"'{closing}' is missing in the variable", start)
