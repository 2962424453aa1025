"""The transformations `{s.*}` that encode, escape and hash.

Texts are encoded as the UTF-8 bytes that they are on the wire. What cannot be decoded gives the empty string.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from sipwright.lang.namespace import Value
from sipwright.modules.pv.kinds import Size, text_of
from sipwright.script.corehash import core_hash
from sipwright.script.module import Module, transform

_ALNUM = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
# Kamailio: what stays as it is in a user part (RFC 3261 section 25.1 without "/"), in a URI parameter, in a URL.
_IN_USER = _ALNUM | frozenset(b"-_.!~*'()&=+$,;?")
_IN_PARAM = _ALNUM | frozenset(b"-_.!~*'()[]/:&+$")
_IN_URL = _ALNUM | frozenset(b"-_.~")
_bad_percent = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_common_escape = re.compile(r"['\"\\\0]")
_common_unescape = re.compile(r"\\(['\"\\0])")


class Encodings(Module):
    """Encoding, escaping, hashing."""

    @transform("s.md5")
    def s_md5(self, value: Value) -> Value:
        """The MD5 hash, in hexadecimal."""
        return hashlib.md5(_bytes(value), usedforsecurity=False).hexdigest()

    @transform("s.sha256")
    def s_sha256(self, value: Value) -> Value:
        """The SHA-256 hash, in hexadecimal."""
        return hashlib.sha256(_bytes(value)).hexdigest()

    @transform("s.sha384")
    def s_sha384(self, value: Value) -> Value:
        """The SHA-384 hash, in hexadecimal."""
        return hashlib.sha384(_bytes(value)).hexdigest()

    @transform("s.sha512")
    def s_sha512(self, value: Value) -> Value:
        """The SHA-512 hash, in hexadecimal."""
        return hashlib.sha512(_bytes(value)).hexdigest()

    @transform("s.corehash")
    def s_corehash(self, value: Value, size: Size = 0) -> Value:
        """Kamailio's hash, as text; with a size, a power of two, less than it."""
        return str(core_hash(_bytes(value), size=size))

    # ---- hexadecimal, base 58, base 64

    @transform("s.encode.hexa")
    def s_encode_hexa(self, value: Value) -> Value:
        """The bytes in hexadecimal."""
        return _bytes(value).hex()

    @transform("s.decode.hexa")
    def s_decode_hexa(self, value: Value) -> Value:
        """What hexadecimal digits encode."""
        return _decoded(binascii.unhexlify, text_of(value))

    @transform("s.encode.base58")
    def s_encode_base58(self, value: Value) -> Value:
        """The bytes in base 58."""
        return _encode_base58(_bytes(value))

    @transform("s.decode.base58")
    def s_decode_base58(self, value: Value) -> Value:
        """What a base 58 text encodes."""
        return _decoded(_decode_base58, text_of(value))

    @transform("s.encode.base64")
    def s_encode_base64(self, value: Value) -> Value:
        """The bytes in base 64."""
        return base64.b64encode(_bytes(value)).decode()

    @transform("s.decode.base64")
    def s_decode_base64(self, value: Value) -> Value:
        """What a base 64 text encodes."""
        return _decoded(_decode_base64, text_of(value))

    @transform("s.encode.base64t")
    def s_encode_base64t(self, value: Value) -> Value:
        """The bytes in base 64, without padding."""
        return base64.b64encode(_bytes(value)).decode().rstrip("=")

    @transform("s.decode.base64t")
    def s_decode_base64t(self, value: Value) -> Value:
        """What a base 64 text encodes that may lack its padding."""
        return _decoded(_decode_base64, _padded(text_of(value)))

    @transform("s.encode.base64url")
    def s_encode_base64url(self, value: Value) -> Value:
        """The bytes in base 64 with the alphabet for URLs."""
        return base64.urlsafe_b64encode(_bytes(value)).decode()

    @transform("s.decode.base64url")
    def s_decode_base64url(self, value: Value) -> Value:
        """What a base 64 text with the alphabet for URLs encodes."""
        return _decoded(_decode_base64, text_of(value).translate(_FROM_URL))

    @transform("s.encode.base64urlt")
    def s_encode_base64urlt(self, value: Value) -> Value:
        """The bytes in base 64 with the alphabet for URLs, without padding."""
        return base64.urlsafe_b64encode(_bytes(value)).decode().rstrip("=")

    @transform("s.decode.base64urlt")
    def s_decode_base64urlt(self, value: Value) -> Value:
        """What a base 64 text with the alphabet for URLs encodes that may lack its padding."""
        return _decoded(_decode_base64, _padded(text_of(value).translate(_FROM_URL)))

    # ---- escapes

    @transform("s.escape.common")
    def s_escape_common(self, value: Value) -> Value:
        """A text with backslashes before quotes, backslashes and NUL."""
        return _common_escape.sub(lambda match: "\\" + match[0].replace("\0", "0"), text_of(value))

    @transform("s.unescape.common")
    def s_unescape_common(self, value: Value) -> Value:
        """The reverse of `{s.escape.common}`."""
        return _common_unescape.sub(lambda match: match[1].replace("0", "\0"), text_of(value))

    @transform("s.escape.user")
    def s_escape_user(self, value: Value) -> Value:
        """A text with %HEX for what must not be in the user part of a SIP URI."""
        return _percent(_bytes(value), _IN_USER)

    @transform("s.unescape.user")
    def s_unescape_user(self, value: Value) -> Value:
        """The reverse of `{s.escape.user}`."""
        return _unpercent(text_of(value))

    @transform("s.escape.param")
    def s_escape_param(self, value: Value) -> Value:
        """A text with %HEX for what must not be in a parameter of a SIP URI."""
        return _percent(_bytes(value), _IN_PARAM)

    @transform("s.unescape.param")
    def s_unescape_param(self, value: Value) -> Value:
        """The reverse of `{s.escape.param}`."""
        return _unpercent(text_of(value))

    @transform("s.urlencode.param")
    def s_urlencode_param(self, value: Value) -> Value:
        """A text with %HEX for what must not be in a parameter of a URL."""
        return _percent(_bytes(value), _IN_URL)

    @transform("s.urldecode.param")
    def s_urldecode_param(self, value: Value) -> Value:
        """The reverse of `{s.urlencode.param}`; a plus is a blank."""
        return _unpercent(text_of(value).replace("+", " "))

    @transform("s.escape.csv")
    def s_escape_csv(self, value: Value) -> Value:
        """A text as a field of a CSV line (RFC 4180)."""
        return '"' + text_of(value).replace('"', '""') + '"'


def _bytes(value: Value) -> bytes:
    return text_of(value).encode("utf-8", "surrogateescape")


def _decoded(decode: Callable[[str], bytes], text: str) -> str:
    try:
        return decode(text).decode("utf-8", "surrogateescape")
    except ValueError:
        return ""


_FROM_URL = str.maketrans("-_", "+/")


def _decode_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _padded(text: str) -> str:
    text = text.rstrip("=")
    return text + "=" * (-len(text) % 4)


def _encode_base58(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + digits


def _decode_base58(text: str) -> bytes:
    number = 0
    for digit in text:
        number = number * 58 + _BASE58.index(digit)
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _percent(data: bytes, kept: frozenset[int]) -> str:
    return "".join([chr(byte) if byte in kept else f"%{byte:02x}" for byte in data])


def _unpercent(text: str) -> str:
    if _bad_percent(text):
        return ""
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
