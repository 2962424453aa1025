"""Netstrings (L0): framing and unframing of bytes; owns no socket and knows nothing of what the payloads mean.

A netstring is a decimal length without leading zeros, `:`, that many bytes, `,` (D. J. Bernstein, "Netstrings").
The decoder takes bytes in pieces of any size and gives the payloads that are complete. A fault is found as early as
the bytes allow: a length that is too large is refused when its `:` is read, not when its payload has filled memory.
"""

from __future__ import annotations

from sipwright.errors import NetstringParseError

MAX_DIGITS = 9
_COMMA = 0x2C
# The usual lengths as they are written; a look here takes 20 ns, checking and converting digits 100.
_SIZES = {b"%d" % size: size for size in range(1024)}


def encode(payload: bytes) -> bytes:
    """Return the payload as a netstring."""
    return b"%d:%b," % (len(payload), payload)


class Decoder:
    """Takes a byte stream apart into payloads of at most `max_size` bytes."""

    __slots__ = ("_broken", "_buffer", "_max_size", "_need")

    def __init__(self, max_size: int = 1 << 20) -> None:
        self._max_size = max_size
        # The start of a frame whose rest has not come yet. It only grows by `+=` until `_need` bytes are there, so
        # a long frame that comes in many small pieces costs linear time.
        self._buffer = bytearray()
        self._need = 0
        self._broken = ""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the payloads that they complete, in order.

        Raises NetstringParseError when the stream is not netstrings. Payloads that were complete before the fault are
        not lost: they are the error's `payloads`. The stream cannot be followed any further, so each later call
        raises again.
        """
        if self._broken:
            raise NetstringParseError(self._broken)
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return []
            data = bytes(buffer)
            buffer.clear()
        payloads: list[bytes] = []
        position, end, find, get_size, max_size = 0, len(data), data.find, _SIZES.get, self._max_size
        while position < end:
            colon = find(b":", position, position + MAX_DIGITS + 1)
            digits = data[position : colon if colon >= 0 else position + MAX_DIGITS + 1]
            size = get_size(digits, -1) if colon >= 0 else -1
            if size < 0:
                self._check_length(digits, colon >= 0, payloads)
                if colon < 0:
                    self._keep(data, position, 0)
                    break
                size = int(digits)
            if size > max_size:
                raise self._fault(f"length {size} is over the limit of {max_size} bytes", payloads)
            start = colon + 1
            comma = start + size
            if comma >= end:
                self._keep(data, position, comma + 1 - position)
                break
            if data[comma] != _COMMA:
                raise self._fault("no comma after the payload", payloads)
            payloads.append(data[start:comma])
            position = comma + 1
        return payloads

    def _keep(self, data: bytes, position: int, need: int) -> None:
        self._buffer += data[position:]
        self._need = need

    def _check_length(self, digits: bytes, ended: bool, payloads: list[bytes]) -> None:
        """Raise unless the digits are a length, or can be the beginning of one when they have not ended yet."""
        if ended and not digits:
            raise self._fault("no digits before the colon", payloads)
        if not digits.isdigit():
            # `isdigit` of bytes is true for ASCII digits only. A colon further on does not matter.
            raise self._fault("not a length", payloads)
        if digits[0] == 0x30 and len(digits) > 1:
            raise self._fault("length with a leading zero", payloads)
        if len(digits) > MAX_DIGITS:
            raise self._fault(f"length of more than {MAX_DIGITS} digits", payloads)

    def _fault(self, message: str, payloads: list[bytes]) -> NetstringParseError:
        self._broken = f"bad netstring: {message}"
        return NetstringParseError(self._broken, payloads)
