"""Templates: what a variable becomes at each place, what is refused at load, and that no value can break out."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sipwright.errors import JsonParseError
from sipwright.jsonrpc.template import Value, compile_template


@dataclass(frozen=True)
class Var:
    """A variable, as a script has it."""

    text: str


A, B, C = Var("$fU"), Var("$var(id)"), Var("$(hdr(X)[0])")


def filled(parts: list[str | Var], *values: Value, strict: bool = False) -> bytes:
    return compile_template(parts, strict).fill(values)


def test_a_template_without_variables_is_a_constant() -> None:
    template = compile_template(["{'id': 1234, ", "'name': '100%b',}"])
    assert template.constant == b'{"id":1234,"name":"100%b"}'
    assert template.slots == ()
    assert template.fill(()) == template.constant


@pytest.mark.parametrize("parts", [[], [""], ["  "], ["/* nothing */"]])
def test_an_empty_template_is_the_constant_of_no_params(parts: list[str]) -> None:
    assert compile_template(parts).constant == b""


def test_variables_are_filled_in_the_order_of_slots() -> None:
    template = compile_template(["{'user': '", A, "', 'id': ", B, "}"])
    assert template.constant is None
    assert template.slots == (A, B)
    assert template.fill(["alice", 1234]) == b'{"user":"alice","id":1234}'


def test_a_percent_sign_of_the_script_is_kept() -> None:
    assert filled(["{'100%b %s': '%", A, "%%', 'p': ['%', ", B, "]}"], "%b", "5") == (
        b'{"100%b %s":"%%b%%","p":["%",5]}'
    )


def test_a_variable_inside_quotes_cannot_leave_them() -> None:
    data = filled(["{'name': '", A, "'}"], "x','admin':true,'y':'")
    assert data == b"{\"name\":\"x','admin':true,'y':'\"}"
    assert json.loads(filled(["{'name': '", A, "'}"], 'x","admin":true,"y":"')) == {"name": 'x","admin":true,"y":"'}
    assert json.loads(filled(['["', A, '", 1]'], "\\")) == ["\\", 1]


@pytest.mark.parametrize(
    ("value", "characters"),
    [
        ("", ""),
        (None, ""),
        (0, "0"),
        (-17, "-17"),
        (2**70, str(2**70)),
        ("true", "true"),
        ("<null>", "<null>"),
        ("a'b\"c\\d/e", "a'b\"c\\d/e"),
        ("\0\x01\x1f\x7f\r\n\t", "\0\x01\x1f\x7f\r\n\t"),
        ("é€😀", "é€😀"),
        ("\\u0022\\", "\\u0022\\"),
        ("caf\udce9 \ud83d\ude00", "caf\ufffd \ufffd\ufffd"),
        ("\u2028\ufeff\uffff", "\u2028\ufeff\uffff"),
        ('"' * 100_000, '"' * 100_000),
    ],
)
def test_a_value_inside_quotes_is_characters(value: Value, characters: str) -> None:
    assert json.loads(filled(["{'a': '", A, "'}"], value)) == {"a": characters}
    assert json.loads(filled(['["<', A, '>"]'], value)) == [f"<{characters}>"]
    assert json.loads(filled(["{'k", A, "': 1}"], value)) == {f"k{characters}": 1}
    assert json.loads(filled(['"', A, A, '"'], value, value)) == characters * 2


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (1234, b"1234"),
        (-1, b"-1"),
        (0, b"0"),
        (None, b"null"),
        ("1234", b"1234"),
        ("1.10", b"1.10"),
        (" 12 ", b"12"),
        ("007", b"7"),
        ("-0", b"0"),
        ("true", b"true"),
        ("FALSE", b"false"),
        ("null", b"null"),
        ("NaN", b"null"),
        ('"text"', b'"text"'),
        ("'it\"s'", b'"it\\"s"'),
        ('{"a": [1, {}]}', b'{"a":[1,{}]}'),
        ("{'a': 1, /* c */}", b'{"a":1}'),
        ("'\udcff'", '"\ufffd"'.encode()),
    ],
)
def test_a_value_outside_of_quotes_is_a_whole_document(value: Value, sent: bytes) -> None:
    assert filled(["{'a': ", A, "}"], value) == b'{"a":' + sent + b"}"
    assert filled(["[/**/", A, "/**/,", B, ",]"], 1, value) == b"[1," + sent + b"]"


@pytest.mark.parametrize(
    ("value", "offset", "message"),
    [
        ("", 0, "$fU stands for a value, and is empty"),
        (" ", 0, "$fU stands for a value, and is empty"),
        ("alice", 0, "$fU is not a JSON value: a value is expected, not 'alice'"),
        ("+4930123", 0, "$fU is not a JSON value: a number cannot start with '+'"),
        ("1,'admin':true", 1, "$fU is not a JSON value: the end of the text is expected, not ','"),
        ("1}", 1, "$fU is not a JSON value: the end of the text is expected, not '}'"),
        ("1 //", None, ""),
        ("1 /*", 2, "$fU is not a JSON value: the comment is not closed"),
        ("'x", 0, "$fU is not a JSON value: the string is not closed"),
        ("[1", 2, "$fU is not a JSON value: ',' or ']' is expected, but the text ends"),
    ],
)
def test_a_text_that_is_no_document_cannot_be_a_value(value: str, offset: int | None, message: str) -> None:
    template = compile_template(["{'a': ", A, ", 'b': 2}"])
    if offset is None:
        assert template.fill([value]) == b'{"a":1,"b":2}'
        return
    with pytest.raises(JsonParseError) as caught:
        template.fill([value])
    assert (caught.value.message, caught.value.offset, caught.value.text) == (message, offset, value)


def test_a_value_is_as_deep_as_its_place_allows() -> None:
    template = compile_template(["[" * 20, A, "]" * 20])
    assert template.fill(["[" * 12 + "]" * 12]) == b"[" * 32 + b"]" * 32
    with pytest.raises(JsonParseError, match="inside one another") as caught:
        template.fill(["[" * 13 + "]" * 13])
    assert caught.value.offset == 12


@pytest.mark.parametrize("parts", [[A], ["", A, ""], [" ", A, "\n"], ["/* all of it: */", A]])
@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("{'id': 1234}", b'{"id":1234}'),
        ('{"price": 1.10}', b'{"price":1.10}'),
        ("[1,]", b"[1]"),
        (1234, b"1234"),
        ("'x'", b'"x"'),
        ("null", b"null"),
        ("", b""),
        ("  ", b""),
        (None, b""),
    ],
)
def test_a_template_of_one_variable_is_parsed_when_it_is_filled(
    parts: list[str | Var], value: Value, sent: bytes
) -> None:
    template = compile_template(parts)
    assert template.slots == (A,)
    assert template.constant is None
    assert template.fill([value]) == sent


def test_a_template_of_one_variable_points_into_its_value() -> None:
    with pytest.raises(JsonParseError) as caught:
        filled([A], "{id: 1}")
    assert str(caught.value) == (
        "$fU is not a JSON value: a key in quotes or '}' is expected, not 'i' at character 2: '{' <here> 'id: 1}'"
    )


@pytest.mark.parametrize(
    ("parts", "offset", "message"),
    [
        (["{", A, ": 1}"], 1, "a variable can only be a whole value, or inside quotes"),
        (["{'a': 1, ", A, ": 1}"], 9, "a variable can only be a whole value, or inside quotes"),
        (["{'a' ", A, " 1}"], 5, "a variable can only be a whole value, or inside quotes"),
        (["{'a': 1", A, "}"], 7, "a variable can only be a whole value, or inside quotes"),
        (["{'a': 1 ", A, "}"], 8, "a variable can only be a whole value, or inside quotes"),
        (["[-", A, "]"], 2, "a variable can only be a whole value, or inside quotes"),
        ([A, B], 3, "a variable can only be a whole value, or inside quotes"),
        (["{'a': '", A, "', 'b': ", B, C, "}"], 26, "a variable can only be a whole value, or inside quotes"),
        (["{'a': 1}", A], 8, "a variable can only be a whole value, or inside quotes"),
        ([A, ": 1"], 3, "the end of the text is expected, not ':'"),
        (["[", A, "1]"], 4, "',' or ']' is expected, not '1'"),
        (["[tr", A, "]"], 1, "a value is expected, not 'tr'"),
        (["['", A, "]"], 1, "the string is not closed"),
        (["['", A, "' x ]"], 7, "',' or ']' is expected, not 'x'"),
        (["['a\\", A, "']"], 3, "an escape sequence cannot go on in a variable"),
        (["['\\u00", A, "']"], 2, "'\\u' needs four hexadecimal digits"),
        (["[/", A, "]"], 2, "a variable can only be a whole value, or inside quotes"),
        (["[1 /* ", A, "]"], 3, "the comment is not closed"),
        (["{id: ", A, "}"], 1, "a key in quotes or '}' is expected, not 'i'"),
        (["[", A, ", +1]"], 6, "a number cannot start with '+'"),
        (["[", A, ", ", B], 14, "',' or ']' is expected, but the text ends"),
    ],
)
def test_an_error_at_load_counts_a_variable_as_its_text(parts: list[str | Var], offset: int, message: str) -> None:
    with pytest.raises(JsonParseError) as caught:
        compile_template(parts)
    shown = "".join(part if isinstance(part, str) else part.text for part in parts)
    assert (caught.value.message, caught.value.offset, caught.value.text) == (message, offset, shown)


def test_variables_in_comments_are_not_used() -> None:
    template = compile_template(["{'a': ", A, " /* ", B, " */, // ", C, "\n 'b': '", B, "'}"])
    assert template.slots == (A, B)
    assert template.fill([1, "x"]) == b'{"a":1,"b":"x"}'
    assert compile_template(["[] //", A]).constant == b"[]"


def test_variables_in_a_member_that_is_repeated_later_are_not_used() -> None:
    template = compile_template(["{'a': ", A, ", 'b': ", B, ", 'a': ", C, "}"])
    assert template.slots == (C, B)
    assert template.fill([1, 2]) == b'{"a":1,"b":2}'
    assert compile_template(["{'a': ", A, ", 'a': 0}"]).constant == b'{"a":0}'


def test_a_nul_character_of_the_script_is_not_a_variable() -> None:
    assert filled(["['\0", A, "\0']"], "x") == b'["\\u0000x\\u0000"]'
    with pytest.raises(JsonParseError, match=r"not '.x00'"):
        compile_template(["[\0, ", A, "]"])


def test_a_variable_may_be_a_key_or_part_of_one() -> None:
    template = compile_template(["{'", A, "': {'x-", B, "-", C, "': 1, 'y': 2}, 'z': '", A, "'}"])
    assert template.slots == (A, B, C, A)
    assert template.fill(["a", 1, None, "b"]) == b'{"a":{"x-1-":1,"y":2},"z":"b"}'


@pytest.mark.parametrize(
    ("parts", "values", "offset", "key"),
    [
        (["{'admin': false, '", A, "': true}"], ["admin"], 18, "admin"),
        (["{'", A, "': true, 'admin': false}"], ["admin"], 2, "admin"),
        (["{'", A, "': 1, '", A, "': 2}"], ["x", "x"], 12, "x"),
        (["[{'", A, "': 1, 'b': {'k-", B, "': 1, 'k-7': 2}}]"], ["b", 8], 3, "b"),
        (["[{'", A, "': 1, 'b': {'k-", B, "': 1, 'k-7': 2}}]"], ["a", 7], 21, "k-7"),
        (["{'", A, "': 1, '", B, "': 2}"], ["\udcff", "\udcfe"], 12, "\ufffd"),
        (["{'", A, "': 1, '': 2}"], [None], 2, ""),
    ],
)
def test_a_variable_cannot_replace_another_member(
    parts: list[str | Var], values: list[Value], offset: int, key: str
) -> None:
    template = compile_template(list(parts))
    with pytest.raises(JsonParseError) as caught:
        template.fill(values)
    assert (caught.value.message, caught.value.offset) == (f"two keys of one object are {key!r}", offset)
    assert template.fill([f"other{n}" for n, _ in enumerate(values)])


def test_strict_mode_understands_nothing_but_json() -> None:
    template = compile_template(['{"a": "', A, '", "b": ', B, "}"], strict=True)
    assert template.fill(["'", '{"c": 1.10}']) == b'{"a":"\'","b":{"c":1.10}}'
    assert template.fill([1, 2]) == b'{"a":"1","b":2}'
    for value in ("{'c': 1}", "TRUE", "[1,]", "NaN", "007"):
        with pytest.raises(JsonParseError, match="not a JSON value"):
            template.fill(["", value])
        with pytest.raises(JsonParseError, match="not a JSON value"):
            filled([A], value, strict=True)
    for text in ("{'a': ", "[/* */", "[1., "):
        with pytest.raises(JsonParseError):
            compile_template([text, A, "}]"], strict=True)


def test_too_few_values_are_not_accepted() -> None:
    with pytest.raises(TypeError):
        filled(["['", A, "', ", B, "]"], "x")


# The property: a document is described by a tree, written in the dialect with variables in it, and read back by the
# standard library. What comes back is the tree with the values in place, whatever the values are.

NASTY = [
    "x','admin':true,'y':'",
    'x","admin":true,"y":"',
    "\\",
    '\\"',
    "\\u0022",
    "'}//",
    "*/",
    "/*",
    "%b%s%%",
    "\0\x1f\x7f",
    "\udcff",
    "\ud83d",
    "null",
    "{'a':1}",
    "\u2028",
]
TEXTS = (
    st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(NASTY) | st.text("'\"\\{}[],:/*%\0 ")
)
VALUES = st.none() | st.integers() | TEXTS


@dataclass
class Quoted:
    """A string of literal texts and values."""

    parts: list[str | tuple[Value]]

    @property
    def characters(self) -> str:
        texts = [part if isinstance(part, str) else "" if part[0] is None else str(part[0]) for part in self.parts]
        return "".join("".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text) for text in texts)


@dataclass
class Bare:
    """A value that stands for a document, and that document's meaning."""

    value: Value
    document: Any


LITERALS = st.text(max_size=6)
QUOTED = st.lists(LITERALS | st.tuples(VALUES), max_size=4).map(Quoted)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS.map(lambda text: Quoted([text]).characters),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LITERALS, inner, max_size=3),
    max_leaves=5,
)
BARE = st.one_of(
    st.integers().map(lambda number: Bare(number, number)),
    st.just(Bare(None, None)),
    DOCUMENTS.map(lambda document: Bare(json.dumps(document), document)),
)


def unique(members: list[tuple[Quoted, Any]]) -> list[tuple[Quoted, Any]]:
    found = {key.characters: (key, value) for key, value in members}
    return list(found.values())


TREES = st.recursive(
    st.integers() | st.booleans() | st.none() | QUOTED | BARE,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(QUOTED, inner), max_size=4).map(unique).map(tuple),
    max_leaves=10,
)


def written(tree: Any, quote: str, parts: list[str | Var], values: list[Value]) -> None:
    """Write a tree (a tuple is an object) as a template's parts, and the values of its variables."""
    if isinstance(tree, Quoted):
        parts.append(quote)
        for part in tree.parts:
            if isinstance(part, str):
                parts.append(json.dumps(part)[1:-1] if quote == '"' else json.dumps(part)[1:-1].replace("'", "\\u0027"))
            else:
                parts.append(Var(f"$var(v{len(values)})"))
                values.append(part[0])
        parts.append(quote)
    elif isinstance(tree, Bare):
        parts.append(Var(f"$var(v{len(values)})"))
        values.append(tree.value)
    elif isinstance(tree, (list, tuple)):
        parts.append("[" if isinstance(tree, list) else "{")
        for element in tree:
            if isinstance(tree, tuple):
                written(element[0], quote, parts, values)
                parts.append(": ")
            written(element[1] if isinstance(tree, tuple) else element, quote, parts, values)
            parts.append(", /* ' */ ")
        parts.append("]" if isinstance(tree, list) else "}")
    else:
        parts.append(json.dumps(tree))


def meant(tree: Any) -> Any:
    if isinstance(tree, Quoted):
        return tree.characters
    if isinstance(tree, Bare):
        return tree.document
    if isinstance(tree, list):
        return [meant(element) for element in tree]
    if isinstance(tree, tuple):
        return {key.characters: meant(value) for key, value in tree}
    return tree


@given(st.lists(TREES, min_size=1, max_size=3), st.sampled_from("'\""))
@example([((Quoted([("k",)]), Quoted([("\udcff'\"",)])),)], "'")
def test_no_value_changes_the_structure_of_the_document(tree: Any, quote: str) -> None:
    parts: list[str | Var] = []
    values: list[Value] = []
    written(tree, quote, parts, values)
    template = compile_template(parts)
    assert [slot.text for slot in template.slots] == [f"$var(v{n})" for n in range(len(values))]
    data = template.fill(values)
    assert json.loads(data.decode("utf-8")) == meant(tree)


@given(st.lists(VALUES, min_size=4, max_size=4))
def test_any_values_give_the_same_skeleton_or_an_error(values: list[Value]) -> None:
    template = compile_template(["{'k", A, "': ['", B, "', ", C, "], 'z': {'", A, "': 1}}"])
    try:
        data = template.fill(values)
    except JsonParseError:
        return
    document = json.loads(data.decode("utf-8"))
    first, last = list(document) if len(document) == 2 else ("", "")
    assert first[:1] == "k"
    assert last == "z"
    assert isinstance(document[first][0], str)
    assert len(document[first]) == 2
    assert list(document["z"].values()) == [1]
