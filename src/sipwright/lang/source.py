"""Where things were written: owns the text of a file and the way from an offset in it to line, column and fault.

Every token and node carries a `Spot`, so that whatever stage finds a fault can point at the characters that caused it.
"""

from __future__ import annotations

from bisect import bisect_right

from sipwright.errors import ArgumentError, ConfigError


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

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


class Faults:
    """The faults of a script that were found so far."""

    __slots__ = ("errors",)

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []

    def add(self, spot: Spot, message: str, suggestion: str | None = None) -> None:
        """Note a fault at a spot; a second fault at the same place is only its consequence and is left out."""
        line, column = spot.file.place(spot.offset)
        for known in self.errors:
            if known.line == line and known.column == column and known.file == spot.file.name:
                return
        self.errors.append(ConfigError(message, spot.file.name, line, column, spot.file.line_text(line), suggestion))

    def add_argument(self, spot: Spot, error: ValueError) -> None:
        """Note what a look-up or a conversion complained about."""
        if isinstance(error, ArgumentError):
            self.add(spot, error.message, error.suggestion)
        else:
            self.add(spot, str(error))
