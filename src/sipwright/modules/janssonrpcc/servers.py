"""The parameters `server` and `retry_codes`: owns their grammar, and what a line of the script means to the client.

Kamailio: a lower priority number is asked first, and a weight of 0 is as good as none: such a server is asked when no
other one of its priority can be. The client's list has higher priorities first and weights from 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sipwright.errors import ArgumentError
from sipwright.jsonrpc.addresses import MAX_WEIGHT, ServerAddress, ServerSpec, parse_address

_KEYS = ("conn", "addr", "port", "srv", "priority", "weight", "hwm", "proto")
_MOST = {"port": 65535, "priority": 65535, "weight": MAX_WEIGHT, "hwm": 10_000_000}
# What only an address can have: the records of SRV bring their own.
_WITH_ADDRESS = ("addr", "port", "priority", "weight")


@dataclass(frozen=True, slots=True)
class Server:
    """One `server` of the script. `hwm`: so many calls may be in flight, 0 for the client's own limit."""

    conn: str
    address: ServerAddress
    priority: int = 0
    weight: int = 1
    hwm: int = 0


def parse_server(text: str) -> Server:
    """Parse `"conn=NAME;addr=HOST;port=N;priority=N;weight=N;hwm=N"` or `"conn=NAME;srv=NAME;hwm=N"`.

    Raises ArgumentError with the offset into the text.
    """
    values: dict[str, tuple[str, int]] = {}
    offset = 0
    for item in text.split(";"):
        if item.strip():
            _take(values, item, offset)
        offset += len(item) + 1
    numbers = {key: int(values[key][0]) for key in _MOST if key in values}
    if "conn" not in values:
        raise ArgumentError("a server needs the name of its connection: 'conn=NAME;addr=HOST;port=N'", 0)
    return Server(
        values["conn"][0],
        _srv_address(values) if "srv" in values else _tcp_address(values),
        numbers.get("priority", 0),
        numbers.get("weight", 1),
        numbers.get("hwm", 0),
    )


def _take(values: dict[str, tuple[str, int]], item: str, offset: int) -> None:
    key, equals, value = item.partition("=")
    offset += len(key) - len(key.lstrip())
    at = offset + item.lstrip().find("=") + 1 + len(value) - len(value.lstrip())
    key, value = key.strip(), value.strip()
    if key not in _KEYS:
        close = difflib.get_close_matches(key, _KEYS, n=1)
        raise ArgumentError(f"unknown key '{key}' of a server", offset, close[0] if close else None)
    if not equals or not value:
        raise ArgumentError(f"'{key}' has no value", at if equals else offset)
    if key in values:
        raise ArgumentError(f"'{key}' is given twice", offset)
    if key in _MOST and not (value.isascii() and value.isdecimal() and int(value) <= _MOST[key]):
        raise ArgumentError(f"'{key}' is a number from 0 to {_MOST[key]}, not '{value}'", at)
    if key == "proto" and value != "tcp":
        raise ArgumentError(f"'proto' can only be tcp, not '{value}'", at)
    values[key] = value, at


def _srv_address(values: Mapping[str, tuple[str, int]]) -> ServerAddress:
    name, at = values["srv"]
    for key in _WITH_ADDRESS:
        if key in values:
            raise ArgumentError(f"'{key}' cannot be given with 'srv': the records bring it", values[key][1])
    return _parsed(f"srv:{name}", at - len("srv:"))


def _tcp_address(values: Mapping[str, tuple[str, int]]) -> ServerAddress:
    for key in ("addr", "port"):
        if key not in values:
            raise ArgumentError(f"a server needs '{key}', or 'srv': 'conn=NAME;addr=HOST;port=N'", values["conn"][1])
    (host, at), (port, port_at) = values["addr"], values["port"]
    if int(port) == 0:
        raise ArgumentError("port 0 is out of range: 1 to 65535", port_at)
    # Kamailio: an IPv6 address without brackets.
    if ":" in host and not host.startswith("["):
        return _parsed(f"[{host}]:{port}", at - 1)
    return _parsed(f"{host}:{port}", at)


def _parsed(text: str, shift: int) -> ServerAddress:
    try:
        return parse_address(text)
    except ArgumentError as error:
        offset = None if error.offset is None else max(error.offset + shift, 0)
        raise ArgumentError(error.message, offset, error.suggestion) from None


def groups_of(servers: Sequence[Server]) -> dict[str, list[ServerSpec]]:
    """Return the groups of the client: the servers of each connection, by its name."""
    conns: dict[str, list[Server]] = {}
    for server in servers:
        conns.setdefault(server.conn, []).append(server)
    return {conn: _specs(members) for conn, members in conns.items()}


def _specs(servers: Sequence[Server]) -> list[ServerSpec]:
    weighted = {server.priority for server in servers if server.weight}
    spares = [server for server in servers if not server.weight and server.priority in weighted]
    # Where there are some, each priority has two levels, and the lower one is theirs.
    scale = 2 if spares else 1
    return [
        ServerSpec(
            server.address,
            -scale * server.priority - (1 if server in spares else 0),
            max(server.weight, 1),
            server.hwm or None,
        )
        for server in servers
    ]
