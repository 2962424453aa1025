"""Names and addresses in headers as scripts see them: forgiving, as the text may be anything."""

from __future__ import annotations

import re

from sipwright.errors import SipParseError
from sipwright.sip.grammar import QUOTED
from sipwright.sip.headers import NameAddr, parse_name_addr

_quoted = re.compile(QUOTED, re.DOTALL).match


def display_name(text: str | None) -> str:
    """Return the display name of a header value as it is written, quotes included; empty when there is none."""
    text = (text or "").lstrip()
    if text[:1] == '"':
        match = _quoted(text)
        return match[0] if match else ""
    name, bracket, _ = text.partition("<")
    return name.strip() if bracket else ""


def name_addr(text: str | None) -> NameAddr | None:
    """Parse a header value, None when there is none or it is malformed."""
    if not text:
        return None
    try:
        return parse_name_addr(text)
    except SipParseError:
        return None
