"""How items stand in the shared memory: owns keys and records, bytes from values and back.

A key of an item is one byte and the text, or, where that is longer than LMDB allows, its beginning and a digest; then
the record has the whole text. A record is a byte of flags, for an item that expires the moment and the moment under
which the item is queued, the long key, and the value: a text, or the bytes of an integer of any size.

Texts are UTF-8 in which lone surrogates pass, so that every text comes back as it was.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct

from sipwright.script.store import Item

# LMDB takes keys of 511 bytes; a key of the queue has a moment, 8 bytes, in front.
MAX_KEY = 511 - 8
_DIGEST = 32
_SHORT, _LONG = b"k", b"l"

_INTEGER, _EXPIRES, _HAS_KEY = 1, 2, 4
_MOMENTS = Struct(">dd")
_LENGTH = Struct(">I")
# Of positive numbers the bytes are in the order of the numbers.
_MOMENT = Struct(">d")


class Record:
    """An item as it was read. `when` is None for one that does not expire; `queued` is its place in the queue."""

    __slots__ = ("key", "queued", "value", "when")

    def __init__(self, key: str, value: Item, when: float | None, queued: float | None) -> None:
        self.key = key
        self.value = value
        self.when = when
        self.queued = queued

    def is_alive(self, now: float) -> bool:
        """Tell whether the item has not expired."""
        return self.when is None or self.when > now


def encode_key(key: str) -> bytes:
    """Return the bytes under which an item is kept."""
    text = key.encode("utf-8", "surrogatepass")
    if len(text) < MAX_KEY:
        return _SHORT + text
    return _LONG + text[: MAX_KEY - 1 - _DIGEST] + blake2b(text, digest_size=_DIGEST).digest()


def encode_record(name: bytes, key: str, value: Item, when: float | None, queued: float | None) -> bytes:
    """Return the record of an item; `name` is its encoded key."""
    flags = 0
    head = b""
    if when is not None and queued is not None:
        flags = _EXPIRES
        head = _MOMENTS.pack(when, queued)
    if name[:1] == _LONG:
        flags |= _HAS_KEY
        text = key.encode("utf-8", "surrogatepass")
        head += _LENGTH.pack(len(text)) + text
    if isinstance(value, int):
        flags |= _INTEGER
        payload = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    else:
        payload = value.encode("utf-8", "surrogatepass")
    return bytes((flags,)) + head + payload


def decode_value(record: bytes, now: float) -> Item | None:
    """Return the value of a record, None when it has expired."""
    flags = record[0]
    at = 1
    if flags & _EXPIRES:
        if _MOMENT.unpack_from(record, 1)[0] <= now:
            return None
        at = 1 + _MOMENTS.size
    if flags & _HAS_KEY:
        at += _LENGTH.size + _LENGTH.unpack_from(record, at)[0]
    if flags & _INTEGER:
        return int.from_bytes(record[at:], "big", signed=True)
    return record[at:].decode("utf-8", "surrogatepass")


def decode_key(name: bytes, record: bytes) -> str:
    """Return the key of an item."""
    key = _long_key(record) if name[:1] == _LONG else name[1:]
    return key.decode("utf-8", "surrogatepass")


def decode_record(name: bytes, record: bytes) -> Record:
    """Return all of an item."""
    when = queued = None
    if record[0] & _EXPIRES:
        when, queued = _MOMENTS.unpack_from(record, 1)
    value = decode_value(record, float("-inf"))
    assert value is not None  # nothing has expired before the beginning of time
    return Record(decode_key(name, record), value, when, queued)


def _long_key(record: bytes) -> bytes:
    begin = 1 + _LENGTH.size + (_MOMENTS.size if record[0] & _EXPIRES else 0)
    return record[begin : begin + _LENGTH.unpack_from(record, begin - _LENGTH.size)[0]]


def queue_key(moment: float, name: bytes) -> bytes:
    """Return the key under which the queue has an item."""
    return _MOMENT.pack(moment) + name


def split_queue_key(key: bytes) -> tuple[float, bytes]:
    """Return the moment and the encoded key of an entry of the queue."""
    return _MOMENT.unpack_from(key)[0], key[_MOMENT.size :]
