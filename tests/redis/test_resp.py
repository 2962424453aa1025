"""RESP: commands to bytes, bytes to replies, in whatever pieces they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import RedisAnswerError, RespParseError
from sipwright.redis.resp import MAX_DEPTH, Decoder, Status, encode_command


def test_a_command_is_an_array_of_strings() -> None:
    assert encode_command(("SET", "ключ", b"\x00\r\n", 12)) == (
        b"*4\r\n$3\r\nSET\r\n$8\r\n\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87\r\n$3\r\n\x00\r\n\r\n$2\r\n12\r\n"
    )


def test_bytes_of_a_message_that_are_no_text_are_sent_as_they_came() -> None:
    assert encode_command([b"\xff\xfe".decode("utf-8", "surrogateescape")]) == b"*1\r\n$2\r\n\xff\xfe\r\n"


REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", Status(b"OK")),
    (b"$2\r\nOK\r\n", b"OK"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b":-12\r\n", -12),
    (b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
    (b"*3\r\n:1\r\n$1\r\na\r\n*2\r\n*0\r\n+x\r\n", [1, b"a", [[], Status(b"x")]]),
]


@pytest.mark.parametrize(("data", "reply"), REPLIES)
def test_replies(data: bytes, reply: Any) -> None:
    (found,) = Decoder().feed(data)
    assert found == reply
    assert type(found) is type(reply)


def test_an_error_is_a_reply_with_a_code() -> None:
    (reply,) = Decoder().feed(b"-WRONGTYPE Operation against a key\r\n")
    assert isinstance(reply, RedisAnswerError)
    assert (str(reply), reply.code) == ("WRONGTYPE Operation against a key", "WRONGTYPE")
    (reply,) = Decoder().feed(b"-ERR\r\n")
    assert isinstance(reply, RedisAnswerError)
    assert reply.code == "ERR"


replies = st.recursive(
    st.none() | st.integers(-(1 << 63), (1 << 63) - 1) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=20,
)


def encode(reply: Any) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))


@given(st.lists(replies, max_size=5), st.lists(st.integers(1, 30), min_size=1))
def test_it_does_not_matter_how_replies_are_cut(expected: list[Any], sizes: list[int]) -> None:
    data = b"".join(map(encode, expected))
    decoder = Decoder()
    found: list[Any] = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        found += decoder.feed(data[at : at + size])
        at += size
        turn += 1
    assert found == expected


def test_a_long_string_in_many_pieces_is_looked_at_once() -> None:
    decoder = Decoder()
    data = b"$%d\r\n%b\r\n" % (1_000_000, b"x" * 1_000_000)
    pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    for piece in pieces[:-1]:
        assert decoder.feed(piece) == []
    assert decoder.feed(pieces[-1]) == [b"x" * 1_000_000]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b":one\r\n",
        b"$x\r\n",
        b"$3\r\nabcde\r\n",
        b"*99999999999\r\n",
        b"$99999999999\r\n",
        b"*1\r\n" * (MAX_DEPTH + 1),
        b"+" + b"x" * 70_000,
    ],
)
def test_what_is_no_resp_ends_the_stream_with_what_came_before(data: bytes) -> None:
    with pytest.raises(RespParseError) as caught:
        Decoder().feed(b":1\r\n" + data)
    assert caught.value.replies == [1]
