"""The servers that a script names: `name=srvN;addr=127.0.0.1;port=6379;db=4;pass=...`, and whether one is disabled."""

from __future__ import annotations

import difflib
from typing import Any

from sipwright.errors import ArgumentError
from sipwright.redis.addresses import DEFAULT_PORT, RedisAddress

_KEYS = ("name", "addr", "port", "db", "pass", "unix", "tls", "connect_timeout", "command_timeout")
_NUMBERS = {"port": 65535, "db": 1 << 31, "tls": 1, "connect_timeout": 1 << 31, "command_timeout": 1 << 31}


class RedisServer:
    """A server by the name that the script gave it. `client` is there once the worker has started.

    `connect_timeout` and `command_timeout` are in milliseconds, None where the module's hold. `failures` counts the
    commands that failed in a row; a server that is disabled until a moment is not asked before it.
    """

    __slots__ = ("address", "client", "command_timeout", "connect_timeout", "disabled_until", "failures", "name")

    def __init__(
        self, name: str, address: RedisAddress, connect_timeout: int | None, command_timeout: int | None
    ) -> None:
        self.name = name
        self.address = address
        self.connect_timeout = connect_timeout
        self.command_timeout = command_timeout
        self.client: Any = None
        self.failures = 0
        self.disabled_until: float | None = None


def parse_server(text: str) -> RedisServer:
    """Parse the definition of a server. ArgumentError with offset: malformed, or something that is not here."""
    values: dict[str, str] = {}
    offset = 0
    for item in text.split(";"):
        if item.strip():
            _take(values, item, offset)
        offset += len(item) + 1
    if not values.get("name"):
        raise ArgumentError("a server needs a name: 'name=srv1;addr=127.0.0.1;port=6379'", 0)
    numbers = {key: int(values[key]) for key in _NUMBERS if key in values}
    path = values.get("unix", "")
    address = RedisAddress(
        host="" if path else values.get("addr", "127.0.0.1"),
        port=numbers.get("port", DEFAULT_PORT),
        path=path,
        db=numbers.get("db", 0),
        password=values.get("pass", ""),
        tls=bool(numbers.get("tls", 0)),
    )
    return RedisServer(values["name"], address, numbers.get("connect_timeout"), numbers.get("command_timeout"))


def _take(values: dict[str, str], item: str, offset: int) -> None:
    key, equals, value = item.partition("=")
    key = key.strip()
    value_offset = offset + item.index("=") + 1 if equals else offset
    value = value.strip()
    if key.startswith("sentinel"):
        raise ArgumentError("servers cannot be found by Sentinels here: name one with addr and port", offset)
    if key not in _KEYS:
        close = difflib.get_close_matches(key, _KEYS, n=1)
        raise ArgumentError(f"unknown key '{key}' of a server", offset, close[0] if close else None)
    if not value:
        raise ArgumentError(f"'{key}' has no value", value_offset)
    if key in _NUMBERS and not (value.isascii() and value.isdecimal() and int(value) <= _NUMBERS[key]):
        raise ArgumentError(f"'{key}' is a number up to {_NUMBERS[key]}, not {value!r}", value_offset)
    values[key] = value
