"""Request and Response: what transaction matching needs is at hand, everything else is made when it is asked for.

A message keeps its datagram. The parser (`sipwright.sip.parse`) has checked the start line, the lengths and the
headers Via, From, To, Call-ID, CSeq, Contact, Max-Forwards and Content-Length, so that the attributes made from
these cannot fail. All other headers are text that nobody has looked at.

Messages are not changed after parsing; a script's edits are kept apart (`sipwright.sip.edits`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from sipwright.sip.grammar import unfold
from sipwright.sip.headers import (
    NameAddr,
    Via,
    header_key,
    parse_contacts,
    parse_name_addr,
    parse_via,
    parse_vias,
)

# One header line: key (lower-case long name), name as written, value (unfolded, stripped), line as it came (with its
# folds, without its end).
Field = tuple[str, str, str, str]

_split_lines = re.compile(r"\r?\n(?![ \t])").split


class Message:
    """What requests and responses share.

    `data` is the whole datagram, `body` what Content-Length leaves of its end. `branch` (empty when there is none)
    and `sent_by` (lower-case host, port as written) are of the top Via. Made at first use: `via` (the top one),
    `vias`, `from_`, `to`, `contacts`, `max_forwards` (None when absent).
    """

    __slots__ = (
        "_fields",
        "body",
        "branch",
        "call_id",
        "contacts",
        "cseq_method",
        "cseq_number",
        "data",
        "from_",
        "from_tag",
        "head_end",
        "max_forwards",
        "parts",
        "sent_by",
        "shared",
        "to",
        "to_tag",
        "via",
        "vias",
    )

    version: ClassVar[str] = "SIP/2.0"

    data: bytes
    body: bytes
    branch: bytes
    sent_by: bytes
    cseq_number: int
    cseq_method: str
    call_id: str
    from_tag: str | None
    to_tag: str | None

    via: Via
    vias: list[Via]
    from_: NameAddr
    to: NameAddr
    contacts: list[NameAddr]
    max_forwards: int | None

    # For this package: the index in `data` of the empty line; the groups of the parser's match when the message had
    # the common form (see parse.py), else None; what all replies have in common (see build.py).
    head_end: int
    parts: tuple[Any, ...] | None
    shared: tuple[bytes, bytes, tuple[Any, ...]] | None

    _fields: list[Field]

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Called for a slot that was never set: it is made now, and from then on costs nothing.
            try:
                make = _LAZY[name]
            except KeyError:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None
            value = make(self)
            setattr(self, name, value)
            return value

    def header(self, name: str) -> str | None:
        """Return the value of the first header of that name, unfolded and stripped; None when there is none.

        Names match in any case, and their compact forms too.
        """
        key = header_key(name)
        if self.parts is not None:
            # The common form has long names only and no folds: finding one header in it costs 0.6 us, taking all
            # lines apart 5.
            start = self.data[: self.head_end].lower().find(b"\r\n%b:" % key.encode("utf-8", "surrogateescape"))
            if start < 0:
                return None
            start += len(key) + 3
            value = self.data[start : self.data.index(b"\r\n", start)]
            return value.decode("utf-8", "surrogateescape").strip(" \t")
        for field in self._fields:
            if field[0] == key:
                return field[2]
        return None

    def headers(self, name: str) -> list[str]:
        """Return the value of every header line of that name; a line with several values is not taken apart."""
        key = header_key(name)
        return [field[2] for field in self._fields if field[0] == key]

    def header_items(self) -> list[tuple[str, str]]:
        """Return (name as written, value) of all header lines in their order."""
        return [(field[1], field[2]) for field in self._fields]

    def has_header(self, name: str) -> bool:
        """Tell whether there is a header of that name."""
        return self.header(name) is not None

    def start_line(self) -> str:
        """Return the request line or status line as it came, without its end."""
        line = self.data.partition(b"\n")[0].rstrip(b"\r")
        return line.decode("utf-8", "surrogateescape")

    def fields(self) -> list[Field]:
        """Return all header lines as (key, name, value, line as it came); not to be changed."""
        return self._fields


class Request(Message):
    """A SIP request. `uri` is the text of the Request-URI as it came."""

    __slots__ = ("method", "uri")

    method: str
    uri: str

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri} {self.call_id}>"


class Response(Message):
    """A SIP response: `status` from 100 to 699, `reason` as it came."""

    __slots__ = ("reason", "status")

    status: int
    reason: str

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason} {self.cseq_method} {self.call_id}>"


def split_head(head: bytes) -> tuple[str, list[Field | None]]:
    """Split a message's head to its start line and header lines; None for a line that is not a header."""
    text = head.decode("utf-8", "surrogateescape")
    if "\r\n " in text or "\r\n\t" in text or text.count("\n") != text.count("\r\n"):
        lines = _split_lines(text)
    else:
        lines = text.split("\r\n")
    fields: list[Field | None] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key = _KEYS.get(name)
        if key is None:
            name = name.rstrip(" \t")
            key = header_key(name)
        if "\n" in value:
            value = unfold(value)
        fields.append((key, name, value.strip(" \t"), line) if colon else None)
    return lines[0], fields


# Names as they are usually written: one look-up instead of two calls.
_KEYS = {
    name: name.lower()
    for name in (
        *("Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "Content-Length", "Content-Type"),
        *("User-Agent", "Route", "Record-Route", "Allow", "Supported", "Expires", "Subject", "Authorization"),
        *("Proxy-Authorization", "Accept", "Allow-Events", "Event", "Require", "Date"),
    )
}


def _make_fields(message: Message) -> list[Field]:
    return [field for field in split_head(message.data[: message.head_end])[1] if field is not None]


def _make_via(message: Message) -> Via:
    return parse_via(_part(message, 3))


def _make_vias(message: Message) -> list[Via]:
    return [via for value in message.headers("via") for via in parse_vias(value)]


def _make_from(message: Message) -> NameAddr:
    return parse_name_addr(_part(message, 7))


def _make_to(message: Message) -> NameAddr:
    return parse_name_addr(_part(message, 9))


def _part(message: Message, index: int) -> str:
    # The general parser makes these attributes itself.
    assert message.parts is not None
    part: bytes = message.parts[index]
    return part.decode("utf-8", "surrogateescape")


def _make_contacts(message: Message) -> list[NameAddr]:
    return [contact for value in message.headers("contact") for contact in parse_contacts(value)]


def _make_max_forwards(message: Message) -> int | None:
    value = message.header("max-forwards")
    return None if value is None else int(value)


_LAZY: dict[str, Callable[[Message], object]] = {
    "_fields": _make_fields,
    "via": _make_via,
    "vias": _make_vias,
    "from_": _make_from,
    "to": _make_to,
    "contacts": _make_contacts,
    "max_forwards": _make_max_forwards,
}
