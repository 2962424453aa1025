"""A table as a script defines it, `name=>size=8;autoexpire=60;initval=0;updateexpire=1`, and how items are selected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from sipwright.errors import ArgumentError
from sipwright.lang.regex import compile_regex
from sipwright.script.store import Item, Store

_match_name = re.compile(r"[A-Za-z0-9_.-]+").fullmatch
_NUMBERS = ("size", "autoexpire", "initval", "updateexpire")
# Kamailio's keys that change nothing here, and those that would need what is not here.
_WITHOUT_EFFECT = ("dbmode", "dbtable", "cols", "coldelim", "colnull", "dmqreplicate")


class Table:
    """A defined table. `store` has its items; it is there once the worker has started."""

    __slots__ = ("autoexpire", "initial", "name", "renew", "size", "store")

    store: Store

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 0
        self.autoexpire: int | None = None
        self.initial: int | None = None
        self.renew = True

    def set(self, key: str, value: Item | None) -> None:
        """Store a value; None deletes the key."""
        if value is None:
            self.store.delete(key)
        else:
            self.store.set(key, value, self.autoexpire, renew=self.renew)

    def get(self, key: str) -> Item | None:
        """Return a value, or what a missing key has."""
        value = self.store.get(key)
        return self.initial if value is None else value

    def add(self, key: str, amount: int) -> int | None:
        """Add to a value and return the sum; None when it is no number."""
        return self.store.add(key, amount, self.initial, self.autoexpire, renew=self.renew)


def parse_definition(text: str) -> Table:
    """Parse the definition of a table. ArgumentError with offset: malformed, or a key that means nothing."""
    name, arrow, rest = text.partition("=>")
    if not arrow:
        raise ArgumentError("a table is defined as 'name=>size=8;autoexpire=3600'", len(text))
    if not _match_name(name.strip()):
        raise ArgumentError(f"bad table name {name.strip()!r}", 0)
    table = Table(name.strip())
    offset = len(name) + len(arrow)
    for item in rest.split(";"):
        if item.strip():
            _take(table, item, offset)
        offset += len(item) + 1
    return table


def _take(table: Table, item: str, offset: int) -> None:
    key, _, value = item.partition("=")
    value_offset = offset + len(key) + 1
    key, value = key.strip(), value.strip().strip("'\"")
    if key in _WITHOUT_EFFECT:
        _take_without_effect(key, value, offset)
        return
    if key not in _NUMBERS:
        close = difflib.get_close_matches(key, _NUMBERS, n=1)
        raise ArgumentError(f"unknown key '{key}' of a table", offset, close[0] if close else None)
    try:
        number = int(value)
    except ValueError:
        raise ArgumentError(f"'{key}' is an integer, not {value!r}", value_offset) from None
    if number < 0 and key != "initval":
        raise ArgumentError(f"'{key}' cannot be negative", value_offset)
    if key == "size":
        table.size = number
    elif key == "autoexpire":
        table.autoexpire = number or None
    elif key == "initval":
        table.initial = number
    else:
        table.renew = number != 0


def _take_without_effect(key: str, value: str, offset: int) -> None:
    if key == "dbtable":
        raise ArgumentError("a table cannot be loaded from a database here", offset)
    if key == "dmqreplicate" and value not in ("", "0"):
        raise ArgumentError("tables are not replicated by DMQ here", offset)


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


def count_test(text: str) -> Callable[[Item], bool]:
    """Return the test that `$shtcn` and `$shtcv` count with.

    `**` everything, `==x` equal, `%~x` begins with, `~%x` ends with, `eq7` the integer, `~~re` or `re` matches
    (observed on Kamailio 5.6.3; integers only match `**` and `eq`).
    """
    if text == "**":
        return lambda _value: True
    if text[:2] == "eq" and text[2:].strip().lstrip("-").isdecimal():
        number = int(text[2:])
        return lambda value: value == number
    op, operand = {"==": "eq", "%~": "sw", "~%": "ew", "~~": "re"}.get(text[:2], ""), text[2:]
    test = matcher(op, operand) if op else matcher("re", text)
    return lambda value: isinstance(value, str) and test(value)
