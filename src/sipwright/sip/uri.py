"""SIP, SIPS and TEL URIs (RFC 3261 section 19.1, RFC 3966): parsed, written, compared.

Parts stay as they are written (escapes too), because that is what scripts see and what goes on the wire. A URI of
any other scheme is kept whole in `opaque`. Name and address pairs are in `headers`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from sipwright.errors import SipParseError
from sipwright.sip.grammar import HOST, Params, parse_params

_match_sip = re.compile(
    rf"""(?i:(sips?)):
    (?:([^@:\s<>"]++)(?::([^@\s<>"]*+))?@)?
    ({HOST})(?::([0-9]{{1,5}}))?
    ((?:;[^;?\s<>"]++)*)
    (?:\?([^?\s<>"]*+))?""",
    re.ASCII | re.VERBOSE,
).fullmatch
_match_tel = re.compile(r'(?i:(tel)):([0-9A-Fa-f*#+\-.()]++)((?:;[^;?\s<>"]++)*)', re.ASCII).fullmatch
_match_other = re.compile(r'([A-Za-z][A-Za-z0-9+.\-]*+):([^\s<>"]++)').fullmatch

# RFC 3261 section 19.1.4: a parameter of these in one URI only makes two URIs differ.
_COUNTING_PARAMS = ("user", "ttl", "method", "maddr", "transport")


class Uri:
    """A parsed URI.

    `scheme` is lower-case; `host` as written (IPv6 in brackets), empty for a TEL URI, whose number is `user`;
    `params_text` and `headers_text` are without the leading `;` and `?`; `opaque` is the rest of a URI of an unknown
    scheme, else None. Treat it as immutable; `replace` makes a changed copy.
    """

    __slots__ = ("headers_text", "host", "opaque", "params_text", "password", "port", "scheme", "user")

    def __init__(
        self,
        scheme: str,
        user: str | None,
        password: str | None,
        host: str,
        port: int | None = None,
        params_text: str = "",
        headers_text: str = "",
        opaque: str | None = None,
    ) -> None:
        self.scheme = scheme
        self.user = user
        self.password = password
        self.host = host
        self.port = port
        self.params_text = params_text
        self.headers_text = headers_text
        self.opaque = opaque

    @property
    def params(self) -> Params:
        """Parameters in their order, names in lower-case, None for one without a value; parsed at each call.

        SipParseError: malformed.
        """
        return parse_params(self.params_text) if self.params_text else {}

    @property
    def headers(self) -> dict[str, str]:
        """Headers (`?name=value&...`) in their order, names as written, values as escaped."""
        pairs = (item.partition("=") for item in self.headers_text.split("&") if item)
        return {name: value for name, _, value in pairs}

    def replace(self, **changes: Any) -> Uri:
        """Return a copy with some of the attributes changed: `uri.replace(user="bob", port=None)`."""
        return Uri(**({name: getattr(self, name) for name in Uri.__slots__} | changes))

    def __str__(self) -> str:
        if self.opaque is not None:
            return f"{self.scheme}:{self.opaque}"
        text = self.scheme + ":"
        if self.user is not None:
            text += self.user
            if self.password is not None:
                text += ":" + self.password
            if self.scheme != "tel":
                text += "@"
        text += self.host
        if self.port is not None:
            text += f":{self.port}"
        if self.params_text:
            text += ";" + self.params_text
        return f"{text}?{self.headers_text}" if self.headers_text else text

    def __repr__(self) -> str:
        return f"<Uri {self}>"


def parse_uri(text: str) -> Uri:
    """Parse a URI. SipParseError: not a URI, or a SIP, SIPS or TEL URI that is malformed."""
    match = _match_sip(text)
    if match is not None:
        scheme, user, password, host, port, params, headers = match.groups()
        if port is None:
            number = None
        else:
            number = int(port)
            if number > 65535:
                raise SipParseError("Port out of range in a URI")
        return Uri(scheme.lower(), user, password, host, number, params[1:], headers or "")
    match = _match_tel(text)
    if match is not None:
        return Uri("tel", match[2], None, "", None, match[3][1:])
    match = _match_other(text)
    if match is None or match[1].lower() in ("sip", "sips", "tel"):
        raise SipParseError("Malformed URI")
    return Uri(match[1].lower(), None, None, "", opaque=match[2])


def equivalent(a: Uri, b: Uri) -> bool:
    """Compare two URIs as RFC 3261 section 19.1.4 says (not transitive, so not `==`).

    SipParseError: the parameters of one of them are malformed.
    """
    if a.scheme != b.scheme:
        return False
    if a.opaque is not None or b.opaque is not None:
        return a.opaque == b.opaque
    if a.scheme == "tel":
        return _number(a.user) == _number(b.user) and _lower(a.params) == _lower(b.params)
    if _unescape(a.user) != _unescape(b.user) or _unescape(a.password) != _unescape(b.password):
        return False
    if a.host.lower() != b.host.lower() or a.port != b.port:
        return False
    params, others = _lower(a.params), _lower(b.params)
    for name in params.keys() | others.keys():
        if name in params and name in others:
            if params[name] != others[name]:
                return False
        elif name in _COUNTING_PARAMS:
            return False
    return _headers(a) == _headers(b)


def _unescape(text: str | None) -> bytes | None:
    return None if text is None else unquote_to_bytes(text.encode("utf-8", "surrogateescape"))


def _number(text: str | None) -> str:
    # RFC 3966 section 3: visual separators do not count.
    return (text or "").translate({ord(c): None for c in "-.()"}).lower()


def _lower(params: Params) -> dict[str, bytes | None]:
    return {name: _unescape(value and value.lower()) for name, value in params.items()}


def _headers(uri: Uri) -> dict[str, bytes | None]:
    return {name.lower(): _unescape(value) for name, value in uri.headers.items()}
