"""The definition of a table as a script writes it, `name=>size=8;autoexpire=60;initval=0;updateexpire=1`."""

from __future__ import annotations

import difflib
import re
from typing import Literal

from sipwright.errors import ArgumentError
from sipwright.modules.htable.database import Source, check_name
from sipwright.modules.htable.table import Table
from sipwright.redis.addresses import RedisAddress, parse_url

_match_name = re.compile(r"[A-Za-z0-9_.-]+").fullmatch
_NUMBERS = ("size", "autoexpire", "initval", "updateexpire", "dbmode")
_TEXTS = ("dbtable", "cols", "coldelim", "colnull")


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
    source = table.source
    if source.saves and not source.dbtable:
        raise ArgumentError("dbmode=1 needs a dbtable to save the table to", len(name) + len(arrow))
    if source.cols:
        # Kamailio: what was packed from several columns is not written back.
        source.saves = False
    return table


def _take(table: Table, item: str, offset: int) -> None:
    key, _, value = item.partition("=")
    value_offset = offset + len(key) + 1
    key, value = key.strip(), value.strip().strip("'\"")
    if key in _NUMBERS:
        _take_number(table, key, value, value_offset)
    elif key in _TEXTS:
        _take_text(table.source, key, value, value_offset)
    elif key == "store":
        table.place = parse_place(value, value_offset)
    elif key == "dmqreplicate":
        if value not in ("", "0"):
            raise ArgumentError("tables are not replicated by DMQ here", offset)
    else:
        close = difflib.get_close_matches(key, (*_NUMBERS, *_TEXTS, "store"), n=1)
        raise ArgumentError(f"unknown key '{key}' of a table", offset, close[0] if close else None)


def parse_place(text: str, offset: int = 0) -> RedisAddress | Literal["local"]:
    """Parse where the items are: the URL of a Redis server, or `local`. ArgumentError with offset."""
    if text == "local":
        return "local"
    try:
        return parse_url(text)
    except ArgumentError as error:
        raise ArgumentError(f"{error.message}; without Redis, the store is written local", offset) from None


def _take_number(table: Table, key: str, value: str, offset: int) -> None:
    try:
        number = int(value)
    except ValueError:
        raise ArgumentError(f"'{key}' is an integer, not {value!r}", offset) from None
    if number < 0 and key != "initval":
        raise ArgumentError(f"'{key}' cannot be negative", offset)
    if key == "size":
        table.size = number
    elif key == "autoexpire":
        table.autoexpire = number or None
    elif key == "initval":
        table.initial = number
    elif key == "updateexpire":
        table.renew = number != 0
    else:
        table.source.saves = number != 0


def _take_text(source: Source, key: str, value: str, offset: int) -> None:
    if key == "dbtable":
        check_name(value, offset)
        source.dbtable = value
    elif key == "coldelim":
        source.delimiter = value
    elif key == "colnull":
        source.null = value
    else:
        source.cols = tuple(name.strip() for name in value.split(","))
        if len(source.cols) < 2:
            raise ArgumentError("'cols' names the column of the keys and at least one of values", offset)
        for name in source.cols:
            check_name(name, offset)
