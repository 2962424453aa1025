"""Draws what happened between a few parties as a ladder: a vertical line each, and time going down.

It knows nothing of SIP or JSON-RPC: arrows go from one line to another, notes stand beside one. A line is solid,
dashed while its party waits, and gone once the party is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Colour = Literal["plain", "sip", "rpc", "note", "bad", "dim"]
Line = Literal["solid", "dashed", "gone"]

_ESCAPES: dict[Colour, str] = {
    "plain": "",
    "sip": "\x1b[36m",
    "rpc": "\x1b[33m",
    "note": "\x1b[1;32m",
    "bad": "\x1b[1;31m",
    "dim": "\x1b[2m",
}
_RESET = "\x1b[0m"
# The time stands left of the first line.
_TIME = 10
_MARGIN = 12
# What a note or the name of the last party may need beyond its line.
_RIGHT = 8


@dataclass(slots=True)
class Arrow:
    """A message from one party to another, at a time in milliseconds."""

    ms: float
    source: int
    target: int
    text: str
    colour: Colour = "plain"


@dataclass(slots=True)
class Note:
    """Something that happened at one party, whose line then goes on as `line` says, None for as before."""

    ms: float
    party: int
    text: str
    line: Line | None = None
    colour: Colour = "note"


@dataclass(frozen=True, slots=True)
class Style:
    """How to draw: the width in characters, whether colours are understood, and the characters of lines."""

    width: int = 96
    colours: bool = False
    solid: str = "│"
    dashed: str = "┆"
    shaft: str = "─"
    right: str = "▶"
    left: str = "◀"
    crossing: str = "┼"
    ellipsis: str = "…"


ASCII = Style(solid="|", dashed=":", shaft="-", right=">", left="<", crossing="+", ellipsis="~")


def draw(parties: Sequence[str], steps: Iterable[Arrow | Note], style: Style) -> list[str]:
    """Return the lines of a ladder; steps are drawn in the order in which they are given."""
    return _Ladder(parties, style).draw(steps)


class _Ladder:
    def __init__(self, parties: Sequence[str], style: Style) -> None:
        self._parties = parties
        self._style = style
        self._span = (style.width - _MARGIN - _RIGHT) // max(len(parties) - 1, 1)
        self._at = [_MARGIN + self._span * index for index in range(len(parties))]
        self._lines: list[Line] = ["solid"] * len(parties)

    def draw(self, steps: Iterable[Arrow | Note]) -> list[str]:
        lines = [self._names(), self._row()]
        for step in steps:
            if isinstance(step, Arrow):
                lines.append(self._arrow(step))
            else:
                lines += self._note(step)
        lines.append(self._row())
        return lines

    def _names(self) -> str:
        row: list[str] = []
        for at, name in zip(self._at, self._parties, strict=True):
            start = max(at - len(name) // 2, len(row) + 1 if row else 0)
            row += [" "] * (start - len(row)) + list(name)
        return "".join(row)

    def _row(self) -> str:
        return "".join(self._cells()).rstrip()

    def _cells(self) -> list[str]:
        """Return a row with nothing in it but the parties' lines."""
        style = self._style
        characters = {"solid": style.solid, "dashed": style.dashed, "gone": " "}
        cells = [" "] * style.width
        for at, line in zip(self._at, self._lines, strict=True):
            cells[at] = characters[line]
        return cells

    def _arrow(self, arrow: Arrow) -> str:
        style = self._style
        cells = self._cells()
        _put(cells, 0, _time(arrow.ms))
        low, high = sorted((arrow.source, arrow.target))
        start, end = self._at[low] + 1, self._at[high]
        for place in range(start, end):
            cells[place] = style.crossing if place in self._at and cells[place] != " " else style.shaft
        room = end - start - 4
        text = arrow.text if len(arrow.text) <= room else arrow.text[: room - 1] + style.ellipsis
        _put(cells, start + 1, f" {text} ")
        if arrow.source < arrow.target:
            cells[end - 1] = style.right
        else:
            cells[start] = style.left
        return self._coloured(cells, start, end, arrow.colour)

    def _note(self, note: Note) -> list[str]:
        if note.line is not None:
            self._lines[note.party] = note.line
        start = self._at[note.party] + 2
        room = self._style.width - start
        rows = []
        for at in range(0, len(note.text), room):
            cells = self._cells()
            if not at:
                _put(cells, 0, _time(note.ms))
            part = note.text[at : at + room]
            # One blank after it, so that a line behind is not read as part of it.
            _put(cells, start, f"{part} "[:room])
            rows.append(self._coloured(cells, start, start + len(part), note.colour))
        return rows

    def _coloured(self, cells: list[str], start: int, end: int, colour: Colour) -> str:
        if not self._style.colours:
            return "".join(cells).rstrip()
        time, before, after = "".join(cells[:_TIME]), "".join(cells[_TIME:start]), "".join(cells[end:]).rstrip()
        return f"{_ESCAPES['dim']}{time}{_RESET}{before}{_ESCAPES[colour]}{''.join(cells[start:end])}{_RESET}{after}"


def _put(cells: list[str], start: int, text: str) -> None:
    cells[start : start + len(text)] = text


def _time(ms: float) -> str:
    return f"{ms:7.1f} ms"
