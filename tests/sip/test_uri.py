"""URIs: parts, writing, comparison (RFC 3261 section 19.1.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import SipParseError
from sipwright.sip.uri import equivalent, parse_uri


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sip:example.com", ("sip", None, None, "example.com", None)),
        ("sip:alice@example.com", ("sip", "alice", None, "example.com", None)),
        ("SIPS:alice:secret@example.com:5061", ("sips", "alice", "secret", "example.com", 5061)),
        ("sip:alice:@example.com", ("sip", "alice", "", "example.com", None)),
        ("sip:[2001:db8::1]:5060;transport=tcp", ("sip", None, None, "[2001:db8::1]", 5060)),
        ("sip:+1-212;isub=3@gw.example.com;user=phone?a=b", ("sip", "+1-212;isub=3", None, "gw.example.com", None)),
        ("tel:+1-201-555-0123;phone-context=x", ("tel", "+1-201-555-0123", None, "", None)),
        ("urn:service:sos", ("urn", None, None, "", None)),
    ],
)
def test_uri_is_taken_apart_and_written_again(
    text: str, parts: tuple[str, str | None, str | None, str, int | None]
) -> None:
    uri = parse_uri(text)
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port) == parts
    assert str(uri) == uri.scheme + text[len(uri.scheme) :]


def test_params_and_headers_keep_their_order() -> None:
    uri = parse_uri("sip:a@b;transport=tcp;LR;x=1?Subject=hi&Route=%3Csip:c%3E")
    assert list(uri.params.items()) == [("transport", "tcp"), ("lr", None), ("x", "1")]
    assert list(uri.headers.items()) == [("Subject", "hi"), ("Route", "%3Csip:c%3E")]


def test_replace_changes_a_copy() -> None:
    uri = parse_uri("sip:alice@example.com:5060;lr")
    assert str(uri.replace(user="bob", port=None)) == "sip:bob@example.com;lr"
    assert str(uri) == "sip:alice@example.com:5060;lr"


@pytest.mark.parametrize(
    "text",
    [
        *("", "sip:", "alice@example.com", "sip:@example.com", "sip:a b@c", "sip:a@b:99999", "sip:a@b:x", "sip:a@"),
        *("<sip:a@b>", "sip:2001:db8::1", "tel:", "tel:abcxyz", "sip:a@b c", "sip:[::1", "1x:y", "sip:a@b;"),
    ],
)
def test_malformed_uri_is_refused(text: str) -> None:
    with pytest.raises(SipParseError):
        parse_uri(text)


# The pairs of RFC 3261 section 19.1.4.
SAME = [
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
    ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
    (
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
    ),
    (
        "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
    ),
    ("tel:+1-201-555-0123", "tel:+12015550123"),
    ("urn:service:sos", "urn:service:sos"),
]
DIFFERENT = [
    ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
    ("sip:a@b", "sips:a@b"),
    ("sip:a:x@b", "sip:a@b"),
    ("tel:+1", "tel:+2"),
    ("urn:service:sos", "urn:service:sos.fire"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_equivalent_uris_are_equivalent_both_ways(a: str, b: str) -> None:
    assert equivalent(parse_uri(a), parse_uri(b))
    assert equivalent(parse_uri(b), parse_uri(a))


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_uris_are_not_equivalent(a: str, b: str) -> None:
    assert not equivalent(parse_uri(a), parse_uri(b))
    assert not equivalent(parse_uri(b), parse_uri(a))


@given(st.text(alphabet="sip:tel@[]<>;=?&%2\udcff é\x00\r\n", max_size=30))
def test_any_text_is_a_uri_or_refused(text: str) -> None:
    try:
        uri = parse_uri(text)
    except SipParseError:
        return
    # The scheme is the one part that is not kept as written.
    assert str(uri).partition(":")[2] == text.partition(":")[2]
