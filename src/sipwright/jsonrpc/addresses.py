"""Server lists as people write them (L0): `"host:port,priority host:port,priority"` to addresses and priorities.

Each kind of mistake has its own message and the index of the character where it is, so that a script's author sees
it at load. Whether a host exists is not asked here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

from sipwright.errors import ArgumentError

_ENTRY = re.compile(r"\S+")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_NUMBERS_ONLY = re.compile(r"[0-9.]+")
_KINDS_TO_COME = ("tls:", "unix:", "srv:")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server listens: a name, an IPv4 or an IPv6 address (without brackets), and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One entry of a server list. Servers of a higher priority number are asked first."""

    address: ServerAddress
    priority: int


def parse_servers(text: str) -> list[ServerSpec]:
    """Read `"localhost:9999,2 10.10.0.1:9999,2 [2001:db8::1]:9999,1"`; the empty string is no servers.

    Raises ArgumentError with the offset into the text.
    """
    return [_parse_entry(match[0], match.start()) for match in _ENTRY.finditer(text)]


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
    """Read `"host:port"`. Raises ArgumentError with the offset into the text."""
    address, end = _parse_address(text, 0)
    if end < len(text):
        raise ArgumentError(f"unexpected {text[end:]!r} after the port", end)
    return address


def _parse_entry(entry: str, offset: int) -> ServerSpec:
    if entry.startswith(","):
        raise ArgumentError("stray comma: entries are host:port,priority and separated by spaces", offset)
    address, end = _parse_address(entry, offset)
    rest, at = entry[end:], offset + end
    if not rest:
        raise ArgumentError(f"'{entry}' has no priority: expected host:port,priority", at)
    priority = rest[1:]
    if not priority:
        raise ArgumentError(f"'{entry}' has no priority after the comma", at + 1)
    if "," in priority:
        comma = offset + entry.rindex(",")
        raise ArgumentError("stray comma after the priority: entries are separated by spaces", comma)
    digits = priority[1:] if priority[0] == "-" else priority
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise ArgumentError(f"priority '{priority}' is not an integer", at + 1)
    return ServerSpec(address, int(priority))


def _parse_address(entry: str, offset: int) -> tuple[ServerAddress, int]:
    """Return the address that an entry begins with, and where the port ends: at a comma or at the end."""
    for kind in _KINDS_TO_COME:
        if entry.lower().startswith(kind) and not entry[len(kind) :].partition(",")[0].isdigit():
            raise ArgumentError(f"{kind} addresses are not supported yet", offset)
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
    return ServerAddress(host, _parse_port(entry[colon + 1 : end], host, offset + colon + 1)), end


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
