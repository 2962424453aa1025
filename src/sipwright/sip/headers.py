"""Typed header values and header names (RFC 3261 sections 7.3, 20 and 25.1).

Owns what one header value means: Via, NameAddr (From, To, Contact, Route, ...), CSeq and numbers; and which names
are the same header. Does not know messages: values are given as unfolded text. Malformed ones raise SipParseError.
"""

from __future__ import annotations

import re

from sipwright.errors import SipParseError
from sipwright.sip.grammar import HOST, QUOTED, TOKEN, Params, parse_params, quote, split_values, unquote

# Compact forms: RFC 3261 section 20, RFC 6665 (o, u), RFC 3515 (r), RFC 3892 (b), RFC 4028 (x),
# RFC 3841 (a, j, d), RFC 8224 (y).
COMPACT_NAMES = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

_match_via = re.compile(
    rf"({TOKEN})\s*/\s*({TOKEN})\s*/\s*({TOKEN})\s+({HOST})\s*(?::\s*([0-9]{{1,5}})\s*)?(;.*)?", re.ASCII | re.DOTALL
).fullmatch
# Deviation: characters outside ASCII may be in an unquoted display name; many devices write names so.
_match_name_addr = re.compile(
    rf"""(?:({QUOTED})\s*|((?:[\w\-.!%*+`'~\ \t]|[^\x00-\x7f])*))<([A-Za-z][A-Za-z0-9+.\-]*+:[^<>\s"]++)>\s*(;.*)?""",
    re.ASCII | re.DOTALL,
).fullmatch
# RFC 3261 section 20: a URI with a comma, question mark or semicolon must be in angle brackets.
_match_addr_spec = re.compile(r'([A-Za-z][A-Za-z0-9+.\-]*+:[^<>\s",;?]++)\s*(;.*)?', re.DOTALL).fullmatch
_match_cseq = re.compile(rf"([0-9]{{1,10}})\s+({TOKEN})", re.ASCII).fullmatch


def header_key(name: str) -> str:
    """Return the one key of all spellings of a header name: lower-case, long form."""
    key = name.lower()
    return COMPACT_NAMES.get(key, key) if len(key) == 1 else key


class Via:
    """One Via value. `transport` is upper-case, `host` as written (IPv6 in brackets), `params` in their order."""

    __slots__ = ("host", "params", "port", "protocol", "transport")

    def __init__(self, protocol: str, transport: str, host: str, port: int | None, params: Params) -> None:
        self.protocol = protocol
        self.transport = transport
        self.host = host
        self.port = port
        self.params = params

    @property
    def branch(self) -> str:
        """The branch parameter, empty when there is none (RFC 2543)."""
        return self.params.get("branch") or ""

    @property
    def sent_by(self) -> str:
        """Host and port as written, the host in lower-case."""
        return self.host.lower() if self.port is None else f"{self.host.lower()}:{self.port}"

    @property
    def received(self) -> str | None:
        """The received parameter (RFC 3261 section 18.2.1)."""
        return self.params.get("received")

    @property
    def maddr(self) -> str | None:
        """The maddr parameter (RFC 3261 section 18.1.1)."""
        return self.params.get("maddr")

    @property
    def rport(self) -> str | None:
        """The rport parameter (RFC 3581): None when absent, empty when it asks for a value."""
        return self.params["rport"] or "" if "rport" in self.params else None

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{self.protocol}/{self.transport} {self.host}{port}{write_params(self.params)}"

    def __repr__(self) -> str:
        return f"<Via {self}>"


class NameAddr:
    """A display name, a URI and parameters.

    `name` is the display name without its quotes, empty when there is none; `uri` the text of the URI (`*` in
    `Contact: *`); `params` in their order, names in lower-case.
    """

    __slots__ = ("name", "params", "uri")

    def __init__(self, name: str, uri: str, params: Params) -> None:
        self.name = name
        self.uri = uri
        self.params = params

    @property
    def tag(self) -> str | None:
        """The tag parameter; None when there is none."""
        return self.params.get("tag")

    def __str__(self) -> str:
        name = quote(self.name) + " " if self.name else ""
        return f"{name}<{self.uri}>{write_params(self.params)}"

    def __repr__(self) -> str:
        return f"<NameAddr {self}>"


def parse_via(text: str) -> Via:
    """Parse one Via value. SipParseError: malformed."""
    match = _match_via(text)
    if match is None:
        raise SipParseError("Malformed Via")
    name, version, transport, host, port, params = match.groups()
    number = None if port is None else int(port)
    if number is not None and number > 65535:
        raise SipParseError("Port out of range in Via")
    return Via(f"{name}/{version}".upper(), transport.upper(), host, number, parse_params(params) if params else {})


def parse_vias(text: str) -> list[Via]:
    """Parse a Via header with one value or several. SipParseError: malformed."""
    return [parse_via(value) for value in split_values(text)]


def parse_name_addr(text: str) -> NameAddr:
    """Parse `name-addr` or `addr-spec` with parameters (RFC 3261 section 20.10). SipParseError: malformed."""
    match = _match_name_addr(text)
    if match is not None:
        quoted, name, uri, params = match.groups()
        name = unquote(quoted) if quoted is not None else name.strip()
    else:
        match = _match_addr_spec(text)
        if match is None:
            raise SipParseError("Malformed name or address")
        name = ""
        uri, params = match.groups()
    return NameAddr(name, uri, parse_params(params) if params else {})


def parse_contacts(text: str) -> list[NameAddr]:
    """Parse a Contact (or Route, Record-Route, Path, ...) header; `*` gives one NameAddr with that URI.

    SipParseError: malformed.
    """
    if text == "*":
        return [NameAddr("", "*", {})]
    return [parse_name_addr(value) for value in split_values(text)]


def parse_cseq(text: str) -> tuple[int, str]:
    """Parse a CSeq value to number and method. SipParseError: malformed, or a number of 2**31 or more."""
    match = _match_cseq(text)
    if match is None:
        raise SipParseError("Malformed CSeq")
    number = int(match[1])
    if number >= 2**31:
        raise SipParseError("CSeq number out of range")
    return number, match[2]


def parse_number(text: str) -> int:
    """Parse a decimal number, as in Content-Length and Expires. SipParseError: anything else, or 2**32 and more."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) >= 2**32:
        raise SipParseError("Malformed or overlarge number")
    return int(text)


def write_params(params: Params) -> str:
    """Return parameters as they are written in a header, each with its semicolon; values are quoted where needed."""
    text = ""
    for name, value in params.items():
        if value is None:
            text += ";" + name
        elif value and not _needs_quotes(value):
            text += f";{name}={value}"
        else:
            text += f";{name}={quote(value)}"
    return text


_needs_quotes = re.compile(r'[\s;,"<>=?\\]').search
