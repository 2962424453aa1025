"""What compiled scripts call while they run: owns the conversions and comparisons of values, and nothing else.

Values are `int`, `str` or None (`$null`). The rules are Kamailio's: the left operand decides whether two values are
compared or added as numbers or as text, and None takes the type of the other one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, wraps
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Route, Value
from sipwright.lang.regex import compile_regex

_SIGN_BIT = 1 << 63
_MASK = (1 << 64) - 1


class Reporter:
    """Tells what went wrong in a running script: `report(context, site, message)`; its owner sets it."""

    __slots__ = ("report",)

    def __init__(self) -> None:
        self.report: Callable[[Any, Site, str], object] = _unheard


def _unheard(_context: Any, _site: Site, _message: str) -> None:
    """Nobody listens yet."""


class Site:
    """A place of a script that may have something to report: `what` is the function or operator there."""

    __slots__ = ("file", "line", "reporter", "what")

    def __init__(self, file: str, line: int, what: str, reporter: Reporter) -> None:
        self.file = file
        self.line = line
        self.what = what
        self.reporter = reporter

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def bad_argument(context: Any, site: Site, error: ValueError) -> int:
    """Report an argument that could not be converted; the code that the call then has."""
    site.reporter.report(context, site, error.message if isinstance(error, ArgumentError) else str(error))
    return -1


def runaway(context: Any, site: Site, rounds: int) -> None:
    """Report a `while` that was stopped."""
    site.reporter.report(context, site, f"stopped after {rounds} rounds (max_while_loops)")


def to_int(value: Value) -> int:
    """Return a value as a number; text that is none, and None, are 0."""
    if value.__class__ is int:
        return value
    number = parse_int(value)
    return 0 if number is None else number


def parse_int(value: Value) -> int | None:
    """Return the number that a text is, decimal or `0x...`, with a sign or without; None when it is none."""
    if value.__class__ is not str:
        return value  # type: ignore[return-value]
    text: str = value
    digits = text[1:] if text[:1] in ("-", "+") else text
    if digits.isdecimal() and digits.isascii():
        return int(text) if len(digits) <= 20 else None
    if digits[:2] in ("0x", "0X"):
        try:
            return int(text, 16)
        except ValueError:
            return None
    return None


def as_text(value: Value) -> str:
    """Return a value as text in an expression, where None is empty."""
    if value.__class__ is str:
        return value
    return "" if value is None else str(value)


def as_parameter(value: Value) -> str:
    """Return a value as text inside a string with variables, where None is `<null>`."""
    if value.__class__ is str:
        return value
    return "<null>" if value is None else str(value)


def add(left: Value, right: Value) -> Value:
    """Return `left + right`: a sum or a joined text, as the left one is."""
    if left.__class__ is str:
        return left + as_text(right)
    if left is None:
        return "" if right is None else right
    return left + to_int(right)  # type: ignore[operator]


def equal(left: Value, right: Value) -> bool:
    """Return `left == right`.

    # Kamailio: a number and a text that is no number are equal if the number is 0; here they never are.
    """
    if left.__class__ is right.__class__:
        return left == right
    if left is None:
        return right in (0, "")
    if right is None:
        return left in (0, "")
    if left.__class__ is str:
        return left == str(right)
    return parse_int(right) == left


def wrap(number: int) -> int:
    """Return a number as 64 bits hold it."""
    if -_SIGN_BIT <= number < _SIGN_BIT:
        return number
    return ((number + _SIGN_BIT) & _MASK) - _SIGN_BIT


def shift_left(number: int, count: int) -> int:
    """Return `number << count` in 64 bits."""
    return wrap(number << count) if 0 <= count < 64 else 0


def shift_right(number: int, count: int) -> int:
    """Return `number >> count`."""
    return number >> min(count, 64) if count >= 0 else 0


def quotient(context: Any, site: Site, left: int, right: int) -> int | None:
    """Return `left / right`, rounded towards zero; a division by zero is reported and has no value."""
    if not right:
        site.reporter.report(context, site, "division by zero")
        return None
    result = abs(left) // abs(right)
    return result if (left < 0) == (right < 0) else -result


def remainder(context: Any, site: Site, left: int, right: int) -> int | None:
    """Return what is left of `left / right`, with the sign of `left`."""
    if not right:
        site.reporter.report(context, site, "division by zero")
        return None
    result = abs(left) % abs(right)
    return -result if left < 0 else result


def matches(context: Any, site: Site, text: str, pattern: str) -> bool:
    """Return `text =~ pattern` for a pattern that is known at run time only; a bad one is reported and matches not."""
    try:
        found: re.Match[str] | None = compile_regex(pattern).search(text)
    except ArgumentError as error:
        site.reporter.report(context, site, error.message)
        return False
    return found is not None


@lru_cache(maxsize=4096)
def in_network(address: str, network: IPv4Network | IPv6Network) -> bool:
    """Tell whether an address, IPv6 in brackets or without, belongs to a network."""
    try:
        return ip_address(address.strip("[]")) in network
    except ValueError:
        return False


def store_rc(context: Any, code: int) -> int:
    """Keep what a call returned for `$rc`."""
    context.rc = code
    return code


def call_route(context: Any, site: Site, routes: Mapping[str, Route], name: str) -> Any:
    """Run `route(name)` for a name that is known at run time only. An unknown one is reported, and -1."""
    route = routes.get(name)
    if route is None:
        site.reporter.report(context, site, f"route[{name}] is not defined")
        return -1
    return route.run(context)


async def call_route_waiting(context: Any, site: Site, routes: Mapping[str, Route], name: str) -> Any:
    """Run `route(name)` as `call_route` does, where it may be a coroutine."""
    code = call_route(context, site, routes, name)
    return code if code.__class__ is int else await code


async def finished(code: Any) -> Any:
    """Return the code of a call that may have given a coroutine of it."""
    return code if code.__class__ is int else await code


def awaited(function: Callable[..., Any]) -> Callable[..., Awaitable[int]]:
    """Return a function that may give an awaitable of its code as one that always does."""

    @wraps(function)
    async def call(*arguments: Any) -> Any:
        code = function(*arguments)
        return code if code.__class__ is int else await code

    return call
