"""Results as scripts get them, and the parts that `json.parse` takes out of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import ArgumentError
from sipwright.jsonrpc.resulttext import get_path, member_text, parse_path


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'"hello world"', "hello world"),
        (b'""', ""),
        (b'"a\\"b\\\\c\\/\\n\\u00e9\\ud83d\\ude00"', 'a"b\\c/\né😀'),
        ('"é😀"'.encode(), "é😀"),
        (b'"\\ud83d!"', "\ufffd!"),
        (b'"\xe9"', "\udce9"),
        (b'"\xe9\\n"', "\ufffd\n"),
        (b"1234", "1234"),
        (b"1.10", "1.10"),
        (b"1E400", "1E400"),
        (b"-0", "-0"),
        (b"true", "true"),
        (b"false", "false"),
        (b"null", "null"),
        (b"[1, 2]", "[1, 2]"),
        (b'{ "code": -32601, "message": "Method not found" }', '{ "code": -32601, "message": "Method not found" }'),
    ],
)
def test_a_member_is_stored_as_text(raw: bytes, text: str) -> None:
    assert member_text(raw) == text


@given(st.text())
def test_a_string_is_stored_as_its_characters(text: str) -> None:
    assert member_text(json.dumps(text).encode()) == text
    assert member_text(json.dumps(text, ensure_ascii=False).encode()) == text


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("", ()),
        ("$", ()),
        ("a", ("a",)),
        ("$.a", ("a",)),
        ("a.b-c.d e", ("a", "b-c", "d e")),
        ("path.to[0].member", ("path", "to", 0, "member")),
        ("$[2][-1]", (2, -1)),
        ("[2]", (2,)),
        ("a['x.y%'][\"it's\"].z", ("a", "x.y%", "it's", "z")),
        ("a%b.c", ("a.b", "c")),
        ("$a", ("$a",)),
        ("0.1", ("0", "1")),
        (".a", ("a",)),
    ],
)
def test_a_path_is_a_sequence_of_names_and_indices(path: str, steps: tuple[str | int, ...]) -> None:
    assert parse_path(path) == steps


@pytest.mark.parametrize(("path", "offset"), [("a..b", 1), ("a.", 1), ("a[x]", 1), ("a[0", 1), ("a]", 1), ("a[0]b", 4)])
def test_an_unreadable_path_is_an_error_with_its_place(path: str, offset: int) -> None:
    with pytest.raises(ArgumentError, match="a JSON path has the form") as caught:
        parse_path(path)
    assert caught.value.offset == offset


DOCUMENT = """{"code": -32601, "message": "no \\"x\\"", "data": {"list": [{"id": 7}, 1.10, 1E400, "last"], "ok": true,
 "none": null, "big": 9223372036854775808, "most": 9223372036854775807, "a.b": 1, "7": "seven"}}"""


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("code", -32601),
        ("message", 'no "x"'),
        ("data.list[0].id", 7),
        ("data.list[0]", '{"id":7}'),
        ("data.list.0.id", 7),
        ("data.list[1]", "1.10"),
        ("data.list[2]", "1E400"),
        ("data.list[-1]", "last"),
        ("data.list[4]", None),
        ("data.list[-5]", None),
        ("data.list.x", None),
        ("data.list", '[{"id":7},1.10,1E400,"last"]'),
        ("data.ok", "true"),
        ("data.none", None),
        ("data.big", "9223372036854775808"),
        ("data.most", 9223372036854775807),
        ("data.a%b", 1),
        ("data[7]", "seven"),
        ("data.nothing.more", None),
        ("code.x", None),
        ("message[0]", None),
    ],
)
def test_a_path_leads_to_a_script_value(path: str, value: int | str | None) -> None:
    assert get_path(DOCUMENT, parse_path(path)) == value


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("{'foo':'bar'}", "foo", "bar"),
        ("{'foo':[1.50,],}", "foo[0]", "1.50"),
        ("7", "$", 7),
        ('"x"', "", "x"),
        ("'caf\udce9'", "", "caf\ufffd"),
        ("timeout", "code", None),
        ("", "", None),
        ("[" * 100_000, "[0]", None),
        ("[" * 100 + "]" * 100, "[0]", "[" * 99 + "]" * 99),
        ("9" * 5000, "", None),
    ],
)
def test_scripts_own_texts_may_be_in_the_dialect_or_no_json_at_all(
    text: str, path: str, value: int | str | None
) -> None:
    assert get_path(text, parse_path(path)) == value
