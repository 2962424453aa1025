"""Framings: every way to cut a stream gives the same payloads and the same fault."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import ArgumentError, FramingParseError
from sipwright.jsonrpc.framing import (
    CONTENT_LENGTH,
    FRAMINGS,
    NETSTRING,
    NEWLINE,
    ContentLengthDecoder,
    Framing,
    LineDecoder,
    StreamDecoder,
    find_framing,
)

# What a JSON text on one line may be: no line feed in it, no carriage return at its end, not empty.
PAYLOADS = st.lists(st.binary(min_size=1, max_size=30).map(lambda b: b.replace(b"\n", b" ").replace(b"\r", b" ")))
EVERY = pytest.mark.parametrize("framing", FRAMINGS.values(), ids=str)


def feed_all(decoder: StreamDecoder, pieces: list[bytes]) -> tuple[list[bytes], str | None]:
    payloads: list[bytes] = []
    for piece in pieces:
        try:
            payloads += decoder.feed(piece)
        except FramingParseError as error:
            return payloads + list(error.payloads), str(error)
    return payloads, None


@EVERY
@given(payloads=PAYLOADS, places=st.lists(st.integers(min_value=0), max_size=12))
def test_any_cutting_of_a_stream_gives_its_payloads(framing: Framing, payloads: list[bytes], places: list[int]) -> None:
    stream = b"".join(map(framing.encode, payloads))
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    decoder = framing.decoder(1 << 20)
    assert feed_all(decoder, [stream[a:b] for a, b in itertools.pairwise(edges)]) == (payloads, None)
    assert decoder.feed(framing.encode(b"1")) == [b"1"]


@EVERY
def test_a_stream_that_comes_byte_by_byte_is_understood(framing: Framing) -> None:
    stream = framing.encode(b'{"id":1}') + framing.encode(b'{"id":2}')
    pieces = [stream[i : i + 1] for i in range(len(stream))]
    assert feed_all(framing.decoder(100), pieces) == ([b'{"id":1}', b'{"id":2}'], None)


@EVERY
def test_a_payload_of_the_limit_is_taken_and_one_byte_more_is_a_fault_that_stays(framing: Framing) -> None:
    decoder = framing.decoder(10)
    assert decoder.feed(framing.encode(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(FramingParseError) as caught:
        decoder.feed(framing.encode(b"ok") + framing.encode(b"x" * 11))
    assert caught.value.payloads == [b"ok"]
    with pytest.raises(FramingParseError):
        decoder.feed(b"")


def test_a_line_may_end_with_carriage_return_and_empty_lines_are_dropped() -> None:
    assert LineDecoder().feed(b'{"a":1}\r\n\r\n\n[2]\n{') == [b'{"a":1}', b"[2]"]


def test_line_feeds_between_the_tokens_of_a_payload_do_not_end_its_line() -> None:
    assert LineDecoder().feed(NEWLINE.encode(b'{"a":\n1}')) == [b'{"a": 1}']


def test_a_line_that_does_not_end_is_a_fault_once_it_is_longer_than_the_limit() -> None:
    decoder = LineDecoder(10)
    assert decoder.feed(b"x" * 10) == []
    assert decoder.feed(b"\r") == []
    with pytest.raises(FramingParseError, match="longer than the limit of 10 bytes"):
        decoder.feed(b"x")


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 2\r\n\r\n",
        b"content-length:2\r\n\r\n",
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: 2\r\n\r\n",
        b"Content-Length : 2\n\n",
    ],
)
def test_headers_as_others_write_them(header: bytes) -> None:
    assert ContentLengthDecoder().feed(header + b"[]" + header + b"{}") == [b"[]", b"{}"]


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (b"Content-Type: x\r\n\r\n", "no Content-Length"),
        (b"\r\n\r\n", "no Content-Length"),
        (b"Content-Length: -1\r\n\r\n", "not one number"),
        (b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", "not one number"),
        (b"Content-Length: 9999999999\r\n\r\n", "not one number"),
        (b"Content-Length: 2000000\r\n\r\n", "over the limit"),
        (b"{}\r\n\r\n", "no header line: '{}'"),
        (b"x" * 4097, "header of more than 4096 bytes"),
    ],
)
def test_a_bad_header_is_told(header: bytes, fault: str) -> None:
    with pytest.raises(FramingParseError, match=fault):
        ContentLengthDecoder().feed(header)


def test_a_framing_is_found_by_its_name_or_is_given() -> None:
    own = Framing("null", lambda payload: payload + b"\0", LineDecoder)
    assert find_framing(own) is own
    assert [find_framing(name) for name in ("netstring", "newline", "content-length")] == [
        NETSTRING,
        NEWLINE,
        CONTENT_LENGTH,
    ]
    with pytest.raises(ArgumentError, match="no framing is named 'lines', expected one of netstring, newline"):
        find_framing("lines")
