"""The options of a request, `"route=NAME;retry=N;timeout=MS"`."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Annotated

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import ParamKind, Value

DEFAULT_TIMEOUT = 0.5
FOREVER = -1
_KEYS = ("route", "retry", "timeout")


class Options:
    """What one request was given besides: `timeout` in seconds, of each try; `retry` tries more, -1 for any number.

    `route` is empty when the script goes on without the answer; `route_offset` is where it stands in the text.
    """

    __slots__ = ("retry", "route", "route_offset", "timeout")

    def __init__(self) -> None:
        self.route = ""
        self.route_offset = 0
        self.retry = 0
        self.timeout = DEFAULT_TIMEOUT


@lru_cache(maxsize=256)
def parse_options(value: Value) -> Options:
    """Parse the options of a request. ArgumentError: unknown, or a bad value; the offset is its place in the text."""
    options = Options()
    offset = 0
    for item in str(value or "").split(";"):
        if item.strip():
            _take(options, item, offset)
        offset += len(item) + 1
    return options


def _take(options: Options, item: str, offset: int) -> None:
    key, equals, text = item.partition("=")
    at = offset + len(key) + len(equals) + len(text) - len(text.lstrip())
    offset += len(key) - len(key.lstrip())
    key, text = key.strip(), text.strip()
    if key not in _KEYS:
        close = difflib.get_close_matches(key, _KEYS, n=1)
        raise ArgumentError(
            f"unknown option '{key}', expected route=NAME, retry=N or timeout=MS", offset, close[0] if close else None
        )
    if key == "route":
        if not text:
            raise ArgumentError("option 'route' needs the name of a route", at)
        options.route, options.route_offset = text, at
    elif key == "timeout":
        if not (text.isascii() and text.isdecimal() and int(text) > 0):
            raise ArgumentError(f"option 'timeout' needs a number of milliseconds from 1, found '{text}'", at)
        options.timeout = int(text) / 1000
    else:
        if text != str(FOREVER) and not (text.isascii() and text.isdecimal()):
            raise ArgumentError(f"option 'retry' needs a number of tries, or -1 for ever, found '{text}'", at)
        options.retry = int(text)


def _named_route(options: Options) -> tuple[str, int] | None:
    return (options.route, options.route_offset) if options.route else None


RequestOptions = Annotated[
    Options,
    ParamKind("options", "options like route=NAME;retry=1;timeout=500", convert=parse_options, route=_named_route),
]
NO_OPTIONS = Options()
