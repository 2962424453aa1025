"""What the arguments of a client may be (L0): a mistake is told where it is made, and not by the first call.

`Client` and `SyncClient` have the same arguments, and take them from the same people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sipwright.errors import ArgumentError


def check_number(name: str, value: Any, *, above: float | None = None, least: float | None = None) -> None:
    """Raise ArgumentError for what is no number, or not above `above` or at least `least` (infinity is)."""
    expected = f"above {above}" if above is not None else f"of {least} or more"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentError(f"{name} is a number {expected}, not {value!r}")
    # Not the other way round: nothing is true of NaN.
    if not (value > above if above is not None else value >= (least or 0)):
        raise ArgumentError(f"{name} is a number {expected}, not {value!r}")


def check_rules(
    *,
    timeout: float,
    retry: int,
    max_pending: int,
    max_waiting: int,
    reconnect_interval: float,
    max_size: int,
    min_srv_ttl: float,
    retry_delay: float,
    hedge: float | None,
    max_failures: int,
    probe_interval: float,
    when_full: str,
) -> None:
    """Raise ArgumentError for a number of a client, or a word, that cannot be meant."""
    if when_full not in ("refuse", "wait"):
        raise ArgumentError(f"when_full is 'refuse' or 'wait', not {when_full!r}")
    for name, value in (
        ("timeout", timeout),
        ("max_pending", max_pending),
        ("reconnect_interval", reconnect_interval),
        ("max_size", max_size),
        ("probe_interval", probe_interval),
    ):
        check_number(name, value, above=0)
    for name, value in (
        ("retry", retry),
        ("max_waiting", max_waiting),
        ("min_srv_ttl", min_srv_ttl),
        ("retry_delay", retry_delay),
        ("max_failures", max_failures),
    ):
        check_number(name, value, least=0)
    if hedge is not None:
        check_number("hedge", hedge, least=0)


def read_methods(methods: Collection[str]) -> frozenset[str]:
    """Return the names of methods. One string is a mistake: it would be taken for its letters."""
    if isinstance(methods, str) or not all(isinstance(method, str) for method in methods):
        raise ArgumentError(f"idempotent_methods are names of methods, such as ['get_user'], not {methods!r}")
    return frozenset(methods)


def read_codes(codes: Iterable[int | range]) -> tuple[int | range, ...]:
    """Return codes of errors, and ranges of them."""
    if isinstance(codes, (str, bytes)) or not isinstance(codes, Iterable):
        raise ArgumentError(f"retry_codes are codes of errors and ranges of them, such as [-32000], not {codes!r}")
    read = tuple(codes)
    for code in read:
        if not isinstance(code, (int, range)):
            raise ArgumentError(f"retry_codes has codes of errors and ranges of them, not {code!r}")
    return read
