"""Regular expressions that every Python from 3.11 on understands alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sipwright.errors import SipParseError
from sipwright.sip import parse as parser
from sipwright.sip.grammar import TOKEN, split_values, without_possessive_groups

SRC = Path(__file__).parent.parent.parent / "src"
TORTURE = Path(__file__).parent / "torture"


def test_no_group_is_possessive_but_in_the_pattern_of_whole_messages() -> None:
    # Python before 3.11.5 (Debian 12 has 3.11.2) takes such groups for something else.
    found = [path.name for path in SRC.rglob("*.py") if re.search(r"\)[?*+]\+", path.read_text())]
    assert found == ["parse.py"]


def test_possessive_groups_are_made_plain_ones() -> None:
    assert without_possessive_groups(r"(?:a++b)?+(c*+)*+[d]++(e)++") == r"(?:a++b)?(c*+)*[d]++(e)+"


@pytest.mark.parametrize("path", sorted(TORTURE.glob("*.sip")), ids=lambda path: path.stem)
def test_messages_are_taken_apart_alike_with_and_without_possessive_groups(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled() -> list[Any]:
        request = parser._compile(rf"([A-Z]++) ({parser._URI}) SIP/2\.0", r"\1")
        return [request, parser._compile(r"SIP/2\.0 ([1-6][0-9]{2}) ([^\r\n]*+)", TOKEN)]

    monkeypatch.setattr(parser, "POSSESSIVE_GROUPS_ARE_RIGHT", False)
    plain = compiled()
    monkeypatch.undo()
    usual = compiled()
    data = path.read_bytes()
    for one, other in zip(plain, usual, strict=True):
        first, second = one.match(data), other.match(data)
        assert (first and first.groups()) == (second and second.groups())


@pytest.mark.parametrize("text", ['"' * 20_000, '"\\' * 10_000, "<" * 20_000, "a," + "<a" * 10_000])
def test_a_text_that_cannot_be_split_is_refused_without_trying_everything(text: str) -> None:
    with pytest.raises(SipParseError):
        split_values(text + ",")
