"""The dialect of parameters: each rule, each error with its offset, and the real json-c beside ours."""

import ctypes
import functools
import json
import math
import os
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sipwright.errors import JsonParseError
from sipwright.jsonrpc.lenient import MAX_DEPTH, parse, to_json


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("{'id': 1234}", b'{"id":1234}'),
        ("{'id': 1234, 'name': 'Petros'}", b'{"id":1234,"name":"Petros"}'),
        ('{"id": 1234}', b'{"id":1234}'),
        ("['a', \"b\"]", b'["a","b"]'),
        ("'a\"b'", rb'"a\"b"'),
        ("'a\\\"b'", rb'"a\"b"'),
        ('"it\'s"', b'"it\'s"'),
        (r"'\b\f\n\r\t\/\\'", rb'"\b\f\n\r\t/\\"'),
        ("'a\tb\nc\x01'", rb'"a\tb\nc\u0001"'),
        ("'\0'", rb'"\u0000"'),
        (r"'\u00e9\uD83D\uDE00'", '"é😀"'.encode()),
        ("'é'", '"é"'.encode()),
        ("[1,2,]", b"[1,2]"),
        ("{'a':1,}", b'{"a":1}'),
        ("[]", b"[]"),
        ("{}", b"{}"),
        ("{'': 0}", b'{"":0}'),
        ("[1, // one\n 2 /* two */]", b"[1,2]"),
        ("/* a */ // b\n {'a'/**/:/*//*/1/***/} // end", b'{"a":1}'),
        ("// only a value \n 1", b"1"),
        ("[TRUE, True, true, tRuE]", b"[true,true,true,true]"),
        ("[FALSE, null, NULL, Null]", b"[false,null,null,null]"),
        ("[NaN, nan, Infinity, -Infinity, -INFINITY]", b"[null,null,null,null,null]"),
        ("1.10", b"1.10"),
        ("[1.10,]", b"[1.10]"),
        ("[1e5, 1E+5, 1e-05, 1E400,]", b"[1e5,1E+5,1e-05,1E400]"),
        ("007", b"7"),
        ("[00, -00, 00.50, -01, 000e1]", b"[0,0,0.50,-1,0e1]"),
        ("-0", b"0"),
        ("[-0,]", b"[0]"),
        ("[-0.0,]", b"[-0.0]"),
        ("[1., 1.e5, -.5, -.5e5]", b"[1.0,1.0e5,-0.5,-0.5e5]"),
        ("[1e, 1e+, 1.5E-]", b"[1,1,1.5]"),
        ("[99999999999999999999999999,]", b"[99999999999999999999999999]"),
        ("true", b"true"),
        (" \t\r\n'x' ", b'"x"'),
        ("{'a':1,'b':2,'a':3}", b'{"a":3,"b":2}'),
        ('{"a":1,"b":2,"a":3}', b'{"a":3,"b":2}'),
    ],
)
def test_the_dialect_is_sent_as_strict_json(text: str, sent: bytes) -> None:
    assert to_json(text) == sent
    json.loads(sent, parse_constant=pytest.fail)


@pytest.mark.parametrize("text", ["", "   ", "\r\n\t", "// nothing", "/* nothing */ "])
def test_a_text_without_a_document_gives_no_bytes(text: str) -> None:
    assert to_json(text) == b""


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("{id: 1}", 1, "a key in quotes or '}' is expected, not 'i'"),
        ("{'a': 1, id: 1}", 9, "a key in quotes is expected, not 'i'"),
        ("{1: 2}", 1, "a key in quotes or '}' is expected, not '1'"),
        ("{,}", 1, "a key in quotes or '}' is expected, not ','"),
        ("{'a':1,,}", 7, "a key in quotes is expected, not ','"),
        ("{'a'}", 4, "':' is expected, not '}'"),
        ("{'a' 1}", 5, "':' is expected, not '1'"),
        ("{'a':}", 5, "a value is expected, not '}'"),
        ("{'a':1 'b':2}", 7, "',' or '}' is expected, not \"'\""),
        ("{'a':1", 6, "',' or '}' is expected, but the text ends"),
        ("[1", 2, "',' or ']' is expected, but the text ends"),
        ("[1,", 3, "a value is expected, but the text ends"),
        ("[1 2]", 3, "',' or ']' is expected, not '2'"),
        ("[1}", 2, "',' or ']' is expected, not '}'"),
        ("[,]", 1, "a value is expected, not ','"),
        ("[1,,2]", 3, "a value is expected, not ','"),
        ("[+1]", 1, "a number cannot start with '+'"),
        ("[.5]", 1, "a number cannot start with '.'"),
        ("[-]", 2, "a digit is expected, not ']'"),
        ("[ - 1]", 3, "a digit is expected, not ' '"),
        ("-.", 1, "a digit is expected, not '.'"),
        ("0x1F", 1, "the end of the text is expected, not 'x'"),
        ("[0x1F]", 2, "',' or ']' is expected, not 'x'"),
        ("[1-2]", 2, "',' or ']' is expected, not '-'"),
        ("1.5.5", 3, "the end of the text is expected, not '.'"),
        ("['it\\'s']", 4, "there is no escape sequence \\'"),
        ("'\\x41'", 1, "there is no escape sequence \\x"),
        ("'\\u12g4'", 1, "'\\u' needs four hexadecimal digits"),
        ("'ab\\", 3, "the text ends in an escape sequence"),
        ("['abc]", 1, "the string is not closed"),
        ('{"a": "b}', 6, "the string is not closed"),
        ("/* abc", 0, "the comment is not closed"),
        ("1 /*/", 2, "the comment is not closed"),
        ("1 / 2", 3, "'/' or '*' of a comment is expected, not ' '"),
        ("1/", 2, "'/' or '*' of a comment is expected, but the text ends"),
        ("[1] []", 4, "the end of the text is expected, not '['"),
        ("'a' 'b'", 4, 'the end of the text is expected, not "\'"'),
        ("{} x", 3, "the end of the text is expected, not 'x'"),
        ("}", 0, "a value is expected, not '}'"),
        ("undefined", 0, "a value is expected, not 'undefined'"),
        ("[truex]", 1, "a value is expected, not 'truex'"),
        ("[-NaN]", 1, "a value is expected, not '-NaN'"),
        ("Inf", 0, "a value is expected, not 'Inf'"),
        ("\0", 0, "a value is expected, not '\\x00'"),
        ("\x0b1", 0, "a value is expected, not '\\x0b'"),
        ("\ufeff1", 0, "a value is expected, not '\\ufeff'"),
        ("[1, '\udcff', +1]", 9, "a number cannot start with '+'"),
    ],
)
def test_an_error_names_the_character_and_what_is_expected(text: str, offset: int, message: str) -> None:
    with pytest.raises(JsonParseError) as caught:
        to_json(text)
    assert (caught.value.message, caught.value.offset) == (message, offset)


def test_an_error_shows_the_text_around_the_character() -> None:
    with pytest.raises(JsonParseError) as caught:
        to_json("{'id': +1}")
    assert caught.value.text == "{'id': +1}"
    assert str(caught.value) == "a number cannot start with '+' at character 8: \"{'id': \" <here> '+1}'"


def test_thirty_two_levels_are_allowed_and_no_more() -> None:
    for opening, closing in (("[", "]"), ("{'a':", "}"), ('{"a":', "}")):
        assert parse(opening * MAX_DEPTH + "1" + closing * MAX_DEPTH)
        for depth in (MAX_DEPTH + 1, 100_000):
            with pytest.raises(JsonParseError, match="more than 32 arrays and objects inside one another") as caught:
                to_json(opening * depth + "1" + closing * depth)
            assert caught.value.offset == len(opening) * MAX_DEPTH


def test_brackets_side_by_side_or_inside_strings_are_not_levels() -> None:
    assert to_json('["' + "[" * 40 + '"' + ",{}" * 40 + "]") == b'["' + b"[" * 40 + b'"' + b",{}" * 40 + b"]"


@pytest.mark.parametrize("text", [r"'\ud83d'", r"'\ude00'", r'"\ud83d"', "'\udcff'", '"\udcff"'])
def test_a_lone_surrogate_is_sent_as_the_replacement_character(text: str) -> None:
    assert to_json(text) == '"\ufffd"'.encode()


def test_surrogates_that_make_no_pair_are_replaced_one_by_one() -> None:
    assert parse(r"'\ud83d\u0041\ud83d\ud83d\ude00\ud83d\n\ude00\ud83d'") == "\ufffdA\ufffd😀\ufffd\n\ufffd\ufffd"
    assert parse("{'k\udcc3\udca9': 1}") == {"k\ufffd\ufffd": 1}


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("{'a':1}", 1, "a string must be in double quotes"),
        ("{\"a\":'b'}", 5, "a string must be in double quotes"),
        ("[1,]", 3, "a value is expected, not ']'"),
        ('{"a":1,}', 7, "a key in quotes is expected, not '}'"),
        ("[1]//", 3, "the end of the text is expected, not '/'"),
        ("[/**/]", 1, "a value is expected, not '/'"),
        ("TRUE", 0, "a value is expected, not 'TRUE'"),
        ("NaN", 0, "a value is expected, not 'NaN'"),
        ("-Infinity", 0, "a value is expected, not '-Infinity'"),
        ("007", 0, "007 is not a number of strict JSON"),
        ("[1.]", 1, "1. is not a number of strict JSON"),
        ("[1e]", 1, "1e is not a number of strict JSON"),
        ("-.5", 0, "-.5 is not a number of strict JSON"),
        ("12-", 2, "the end of the text is expected, not '-'"),
        ('"a\tb"', 2, "the control character '\\t' must be escaped"),
    ],
)
def test_strict_mode_refuses_the_dialect(text: str, offset: int, message: str) -> None:
    to_json(text.rstrip("-"))
    with pytest.raises(JsonParseError) as caught:
        to_json(text, strict=True)
    assert (caught.value.message, caught.value.offset) == (message, offset)


def test_strict_mode_takes_rfc_8259() -> None:
    assert to_json('{"a":[1.10,-0,"\\u0041",true,null,{}]}', strict=True) == b'{"a":[1.10,0,"A",true,null,{}]}'
    assert to_json('[-0.5e+1,"\\ud800"]', strict=True) == '[-0.5e+1,"\ufffd"]'.encode()
    assert to_json(" ", strict=True) == b""


def test_parse_gives_python_values() -> None:
    assert parse("{'a': [1, 2.50, NaN, TRUE, 'x'],}") == {"a": [1, 2.5, None, True, "x"]}
    assert parse("1E400") == math.inf


def test_parse_of_no_document_is_an_error() -> None:
    with pytest.raises(JsonParseError, match="there is no value"):
        parse(" ")


def test_an_integer_of_any_length_is_sent_but_not_made_a_python_value() -> None:
    digits = "9" * 5000
    assert to_json(digits) == digits.encode()
    with pytest.raises(JsonParseError, match="4300 digits"):
        parse(digits)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES, st.booleans(), st.booleans())
def test_strict_json_is_understood_as_the_standard_library_understands_it(
    value: object, escaped: bool, strict: bool
) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    assume(text.count("[") + text.count("{") <= MAX_DEPTH)
    assert parse(text, strict=strict) == value
    assert parse(f"/**/{text}//") == value


@given(
    st.text(alphabet=st.characters(exclude_categories=()), max_size=12) | st.text("[]{}'\",:/*\\0-+.eu ", max_size=12)
)
def test_any_text_gives_strict_json_or_a_parse_error_within_the_text(text: str) -> None:
    try:
        data = to_json(text)
    except JsonParseError as error:
        data = b""
        offset = error.offset
    else:
        offset = 0
    assert 0 <= offset <= len(text)
    if data:
        json.loads(data.decode("utf-8"))
        assert to_json(data.decode(), strict=True) == data


# json-c itself, through its C interface. The names are those of its header files.


class _Iterator(ctypes.Structure):
    _fields_ = (("opaque", ctypes.c_void_p),)


@functools.cache
def json_c() -> Any:
    """Return libjson-c. Without it the test is skipped, but fails where everything is meant to be installed."""
    try:
        lib = ctypes.CDLL("libjson-c.so.5")
    except OSError:
        if os.environ.get("CI"):
            pytest.fail("libjson-c.so.5 is not installed")
        pytest.skip("libjson-c.so.5 is not installed")
    pointer, string, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    for name, result, arguments in (
        ("json_tokener_new", pointer, ()),
        ("json_tokener_free", None, (pointer,)),
        ("json_tokener_parse_ex", pointer, (pointer, string, ctypes.c_int)),
        ("json_tokener_get_error", ctypes.c_int, (pointer,)),
        ("json_tokener_get_parse_end", size, (pointer,)),
        ("json_object_put", ctypes.c_int, (pointer,)),
        ("json_object_get_type", ctypes.c_int, (pointer,)),
        ("json_object_get_boolean", ctypes.c_int, (pointer,)),
        ("json_object_get_double", ctypes.c_double, (pointer,)),
        ("json_object_get_int64", ctypes.c_int64, (pointer,)),
        ("json_object_get_uint64", ctypes.c_uint64, (pointer,)),
        ("json_object_get_string", pointer, (pointer,)),
        ("json_object_get_string_len", ctypes.c_int, (pointer,)),
        ("json_object_array_length", size, (pointer,)),
        ("json_object_array_get_idx", pointer, (pointer, size)),
        ("json_object_iter_begin", _Iterator, (pointer,)),
        ("json_object_iter_end", _Iterator, (pointer,)),
        ("json_object_iter_next", None, (ctypes.POINTER(_Iterator),)),
        ("json_object_iter_equal", ctypes.c_int, (ctypes.POINTER(_Iterator), ctypes.POINTER(_Iterator))),
        ("json_object_iter_peek_name", string, (ctypes.POINTER(_Iterator),)),
        ("json_object_iter_peek_value", pointer, (ctypes.POINTER(_Iterator),)),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def meaning(lib: Any, value: int | None) -> Any:
    """Return the Python value of a json_object."""
    kind = lib.json_object_get_type(value)
    if kind == 1:
        return bool(lib.json_object_get_boolean(value))
    if kind == 2:
        return lib.json_object_get_double(value)
    if kind == 3:
        number = lib.json_object_get_int64(value)
        return number if number < 0 else lib.json_object_get_uint64(value)
    if kind == 4:
        members = {}
        here, end = lib.json_object_iter_begin(value), lib.json_object_iter_end(value)
        while not lib.json_object_iter_equal(ctypes.byref(here), ctypes.byref(end)):
            name = lib.json_object_iter_peek_name(ctypes.byref(here)).decode()
            members[name] = meaning(lib, lib.json_object_iter_peek_value(ctypes.byref(here)))
            lib.json_object_iter_next(ctypes.byref(here))
        return members
    if kind == 5:
        length = lib.json_object_array_length(value)
        return [meaning(lib, lib.json_object_array_get_idx(value, index)) for index in range(length)]
    if kind == 6:
        return ctypes.string_at(lib.json_object_get_string(value), lib.json_object_get_string_len(value)).decode()
    return None


REFUSED = object()


def understood_by_json_c(lib: Any, text: str) -> Any:
    """Return what json-c makes of the whole of a text, REFUSED when it does not understand all of it."""
    data = text.encode()
    tokener = lib.json_tokener_new()
    value = lib.json_tokener_parse_ex(tokener, data, -1)
    # Text after the value is not read, nor is it seen that a comment does not end.
    whole = lib.json_tokener_get_error(tokener) == 0 and lib.json_tokener_get_parse_end(tokener) == len(data)
    lib.json_tokener_free(tokener)
    if not whole:
        return REFUSED
    result = meaning(lib, value)
    lib.json_object_put(value)
    return result


def within_json_c(value: Any) -> Any:
    """Bring our value to what json-c can hold: 64 bits."""
    if isinstance(value, dict):
        return {key: within_json_c(member) for key, member in value.items()}
    if isinstance(value, list):
        return [within_json_c(element) for element in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-(2**63), min(value, 2**64 - 1))
    return value


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, float) and not math.isfinite(theirs) and ours is None:
        return True
    return bool(ours == theirs) and isinstance(ours, bool) == isinstance(theirs, bool)


def assert_as_json_c(text: str) -> None:
    text += "\n"  # a comment at the very end is where json-c loses its count
    # Named differences, tested by themselves below.
    assume(not any(odd in text for odd in ("**/", ".-", ".+", "\\u0000")))
    # Bytes cannot hold half of a pair.
    assume(not any("\ud800" <= character <= "\udfff" for character in text))
    theirs = understood_by_json_c(json_c(), text)
    try:
        data = to_json(text)
    except JsonParseError:
        data = b""
    if theirs is REFUSED:
        assert data == b""
    else:
        assert data, f"json-c reads {theirs!r}"
        assert same(within_json_c(json.loads(data)), theirs)


BLANKS = st.sampled_from(["", "", "", " ", "\n", "\t ", "/* c */", "// c\n", "/**/", "/*//*/"])
NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False).map(str),
    st.from_regex(r"\A-?[0-9]{0,3}(\.[0-9]{0,3})?([eE][+-]?[0-9]{0,2})?\Z"),
    st.sampled_from(["18446744073709551616", "-9223372036854775809", "1e400", "-0", "007"]),
)
WORDS = st.sampled_from(
    ["true", "TRUE", "fAlse", "null", "NaN", "nan", "Infinity", "-infinity", "-NaN", "Inf", "truee"]
)
CHARACTERS = st.one_of(
    st.characters(exclude_characters="\0"),
    st.sampled_from(["\\n", "\\/", "\\\\", "\\u00e9", "\\ud83d\\ude00", "\\ud83d", "\\ude00", "\\'", '\\"', "'", '"']),
)
STRINGS = st.tuples(st.lists(CHARACTERS, max_size=6).map("".join), st.sampled_from("'\"")).map(
    lambda pair: pair[1] + pair[0] + pair[1]
)
COMMAS = st.sampled_from([",", ",", ",", "", ",,", ";"])


def joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    padded = st.tuples(BLANKS, inner, BLANKS).map("".join)
    key = st.tuples(BLANKS, STRINGS | st.sampled_from(["'a'", '"a"', "'b'", "a", "1"]), BLANKS).map("".join)
    member = st.tuples(key, st.sampled_from([":", ":", ":", " "]), padded).map("".join)

    def elements(item: st.SearchStrategy[str], brackets: str) -> st.SearchStrategy[str]:
        items = st.tuples(st.lists(item, max_size=3), st.sampled_from([",", ",", ", ", ",,", ""]), COMMAS | st.just(""))
        return items.map(lambda of: brackets[0] + of[1].join(of[0]) + (of[2] if of[0] else "") + brackets[1])

    return elements(padded, "[]") | elements(member, "{}")


@given(st.tuples(BLANKS, st.recursive(NUMBERS | WORDS | STRINGS, joined, max_leaves=6), BLANKS).map("".join))
@example("[1e, 1.e+, -.5, 00.5, -01.50]")
@example("{'a':1,\"a\":2,}")
@example("")
def test_documents_mean_what_they_mean_to_json_c(text: str) -> None:
    assert_as_json_c(text)


TOKENS = st.sampled_from(
    [
        *"{}[],:1.-+eE/\\'\"éa \n\t",
        "'a'",
        '"b"',
        "-1",
        "1.5",
        "007",
        "0x1F",
        "true",
        "NaN",
        "-Infinity",
        "//",
        "/*",
        "*/",
    ]
)


@given(st.lists(TOKENS, max_size=8).map("".join))
@example("{a:1}")
@example("'it\\'s'")
@example("[+1]")
@example("[.5]")
@example("[1,,]")
@example("[ - 1]")
@example("0x1F")
@example("-NaN")
def test_texts_are_refused_where_json_c_refuses_them(text: str) -> None:
    assert_as_json_c(text)


@pytest.mark.parametrize(
    ("text", "theirs", "ours"),
    [
        ("[-Infinity]", [-math.inf], b"[null]"),
        ("99999999999999999999", 2**64 - 1, b"99999999999999999999"),
        ("-9223372036854775809", -(2**63), b"-9223372036854775809"),
        ("[" * 32 + "1" + "]" * 32, REFUSED, b"[" * 32 + b"1" + b"]" * 32),
        ("/***/1", REFUSED, b"1"),
        (r"{'a\u0000b':1}", {"a": 1}, rb'{"a\u0000b":1}'),
        ("[1.-]", [1.0], None),
        ("[1.+]", [1.0], None),
    ],
)
def test_documents_that_json_c_reads_otherwise(text: str, theirs: Any, ours: bytes | None) -> None:
    assert understood_by_json_c(json_c(), text) == theirs
    if ours is None:
        with pytest.raises(JsonParseError):
            to_json(text)
    else:
        assert to_json(text) == ours


@pytest.mark.parametrize("text", ["{'a':1} x", "1 2", "1,", "truex", "1 /* x", "{'a':1}}"])
def test_json_c_does_not_see_what_follows_the_value(text: str) -> None:
    lib = json_c()
    tokener = lib.json_tokener_new()
    value = lib.json_tokener_parse_ex(tokener, text.encode(), -1)
    assert lib.json_tokener_get_error(tokener) == 0
    lib.json_object_put(value)
    lib.json_tokener_free(tokener)
    with pytest.raises(JsonParseError):
        to_json(text)
