"""Who may dial in."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipwright.errors import ArgumentError
from sipwright.modules.jsonrpc.tokens import Tokens


def tokens(*texts: str) -> Tokens:
    made = Tokens()
    for text in texts:
        made.add(text)
    return made


def test_each_token_of_a_group_lets_in_and_only_to_that_group() -> None:
    known = tokens("users=one", "users=two=2", "=main")
    assert known.groups == ["users", ""]
    assert [known.allow("users", token) for token in ("one", "two=2", "main", "", "on", "one ")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert (known.allow("", "main"), known.allow("", "one"), known.allow("others", "one")) == (True, False, False)


def test_an_empty_token_lets_everybody_in() -> None:
    assert tokens("users=").allow("users", "anything")
    assert not tokens("users=").allow("", "anything")


def test_a_token_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(" sécret\n")
    assert tokens(f"users=file:{path}").allow("users", "sécret")


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("secret", "no '=' between the group and its token", 0),
        ("users=file:{}/none", "cannot read the token file {}/none: No such file or directory", 11),
        ("users=file:{}/empty", "the token file {}/empty is empty", 11),
        ("users=file:{}/binary", "the token file {}/binary is not UTF-8", 11),
    ],
)
def test_what_is_no_token_is_told_with_its_place(tmp_path: Path, text: str, message: str, offset: int) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ArgumentError) as caught:
        tokens(text.replace("{}", str(tmp_path)))
    assert (caught.value.message, caught.value.offset) == (message.replace("{}", str(tmp_path)), offset)
