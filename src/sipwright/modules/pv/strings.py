"""The transformations `{s.*}` that cut, search and replace; those that encode are in encodings.py.

They work on characters. Of `$null` all transformations make `$null`, which is empty in a string. Where Kamailio logs
an error and gives nothing (an offset behind the end) they give the empty string; `{s.int}` of what is no number is
`$null`.
"""

from __future__ import annotations

import re
import time

from sipwright.lang.namespace import Value
from sipwright.modules.pv.kinds import Character, Size, text_of
from sipwright.script.kinds import Int, NullableStr
from sipwright.script.module import Module, transform

_is_integer = re.compile(r"[+-]?[0-9]+", re.ASCII).fullmatch
_BLANK = " \t\r\n"
_BRACKETS = ("()", "[]", "{}", "<>")


class StringTransformations(Module):
    """Cutting, searching and replacing."""

    @transform("s.len")
    def s_len(self, value: Value) -> Value:
        """The length in characters."""
        return len(text_of(value))

    @transform("s.int")
    def s_int(self, value: Value) -> Value:
        """The integer that a text is; `$null` when it is none."""
        if isinstance(value, int):
            return value
        return int(value) if value is not None and _is_integer(value) else None

    @transform("s.substr")
    def s_substr(self, value: Value, offset: Int, length: Size) -> Value:
        """A part of a text; a negative offset counts from the end, length 0 means all that follows."""
        text = text_of(value)
        start = offset if offset >= 0 else len(text) + offset
        if start < 0:
            return ""
        return text[start : start + length] if length else text[start:]

    @transform("s.select")
    def s_select(self, value: Value, index: Int, separator: Character) -> Value:
        """One field of a text; a negative index counts from the end."""
        fields = text_of(value).split(separator)
        return fields[index] if -len(fields) <= index < len(fields) else ""

    @transform("s.strip")
    def s_strip(self, value: Value, count: Size) -> Value:
        """A text without its first characters."""
        return text_of(value)[count:]

    @transform("s.striptail")
    def s_striptail(self, value: Value, count: Size) -> Value:
        """A text without its last characters."""
        text = text_of(value)
        return text[: max(0, len(text) - count)]

    @transform("s.trim")
    def s_trim(self, value: Value) -> Value:
        """A text without blanks and line ends around it."""
        return text_of(value).strip(_BLANK)

    @transform("s.ltrim")
    def s_ltrim(self, value: Value) -> Value:
        """A text without blanks and line ends before it."""
        return text_of(value).lstrip(_BLANK)

    @transform("s.rtrim")
    def s_rtrim(self, value: Value) -> Value:
        """A text without blanks and line ends behind it."""
        return text_of(value).rstrip(_BLANK)

    @transform("s.rm")
    def s_rm(self, value: Value, match: NullableStr) -> Value:
        """A text without all occurrences of another one."""
        return text_of(value).replace(match, "") if match else text_of(value)

    @transform("s.rmws")
    def s_rmws(self, value: Value) -> Value:
        """A text without any blanks and line ends."""
        return "".join(text_of(value).split())

    @transform("s.replace")
    def s_replace(self, value: Value, match: NullableStr, replacement: NullableStr) -> Value:
        """A text with all occurrences of another one replaced."""
        return text_of(value).replace(match, replacement) if match else text_of(value)

    @transform("s.after")
    def s_after(self, value: Value, character: Character) -> Value:
        """What follows the first occurrence of a character; empty when there is none."""
        return text_of(value).partition(character)[2]

    @transform("s.rafter")
    def s_rafter(self, value: Value, character: Character) -> Value:
        """What follows the last occurrence of a character; empty when there is none."""
        _, found, after = text_of(value).rpartition(character)
        return after if found else ""

    @transform("s.before")
    def s_before(self, value: Value, character: Character) -> Value:
        """What is before the first occurrence of a character; the whole text when there is none."""
        return text_of(value).partition(character)[0]

    @transform("s.rbefore")
    def s_rbefore(self, value: Value, character: Character) -> Value:
        """What is before the last occurrence of a character; the whole text when there is none."""
        before, found, text = text_of(value).rpartition(character)
        return before if found else text

    @transform("s.count")
    def s_count(self, value: Value, character: Character) -> Value:
        """How often a character occurs."""
        return text_of(value).count(character)

    @transform("s.numeric")
    def s_numeric(self, value: Value) -> Value:
        """The digits of a text."""
        return "".join([c for c in text_of(value) if "0" <= c <= "9"])

    @transform("s.tolower")
    def s_tolower(self, value: Value) -> Value:
        """A text with its ASCII letters in lower case."""
        return _bytes(value).lower().decode("utf-8", "surrogateescape")

    @transform("s.toupper")
    def s_toupper(self, value: Value) -> Value:
        """A text with its ASCII letters in upper case."""
        return _bytes(value).upper().decode("utf-8", "surrogateescape")

    @transform("s.unquote")
    def s_unquote(self, value: Value) -> Value:
        """A text without the single or double quotes around it."""
        text = text_of(value)
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text

    @transform("s.unbracket")
    def s_unbracket(self, value: Value) -> Value:
        """A text without the brackets around it, of any kind."""
        text = text_of(value)
        return text[1:-1] if text[:1] + text[-1:] in _BRACKETS else text

    @transform("s.prefixes")
    def s_prefixes(self, value: Value, longest: Size = 0) -> Value:
        """All prefixes of a text, or those up to a length, with commas between."""
        return ",".join(_prefixes(value, longest))

    @transform("s.prefixes.quoted")
    def s_prefixes_quoted(self, value: Value, longest: Size = 0) -> Value:
        """All prefixes of a text in single quotes, with commas between."""
        return ",".join([f"'{prefix}'" for prefix in _prefixes(value, longest)])

    @transform("s.fmtlines")
    def s_fmtlines(self, value: Value, width: Size, indent: Size) -> Value:
        """A text in lines of so many characters, the later ones indented by so many blanks."""
        return _lines(text_of(value), width, " " * indent)

    @transform("s.fmtlinet")
    def s_fmtlinet(self, value: Value, width: Size, indent: Size) -> Value:
        """A text in lines of so many characters, the later ones indented by so many tabs."""
        return _lines(text_of(value), width, "\t" * indent)

    @transform("s.ftime")
    def s_ftime(self, value: Value, form: NullableStr) -> Value:
        """A time in seconds since 1970, in a format of strftime, local time."""
        seconds = self.s_int(value)
        if not isinstance(seconds, int):
            return ""
        try:
            return time.strftime(form, time.localtime(seconds))
        except (ValueError, OverflowError, OSError):
            return ""


def _bytes(value: Value) -> bytes:
    return text_of(value).encode("utf-8", "surrogateescape")


def _prefixes(value: Value, longest: int) -> list[str]:
    text = text_of(value)
    return [text[:end] for end in range(1, min(longest or len(text), len(text)) + 1)]


def _lines(text: str, width: int, indent: str) -> str:
    return ("\r\n" + indent).join([text[i : i + width] for i in range(0, len(text), width)]) if width else text
