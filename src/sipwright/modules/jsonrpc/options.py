"""The options of one call: `timeout=MS;retry=N;hedge=MS;group=NAME;idempotent;strict`, and `optional` among several.

Those of a group of servers are `policy=NAME;max_pending=N`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import lru_cache
from typing import Annotated, Any

from sipwright.errors import ArgumentError
from sipwright.jsonrpc.turns import POLICIES
from sipwright.lang.namespace import ParamKind, Value
from sipwright.lang.source import suggest

_WORDS = ("idempotent", "strict")
_NUMBERS = ("timeout", "retry", "hedge")


class CallOptions:
    """What a call has for itself; None where the module's parameters hold. Times in seconds; no hedge is infinity."""

    __slots__ = ("group", "hedge", "idempotent", "optional", "retry", "strict", "timeout")

    def __init__(self) -> None:
        self.timeout: float | None = None
        self.retry: int | None = None
        self.hedge: float | None = None
        self.group: str | None = None
        self.idempotent = False
        self.strict = False
        self.optional = False


@lru_cache(maxsize=256)
def parse_options(value: Value) -> CallOptions:
    """Parse the options of a call. ArgumentError: unknown, or a bad value; the offset is its place in the text."""
    return read_options(str(value or ""), _WORDS)


def read_options(text: str, words: Collection[str]) -> CallOptions:
    """Parse options of which some are words without a value. ArgumentError, with the offset into the text."""
    options = CallOptions()
    offset = 0
    for item in text.split(";"):
        name, equals, number = item.partition("=")
        name, number = name.strip(), number.strip()
        if name in words and not equals:
            setattr(options, name, True)
        elif name in _NUMBERS and equals:
            _take_number(options, name, number, offset)
        elif name == "group" and number:
            options.group = number
        elif item.strip():
            expected = f"timeout=MS, retry=N, hedge=MS, group=NAME, {', '.join(words)}"
            raise ArgumentError(f"unknown option '{item.strip()}', expected one of {expected}", offset)
        offset += len(item) + 1
    return options


def _take_number(options: CallOptions, name: str, text: str, offset: int) -> None:
    if not (text.isascii() and text.isdecimal() and len(text) < 10) or (name == "timeout" and int(text) == 0):
        raise ArgumentError(f"option '{name}' needs a number, found '{text}'", offset)
    number = int(text)
    if name == "retry":
        options.retry = number
    elif name == "timeout":
        options.timeout = number / 1000
    else:
        options.hedge = number / 1000 if number else math.inf


def read_group_options(text: str) -> tuple[str | None, int | None]:
    """Read the policy and `max_pending` of a group; None where the module's hold. ArgumentError, with the offset."""
    policy: str | None = None
    max_pending: int | None = None
    offset = 0
    for item in text.split(";"):
        name, _, value = (part.strip() for part in item.partition("="))
        if name == "policy":
            if value not in POLICIES:
                raise ArgumentError(f"policy is one of {', '.join(POLICIES)}, not '{value}'", offset)
            policy = value
        elif name == "max_pending":
            if not (value.isascii() and value.isdecimal() and 0 < int(value) < 1 << 30):
                raise ArgumentError(f"max_pending needs a number, at least 1, found '{value}'", offset)
            max_pending = int(value)
        elif item.strip():
            raise ArgumentError(
                f"unknown option '{item.strip()}' of a group, expected policy=NAME or max_pending=N", offset
            )
        offset += len(item) + 1
    return policy, max_pending


def check_group(module: Any, options: CallOptions) -> None:
    """Raise ArgumentError when the script has no such group: neither of servers, nor of services that dial in."""
    name = options.group
    dialed = module.tokens.groups if module.addresses else ()
    # Where there are no tokens although services dial in, that is the fault, and told by the module.
    if name is None or name in module.groups or name in dialed or (module.addresses and not dialed):
        return
    known = {*module.groups, *dialed} - {""}
    raise ArgumentError(f"no group of servers is named '{name}'", None, suggest(name, known))


Options = Annotated[
    CallOptions,
    ParamKind("options", "options like timeout=500;retry=1", convert=parse_options, check=check_group),
]

NO_OPTIONS = CallOptions()
