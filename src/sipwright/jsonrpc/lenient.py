r"""The forgiving JSON dialect that script parameters are written in (L0): owns its grammar and its strict spelling.

The dialect is that of json-c 0.16 (`json_tokener` without flags), in which the parameters of Kamailio's jsonrpcc are
written. Beyond RFC 8259 it has: strings and keys in single quotes; control characters inside strings; trailing
commas; `//` and `/* */` comments; `true`, `false`, `null`, `NaN`, `Infinity`, `-Infinity` in any case of letters;
numbers with leading zeros, with an empty fraction or exponent (`1.`, `1e`) and of the form `-.5`. A scalar is a
document; of duplicate keys the last wins. It has no unquoted keys, `\'`, hexadecimal, `+1` or `.5`.

What is sent is strict JSON in UTF-8 without superfluous blanks. A number keeps its spelling as far as RFC 8259 knows
it: `1.10` and `1E400` stay, `007` is `7`, `1.` is `1.0`, `1e` is `1`, `-.5` is `-0.5`, `-0` is `0`.

    # Deviation: NaN and the infinities are sent as null, as JavaScript and msgspec do; json-c writes `NaN`, which no
      strict receiver reads.
    # Deviation: a lone surrogate, escaped or left by the `surrogateescape` decoding of a byte that is not UTF-8, is
      sent as U+FFFD, one for each; json-c does that with the escaped ones and sends other bytes as they are.
    # Deviation: integers beyond 64 bits keep their digits; json-c makes them the largest or smallest it has.
    # Deviation: text after the value, and comments that do not end, are errors; json-c stops reading at the value.
    # Deviation: `1.-` and `1.+` are errors; json-c reads `1.`.
    # Deviation: 32 arrays and objects inside one another may hold scalars; json-c counts the scalar as a level.
    # Deviation: `/***/` is a comment; json-c overlooks its end. A key may contain U+0000; json-c cuts it there.

A text of nothing but blanks and comments is no document: `to_json` gives `b""` for it, the sign for "no params".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sipwright.errors import JsonParseError

MAX_DEPTH: Final = 32
"""How many arrays and objects may be inside one another."""

MARK: Final = "\0"
"""The character that stands for a `Hole` in a text, and that the reader sees where the text ends."""


def to_json(text: str, *, strict: bool = False, depth: int = MAX_DEPTH) -> bytes:
    """Return a document of the dialect, or with `strict` one of RFC 8259, as strict JSON.

    Returns `b""` when there is no document. Raises JsonParseError, whose offset is the character that cannot be
    understood (the opening one of a string or comment that does not end).
    """
    # Most documents are strict ones, which msgspec takes in 0.2 to 0.5 µs; all others, and errors, need the reader
    # (5 µs and more). msgspec has no limit of the depth.
    if text.count("[") + text.count("{") <= depth:
        try:
            return encode(decode_spelled(text))
        except (ValueError, OverflowError):
            pass
    value = Reader(text, strict).document(depth)
    return b"" if value is NOTHING else encode(value)


def parse(text: str, *, strict: bool = False) -> Any:
    """Return what the receiver of `to_json(text)` gets. Raises JsonParseError, also when there is no document."""
    data = to_json(text, strict=strict)
    if not data:
        raise JsonParseError("there is no value", len(text), text)
    try:
        return json.loads(data)
    except ValueError as error:
        # All that is left to go wrong is an integer of more digits than Python converts.
        raise JsonParseError(str(error), 0, text) from None


def clean(text: str) -> str:
    """Return the text with U+FFFD for each surrogate, so that it can be sent; its length stays."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _spelled(number: str) -> msgspec.Raw:
    return msgspec.Raw(number.encode())


encode: Final = msgspec.json.Encoder().encode
decode_spelled: Final = msgspec.json.Decoder(float_hook=_spelled).decode
"""Decode strict JSON; a number that is no integer becomes `msgspec.Raw` with its spelling."""


class Hole:
    """A place in a text whose content comes later. `depth`: how many arrays and objects a value may have there."""

    __slots__ = ("content", "depth")

    def __init__(self, content: Any) -> None:
        self.content = content
        self.depth = MAX_DEPTH


class Mixed:
    """A string or key of which parts come later."""

    __slots__ = ("parts",)

    def __init__(self, parts: list[str | Hole]) -> None:
        self.parts = parts


class _Nothing:
    """The type of NOTHING."""


NOTHING: Final = _Nothing()
"""What `Reader.document` returns for a text without a value."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BLANKS: Final = re.compile(r"[ \t\n\r]*")
_PLAIN: Final = {'"': re.compile(r'[^"\\\x00-\x1f]*'), "'": re.compile(r"[^'\\\x00-\x1f]*")}
_NUMBER: Final = re.compile(r"(-?)([0-9]+|(?<=-)(?=\.[0-9]))(\.[0-9]*)?([eE][+-]?[0-9]*)?")
_WORD: Final = re.compile(r"-?[A-Za-z]+")
_HEX4: Final = re.compile(r"[0-9A-Fa-f]{4}")
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_STRICT_WORDS: Final = {"true": True, "false": False, "null": None}
_WORDS: Final = {**_STRICT_WORDS, "nan": None, "infinity": None, "-infinity": None}
_WRONG_STARTS: Final = {"+": "a number cannot start with '+'", ".": "a number cannot start with '.'"}


class Reader:
    """Reads one document into dict, list, str, bool, None and, for numbers, `msgspec.Raw`.

    `holes` says at which offsets a MARK stands for a Hole. A Hole may be a value, or be inside a string or key, which
    then becomes a Mixed.
    """

    __slots__ = ("_end", "_holes", "_pos", "_strict", "_text")

    def __init__(self, text: str, strict: bool = False, holes: Mapping[int, Hole] | None = None) -> None:
        self._end = len(text)
        self._text = clean(text) + MARK
        self._strict = strict
        self._holes = holes or {}
        self._pos = 0

    def document(self, depth: int = MAX_DEPTH) -> Any:
        """Return the value of the whole text, or NOTHING. Raises JsonParseError."""
        self._skip()
        if self._pos == self._end:
            return NOTHING
        value = self._value(depth)
        self._skip()
        if self._pos != self._end:
            raise self._unexpected("the end of the text")
        return value

    def _value(self, depth: int) -> Any:
        c = self._skip()
        if c in _PLAIN:
            return self._string(c)
        if c == "{":
            return self._object(depth)
        if c == "[":
            return self._array(depth)
        if c == MARK and (hole := self._holes.get(self._pos)) is not None:
            self._pos += 1
            hole.depth = depth
            return hole
        if word := _WORD.match(self._text, self._pos):
            return self._word(word[0])
        if c in "-0123456789":
            return self._number()
        if c in _WRONG_STARTS:
            raise self._error(_WRONG_STARTS[c])
        raise self._unexpected("a value")

    def _object(self, depth: int) -> dict[Any, Any]:
        self._enter(depth)
        result: dict[Any, Any] = {}
        while True:
            c = self._skip()
            if c == "}" and (not result or not self._strict):
                break
            if c not in _PLAIN:
                raise self._unexpected("a key in quotes" if result or self._strict else "a key in quotes or '}'")
            key = self._string(c)
            if self._skip() != ":":
                raise self._unexpected("':'")
            self._pos += 1
            result[key] = self._value(depth - 1)
            if self._skip() != ",":
                break
            self._pos += 1
        self._leave("}")
        return result

    def _array(self, depth: int) -> list[Any]:
        self._enter(depth)
        result: list[Any] = []
        while True:
            if self._skip() == "]" and (not result or not self._strict):
                break
            result.append(self._value(depth - 1))
            if self._skip() != ",":
                break
            self._pos += 1
        self._leave("]")
        return result

    def _enter(self, depth: int) -> None:
        if depth <= 0:
            raise self._error(f"there are more than {MAX_DEPTH} arrays and objects inside one another")
        self._pos += 1

    def _leave(self, bracket: str) -> None:
        if self._text[self._pos] != bracket:
            raise self._unexpected(f"',' or '{bracket}'")
        self._pos += 1

    def _string(self, quote: str) -> str | Mixed:
        start = self._pos
        if quote == "'" and self._strict:
            raise self._error("a string must be in double quotes")
        text, plain = self._text, _PLAIN[quote].match
        pos = start + 1
        parts: list[str | Hole] = []
        while True:
            run = plain(text, pos)
            assert run is not None  # the pattern matches the empty string too
            if run[0]:
                parts.append(run[0])
            pos = self._pos = run.end()
            c = text[pos]
            if c == quote:
                self._pos = pos + 1
                break
            if c == "\\":
                parts.append(self._escape())
                pos = self._pos
                continue
            if c == MARK and (hole := self._holes.get(pos)) is not None:
                parts.append(hole)
            elif pos == self._end:
                self._pos = start
                raise self._error("the string is not closed")
            elif self._strict:
                raise self._error(f"the control character {c!r} must be escaped")
            else:
                parts.append(c)
            pos += 1
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if len(texts) == len(parts) else Mixed(parts)

    def _escape(self) -> str:
        pos = self._pos + 1
        c = self._text[pos]
        if c in _ESCAPES:
            self._pos = pos + 1
            return _ESCAPES[c]
        if c == "u":
            code = self._hex4(pos + 1)
            if 0xD800 <= code < 0xDC00 and self._text.startswith("\\u", pos + 5) and _HEX4.match(self._text, pos + 7):
                low = self._hex4(pos + 7)
                if 0xDC00 <= low < 0xE000:
                    self._pos = pos + 11
                    return chr(0x10000 + ((code - 0xD800) << 10) + low - 0xDC00)
            self._pos = pos + 5
            return clean(chr(code))
        if pos in self._holes:
            raise self._error("an escape sequence cannot go on in a variable")
        if pos == self._end:
            raise self._error("the text ends in an escape sequence")
        raise self._error(f"there is no escape sequence {chr(92) + c!s}")

    def _hex4(self, pos: int) -> int:
        digits = _HEX4.match(self._text, pos)
        if digits is None:
            raise self._error("'\\u' needs four hexadecimal digits")
        return int(digits[0], 16)

    def _number(self) -> msgspec.Raw:
        number = _NUMBER.match(self._text, self._pos)
        if number is None:
            self._pos += 1
            raise self._unexpected("a digit")
        sign, whole, fraction, exponent = number.groups("")
        whole = whole.lstrip("0") or "0"
        if len(fraction) == 1:
            fraction = ".0"
        if exponent and not exponent[-1].isdigit():
            exponent = ""
        spelling = sign + whole + fraction + exponent
        if self._strict and spelling != number[0]:
            raise self._error(f"{number[0]} is not a number of strict JSON")
        self._pos = number.end()
        return _spelled("0" if spelling == "-0" else spelling)

    def _word(self, word: str) -> bool | None:
        words = _STRICT_WORDS if self._strict else _WORDS
        key = word if self._strict else word.lower()
        if key not in words:
            raise self._error(f"a value is expected, not {word!r}")
        self._pos += len(word)
        return words[key]

    def _skip(self) -> str:
        """Pass blanks and comments; return the character that follows, MARK at the end."""
        text = self._text
        while True:
            blanks = _BLANKS.match(text, self._pos)
            assert blanks is not None  # the pattern matches the empty string too
            self._pos = blanks.end()
            if text[self._pos] != "/" or self._strict:
                return text[self._pos]
            if text.startswith("//", self._pos):
                end = text.find("\n", self._pos)
                self._pos = self._end if end < 0 else end
            elif text.startswith("/*", self._pos):
                end = text.find("*/", self._pos + 2)
                if end < 0:
                    raise self._error("the comment is not closed")
                self._pos = end + 2
            else:
                self._pos += 1
                raise self._unexpected("'/' or '*' of a comment")

    def _unexpected(self, expected: str) -> JsonParseError:
        if self._pos in self._holes:
            return self._error("a variable can only be a whole value, or inside quotes")
        if self._pos == self._end:
            return self._error(f"{expected} is expected, but the text ends")
        return self._error(f"{expected} is expected, not {self._text[self._pos]!r}")

    def _error(self, message: str) -> JsonParseError:
        return JsonParseError(message, self._pos, self._text[: self._end])
