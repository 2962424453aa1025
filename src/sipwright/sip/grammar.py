"""The small pieces of SIP's grammar (RFC 3261 section 25): tokens, quoting, lists, parameters, host and port.

Owns the character classes that the parsers share, as texts of regular expressions, and the scanners that know about
quoting. Knows no header and no message. Text is `str`; whatever cannot be understood raises SipParseError.
"""

from __future__ import annotations

import re
import sys

from sipwright.errors import SipParseError

# No group is possessive, here and in `uri` and `headers`: when such a group fails in the middle, Python before 3.11.5
# does not take back what it has read (gh-106052). Their parts begin with different characters: little is tried twice.
POSSESSIVE_GROUPS_ARE_RIGHT = sys.version_info >= (3, 11, 5)

# Texts of regular expressions, to be compiled with re.ASCII (in str) or encoded (in bytes).
TOKEN = r"[\w\-.!%*+`'~]++"  # noqa: S105
QUOTED = r'"(?:[^"\\]|\\.)*"'
# Deviation: an underscore is allowed in host names, because host names with one are in use.
HOST = r"(?:\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9_.\-]++)"

Params = dict[str, str | None]

_is_token = re.compile(TOKEN, re.ASCII).fullmatch
_item = re.compile(rf'(?:{QUOTED}|<[^<>"]*+>|[^",<>])*', re.DOTALL).match
# Deviation: the value of a parameter may be any text without separators, not only a token or a host.
_param = re.compile(rf';\s*({TOKEN})\s*(?:=\s*({QUOTED}|[^\s;,"<>=?]*+)\s*)?', re.ASCII | re.DOTALL).match
_host_port = re.compile(rf"({HOST})\s*(?::\s*([0-9]{{1,5}}))?\s*", re.ASCII).fullmatch
# Not `[ \t]*` alone: a long run of spaces would be gone through once for each of them.
_fold = re.compile(r"(?<![ \t])[ \t]*+\r?\n[ \t]++")
_escape = re.compile(r"\\(.)", re.DOTALL)


def without_possessive_groups(pattern: str) -> str:
    """Return the text of a regular expression with its possessive groups made plain ones."""
    return re.sub(r"\)([?*+])\+", r")\1", pattern)


def is_token(text: str) -> bool:
    """Tell whether the text is a token: a method, a header name, the name of a parameter."""
    return _is_token(text) is not None


def unfold(text: str) -> str:
    """Replace each line fold (RFC 3261 section 7.3.1) by one space."""
    return _fold.sub(" ", text)


def unquote(text: str) -> str:
    """Return what a quoted string says, or the text itself when it is not quoted."""
    if len(text) > 1 and text[0] == '"' and text[-1] == '"':
        text = text[1:-1]
        return _escape.sub(r"\1", text) if "\\" in text else text
    return text


def quote(text: str) -> str:
    """Return the text as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def split_values(text: str) -> list[str]:
    """Split the value of a header at the commas that are neither quoted nor in angle brackets.

    Values are stripped. SipParseError: an empty value, an open quote or bracket.
    """
    if "," not in text:
        value = text.strip()
        if not value:
            raise SipParseError("Empty header value")
        return [value]
    values = []
    position, end = 0, len(text)
    while True:
        match = _item(text, position)
        value = match[0].strip() if match else ""
        if match is None or not value:
            raise SipParseError("Empty or malformed value in a list")
        values.append(value)
        position = match.end()
        if position == end:
            return values
        if text[position] != ",":
            raise SipParseError("Open quote or bracket in a list")
        position += 1


def parse_params(text: str) -> Params:
    """Parse `;a=1;b="x y";c` to an ordered dict with lower-case names; the first semicolon may be absent.

    Values are unquoted; None for a parameter without `=`. Of a name that comes twice the first counts.
    SipParseError: anything else.
    """
    text = text.strip()
    if not text:
        return {}
    if text[0] != ";":
        text = ";" + text
    params: Params = {}
    position, end = 0, len(text)
    while position < end:
        match = _param(text, position)
        if match is None:
            raise SipParseError("Malformed parameters")
        name, value = match.groups()
        params.setdefault(name.lower(), unquote(value) if value else value)
        position = match.end()
    return params


def parse_host_port(text: str) -> tuple[str, int | None]:
    """Parse `host`, `host:port`, `[IPv6]` or `[IPv6]:port`; an IPv6 address keeps its brackets.

    SipParseError: anything else, or a port over 65535.
    """
    match = _host_port(text)
    if match is None:
        raise SipParseError("Malformed host or port")
    host, port = match.groups()
    if port is None:
        return host, None
    number = int(port)
    if number > 65535:
        raise SipParseError("Port out of range")
    return host, number
