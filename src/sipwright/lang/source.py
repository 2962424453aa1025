"""Where things were written: owns the text of a file and the way from an offset in it to line, column and fault.

Every token and node carries a `Spot`, so that whatever stage finds a fault can point at the characters that caused it.
"""

from __future__ import annotations

import difflib
from bisect import bisect_right
from collections.abc import Iterable

from sipwright.errors import ArgumentError, ConfigError

# So many places of an unknown name are listed.
MOST_PLACES = 8


class SourceFile:
    """One file of a script, decoded."""

    __slots__ = ("_starts", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        starts = [0]
        find = text.find
        at = find("\n")
        while at >= 0:
            starts.append(at + 1)
            at = find("\n", at + 1)
        self._starts = starts

    def place(self, offset: int) -> tuple[int, int]:
        """Return line and column of an offset, both from 1."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line_text(self, line: int) -> str:
        """Return a line without its end."""
        start = self._starts[line - 1]
        end = self._starts[line] - 1 if line < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r")


class Spot:
    """An offset in a file."""

    __slots__ = ("file", "offset")

    def __init__(self, file: SourceFile, offset: int) -> None:
        self.file = file
        self.offset = offset

    @property
    def line(self) -> int:
        """The line, from 1."""
        return self.file.place(self.offset)[0]

    @property
    def column(self) -> int:
        """The column, from 1."""
        return self.file.place(self.offset)[1]

    @property
    def indent(self) -> str:
        """The white space that its line begins with."""
        text = self.file.line_text(self.line)
        return text[: len(text) - len(text.lstrip())]

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


class Faults:
    """The faults of a script that were found so far."""

    __slots__ = ("_unknown", "errors")

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []
        # By what is said of a name: where in `errors` that is, and the places where the name came again.
        self._unknown: dict[str, tuple[int, list[Spot]]] = {}

    def add(self, spot: Spot, message: str, suggestion: str | None = None) -> bool:
        """Note a fault at a spot; a second one at the same place is only its consequence and is left out: False."""
        line, column = spot.file.place(spot.offset)
        for known in self.errors:
            if known.line == line and known.column == column and known.file == spot.file.name:
                return False
        self.errors.append(ConfigError(message, spot.file.name, line, column, spot.file.line_text(line), suggestion))
        return True

    def add_unknown(self, spot: Spot, message: str, suggestion: str | None = None) -> None:
        """Note a name that cannot be looked up. Where it comes again is told there: one mistake, one message."""
        known = self._unknown.get(message)
        if known is None:
            if self.add(spot, message, suggestion):
                self._unknown[message] = len(self.errors) - 1, []
            return
        index, again = known
        first = self.errors[index]
        if spot.line == first.line and spot.file.name == first.file:
            return
        again.append(spot)
        told = f"{message} ({_also(again, first.file)})"
        self.errors[index] = ConfigError(told, first.file, first.line, first.column, first.source, first.suggestion)

    def add_argument(self, spot: Spot, error: ValueError) -> None:
        """Note what a look-up or a conversion complained about."""
        if isinstance(error, ArgumentError):
            self.add(spot, error.message, error.suggestion)
        else:
            self.add(spot, str(error))


def suggest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like a wrong one, None when none is."""
    close = difflib.get_close_matches(name, list(known), 1, 0.6)
    return close[0] if close else None


# "also in lines 3, 4 and 7".
def _also(spots: list[Spot], file: str) -> str:
    places = list(dict.fromkeys(str(spot.line) if spot.file.name == file else str(spot) for spot in spots))
    more = len(places) - MOST_PLACES
    if more > 0:
        places[MOST_PLACES:] = [f"{more} more"]
    *most, last = places
    lines = "lines " if most else "line "
    return f"also in {lines if places[0].isdecimal() else ''}{', '.join(most)}{' and ' if most else ''}{last}"
