"""The protocol of Redis, RESP version 2 (L0): commands to bytes, bytes to replies.

A reply is bytes (a bulk string), `Status` (a simple string such as OK), int, None (a null), a list of replies, or a
`RedisAnswerError`, which is returned and not raised: it is what the server answered, as good as any other reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sipwright.errors import RedisAnswerError, RespParseError

MAX_LINE = 1 << 16
MAX_SIZE = 1 << 26
MAX_DEPTH = 32

Word: TypeAlias = bytes | str | int


class Status(bytes):
    """A simple string: what a command says that has nothing to give, OK mostly."""

    __slots__ = ()


# A list is one of replies.
Reply: TypeAlias = bytes | int | list[Any] | RedisAnswerError | None


def encode_command(words: Sequence[Word]) -> bytes:
    """Return the bytes of a command; text is UTF-8, with the bytes that were none of it as they came."""
    out = [b"*%d\r\n" % len(words)]
    for word in words:
        if isinstance(word, str):
            data = word.encode("utf-8", "surrogateescape")
        else:
            data = word if isinstance(word, bytes) else b"%d" % word
        out.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(out)


class Decoder:
    """Makes replies of the bytes of one connection, however they are cut into pieces.

    `max_size` limits a string in bytes and an array in elements.
    """

    __slots__ = ("_buffer", "_max_size", "_need", "_open")

    def __init__(self, max_size: int = MAX_SIZE) -> None:
        self._max_size = max_size
        # What is not complete yet, and how long it has to be for another look.
        self._buffer = bytearray()
        self._need = 0
        # Arrays that are not complete yet, outermost first, with their sizes.
        self._open: list[tuple[list[Reply], int]] = []

    def feed(self, data: bytes) -> list[Reply]:
        """Take bytes and return the replies that are complete with them.

        Raises RespParseError: the stream cannot be followed any further; `replies` of it are those before the fault.
        """
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._need:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        replies: list[Reply] = []
        at, end, find = 0, len(data), data.find
        value: Reply
        while at < end:
            line_end = find(b"\r\n", at)
            if line_end < 0:
                if end - at > MAX_LINE:
                    raise RespParseError("a line without an end", replies)
                self._keep(data, at, 0)
                break
            kind = data[at]
            if kind == _BULK:
                size = self._number(data, at, line_end, replies)
                start = line_end + 2
                stop = start + size
                if size < 0:
                    value = None
                    at = start
                elif size > self._max_size:
                    raise RespParseError(f"a string of {size} bytes, over the limit of {self._max_size}", replies)
                elif stop + 2 > end:
                    self._keep(data, at, stop + 2 - at)
                    break
                elif data[stop : stop + 2] != b"\r\n":
                    raise RespParseError("no line end after a string", replies)
                else:
                    value = data[start:stop]
                    at = stop + 2
            elif kind == _INTEGER:
                value = self._number(data, at, line_end, replies)
                at = line_end + 2
            elif kind == _STATUS:
                value = Status(data[at + 1 : line_end])
                at = line_end + 2
            elif kind == _ERROR:
                value = RedisAnswerError(data[at + 1 : line_end].decode("utf-8", "surrogateescape"))
                at = line_end + 2
            elif kind == _ARRAY:
                size = self._number(data, at, line_end, replies)
                at = line_end + 2
                if size > 0:
                    self._begin(size, replies)
                    continue
                value = [] if size == 0 else None
            else:
                raise RespParseError(f"a reply that begins with {bytes((kind,))!r}", replies)
            if self._open:
                self._close(value, replies)
            else:
                replies.append(value)
        return replies

    def _begin(self, size: int, replies: list[Reply]) -> None:
        if size > self._max_size or len(self._open) >= MAX_DEPTH:
            raise RespParseError(f"an array of {size} elements, at depth {len(self._open)}", replies)
        self._open.append(([], size))

    # Put a value where it belongs; each array that is complete with it is a value itself.
    def _close(self, value: Reply, replies: list[Reply]) -> None:
        while self._open:
            items, size = self._open[-1]
            items.append(value)
            if len(items) < size:
                return
            value = items
            self._open.pop()
        replies.append(value)

    def _number(self, data: bytes, at: int, line_end: int, replies: list[Reply]) -> int:
        try:
            return int(data[at + 1 : line_end])
        except ValueError:
            raise RespParseError(f"no number: {data[at:line_end][:40]!r}", replies) from None

    def _keep(self, data: bytes, at: int, need: int) -> None:
        self._buffer += data[at:]
        self._need = need


_BULK, _INTEGER, _STATUS, _ERROR, _ARRAY = b"$:+-*"
