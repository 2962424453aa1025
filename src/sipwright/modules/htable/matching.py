"""How the functions and variables of htable select items: an operator and a text, or one pattern for counting."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from sipwright.errors import ArgumentError
from sipwright.lang.regex import compile_regex
from sipwright.script.store import Item

# A test of key and value.
Test: TypeAlias = Callable[[str, Item], bool]


def matcher(op: str, text: str) -> Callable[[str], bool]:
    """Return a test of names or texts: `eq`, `ne`, `sw` (begins with), `ew`, `in` (contains), `re` (matches).

    ArgumentError: another operator, or a bad expression.
    """
    if op == "re":
        search = compile_regex(text).search
        return lambda subject: search(subject) is not None
    tests: dict[str, Callable[[str], bool]] = {
        "eq": lambda subject: subject == text,
        "ne": lambda subject: subject != text,
        "sw": lambda subject: subject.startswith(text),
        "ew": lambda subject: subject.endswith(text),
        "in": lambda subject: text in subject,
    }
    if op not in tests:
        raise ArgumentError(f"unknown operator {op!r}; operators are {', '.join([*tests, 're'])}")
    return tests[op]


def count_test(text: str) -> Callable[[Item], bool] | None:
    """Return the test that `$shtcn` and `$shtcv` count with; None for everything.

    `**` everything, `==x` equal, `%~x` begins with, `~%x` ends with, `eq7` the integer, `~~re` or `re` matches
    (observed on Kamailio 5.6.3; integers only match `**` and `eq`).
    """
    if text == "**":
        return None
    if text[:2] == "eq" and text[2:].strip().lstrip("-").isdecimal():
        number = int(text[2:])
        return lambda value: value == number
    op, operand = {"==": "eq", "%~": "sw", "~%": "ew", "~~": "re"}.get(text[:2], ""), text[2:]
    test = matcher(op, operand) if op else matcher("re", text)
    return lambda value: isinstance(value, str) and test(value)


def of_key(test: Callable[[str], bool]) -> Test:
    """Return the test of items whose key passes a test."""
    return lambda key, _value: test(key)


def of_text(test: Callable[[str], bool]) -> Test:
    """Return the test of items whose value is a text that passes a test."""
    return lambda _key, value: isinstance(value, str) and test(value)
