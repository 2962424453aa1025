"""Conversions of values while a script runs, at their edges."""

from __future__ import annotations

import pytest

from sipwright.lang import runtime
from sipwright.lang.namespace import Value


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("5", 5),
        ("-5", -5),
        ("+5", 5),
        ("010", 10),
        ("0x1f", 31),
        ("-0x1f", -31),
        ("", None),
        ("-", None),
        (" 5", None),
        ("5a", None),
        ("0xg", None),
        ("²", None),
        ("٣", None),
        ("9" * 30, None),
        ("1_0", None),
        (7, 7),
        (None, None),
    ],
)
def test_text_that_is_a_number(value: Value, number: int | None) -> None:
    assert runtime.parse_int(value) == number
    assert runtime.to_int(value) == (number or 0)


@pytest.mark.parametrize(
    ("left", "right", "result"),
    [
        (1, 1, True),
        ("a", "A", False),
        (5, "5", True),
        (5, "05", True),
        ("05", 5, False),
        (0, "abc", False),
        (0, "", False),
        (None, None, True),
        (None, 0, True),
        (None, "", True),
        ("", None, True),
        (0, None, True),
        (None, 1, False),
        ("a", None, False),
    ],
)
def test_equality(left: Value, right: Value, result: bool) -> None:
    assert runtime.equal(left, right) is result


def test_numbers_stay_in_64_bits() -> None:
    assert runtime.wrap(2**63) == -(2**63)
    assert runtime.wrap(-(2**63) - 1) == 2**63 - 1
    assert runtime.shift_left(1, 63) == -(2**63)
    assert runtime.shift_left(1, 64) == runtime.shift_left(1, -1) == runtime.shift_left(1, 10**9) == 0
    assert runtime.shift_right(-8, 1) == -4
    assert runtime.shift_right(8, 10**9) == 0
    assert runtime.shift_right(8, -1) == 0


def test_none_is_told_in_strings_and_empty_in_expressions() -> None:
    assert runtime.as_parameter(None) == "<null>"
    assert runtime.as_text(None) == ""
