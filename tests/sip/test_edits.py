"""A script's edits: what is untouched stays byte for byte."""

from __future__ import annotations

import re

from sipwright.sip.edits import Edits, apply
from sipwright.sip.message import Message, Request
from sipwright.sip.parse import parse

DATA = (
    b"MESSAGE sip:bob@example.com SIP/2.0\r\n"
    b"v :  SIP/2.0/UDP 192.0.2.1:5070\r\n ;branch=z9hG4bK1\r\n"
    b"From:<sip:alice@example.com>;tag=a\r\n"
    b"To: <sip:bob@example.com>\r\n"
    b"X-One: 1\r\n"
    b"Call-ID: c1\r\n"
    b"x-one:  \xff2 \r\n"
    b"CSeq: 7 MESSAGE\r\n"
    b"Content-Type: text/plain\r\n"
    b"l: 5\r\n\r\n"
    b"hello"
)


def message() -> Message:
    return parse(DATA)


def names(data: bytes) -> list[str]:
    return [name for name, _ in parse(data).header_items()]


def test_message_without_edits_is_written_as_it_came() -> None:
    assert apply(message(), None) == DATA
    assert apply(message(), Edits(message())) == DATA


def test_request_uri_is_replaced() -> None:
    data = apply(message(), None, "sip:carol@example.com")
    assert data == DATA.replace(b"sip:bob@example.com SIP", b"sip:carol@example.com SIP")
    changed = parse(data)
    assert isinstance(changed, Request)
    assert changed.uri == "sip:carol@example.com"


def test_uri_does_not_touch_a_response() -> None:
    reply = DATA.replace(b"MESSAGE sip:bob@example.com SIP/2.0", b"SIP/2.0 200 OK")
    assert apply(parse(reply), None, "sip:x@y") == reply


def test_headers_are_appended_at_the_end_and_after_a_header_in_order() -> None:
    edits = Edits(message())
    edits.append("P-A: 1\r\n")
    edits.append("P-B: 2\r\nP-C: 3")
    edits.append("P-D: 4", after="call-id")
    edits.append("P-E: 5", after="Call-ID")
    edits.append("P-F: 6", after="no such header")
    assert names(apply(edits.message, edits)) == [
        *("v", "From", "To", "X-One", "Call-ID", "P-D", "P-E", "x-one", "CSeq", "Content-Type", "l"),
        *("P-A", "P-B", "P-C", "P-F"),
    ]


def test_headers_are_inserted_first_and_before_a_header_in_order() -> None:
    edits = Edits(message())
    edits.insert("P-A: 1\r\n")
    edits.insert("P-B: 2")
    edits.insert("P-C: 3", before="t")
    assert names(apply(edits.message, edits))[:5] == ["P-A", "P-B", "v", "From", "P-C"]


def test_removed_headers_are_counted_and_gone() -> None:
    edits = Edits(message())
    assert edits.remove("X-ONE") == 2
    assert edits.remove("Subject") == 0
    edits.append("X-One: 3", after="X-One")
    data = apply(edits.message, edits)
    assert parse(data).headers("X-One") == ["3"]
    assert edits.message.headers("X-One") == ["1", "\udcff2"]


def test_headers_are_removed_by_patterns() -> None:
    edits = Edits(message())
    assert edits.remove_matching(re.compile("(?i)^x-"), re.compile("2")) == 1
    assert parse(apply(edits.message, edits)).headers("X-One") == ["1"]
    assert edits.remove_matching(re.compile("(?i)^x-")) == 2
    assert not parse(apply(edits.message, edits)).has_header("X-One")


def test_new_body_brings_its_length_and_type() -> None:
    edits = Edits(message())
    edits.set_body(b"<a/>", "application/xml")
    changed = parse(apply(edits.message, edits))
    assert (changed.body, changed.headers("l"), changed.headers("c")) == (b"<a/>", ["4"], ["application/xml"])
    edits.set_body(b"longer", "text/html")
    changed = parse(apply(edits.message, edits))
    assert (changed.body, changed.headers("l"), changed.headers("c")) == (b"longer", ["6"], ["text/html"])


def test_body_replaced_without_a_type_keeps_the_old_type() -> None:
    edits = Edits(message())
    edits.set_body(b"")
    changed = parse(apply(edits.message, edits))
    assert (changed.body, changed.header("l"), changed.header("c")) == (b"", "0", "text/plain")
