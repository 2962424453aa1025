from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sipwright.script.corehash import core_hash


def test_hashes_are_those_of_kamailio() -> None:
    assert core_hash(b"abcdef") == 1834986995
    assert [core_hash(b"abc", b"", size=16), core_hash(b"abc", b"def", size=16)] == [2, 1]
    assert core_hash(b"abc", b"", size=1024) == 834


@given(data=st.binary(), size=st.sampled_from([1, 2, 256, 4096]))
def test_a_hash_has_32_bits_and_is_less_than_its_size(data: bytes, size: int) -> None:
    assert 0 <= core_hash(data) < 2**32
    assert 0 <= core_hash(data, size=size) < size
