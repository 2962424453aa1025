"""Regular expressions of scripts, in POSIX syntax."""

from __future__ import annotations

import pytest

from sipwright.errors import ArgumentError
from sipwright.lang.regex import compile_regex


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^sip:", "SIP:bob", True),
        ("a.b", "a\nb", True),
        ("b$", "ab", True),
        ("b$", "ab\n", False),
        (r"\$5", "$5", True),
        ("^[[:alpha:]_]+$", "ab_c", True),
        ("^[^[:digit:]]+$", "abc", True),
        ("^[^[:digit:]]+$", "ab1", False),
        ("^[]a]+$", "]a", True),
        ("^[^]]+$", "ab", True),
        ("[a&&b]", "&", True),
        (r"^[\d.]+$", "10.1", True),
        ("[$]", "$", True),
        ("^[+--]+$", "+-", True),
        ("(a|b){2}", "ab", True),
    ],
)
def test_matching(pattern: str, text: str, found: bool) -> None:
    assert (compile_regex(pattern).search(text) is not None) is found


def test_case_can_be_told_apart() -> None:
    assert compile_regex("^abc", ignore_case=False).search("ABC") is None


@pytest.mark.parametrize("pattern", ["(", "[a", "[[:alpha:]", "x[[b", "*a", "a{2,1}"])
def test_bad_expressions_are_faults(pattern: str) -> None:
    with pytest.raises(ArgumentError, match="bad regular expression"):
        compile_regex(pattern)
