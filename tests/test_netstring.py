"""Netstrings: every way to cut a stream gives the same payloads and the same fault."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import NetstringParseError
from sipwright.netstring import Decoder, encode

PAYLOADS = st.lists(st.binary(max_size=30), max_size=8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def feed_all(decoder: Decoder, pieces: list[bytes]) -> tuple[list[bytes], str | None]:
    payloads: list[bytes] = []
    for piece in pieces:
        try:
            payloads += decoder.feed(piece)
        except NetstringParseError as error:
            return payloads + list(error.payloads), str(error)
    return payloads, None


@given(PAYLOADS, st.lists(st.integers(min_value=0), max_size=12))
def test_any_cutting_of_a_stream_gives_its_payloads(payloads: list[bytes], places: list[int]) -> None:
    stream = b"".join(encode(payload) for payload in payloads)
    decoder = Decoder()
    assert feed_all(decoder, cut(stream, places)) == (payloads, None)
    assert decoder.feed(b"1:x,") == [b"x"]


@given(PAYLOADS)
def test_single_bytes_give_the_payloads(payloads: list[bytes]) -> None:
    stream = b"".join(encode(payload) for payload in payloads)
    assert feed_all(Decoder(), [bytes([byte]) for byte in stream]) == (payloads, None)


@given(PAYLOADS, st.binary(min_size=1, max_size=20), st.lists(st.integers(min_value=0), max_size=12))
def test_rubbish_gives_the_same_payloads_and_fault_however_it_is_cut(
    payloads: list[bytes], rubbish: bytes, places: list[int]
) -> None:
    stream = b"".join(encode(payload) for payload in payloads) + rubbish
    whole = feed_all(Decoder(max_size=100), [stream])
    assert whole[0][: len(payloads)] == payloads
    assert feed_all(Decoder(max_size=100), cut(stream, places)) == whole
    assert feed_all(Decoder(max_size=100), [bytes([byte]) for byte in stream]) == whole


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"05:hello,", "leading zero"),
        (b"00:,", "leading zero"),
        (b"01", "leading zero"),
        (b":hello,", "no digits"),
        (b"hello", "not a length"),
        (b"-1:,", "not a length"),
        (b"+1:a,", "not a length"),
        (b" 1:a,", "not a length"),
        (b"1 :a,", "not a length"),
        (b"1_0:0123456789,", "not a length"),
        (b"\xd9\xa3:abc,", "not a length"),
        (b"1234567890:", "more than 9 digits"),
        (b"1234567890", "more than 9 digits"),
        (b"101:", "over the limit"),
        (b"999999999:", "over the limit"),
        (b"5:helloo", "no comma"),
        (b"0:x", "no comma"),
    ],
)
def test_a_bad_netstring_is_refused_as_soon_as_it_can_be_seen(data: bytes, fault: str) -> None:
    with pytest.raises(NetstringParseError, match=fault):
        Decoder(max_size=100).feed(data)


def test_payloads_before_a_fault_are_not_lost() -> None:
    with pytest.raises(NetstringParseError) as caught:
        Decoder().feed(b"1:a,2:bc,x")
    assert caught.value.payloads == [b"a", b"bc"]


def test_a_broken_decoder_stays_broken_and_repeats_no_payloads() -> None:
    decoder = Decoder()
    with pytest.raises(NetstringParseError):
        decoder.feed(b"1:a,x")
    with pytest.raises(NetstringParseError) as caught:
        decoder.feed(b"1:a,")
    assert list(caught.value.payloads) == []


def test_the_empty_payload_and_the_largest_one_are_right() -> None:
    assert Decoder(max_size=5).feed(b"0:,5:abcde,") == [b"", b"abcde"]


def test_the_longest_length_is_nine_digits() -> None:
    decoder = Decoder(max_size=10**9)
    assert decoder.feed(b"999999999:") == []
    with pytest.raises(NetstringParseError, match="9 digits"):
        Decoder(max_size=10**10).feed(b"1000000000:")


def test_encode_writes_the_length_in_bytes() -> None:
    assert encode("é".encode()) == b"2:\xc3\xa9,"
    assert encode(b"") == b"0:,"
