"""Results as Kamailio 5.6.3 gives them, where it gives any."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import ArgumentError
from sipwright.modules.pv.encodings import Encodings

URI = "sip:bob:pw@example.com:5070;transport=udp;x=1;lr;r2=on;user=phone;maddr=1.2.3.4;ttl=5;method=INVITE?Subject=hi"
QUOTED = 'it\'s "q" \\ x'
PARAMS = 'a=1;b=22;c="x;y";d'
NAMED = '"test" <sip:test@kamailio.net>;tag=zz;x=y'
LINES = "l1\nl2\r\nl3"


@pytest.mark.parametrize(
    ("value", "name", "params", "result"),
    [
        ("abcdef", "s.len", [], 6),
        (1234, "s.len", [], 4),
        ("12", "s.int", [], 12),
        ("-7", "s.int", [], -7),
        ("12abc", "s.int", [], None),
        (" 12", "s.int", [], None),
        ("1_2", "s.int", [], None),
        ("", "s.int", [], None),
        ("abcdef", "s.substr", ["1", "0"], "bcdef"),
        ("abcdef", "s.substr", ["-2", "0"], "ef"),
        ("abcdef", "s.substr", ["1", "2"], "bc"),
        ("abcdef", "s.substr", ["1", "20"], "bcdef"),
        ("abcdef", "s.substr", ["9", "1"], ""),
        ("abcdef", "s.substr", ["-9", "1"], ""),
        ("12,34,56", "s.select", ["1", ","], "34"),
        ("12,34,56", "s.select", ["-1", ","], "56"),
        ("12,34,56", "s.select", ["5", ","], ""),
        ("12,34,56", "s.select", ["-5", ","], ""),
        ("abcdef", "s.strip", ["2"], "cdef"),
        ("abcdef", "s.strip", ["20"], ""),
        ("abcdef", "s.striptail", ["2"], "abcd"),
        ("abcdef", "s.striptail", ["20"], ""),
        ("abcdef", "s.encode.hexa", [], "616263646566"),
        (1234, "s.encode.hexa", [], "31323334"),
        ("a1b2 - 3", "s.decode.hexa", [], ""),
        ("a1b2 - 3", "s.encode.base64", [], "YTFiMiAtIDM="),
        ("a1b2 - 3", "s.encode.base64t", [], "YTFiMiAtIDM"),
        ("a1b2 - 3", "s.encode.base58", [], "HFtno4yCMUn"),
        (QUOTED, "s.escape.common", [], 'it\\\'s \\"q\\" \\\\ x'),
        (QUOTED, "s.escape.user", [], "it's%20%22q%22%20%5c%20x"),
        (QUOTED, "s.escape.csv", [], '"it\'s ""q"" \\ x"'),
        (QUOTED, "s.urlencode.param", [], "it%27s%20%22q%22%20%5c%20x"),
        ("a%41+b%33", "s.urldecode.param", [], "aA b3"),
        ("a%zz", "s.unescape.user", [], ""),
        ("-_.!~*'()&=+,;?/[]:@%<>", "s.escape.user", [], "-_.!~*'()&=+,;?%2f%5b%5d%3a%40%25%3c%3e"),
        ("-_.!~*'()&=+,;?/[]:@%<>", "s.escape.param", [], "-_.!~*'()&%3d+%2c%3b%3f/[]:%40%25%3c%3e"),
        ("(040)1234/567-89", "s.numeric", [], "040123456789"),
        ("  ab c \t", "s.trim", [], "ab c"),
        ("  ab c \t", "s.ltrim", [], "ab c \t"),
        ("  ab c \t", "s.rtrim", [], "  ab c"),
        ("  ab c \t", "s.rmws", [], "abc"),
        ("abcdef", "s.prefixes", [], "a,ab,abc,abcd,abcde,abcdef"),
        ("abcdef", "s.prefixes", ["3"], "a,ab,abc"),
        ("abcdef", "s.prefixes.quoted", ["3"], "'a','ab','abc'"),
        ("abcdef", "s.replace", ["cd", "XX"], "abXXef"),
        ("abcdef", "s.rm", ["cd"], "abef"),
        ("abcdef", "s.corehash", [], "1834986995"),
        ("abcdef", "s.corehash", ["16"], "3"),
        ("abcdef", "s.after", ["c"], "def"),
        ("abcdef", "s.after", ["z"], ""),
        ("abcdef", "s.before", ["c"], "ab"),
        ("abcdef", "s.before", ["z"], "abcdef"),
        ("abcdefcgh", "s.rafter", ["c"], "gh"),
        ("abcdefcgh", "s.rbefore", ["c"], "abcdef"),
        ("abcdefcgh", "s.rbefore", ["z"], "abcdefcgh"),
        ("abababa", "s.count", ["a"], 4),
        ("abcdefgh", "s.fmtlines", ["4", "2"], "abcd\r\n  efgh"),
        ("abcdefgh", "s.fmtlinet", ["4", "1"], "abcd\r\n\tefgh"),
        ("abcdef", "s.md5", [], "e80b5017098950fc58aad83c8c14978e"),
        ("aÄ", "s.toupper", [], "AÄ"),
        ("AÄ", "s.tolower", [], "aÄ"),
        ("'x'", "s.unquote", [], "x"),
        ('"x', "s.unquote", [], '"x'),
        ("<a>", "s.unbracket", [], "a"),
        ("[b", "s.unbracket", [], "[b"),
        ("abcdef", "s.ftime", ["%Y"], ""),
        (URI, "uri.user", [], "bob"),
        (URI, "uri.passwd", [], "pw"),
        (URI, "uri.host", [], "example.com"),
        (URI, "uri.domain", [], "example.com"),
        (URI, "uri.port", [], 5070),
        ("sip:a@b", "uri.port", [], ""),
        (URI, "uri.params", [], "transport=udp;x=1;lr;r2=on;user=phone;maddr=1.2.3.4;ttl=5;method=INVITE"),
        (URI, "uri.param", ["x"], "1"),
        (URI, "uri.param", ["nope"], ""),
        (URI, "uri.headers", [], "Subject=hi"),
        (URI, "uri.transport", [], "udp"),
        (URI, "uri.ttl", [], "5"),
        (URI, "uri.uparam", [], "phone"),
        (URI, "uri.maddr", [], "1.2.3.4"),
        (URI, "uri.method", [], "INVITE"),
        (URI, "uri.lr", [], ""),
        (URI, "uri.r2", [], "on"),
        (URI, "uri.scheme", [], "sip"),
        (URI, "uri.tosocket", [], "udp:example.com:5070"),
        (URI, "uri.duri", [], "sip:example.com:5070;transport=udp"),
        (URI, "uri.saor", [], "sip:bob@example.com"),
        (URI, "uri.suri", [], "sip:bob@example.com:5070;transport=udp"),
        ("tel:+123;phone-context=x", "uri.user", [], "+123"),
        ("tel:+123;phone-context=x", "uri.host", [], ""),
        ("no uri", "uri.user", [], ""),
        (PARAMS, "param.value", ["b"], "22"),
        (PARAMS, "param.value", ["B"], "22"),
        (PARAMS, "param.value", ["c"], "x;y"),
        (PARAMS, "param.value", ["d"], ""),
        ("a=1&b=2", "param.value", ["b", "&"], "2"),
        (PARAMS, "param.in", ["d"], 1),
        (PARAMS, "param.in", ["e"], 0),
        (PARAMS, "param.valueat", ["1"], "22"),
        (PARAMS, "param.valueat", ["-1"], ""),
        (PARAMS, "param.name", ["1"], "b"),
        (PARAMS, "param.name", ["-1"], "d"),
        (PARAMS, "param.name", ["9"], ""),
        (PARAMS, "param.count", [], 4),
        ("", "param.count", [], 0),
        (NAMED, "nameaddr.name", [], '"test"'),
        (NAMED, "nameaddr.uri", [], "sip:test@kamailio.net"),
        (NAMED, "nameaddr.len", [], 30),
        ("sip:a@b;p=1", "nameaddr.uri", [], "sip:a@b;p=1"),
        ("<sip:a@b>", "nameaddr.name", [], ""),
        (NAMED, "tobody.uri", [], "sip:test@kamailio.net"),
        (NAMED, "tobody.display", [], '"test"'),
        (NAMED, "tobody.tag", [], "zz"),
        (NAMED, "tobody.user", [], "test"),
        (NAMED, "tobody.host", [], "kamailio.net"),
        (NAMED, "tobody.params", [], "tag=zz;x=y"),
        ("nonsense", "tobody.uri", [], ""),
        (LINES, "line.count", [], 3),
        (LINES, "line.at", ["1"], "l2"),
        (LINES, "line.at", ["-1"], "l3"),
        (LINES, "line.at", ["9"], ""),
        ("l1\n", "line.count", [], 1),
        (LINES, "line.sw", ["l2"], "l2"),
        (LINES, "line.sw", ["x"], ""),
        ('"n" <sip:a>', "val.json", [], '\\"n\\" <sip:a>'),
        ('"n"', "val.jsonqe", [], '"\\"n\\""'),
        (5, "val.jsonqe", [], 5),
        ("udp:[::1]:5060", "sock.host", [], "[::1]"),
        ("udp:[::1]:5060", "sock.port", [], "5060"),
        ("udp:[::1]:5060", "sock.proto", [], "udp"),
        ("udp:[::1]:5060", "sock.touri", [], "sip:[::1]:5060;transport=udp"),
        (URI, "urialias.encode", [], "example.com~5070~1"),
        ("127.0.0.1~5060~2", "urialias.decode", [], "sip:127.0.0.1:5060;transport=tcp"),
    ],
)
def test_transformations(load: Any, value: Any, name: str, params: list[str], result: Any) -> None:
    assert load("pv").transform(value, name, *params) == result


@pytest.mark.parametrize(
    ("name", "params", "result"),
    [
        ("s.len", [], None),
        ("s.int", [], None),
        ("s.toupper", [], None),
        ("uri.user", [], None),
        ("val.n0", [], 0),
        ("val.ne", [], ""),
        ("val.jsonqe", [], '""'),
    ],
)
def test_transformations_of_null(load: Any, name: str, params: list[str], result: Any) -> None:
    assert load("pv").transform(None, name, *params) == result


def test_a_parameter_may_be_a_variable(load: Any) -> None:
    script = load("pv")
    script.set("var", "i", -2)
    assert script.transform("12,34,56", "s.select", script.variable("var", "i"), ",") == "34"


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("s.nope", [], "unknown transformation '{s.nope}'"),
        ("s.select", ["1"], "{s.select} takes 2 parameters, found 1"),
        ("s.select", ["x", ","], "expected an integer, found 'x'"),
        ("s.select", ["1", "::"], "expected one character, found '::'"),
        ("s.substr", ["1", "-2"], "expected 0 or more, found -2"),
    ],
)
def test_wrong_uses_are_errors_at_load(load: Any, name: str, params: list[str], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        load("pv").transform("x", name, *params)
    assert message in str(caught.value)


TEXTS = st.text(st.characters(codec="utf-8"))


@pytest.mark.parametrize(
    ("encode", "decode"),
    [
        ("s_encode_hexa", "s_decode_hexa"),
        ("s_encode_base58", "s_decode_base58"),
        ("s_encode_base64", "s_decode_base64"),
        ("s_encode_base64t", "s_decode_base64t"),
        ("s_encode_base64url", "s_decode_base64url"),
        ("s_encode_base64urlt", "s_decode_base64urlt"),
        ("s_escape_common", "s_unescape_common"),
        ("s_escape_user", "s_unescape_user"),
        ("s_escape_param", "s_unescape_param"),
        ("s_urlencode_param", "s_urldecode_param"),
    ],
)
@given(text=TEXTS)
def test_decoding_gives_back_what_was_encoded(encode: str, decode: str, text: str) -> None:
    module = Encodings(lambda name: name)
    assert getattr(module, decode)(getattr(module, encode)(text)) == text
