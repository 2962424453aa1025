r"""Substitution expressions, `/match/replacement/flags`, as `subst()` and `{re.subst,...}` take them.

The first character is the delimiter, a backslash before it makes it ordinary. In the replacement `\0` to `\9` are
what the groups matched. Flags: `g` all matches, `i` ignore case, `s` the text is one
line for `.`, `^` and `$` (Kamailio manual, module textops).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import ParamKind, Value
from sipwright.lang.regex import compile_regex
from sipwright.script.kinds import to_text

_group = re.compile(r"\\([0-9])|\\(.)", re.DOTALL)


class Subst:
    """A parsed substitution expression."""

    __slots__ = ("_count", "_pattern", "_pieces")

    def __init__(self, pattern: re.Pattern[str], pieces: list[str | int], count: int) -> None:
        self._pattern = pattern
        self._pieces = pieces
        self._count = count

    def run(self, text: str) -> str | None:
        """Return the text with its matches replaced; None when there is no match."""
        result, count = self._pattern.subn(self._replacement, text, self._count)
        return result if count else None

    def _replacement(self, match: re.Match[str]) -> str:
        return "".join([piece if isinstance(piece, str) else match[piece] or "" for piece in self._pieces])


@lru_cache(maxsize=1024)
def parse_subst(text: str) -> Subst:
    """Parse a substitution expression. ArgumentError, with offset: malformed."""
    delimiter = text[:1]
    if not delimiter or delimiter.isalnum() or delimiter in " \\":
        raise ArgumentError("a substitution is written '/match/replacement/flags'", 0)
    match, at = _until(text, 1, delimiter)
    replacement, end = _until(text, at, delimiter)
    ignore_case, multiline, count = False, True, 1
    for offset, flag in enumerate(text[end:], end):
        if flag == "g":
            count = 0
        elif flag == "i":
            ignore_case = True
        elif flag == "s":
            multiline = False
        else:
            raise ArgumentError(f"unknown flag '{flag}' of a substitution; flags are g, i and s", offset)
    try:
        pattern = compile_regex(match, ignore_case=ignore_case, multiline=multiline)
    except ArgumentError as error:
        raise ArgumentError(error.message, None if error.offset is None else error.offset + 1) from None
    return Subst(pattern, _pieces(replacement, pattern.groups, at), count)


def _until(text: str, start: int, delimiter: str) -> tuple[str, int]:
    """Return the text up to the next delimiter, without the backslashes before delimiters, and where it goes on."""
    at = start
    while at < len(text) and text[at] != delimiter:
        at += 2 if text[at] == "\\" else 1
    if at >= len(text):
        raise ArgumentError(f"missing '{delimiter}' in a substitution", len(text))
    return text[start:at].replace("\\" + delimiter, delimiter), at + 1


def _pieces(replacement: str, groups: int, offset: int) -> list[str | int]:
    pieces: list[str | int] = []
    end = 0
    for match in _group.finditer(replacement):
        pieces.append(replacement[end : match.start()])
        end = match.end()
        if match[1] is None:
            pieces.append({"n": "\n", "r": "\r", "t": "\t"}.get(match[2], match[2]))
        elif int(match[1]) > groups:
            raise ArgumentError(f"there is no group {match[1]} in the expression", offset + match.start())
        else:
            pieces.append(int(match[1]))
    pieces.append(replacement[end:])
    return [piece for piece in pieces if piece != ""]


def _to_subst(value: Value) -> Subst:
    return parse_subst(to_text(value))


SubstExpression = Annotated[
    Subst, ParamKind("substitution", "a substitution '/match/replacement/flags'", _to_subst, lone_dollar=True)
]
