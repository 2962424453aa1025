"""The counters of all workers, where each of them can read them: owns a piece of memory that the processes share.

Each process writes its own place and reads the others'. A place has two halves, and a byte that says which one is
whole. A reader that is overtaken by two writes knows it by a checksum, and reads again.
What a worker counted before it ended is kept in a place of its own, which the supervisor writes.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from zlib import crc32

import msgspec

from sipwright.engine.stats import GAUGES

# A half: length, checksum and bytes. Some hundred counters take 4 KB.
HALF = 16 * 1024
PLACE = 1 + 2 * HALF
_HEAD = struct.Struct("=II")
# Writes are a second apart: a reader is not overtaken twice.
TRIES = 3

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, int]).decode


class Scoreboard:
    """So many places for counters. It has to be made before the processes are forked that share it."""

    __slots__ = ("_memory", "places")

    def __init__(self, places: int) -> None:
        self.places = places
        self._memory = mmap.mmap(-1, places * PLACE)

    def write(self, place: int, counters: dict[str, int]) -> None:
        """Write a place, which nobody else writes. Counters that do not fit are left out altogether."""
        data = _encode(counters)
        if len(data) > HALF - _HEAD.size:
            data = _encode({})
        start = place * PLACE
        half = 1 - self._memory[start]
        at = start + 1 + half * HALF
        _HEAD.pack_into(self._memory, at, len(data), crc32(data))
        self._memory[at + _HEAD.size : at + _HEAD.size + len(data)] = data
        self._memory[start] = half

    def read(self, place: int) -> dict[str, int]:
        """Return the counters of a place; none where nothing was written."""
        start = place * PLACE
        for _ in range(TRIES):
            at = start + 1 + self._memory[start] * HALF
            length, checksum = _HEAD.unpack_from(self._memory, at)
            if not length:
                break
            data = self._memory[at + _HEAD.size : at + _HEAD.size + min(length, HALF - _HEAD.size)]
            if crc32(data) == checksum:
                return _decode(data)
        return {}

    def others(self, place: int) -> Iterator[dict[str, int]]:
        """Give the counters of all places but one."""
        return (self.read(other) for other in range(self.places) if other != place)


# For each worker so many processes at once: those that are being replaced linger.
PLACES = 6
# The place of what processes have counted that are no more.
PAST = 0


class Board:
    """The scoreboard as the supervisor has it: gives processes their places, and keeps what ended ones have counted."""

    __slots__ = ("_free", "_past", "scoreboard")

    def __init__(self, workers: int) -> None:
        self.scoreboard = Scoreboard(1 + PLACES * workers)
        self._free = list(range(self.scoreboard.places - 1, PAST, -1))
        self._past: dict[str, int] = {}

    def take_place(self) -> int:
        """Return a free place; should there be none, the last one, which more than one process then writes."""
        return self._free.pop() if self._free else self.scoreboard.places - 1

    def leave(self, place: int, counters: dict[str, int]) -> None:
        """Take back the place of a process that has ended, and keep what it last counted."""
        for name, number in counters.items():
            if name not in GAUGES:
                self._past[name] = self._past.get(name, 0) + number
        self.scoreboard.write(PAST, self._past)
        self.scoreboard.write(place, {})
        if place not in self._free:
            self._free.append(place)

    def totals(self) -> dict[str, int]:
        """Return the counters of all processes that there were, and the gauges of those that there are."""
        totals: dict[str, int] = {}
        for place in range(self.scoreboard.places):
            for name, number in self.scoreboard.read(place).items():
                totals[name] = totals.get(name, 0) + number
        return totals
