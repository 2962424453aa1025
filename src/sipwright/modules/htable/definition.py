"""The definition of a table as a script writes it, `name=>size=8;autoexpire=60;initval=0;updateexpire=1`."""

from __future__ import annotations

import difflib
import re

from sipwright.errors import ArgumentError
from sipwright.modules.htable.table import Table

_match_name = re.compile(r"[A-Za-z0-9_.-]+").fullmatch
_NUMBERS = ("size", "autoexpire", "initval", "updateexpire")
# Kamailio's keys that change nothing here, and those that would need what is not here.
_WITHOUT_EFFECT = ("dbmode", "dbtable", "cols", "coldelim", "colnull", "dmqreplicate")


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
