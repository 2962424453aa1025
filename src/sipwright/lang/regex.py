"""Regular expressions of scripts: owns the way from POSIX extended syntax, which Kamailio uses, to Python's.

They are case-insensitive (but for the labels of a switch), `.` matches line ends too, `^` and `$` match only the ends
of the text. With `multiline`, as some functions have it, these three are about the lines of the text instead.
"""

from __future__ import annotations

import re
from functools import lru_cache

from sipwright.errors import ArgumentError

_CLASSES = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "print": r"\x20-\x7e",
    "graph": r"\x21-\x7e",
    "cntrl": r"\x00-\x1f\x7f",
    "xdigit": "0-9A-Fa-f",
}
_CLASS = re.compile(r"\[:([a-z]+):\]")


@lru_cache(maxsize=1024)
def compile_regex(pattern: str, *, ignore_case: bool = True, multiline: bool = False) -> re.Pattern[str]:
    """Compile a regular expression of a script. ArgumentError: it is none; `offset` is into the pattern."""
    flags = (re.MULTILINE if multiline else re.DOTALL) | (re.IGNORECASE if ignore_case else re.NOFLAG)
    try:
        return re.compile(_to_python(pattern, "$" if multiline else r"\Z"), flags)
    except re.error as error:
        raise ArgumentError(f"bad regular expression: {error.msg}", error.pos) from None


def _to_python(pattern: str, end: str) -> str:
    if "[" not in pattern and "$" not in pattern:
        return pattern
    out: list[str] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            out.append(pattern[at : at + 2])
            at += 2
        elif character == "[":
            piece, at = _bracket(pattern, at)
            out.append(piece)
        else:
            # Python's `$` would match before a line end, too.
            out.append(end if character == "$" else character)
            at += 1
    return "".join(out)


# In brackets, a backslash is an ordinary character for POSIX; scripts write `[\d\.]` and the like all the same, so a
# backslash before a letter, a bracket or a punctuation mark keeps the meaning that it has in Python.
def _bracket(pattern: str, start: int) -> tuple[str, int]:
    at = start + 1
    out = ["["]
    if pattern[at : at + 1] == "^":
        out.append("^")
        at += 1
    first = at
    while at < len(pattern):
        character = pattern[at]
        if character == "]" and at > first:
            return "".join([*out, "]"]), at + 1
        named = _CLASS.match(pattern, at)
        if named is not None and named[1] in _CLASSES:
            out.append(_CLASSES[named[1]])
            at = named.end()
        elif character == "\\" and at + 1 < len(pattern):
            out.append(pattern[at : at + 2])
            at += 2
        else:
            doubled = character == "-" == pattern[at + 1 : at + 2]
            out.append("\\" + character if doubled or character in "[]&~|" else character)
            at += 1
    return "[", len(pattern)  # not closed: what Python complains about
