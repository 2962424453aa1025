"""Replies (RFC 3261 section 8.2.6), where they go (18.2.2, RFC 3581), and requests of a client."""

from __future__ import annotations

import pytest

from sipwright.sip import build
from sipwright.sip.message import Request, Response
from sipwright.sip.parse import parse

OPTIONS = (
    b"OPTIONS sip:bob@example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1\r\n"
    b"From: <sip:alice@example.com>;tag=a\r\n"
    b"To: <sip:bob@example.com>\r\n"
    b"Call-ID: c1\r\n"
    b"CSeq: 7 OPTIONS\r\n"
    b"Max-Forwards: 70\r\n"
    b"Content-Length: 0\r\n\r\n"
)
SOURCE = ("192.0.2.1", 5070)
FOLDED = (b"Call-ID: c1", b"Call-ID:\r\n c1")


def request(data: bytes) -> Request:
    message = parse(data)
    assert isinstance(message, Request)
    return message


def top_via(data: bytes, source: tuple[object, ...] = SOURCE) -> str:
    reply = parse(build.reply(request(data), 200, "OK", source=source, to_tag="t"))
    return reply.headers("via")[0]


@pytest.mark.parametrize("form", [(b"", b""), FOLDED], ids=["common form", "general form"])
def test_reply_copies_the_lines_of_the_request_in_the_usual_order(form: tuple[bytes, bytes]) -> None:
    data = build.reply(request(OPTIONS.replace(*form)), 200, "OK", source=SOURCE, to_tag="b")
    assert data.replace(b"\r\n c1", b" c1") == (
        b"SIP/2.0 200 OK\r\n"
        b"Via: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1\r\n"
        b"From: <sip:alice@example.com>;tag=a\r\n"
        b"To: <sip:bob@example.com>;tag=b\r\n"
        b"Call-ID: c1\r\n"
        b"CSeq: 7 OPTIONS\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


def test_to_tag_is_added_only_where_there_is_none_and_not_to_a_100() -> None:
    with_tag = request(OPTIONS.replace(b"bob@example.com>\r", b"bob@example.com>;tag=x\r"))
    assert b"To: <sip:bob@example.com>;tag=x\r\n" in build.reply(with_tag, 200, "OK", source=SOURCE, to_tag="b")
    assert b"To: <sip:bob@example.com>\r\n" in build.reply(request(OPTIONS), 100, "Trying", source=SOURCE, to_tag="b")


def test_unknown_reason_headers_and_body_are_written() -> None:
    data = build.reply(
        request(OPTIONS), 299, "Größer", source=SOURCE, to_tag="b", headers=b"X-A: 1\r\nX-B: 2\r\n", body=b"hello"
    )
    reply = parse(data)
    assert isinstance(reply, Response)
    assert (reply.status, reply.reason, reply.body) == (299, "Größer", b"hello")
    assert (reply.header("X-A"), reply.header("X-B"), reply.header("Content-Length")) == ("1", "2", "5")


def test_reason_cannot_end_the_status_line() -> None:
    data = build.reply(request(OPTIONS), 404, "No\r\nX-A: 1", source=SOURCE, to_tag="b")
    assert data.startswith(b"SIP/2.0 404 No  X-A: 1\r\nVia:")


def test_all_vias_are_copied_in_order() -> None:
    more = OPTIONS.replace(b"From:", b"Via: SIP/2.0/TCP p1.example.com;branch=z9hG4bK0\r\nFrom:")
    reply = parse(build.reply(request(more), 200, "OK", source=SOURCE, to_tag="t"))
    assert [via.host for via in reply.vias] == ["192.0.2.1", "p1.example.com"]
    one_line = OPTIONS.replace(b"bK1\r\n", b"bK1, SIP/2.0/TCP p1.example.com;branch=z9hG4bK0\r\n")
    reply = parse(build.reply(request(one_line), 200, "OK", source=("192.0.2.9", 1), to_tag="t"))
    assert [str(via) for via in reply.vias] == [
        "SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1;received=192.0.2.9",
        "SIP/2.0/TCP p1.example.com;branch=z9hG4bK0",
    ]


@pytest.mark.parametrize("form", [(b"", b""), FOLDED], ids=["common form", "general form"])
@pytest.mark.parametrize(
    ("via", "source", "expected", "target"),
    [
        (b"192.0.2.1:5070;branch=z", SOURCE, "192.0.2.1:5070;branch=z", SOURCE),
        (b"192.0.2.1;branch=z", SOURCE, "192.0.2.1;branch=z", ("192.0.2.1", 5060)),
        (b"192.0.2.1:5071;branch=z", SOURCE, "192.0.2.1:5071;branch=z", ("192.0.2.1", 5071)),
        (b"pc:5071;branch=z", SOURCE, "pc:5071;branch=z;received=192.0.2.1", ("192.0.2.1", 5071)),
        (b"192.0.2.1;rport;branch=z", SOURCE, "192.0.2.1;rport=5070;received=192.0.2.1;branch=z", SOURCE),
        (b"pc;branch=z;rport", SOURCE, "pc;branch=z;rport=5070;received=192.0.2.1", SOURCE),
        (b"pc;branch=z;rport=9;received=9.9.9.9", SOURCE, "pc;branch=z;rport=5070;received=192.0.2.1", SOURCE),
        (b"192.0.2.1;received=9.9.9.9", SOURCE, "192.0.2.1;received=192.0.2.1", ("192.0.2.1", 5060)),
        (b"pc;maddr=224.2.0.1;branch=z", SOURCE, "pc;maddr=224.2.0.1;branch=z;received=192.0.2.1", ("192.0.2.1", 5060)),
        (b"[2001:db8::1]:5070;branch=z", ("2001:db8::1", 5070, 0, 0), "[2001:db8::1]:5070;branch=z", None),
        (b"[2001:db8::1];branch=z;rport", ("fe80::1%eth0", 9, 0, 2), None, ("fe80::1%eth0", 9, 0, 2)),
        (b"pc;branch=z", ("fe80::1%eth0", 9, 0, 2), "pc;branch=z;received=fe80::1", ("fe80::1%eth0", 5060, 0, 2)),
    ],
)
def test_via_is_marked_with_the_source_and_tells_where_the_reply_goes(
    form: tuple[bytes, bytes],
    via: bytes,
    source: tuple[object, ...],
    expected: str | None,
    target: tuple[object, ...] | None,
) -> None:
    data = OPTIONS.replace(b"192.0.2.1:5070;branch=z9hG4bK1", via).replace(*form)
    marked = top_via(data, source)
    if expected is not None:
        # The order of parameters has no meaning.
        assert sorted(marked.removeprefix("SIP/2.0/UDP ").split(";")) == sorted(expected.split(";"))
    assert build.reply_target(request(data), source) == (target or source)


def test_replies_to_one_request_are_the_same_but_for_status_and_tag() -> None:
    message = request(OPTIONS)
    first = build.reply(message, 180, "Ringing", source=SOURCE, to_tag="t")
    second = build.reply(message, 200, "OK", source=SOURCE, to_tag="t")
    assert first.partition(b"\r\n")[2] == second.partition(b"\r\n")[2]


def test_timestamp_is_copied_into_a_100_only() -> None:
    message = request(OPTIONS.replace(b"Max-Forwards", b"Timestamp: 54\r\nMax-Forwards"))
    assert b"\r\nTimestamp: 54\r\n" in build.reply(message, 100, "Trying", source=SOURCE)
    assert b"Timestamp" not in build.reply(message, 200, "OK", source=SOURCE, to_tag="t")


@pytest.mark.parametrize("name", [b"Record-Route", b"RECORD-ROUTE"])
def test_record_route_is_copied_into_replies_that_make_a_dialog(name: bytes) -> None:
    lines = name + b": <sip:p1;lr>\r\n" + name + b": <sip:p2;lr>\r\n"
    invite = request(OPTIONS.replace(b"OPTIONS", b"INVITE").replace(b"Max-Forwards", lines + b"Max-Forwards"))
    for status in (180, 200):
        assert lines in build.reply(invite, status, "OK", source=SOURCE, to_tag="t")
    for status in (100, 302, 404):
        assert b"p1" not in build.reply(invite, status, "No", source=SOURCE, to_tag="t")
    options = request(OPTIONS.replace(b"Max-Forwards", lines + b"Max-Forwards"))
    assert b"p1" not in build.reply(options, 200, "OK", source=SOURCE, to_tag="t")


def test_built_request_parses_to_what_was_given() -> None:
    data = build.request(
        "MESSAGE",
        "sip:bob@example.com",
        via="192.0.2.1:5070",
        branch="z9hG4bKx",
        from_="<sip:alice@example.com>;tag=a",
        to="<sip:bob@example.com>",
        call_id="c1",
        cseq=3,
        headers=b"Content-Type: text/plain\r\n",
        body=b"hello",
    )
    message = request(data)
    assert message.parts is not None
    assert (message.method, message.uri, message.body) == ("MESSAGE", "sip:bob@example.com", b"hello")
    assert str(message.via) == "SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKx;rport"
    assert (message.cseq_number, message.call_id, message.max_forwards) == (3, "c1", 70)
    assert message.header("c") == "text/plain"
