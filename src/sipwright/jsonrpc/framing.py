"""How payloads are told apart in a byte stream (L0): netstrings, lines, Content-Length headers, or a framing of yours.

A `Framing` is a function that puts one payload into its frame, and a factory of decoders that take the stream apart
again; clients and servers take one by its name or as the object. A decoder's `feed` takes bytes in pieces of any size,
returns the payloads that they complete, and raises FramingParseError, with the payloads before the fault, when the
stream cannot be followed any further; it then raises at each later call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from sipwright import netstring
from sipwright.errors import ArgumentError, FramingParseError

MAX_HEADER = 4096
"""How many bytes the header before one payload may have, in the framing by Content-Length."""


class StreamDecoder(Protocol):
    """Takes one byte stream apart."""

    def feed(self, data: bytes, /) -> list[bytes]:
        """Take the next bytes and return the payloads that they complete. Raises FramingParseError."""


@dataclass(frozen=True, slots=True)
class Framing:
    """A framing: `encode(payload)` returns the frame, `decoder(max_size)` a new StreamDecoder.

    `max_size` is the largest payload in bytes that the decoder is to accept.
    """

    name: str
    encode: Callable[[bytes], bytes]
    decoder: Callable[[int], StreamDecoder]


def encode_line(payload: bytes) -> bytes:
    """Return the payload and a line feed. JSON as this library writes it has no line feed in it; others are dropped."""
    return payload.replace(b"\n", b" ") + b"\n" if b"\n" in payload else payload + b"\n"


class LineDecoder:
    """Takes a byte stream apart at its line feeds; a carriage return before one, and empty lines, are dropped."""

    __slots__ = ("_broken", "_buffer", "_max_size", "_seen")

    def __init__(self, max_size: int = 1 << 20) -> None:
        self._max_size = max_size
        # The start of a line whose end has not come yet, and how much of it is known to have no line feed.
        self._buffer = bytearray()
        self._seen = 0
        self._broken = ""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the lines that they complete, in order."""
        if self._broken:
            raise FramingParseError(self._broken)
        buffer = self._buffer
        buffer += data
        lines: list[bytes] = []
        if buffer.find(b"\n", self._seen) >= 0:
            *lines, rest = bytes(buffer).split(b"\n")
            buffer[:] = rest
        self._seen = len(buffer)
        payloads: list[bytes] = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if len(line) > self._max_size:
                raise self._fault(payloads)
            if line:
                payloads.append(line)
        if len(buffer) > self._max_size + 1:
            raise self._fault(payloads)
        return payloads

    def _fault(self, payloads: list[bytes]) -> FramingParseError:
        self._broken = f"bad line: longer than the limit of {self._max_size} bytes"
        self._buffer.clear()
        return FramingParseError(self._broken, payloads)


def encode_content(payload: bytes) -> bytes:
    """Return the payload after a header with its length, as the Language Server Protocol has it."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(payload), payload)


class ContentLengthDecoder:
    """Takes a byte stream apart by the Content-Length in the header lines before each payload.

    Header lines end with CR LF, or with LF alone; names are compared without regard to case, other headers are skipped
    (Language Server Protocol, "Base Protocol").
    """

    __slots__ = ("_broken", "_buffer", "_max_size", "_need")

    def __init__(self, max_size: int = 1 << 20) -> None:
        self._max_size = max_size
        self._buffer = bytearray()
        # How many bytes the buffer must have for the next payload to be complete; 0: its header is not complete.
        self._need = 0
        self._broken = ""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the payloads that they complete, in order."""
        if self._broken:
            raise FramingParseError(self._broken)
        self._buffer += data
        if len(self._buffer) < self._need:
            return []
        stream = bytes(self._buffer)
        payloads: list[bytes] = []
        position = self._need = 0
        while (end := _header_end(stream, position)) >= 0:
            size = self._content_length(stream[position:end], payloads)
            if end + size > len(stream):
                self._need = end + size - position
                break
            payloads.append(stream[end : end + size])
            position = end + size
        else:
            if len(stream) - position > MAX_HEADER:
                raise self._fault(f"header of more than {MAX_HEADER} bytes", payloads)
        self._buffer[:] = stream[position:]
        return payloads

    def _content_length(self, header: bytes, payloads: list[bytes]) -> int:
        if len(header) > MAX_HEADER:
            raise self._fault(f"header of more than {MAX_HEADER} bytes", payloads)
        size = -1
        for line in header.splitlines():
            name, colon, value = line.partition(b":")
            if line and not colon:
                raise self._fault(f"no header line: {line[:40].decode('utf-8', 'replace')!r}", payloads)
            if name.strip().lower() == b"content-length":
                digits = value.strip()
                if not digits.isdigit() or len(digits) > netstring.MAX_DIGITS or size >= 0:
                    raise self._fault("Content-Length is not one number", payloads)
                size = int(digits)
        if size < 0:
            raise self._fault("no Content-Length", payloads)
        if size > self._max_size:
            raise self._fault(f"Content-Length {size} is over the limit of {self._max_size} bytes", payloads)
        return size

    def _fault(self, message: str, payloads: list[bytes]) -> FramingParseError:
        self._broken = f"bad header: {message}"
        self._buffer.clear()
        return FramingParseError(self._broken, payloads)


# Where the payload begins: behind the empty line that ends the header. -1: the header is not complete.
def _header_end(stream: bytes, position: int) -> int:
    ends = [found + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if (found := stream.find(mark, position)) >= 0]
    return min(ends, default=-1)


NETSTRING: Final = Framing("netstring", netstring.encode, netstring.Decoder)
NEWLINE: Final = Framing("newline", encode_line, LineDecoder)
CONTENT_LENGTH: Final = Framing("content-length", encode_content, ContentLengthDecoder)

FRAMINGS: Final = {framing.name: framing for framing in (NETSTRING, NEWLINE, CONTENT_LENGTH)}


def find_framing(framing: str | Framing) -> Framing:
    """Return a framing by its name, or the object itself. Raises ArgumentError for an unknown name."""
    if isinstance(framing, Framing):
        return framing
    try:
        return FRAMINGS[framing]
    except KeyError:
        raise ArgumentError(f"no framing is named {framing!r}, expected one of {', '.join(FRAMINGS)}") from None
