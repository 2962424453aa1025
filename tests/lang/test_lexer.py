"""Strings, numbers, comments and addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Body = Callable[..., list[Any]]
Faults = Callable[..., Any]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r'"a\tb\n\r\a\"\\"', 'a\tb\n\r\a"\\'),
        (r'"\x41\x7a\101\033"', "AzA\x1b"),
        (r'"\d \. \1"', r"\d \. \1"),
        (r"'raw \n \" $$'", r"raw \n \" $"),
        ('"joined " "strings\n" "three"', "joined strings\nthree"),
        ('"a\\\nb"', "ab"),
        ('"$$5 and $rm$$"', "$5 and OPTIONS$"),
        ("'$rm'", "OPTIONS"),
        ('""', ""),
        ('"# no // comment /* here"', "# no // comment /* here"),
        ('"größe"', "größe"),
    ],
)
def test_strings(body: Body, written: str, read: str) -> None:
    assert body(f"log({written});") == [read]


@pytest.mark.parametrize(
    ("written", "value"), [("12", 12), ("0x1F", 31), ("017", 15), ("101b", 5), ("0", 0), ("yes", 1), ("off", 0)]
)
def test_numbers(body: Body, written: str, value: int) -> None:
    assert body(f'$var(x) = {written}; log("$var(x)");') == [str(value)]


def test_comments(body: Body) -> None:
    assert body('# one " \n// two \' \n/* three /* nest */ */ log("a"); # four\n') == ["a"]


def test_a_string_that_is_not_closed_is_the_only_fault(faults: Faults) -> None:
    errors = faults('request_route {\n log("a);\n foo();\n log(b");\n log("c");\n bar("d);\n}\n')
    assert [(e.line, e.column) for e in errors] == [(2, 6)]
    assert "not closed" in errors[0].message


def test_faults_before_a_comment_that_is_not_closed_are_told(faults: Faults) -> None:
    errors = faults("#!define\nrequest_route {\n /* \n log(1);\n}\n")
    assert [e.line for e in errors] == [1, 3]


def test_an_unexpected_character_is_named(faults: Faults) -> None:
    errors = faults('request_route { log("a"); \x01 }\n')
    assert errors[0].message == "unexpected character '\\x01'"


def test_faults_inside_of_a_string_point_into_it(faults: Faults) -> None:
    errors = faults('request_route {\n  log("a\\t\\x41 $nosuch");\n}\n')
    assert (errors[0].line, errors[0].column) == (2, 16)
    assert str(errors[0]).splitlines()[2] == "    " + " " * 15 + "^"


def test_faults_in_joined_strings_point_into_the_right_one(faults: Faults) -> None:
    errors = faults('request_route {\n  log("a"\n    "b $nosuch");\n}\n')
    assert (errors[0].line, errors[0].column) == (3, 8)
