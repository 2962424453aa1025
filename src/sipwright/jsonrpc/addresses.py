"""Server lists as people write them (L0): `"host:port,priority host:port,priority"` to addresses and priorities.

In the place of `host:port` there may be `tls:host:port`, `unix:/path` or `srv:_service._proto.domain`; behind the
priority `,weight`.

Each kind of mistake has its own message and the index of the character where it is, so that a script's author sees
it at load. Whether a host exists is not asked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Literal

from sipwright.errors import ArgumentError

_ENTRY = re.compile(r"\S+")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_NUMBERS_ONLY = re.compile(r"[0-9.]+")
_SRV_NAME = re.compile(r"_[A-Za-z0-9-]+\._[A-Za-z]+(\.[A-Za-z0-9_-]+)+\.?")
# `udp:host:port`: never an IPv6 address, whose groups have four digits at most; those want brackets.
_OTHER_KIND = re.compile(r"[A-Za-z]*[G-Zg-z][A-Za-z]*:[^:]+:\d+")
MAX_WEIGHT = 65535
# What Linux has room for in a socket address.
MAX_PATH = 107

Kind = Literal["tcp", "tls", "unix", "srv"]


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server listens.

    For the kinds tcp and tls, `host` is a name, an IPv4 or an IPv6 address (without brackets), and `port` a TCP port.
    For unix, `host` is the path of a socket (with `@` first, a name in Linux's abstract namespace); for srv, the name
    of DNS SRV records (RFC 2782), of which `_tls` in the place of the protocol stands for TLS. Both have the port 0.
    """

    host: str
    port: int
    kind: Kind = "tcp"

    def __str__(self) -> str:
        if self.kind in ("unix", "srv"):
            return f"{self.kind}:{self.host}"
        place = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return place if self.kind == "tcp" else f"{self.kind}:{place}"


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One entry of a server list.

    Servers of a higher priority number are asked first; those of one priority in the proportion of their weights (1 to
    65535). The records of an srv address have weights of their own. `max_pending` is how many calls may be in flight
    there, None for as many as the client says.
    """

    address: ServerAddress
    priority: int
    weight: int = 1
    max_pending: int | None = None


def parse_servers(text: str) -> list[ServerSpec]:
    """Read `"localhost:9999,2 10.10.0.1:9999,2 [2001:db8::1]:9999,1"`; the empty string is no servers.

    An entry may have a weight behind its priority, `"localhost:9999,2,10"`. Raises ArgumentError with the offset into
    the text.
    """
    return [_parse_entry(match[0], match.start()) for match in _ENTRY.finditer(text)]


def read_servers(servers: str | Iterable[ServerSpec]) -> list[ServerSpec]:
    """Return a list of servers, which may be written as for `parse_servers`. Raises ArgumentError."""
    if isinstance(servers, str):
        return parse_servers(servers)
    if not isinstance(servers, Iterable):
        raise ArgumentError(f"servers are a text like 'host:port,priority' or a list of ServerSpec, not {servers!r}")
    specs = list(servers)
    for spec in specs:
        if not isinstance(spec, ServerSpec):
            raise ArgumentError(f"a list of servers has a ServerSpec for each, not {spec!r}")
    return specs


def parse_group(text: str) -> tuple[str, list[ServerSpec]]:
    """Read `"name=>host:port,priority host:port,priority"`. Raises ArgumentError with the offset into the text."""
    name, arrow, servers = text.partition("=>")
    if not arrow:
        raise ArgumentError("no '=>' between the group's name and its servers", 0)
    if not name.strip():
        raise ArgumentError("the group has no name", 0)
    try:
        return name.strip(), parse_servers(servers)
    except ArgumentError as error:
        offset = None if error.offset is None else error.offset + len(name) + len(arrow)
        raise ArgumentError(error.message, offset) from None


def parse_address(text: str) -> ServerAddress:
    """Read `"host:port"`, `"tls:host:port"`, `"unix:/path"` or `"srv:_service._proto.domain"`.

    Raises ArgumentError with the offset into the text.
    """
    address, end = _parse_address(text, 0)
    if end < len(text):
        raise ArgumentError(f"unexpected {text[end:]!r} after the address", end)
    return address


def _parse_entry(entry: str, offset: int) -> ServerSpec:
    if entry.startswith(","):
        raise ArgumentError("stray comma: entries are host:port,priority and separated by spaces", offset)
    address, end = _parse_address(entry, offset)
    rest, at = entry[end:], offset + end
    if not rest:
        raise ArgumentError(f"'{entry}' has no priority: expected host:port,priority", at)
    priority, comma, weight = rest[1:].partition(",")
    if not priority:
        if comma:
            raise ArgumentError("stray comma after the address: expected the priority", at + 1)
        raise ArgumentError(f"'{entry}' has no priority after the comma", at + 1)
    digits = priority[1:] if priority[0] == "-" else priority
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise ArgumentError(f"priority '{priority}' is not an integer", at + 1)
    if not comma:
        return ServerSpec(address, int(priority))
    at += len(priority) + 1
    if not weight or "," in weight:
        stray = at + len(comma) + weight.index(",") if weight else at
        raise ArgumentError("stray comma after the priority: entries are separated by spaces", stray)
    if not (weight.isascii() and weight.isdigit() and len(weight) < 6 and 1 <= int(weight) <= MAX_WEIGHT):
        raise ArgumentError(f"weight '{weight}' is not a number from 1 to {MAX_WEIGHT}", at + 1)
    return ServerSpec(address, int(priority), int(weight))


def _parse_address(entry: str, offset: int) -> tuple[ServerAddress, int]:
    """Return the address that an entry begins with, and where it ends: at a comma or at the end."""
    kind, colon, rest = entry.partition(":")
    kind = kind.lower()
    if rest.startswith("//"):
        expected = "an address is written without //, as host:port or tls:host:port"
        raise ArgumentError(f"'{entry}' looks like a URL: {expected}", offset)
    # Not a host of that name: a port would follow it.
    if colon and kind in _PARSERS and not rest.partition(",")[0].isdigit():
        address, end = _PARSERS[kind](rest, offset + len(kind) + 1)
        return address, end + len(kind) + 1
    if _OTHER_KIND.fullmatch(entry.partition(",")[0]):
        known = ", ".join(f"{name}:" for name in _PARSERS)
        raise ArgumentError(f"'{kind}:' is no kind of address, expected one of {known}", offset)
    return _parse_place(entry, offset, "tcp")


def _parse_place(entry: str, offset: int, kind: Literal["tcp", "tls"]) -> tuple[ServerAddress, int]:
    """Return the address of a `host:port` that an entry begins with, and where it ends."""
    if entry.startswith("["):
        host, colon = _parse_ipv6(entry, offset)
    else:
        colon = entry.partition(",")[0].find(":")
        host = entry.partition(",")[0] if colon < 0 else entry[:colon]
        _check_host(host, entry, offset)
    if colon < 0 or entry[colon : colon + 1] != ":":
        raise ArgumentError(f"'{entry}' has no port: expected host:port", offset + len(host))
    comma = entry.find(",", colon)
    end = len(entry) if comma < 0 else comma
    return ServerAddress(host, _parse_port(entry[colon + 1 : end], host, offset + colon + 1), kind), end


def _parse_unix(entry: str, offset: int) -> tuple[ServerAddress, int]:
    path = entry.partition(",")[0]
    if path[:1] not in ("/", "@") or len(path) < 2:
        raise ArgumentError("expected the path of a socket after 'unix:', beginning with / (or a name with @)", offset)
    if len(path.encode()) > MAX_PATH:
        raise ArgumentError(f"the path of a socket has at most {MAX_PATH} bytes", offset)
    return ServerAddress(path, 0, "unix"), len(path)


def _parse_srv(entry: str, offset: int) -> tuple[ServerAddress, int]:
    name = entry.partition(",")[0]
    if not _SRV_NAME.fullmatch(name):
        raise ArgumentError(f"'{name}' is not the name of SRV records: expected _service._proto.domain", offset)
    return ServerAddress(name.removesuffix("."), 0, "srv"), len(name)


_PARSERS: dict[str, Callable[[str, int], tuple[ServerAddress, int]]] = {
    "tcp": lambda entry, offset: _parse_place(entry, offset, "tcp"),
    "tls": lambda entry, offset: _parse_place(entry, offset, "tls"),
    "unix": _parse_unix,
    "srv": _parse_srv,
}


def _parse_ipv6(entry: str, offset: int) -> tuple[str, int]:
    bracket = entry.find("]")
    if bracket < 0:
        raise ArgumentError("the bracket of an IPv6 address is not closed", offset)
    host = entry[1:bracket]
    try:
        IPv6Address(host)
    except ValueError:
        raise ArgumentError(f"'{host}' is not an IPv6 address", offset + 1) from None
    if entry[bracket + 1 : bracket + 2] not in (":", ",", ""):
        raise ArgumentError("expected ':' and the port after the bracket", offset + bracket + 1)
    return host, bracket + 1 if entry[bracket + 1 : bracket + 2] == ":" else -1


def _check_host(host: str, entry: str, offset: int) -> None:
    if not host:
        raise ArgumentError(f"'{entry}' has no host before the colon", offset)
    match = _HOST.match(host)
    if match is None or match.end() < len(host):
        at = 0 if match is None else match.end()
        raise ArgumentError(f"'{host}' is not a host name: '{host[at]}' cannot be at this place", offset + at)
    if _NUMBERS_ONLY.fullmatch(host):
        parts = host.split(".")
        if len(parts) != 4 or any(not part or int(part) > 255 for part in parts):
            raise ArgumentError(f"'{host}' is not an IPv4 address", offset)


def _parse_port(port: str, host: str, offset: int) -> int:
    if not port:
        raise ArgumentError(f"no port after '{host}:'", offset)
    if ":" in port:
        colon = offset + port.index(":")
        raise ArgumentError("too many colons: an IPv6 address is written in brackets, [::1]:9999", colon)
    if not (port.isascii() and port.isdigit()):
        raise ArgumentError(f"port '{port}' is not a number", offset)
    if len(port.lstrip("0")) > 5 or not 1 <= int(port) <= 65535:
        raise ArgumentError(f"port {port} is out of range: 1 to 65535", offset)
    return int(port)
