"""How keys and values of a table are written on Redis, so that other programs can read and write them, too.

The key `bob` of the table `users` is `sht:users:bob`, its lock `shtlock:users:bob`. An integer is written in decimal, a
text as it is; only one that would be taken for something else, since it looks like an integer or begins with `s:`, has
`s:` before it. What others have written there is read in the same way.
"""

from __future__ import annotations

import re

from sipwright.script.store import Item

_is_integer = re.compile(rb"-?[1-9][0-9]{0,18}|0").fullmatch
_is_ambiguous = re.compile(r"-?[1-9][0-9]{0,18}|0|s:.*", re.DOTALL).fullmatch
_LIMIT = 1 << 63


def item_prefix(table: str) -> str:
    """Return what the names of a table's items begin with."""
    return f"sht:{table}:"


def lock_prefix(table: str) -> str:
    """Return what the names of a table's locks begin with."""
    return f"shtlock:{table}:"


def encode_item(value: Item) -> str:
    """Return a value as it is written."""
    if isinstance(value, int):
        return str(value)
    return f"s:{value}" if _is_ambiguous(value) else value


def decode_item(data: bytes) -> Item:
    """Return the value that was written; integers have 64 bits, what is beyond is text."""
    if _is_integer(data):
        number = int(data)
        if -_LIMIT <= number < _LIMIT:
            return number
    text = data.decode("utf-8", "surrogateescape")
    return text.removeprefix("s:")
