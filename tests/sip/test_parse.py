"""The datagram parser: forms of headers, framing, refusals; its quick and its general way agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import SipParseError
from sipwright.sip import parse as parse_module
from sipwright.sip.build import refusal
from sipwright.sip.message import Message, Request, Response
from sipwright.sip.parse import parse

INVITE = (
    b"INVITE sip:service@127.0.0.1:5060 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bK-1234-1-0\r\n"
    b"From: sipp <sip:sipp@127.0.0.1:5061>;tag=1234SIPpTag001\r\n"
    b"To: service <sip:service@127.0.0.1:5060>\r\n"
    b"Call-ID: 1-1234@127.0.0.1\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"Contact: sip:sipp@127.0.0.1:5061\r\n"
    b"Max-Forwards: 70\r\n"
    b"Subject: Performance Test\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length:    5\r\n"
    b"\r\n"
    b"v=0\r\n"
)
SOURCE = ("192.0.2.1", 5060)


def request(data: bytes) -> Request:
    message = parse(data)
    assert isinstance(message, Request)
    return message


def seen(message: Message) -> dict[str, object]:
    """Return all that a message says, for comparison."""
    own = ("method", "uri") if isinstance(message, Request) else ("status", "reason")
    names = (*own, "body", "branch", "sent_by", "cseq_number", "cseq_method", "call_id", "from_tag", "to_tag")
    values: dict[str, object] = {name: getattr(message, name) for name in (*names, "max_forwards")}
    for name in ("via", "vias", "from_", "to", "contacts"):
        values[name] = str(getattr(message, name))
    values["items"] = message.header_items()
    return values


def refused(data: bytes) -> SipParseError:
    with pytest.raises(SipParseError) as caught:
        parse(data)
    return caught.value


def test_request_of_the_common_form_has_all_that_matching_needs() -> None:
    message = request(INVITE)
    assert message.parts is not None
    assert (message.method, message.uri) == ("INVITE", "sip:service@127.0.0.1:5060")
    assert (message.branch, message.sent_by) == (b"z9hG4bK-1234-1-0", b"127.0.0.1:5061")
    assert (message.cseq_number, message.cseq_method) == (1, "INVITE")
    assert (message.call_id, message.from_tag, message.to_tag) == ("1-1234@127.0.0.1", "1234SIPpTag001", None)
    assert message.body == b"v=0\r\n"


def test_response_of_the_common_form_has_all_that_matching_needs() -> None:
    message = parse(INVITE.replace(b"INVITE sip:service@127.0.0.1:5060 SIP/2.0", b"SIP/2.0 180 Ringing"))
    assert isinstance(message, Response)
    assert (message.status, message.reason, message.branch) == (180, "Ringing", b"z9hG4bK-1234-1-0")
    assert (message.cseq_number, message.cseq_method, message.call_id) == (1, "INVITE", "1-1234@127.0.0.1")


FORMS = {
    "compact": (b"Via:", b"v:"),
    "case": (b"From:", b"FROM:"),
    "space before the colon": (b"Call-ID:", b"Call-ID \t:"),
    "no space after the colon": (b"To: ", b"To:"),
    "fold": (b";tag=", b"\r\n ;tag="),
    "rport": (b"z9hG4bK-1234-1-0", b"z9hG4bK-1234-1-0;rport"),
    "rport before the branch": (b";branch", b";rport;branch"),
    "two values in a line": (b"1-0\r\n", b"1-0, SIP/2.0/TCP [::1]:5060;branch=b\r\n"),
    "second Via": (b"From:", b"Via: SIP/2.0/TCP host;branch=b\r\nFrom:"),
    "Via later": (b"Max-Forwards", b"Via: SIP/2.0/TCP host;branch=b\r\nMax-Forwards"),
    "quoted name": (b"From: sipp", b'From: "a \\"b\\" >;tag=x"'),
    "tag of To": (b"5060>\r\n", b"5060>;tag=abc\r\n"),
    "further parameters": (b"Tag001", b'Tag001;x="y;tag=z"'),
    "no Max-Forwards": (b"Max-Forwards: 70\r\n", b""),
    "no Content-Length": (b"Content-Length:    5\r\n", b""),
    "no brackets": (b"From: sipp <sip:sipp@127.0.0.1:5061>", b"From: sip:sipp@127.0.0.1:5061"),
    "UTF-8": (b"Performance", "Größe".encode()),
    "not UTF-8": (b"Performance", b"\xff\xfe"),
    "unknown header": (b"Subject", b"x-y"),
    "host in capitals": (b"UDP 127.0.0.1", b"UDP Host.Example"),
    "port over 59999": (b"127.0.0.1:5061;branch", b"127.0.0.1:65535;branch"),
    "Max-Forwards of three digits": (b": 70", b": 255"),
    "star": (b"sip:sipp@127.0.0.1:5061\r\nMax", b"*\r\nMax"),
}


@pytest.mark.parametrize("form", FORMS)
def test_quick_and_general_parser_agree(form: str) -> None:
    data = INVITE.replace(*FORMS[form])
    assert data != INVITE
    for variant in (data, data.replace(b"INVITE sip:service@127.0.0.1:5060 SIP/2.0", b"SIP/2.0 200 OK")):
        assert seen(parse(variant)) == seen(parse_module._parse_general(variant))


def outcome(parser: Callable[[bytes], Message], data: bytes) -> dict[str, object]:
    try:
        return seen(parser(data))
    except SipParseError as error:
        return {"refused": (error.reason, error.status)}


@given(st.lists(st.sampled_from(sorted(FORMS)), min_size=2, max_size=5))
def test_quick_and_general_parser_agree_on_mixed_forms(forms: list[str]) -> None:
    data = INVITE
    for form in forms:
        data = data.replace(*FORMS[form])
    assert outcome(parse, data) == outcome(parse_module._parse_general, data)


@given(
    st.integers(0, len(INVITE)),
    st.integers(0, 3),
    st.one_of(st.binary(max_size=3), st.text('\r\n :;,"<>@=[]?%ivt*0', max_size=3).map(str.encode)),
)
def test_quick_and_general_parser_agree_on_mutations(position: int, length: int, new: bytes) -> None:
    data = INVITE[:position] + new + INVITE[position + length :]
    assert outcome(parse, data) == outcome(parse_module._parse_general, data)


def test_names_match_in_any_case_and_compact() -> None:
    message = request(INVITE.replace(b"Subject:", b"s :").replace(b"Contact:", b"M:"))
    assert message.header("SUBJECT") == message.header("s") == "Performance Test"
    assert message.headers("m") == ["sip:sipp@127.0.0.1:5061"]
    assert message.has_header("Contact")
    assert message.header("Supported") is None
    assert ("s", "Performance Test") in message.header_items()


def test_bytes_after_the_body_are_ignored() -> None:
    assert request(INVITE + b"more").body == b"v=0\r\n"


def test_body_shorter_than_content_length_is_refused() -> None:
    assert refused(INVITE[:-1]).reason == "Body shorter than Content-Length"
    assert refused(INVITE[:-1].replace(b"INVITE sip:service@127.0.0.1:5060 SIP/2.0", b"SIP/2.0 200 OK")).request is None


def test_line_ends_before_the_start_line_are_ignored() -> None:
    assert request(b"\r\n\r\n" + INVITE).body == b"v=0\r\n"


def test_bare_line_feeds_are_taken_as_line_ends() -> None:
    message = request(INVITE.replace(b"\r\n", b"\n").replace(b":    5\n", b":    4\n"))
    assert (message.method, message.body, message.max_forwards) == ("INVITE", b"v=0\n", 70)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"From: sipp <sip:sipp@127.0.0.1:5061>;tag=1234SIPpTag001\r\n", b"", "No From header"),
        (b"Via:", b"X-Via:", "No Via header"),
        (b"Subject", b"Sub ject", "Malformed header line"),
        (b"Subject: Performance Test", b"Subject", "Malformed header line"),
        (b"Call-ID: 1-1234@127.0.0.1", b"Call-ID: 1 2", "Malformed Call-ID"),
        (b"Call-ID: 1-1234@127.0.0.1", b"Call-ID:", "Malformed Call-ID"),
        (b"CSeq: 1 ", b"CSeq: one ", "CSeq: Malformed CSeq"),
        (b"CSeq: 1 ", b"CSeq: 2147483648 ", "CSeq: CSeq number out of range"),
        (b": 70", b": 256", "Max-Forwards out of range"),
        (b"UDP 127.0.0.1:5061", b"UDP 127.0.0.1:99999", "Via: Port out of range in Via"),
        (b"SIP/2.0/UDP", b"SIP/3.0/UDP", "Unknown protocol in Via"),
        (b"Subject:", b"Content-Length: 5\r\nSubject:", "Several Content-Length headers"),
        (b"Subject:", b"Call-ID: 2\r\nSubject:", "Several Call-ID headers"),
        (b"Subject:", b"t: <sip:b@c>\r\nSubject:", "Several To headers"),
        (b"sip:service@127.0.0.1:5060 ", b"sip:service@:5060 ", "Malformed URI"),
    ],
)
def test_malformed_request_is_refused_with_a_reason(old: bytes, new: bytes, reason: str) -> None:
    error = refused(INVITE.replace(old, new, 1))
    assert (error.reason, error.status) == (reason, 400)


@pytest.mark.parametrize("status", [b"99", b"700", b"9" * 5000, b"2OO", b""])
def test_response_with_an_impossible_status_is_refused(status: bytes) -> None:
    refused(INVITE.replace(b"INVITE sip:service@127.0.0.1:5060 SIP/2.0", b"SIP/2.0 " + status + b" OK"))


def test_numbers_of_any_length_are_refused_and_nothing_else_happens() -> None:
    digits = b"9" * 5000
    for old in (
        b"CSeq: 1",
        b"Content-Length:    5",
        b"Max-Forwards: 70",
        b"sip:service@127.0.0.1:5060 ",
        b"UDP 127.0.0.1:",
    ):
        refused(INVITE.replace(old, old + digits, 1))


def test_unknown_version_is_refused_with_505() -> None:
    assert refused(INVITE.replace(b" SIP/2.0\r", b" SIP/3.0\r", 1)).status == 505


def test_refusal_copies_what_there_is_and_tells_where_it_goes() -> None:
    error = refused(INVITE.replace(b"To: service", b'To: "service'))
    answer = refusal(error, SOURCE, "t1")
    assert answer is not None
    data, target = answer
    assert target == ("192.0.2.1", 5061)
    assert data == (
        b"SIP/2.0 400 To: Malformed name or address\r\n"
        b"Via: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bK-1234-1-0;received=192.0.2.1\r\n"
        b"From: sipp <sip:sipp@127.0.0.1:5061>;tag=1234SIPpTag001\r\n"
        b'To: "service <sip:service@127.0.0.1:5060>;tag=t1\r\n'
        b"Call-ID: 1-1234@127.0.0.1\r\n"
        b"CSeq: 1 INVITE\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\x00\x01\x02\x03",
        b"hello\r\n\r\n",
        INVITE.replace(b"INVITE", b"ACK").replace(b": 70", b": x"),
        INVITE.replace(b"Via: SIP/2.0/UDP", b"Via: nonsense"),
        INVITE.replace(b"CSeq:", b"X:"),
    ],
)
def test_what_cannot_or_must_not_be_answered_has_no_refusal(data: bytes) -> None:
    assert refusal(refused(data), SOURCE, "t1") is None
