"""The URIs that scripts take apart and change: a cached parse, and the Request-URI of a context with its edits.

A message's URI is asked for piece by piece (`$rU`, `$rd`, `$rp`), and the same addresses come again and again, so
parsed URIs are kept by their text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sipwright.errors import SipParseError
from sipwright.script.context import Context
from sipwright.sip.uri import Uri, parse_uri

# Longer ones are not kept: whoever sends requests chooses the texts, and 4096 of 64 KB would be half a gigabyte.
MAX_KEPT = 256


def parsed_uri(text: str) -> Uri | None:
    """Return the parsed URI, None when the text is none. A hit costs 100 ns, a parse 900."""
    return _kept_uri(text) if len(text) <= MAX_KEPT else _parse(text)


def _parse(text: str) -> Uri | None:
    try:
        return parse_uri(text)
    except SipParseError:
        return None


_kept_uri = lru_cache(maxsize=4096)(_parse)


def request_uri(ctx: Context) -> str:
    """Return the text of `$ru`: what the script set, or what came."""
    uri = ctx.uri
    return ctx.message.uri if uri is None else uri


def parsed_request_uri(ctx: Context) -> Uri | None:
    """Return `$ru` parsed, None when the script made it unreadable."""
    uri = ctx.uri
    return parsed_uri(ctx.message.uri if uri is None else uri)


def change_request_uri(ctx: Context, **changes: Any) -> bool:
    """Change parts of `$ru`, `user="bob"` or `port=None`. False: it is no URI, or would not be one afterwards."""
    uri = parsed_request_uri(ctx)
    if uri is None:
        return False
    text = str(uri.replace(**changes))
    if parsed_uri(text) is None:
        return False
    ctx.uri = text
    return True
