"""Messages: what is made at first use, and what never fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import SipParseError
from sipwright.sip.build import refusal, reply, reply_target
from sipwright.sip.edits import apply
from sipwright.sip.message import Message, Request
from sipwright.sip.parse import parse

VALID = (
    b"INVITE sip:bob@example.com;lr SIP/2.0\r\n"
    b"Record-Route: <sip:p1;lr>\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1;rport\r\n"
    b"Via: SIP/2.0/TCP [2001:db8::1];branch=z9hG4bK0\r\n"
    b'From: "Alice; \\" B" <sip:alice@example.com>;tag=a\r\n'
    b"To: <sip:bob@example.com>\r\n"
    b"Call-ID: c1@host\r\n"
    b"CSeq: 7 INVITE\r\n"
    b"Contact: <sip:alice@192.0.2.1>;q=0.5, sip:a@b\r\n"
    b"Max-Forwards: 70\r\n"
    b"User-Agent: test\r\n folded\r\n"
    b"Content-Length: 4\r\n\r\nbody"
)
SOURCE = ("192.0.2.1", 5070)


def use(message: Message) -> None:
    """Use every accessor and everything that is made of a message: none of them may raise anything."""
    for name in (*Message.__slots__, *type(message).__slots__):
        getattr(message, name)
    for name, value in message.header_items():
        assert message.has_header(name)
        assert value in message.headers(name)
        assert message.header(name) is not None
    assert message.via is not None
    assert message.vias
    assert repr(message)
    assert [str(value) for value in (*message.vias, message.from_, message.to, *message.contacts)]
    assert apply(message, None)
    if isinstance(message, Request):
        assert reply_target(message, SOURCE)
        for status in (100, 180, 200, 500):
            answer = reply(message, status, "R", source=SOURCE, to_tag="t")
            if message.method != "ACK":
                assert parse(answer).branch == message.branch


def check(data: bytes) -> None:
    try:
        message = parse(data)
    except SipParseError as error:
        if refusal(error, SOURCE, "t") is not None:
            assert not data.startswith(b"ACK ")
        return
    use(message)


def test_lazy_attributes_are_made_once() -> None:
    message = parse(VALID)
    assert message.via is message.via
    assert message.from_ is message.from_
    assert message.from_.name == 'Alice; " B'
    assert [contact.uri for contact in message.contacts] == ["sip:alice@192.0.2.1", "sip:a@b"]
    assert (message.max_forwards, message.header("user-agent")) == (70, "test folded")


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(parse(VALID), "nonsense")  # noqa: B009 -- for the type checker there is no such attribute


def test_valid_message_can_be_used_in_every_way() -> None:
    use(parse(VALID))
    use(parse(VALID.replace(b"INVITE sip:bob@example.com;lr SIP/2.0", b"SIP/2.0 200 OK")))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_message_or_refused(data: bytes) -> None:
    check(data)


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(VALID)),
            st.integers(0, 12),
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from(
                    [b"\r\n", b"\n", b"\r\n ", b":", b";", b",", b'"', b"<", b">", b"\\", b"@", b" ", b"="]
                ),
                st.sampled_from(
                    [b"\r\nVia: ", b"\r\nv:", b"\r\nTo: ", b"\r\n\r\n", b"ACK ", b"tag=", b"\x00", b"\xff"]
                ),
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_mutations_of_a_valid_message_are_a_message_or_refused(edits: list[tuple[int, int, bytes]]) -> None:
    data = VALID
    for position, length, new in edits:
        data = data[:position] + new + data[position + length :]
    check(data)
