"""The bytes of one direction of a simulated connection: what is not sent yet, under way, and not read yet.

A flow has what its source has written and what is not sent yet (the write buffer), what is under way, and what has
arrived and is not read yet; the last two together are limited by the window, as in TCP, so that the write buffer of an
end fills when the other one does not read.

While a flow is stuck (a cut link, a host without power) its bytes are not lost but wait, as TCP sends them again; an
end whose bytes are not acknowledged for its `patience` loses the connection, and the other end hears nothing of it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    # A flow joins two transports of one connection, and each of these has its flows.
    from sipwright.testing.simnet.connection import SimConnection
    from sipwright.testing.simnet.transport import SimTransport

# Bytes of a piece that a trace shows.
SHOWN = 60


class Mark(Enum):
    """What goes over a connection besides bytes."""

    FIN = "FIN"
    RST = "RST"
    BREAK = "break"


Piece = bytes | Mark


class Link:
    """One direction of the way from one host to another, for all connections between them.

    `latency` is (least, most) in seconds; `segments` (least, most) bytes of a piece, None for no cutting; `loss` is
    the probability with which each piece breaks its connection somewhere within it. While `is_cut` nothing arrives.
    """

    __slots__ = ("is_cut", "latency", "loss", "segments")

    def __init__(self, latency: tuple[float, float]) -> None:
        self.latency = latency
        self.segments: tuple[int, int] | None = None
        self.loss = 0.0
        self.is_cut = False


class Node:
    """What flows have to know of a host: whether it has no power, and whether its programs take nothing."""

    __slots__ = ("is_off", "is_stalled")

    def __init__(self) -> None:
        self.is_off = False
        self.is_stalled = False


class Event(NamedTuple):
    """One line of the trace: what happened with a connection, and in which direction; `piece` is what was moved."""

    time: float
    connection: SimConnection
    is_to_server: bool
    what: str
    piece: Piece

    def __str__(self) -> str:
        ends = self.connection.client, self.connection.server
        source, sink = ends if self.is_to_server else reversed(ends)
        text = f"{self.time:12.6f}  #{self.connection.number}  {source} > {sink}  {self.what}"
        if isinstance(self.piece, Mark):
            return f"{text} {self.piece.value}"
        return f"{text} {len(self.piece)} bytes {shorten(self.piece)}" if self.piece else text


class Medium(Protocol):
    """What connections need of the network. `window` is how many bytes of a flow may be under way or unread."""

    random: random.Random
    trace: deque[Event]
    window: int

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop in which everything runs."""

    def connection_ended(self, connection: SimConnection) -> None:
        """Take note that both ends have finished."""


class Flow:
    """The bytes of one direction, from `source` to `sink`."""

    __slots__ = (
        "_give_up",
        "_has_ended",
        "_is_to_server",
        "_last",
        "_loop",
        "_medium",
        "_random",
        "_timer",
        "arrived",
        "back",
        "flying",
        "flying_size",
        "is_refused",
        "left",
        "link",
        "sink",
        "source",
        "unacknowledged",
        "unread",
        "unsent",
        "unsent_size",
    )

    def __init__(
        self, medium: Medium, source: SimTransport, sink: SimTransport, link: Link, *, is_to_server: bool
    ) -> None:
        self.source = source
        self.sink = sink
        self.link = link
        self.back: Flow
        self.unsent: deque[bytes] = deque()
        self.unsent_size = 0
        self.flying: deque[tuple[float, Piece]] = deque()
        self.flying_size = 0
        self.arrived: deque[Piece] = deque()
        self.unread = 0
        # Bytes that have arrived while the way back was stuck: their source does not know.
        self.unacknowledged = 0
        # Bytes have come to an end that is gone, and its host has said so.
        self.is_refused = False
        # So many bytes until the connection breaks.
        self.left: int | None = None
        self._medium = medium
        self._loop = medium.loop
        self._random = medium.random
        self._is_to_server = is_to_server
        self._has_ended = False
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._give_up: asyncio.TimerHandle | None = None

    @property
    def is_stuck(self) -> bool:
        """True while nothing arrives."""
        return self.link.is_cut or self.sink.node.is_off or self.source.node.is_off

    # The source's side

    def write(self, data: bytes) -> None:
        """Take bytes of the source."""
        self.unsent.append(data)
        self.unsent_size += len(data)
        self._push()

    def _push(self) -> None:
        """Send as much as the window has room for."""
        unsent = self.unsent
        room = self._medium.window - self.flying_size - self.unread - self.unacknowledged
        while unsent and room > 0:
            piece = unsent[0]
            size = min(len(piece), room)
            if self.link.segments is not None:
                size = min(size, self._random.randint(*self.link.segments))
            if size < len(piece):
                unsent[0] = piece[size:]
                piece = piece[:size]
            else:
                unsent.popleft()
            self.unsent_size -= size
            room -= size
            if self.left is None and self.link.loss and self._random.random() < self.link.loss:
                self.left = self._random.randrange(size)
            if self.left is not None and size >= self.left:
                self.send(piece[: self.left])
                self.send(Mark.BREAK)
                self.left = None
                self.drop_unsent()
                return
            if self.left is not None:
                self.left -= size
            self.send(piece)

    def send(self, piece: Piece) -> None:
        """Put a piece on its way."""
        if not piece or (self._has_ended and piece is not Mark.RST):
            return
        least, most = self.link.latency
        self._last = max(self._last, self._loop.time() + least + (most - least) * self._random.random())
        self.flying.append((self._last, piece))
        if isinstance(piece, bytes):
            self.flying_size += len(piece)
        else:
            self._has_ended = True
        self.note("sent", piece)
        self.go_on()

    def drop_unsent(self) -> None:
        """Forget what the source has written and is not under way."""
        self.unsent.clear()
        self.unsent_size = 0

    # The way

    def go_on(self) -> None:
        """Let the next piece arrive at its time, if it can; take care of the source's patience."""
        if self._timer is None and self.flying and not self.is_stuck:
            self._timer = self._loop.call_at(self.flying[0][0], self._arrive, context=self.sink.context)
        if self.is_stuck or self.back.is_stuck or self._give_up is not None:
            self._watch()

    def unstick(self) -> None:
        """Go on after `is_stuck` may have become false: what was under way is sent again."""
        if not self.is_stuck:
            # In the same deque: this may be called while pieces are taken from it.
            pieces = [piece for _, piece in self.flying]
            self.flying.clear()
            least, most = self.link.latency
            self._last = self._loop.time()
            for piece in pieces:
                self._last = max(self._last, self._loop.time() + least + (most - least) * self._random.random())
                self.flying.append((self._last, piece))
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self.go_on()
        if self.unacknowledged and not self.back.is_stuck:
            self.unacknowledged = 0
            self._room()

    def _arrive(self) -> None:
        self._timer = None
        flying, now = self.flying, self._loop.time()
        while flying and flying[0][0] <= now and not self.is_stuck:
            piece = flying.popleft()[1]
            if isinstance(piece, bytes):
                self.flying_size -= len(piece)
            self._put(piece)
        self.go_on()

    def _put(self, piece: Piece) -> None:
        sink = self.sink
        if piece is Mark.BREAK:
            sink.connection.reset()
        elif sink.is_finished:
            if isinstance(piece, bytes) and not (self.source.is_finished or self.is_refused):
                self.is_refused = True
                # Nobody has this connection here (any more).
                self.back.send(Mark.RST)
        else:
            self.note("arrived", piece)
            if piece is Mark.RST:
                sink.was_reset = True
                if sink.is_closing() or sink.outgoing.unsent:
                    # Found out by writing, also while it does not read.
                    sink.take(piece)
                    return
            elif isinstance(piece, bytes):
                self.unread += len(piece)
            self.arrived.append(piece)
            self.pump()

    def pump(self) -> None:
        """Hand what has arrived to the sink, as long as it listens."""
        arrived = self.arrived
        while arrived and self.sink.is_listening:
            piece = arrived.popleft()
            if isinstance(piece, bytes):
                self.unread -= len(piece)
            self.sink.take(piece)
            if isinstance(piece, bytes):
                if self.back.is_stuck:
                    self.unacknowledged += len(piece)
                    self._watch()
                elif self.unsent:
                    self._room()

    def _room(self) -> None:
        if self.unsent and not self.source.is_finished:
            self._push()
            self.source.drained()

    def close(self) -> None:
        """Forget what has arrived: the sink is gone."""
        self.arrived.clear()
        self.unread = 0
        self.back.stop_watching()

    def drop(self) -> None:
        """Forget everything that is under way or has arrived."""
        self.drop_unsent()
        self.flying.clear()
        self.flying_size = 0
        self.arrived.clear()
        self.unread = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.stop_watching()

    # The source's patience

    def _watch(self) -> None:
        is_stuck = self.is_stuck or self.back.is_stuck
        source = self.source
        if not is_stuck or source.is_finished or source.node.is_off:
            self.stop_watching()
            return
        waits = (self.is_stuck and self.flying_size > 0) or self.unacknowledged > 0 or self.unsent_size > 0
        patience = source.patience if waits else source.keepalive
        if patience is None:
            return
        when = self._loop.time() + patience
        if self._give_up is None or when < self._give_up.when():
            self.stop_watching()
            self._give_up = self._loop.call_at(when, self._lose)

    def stop_watching(self) -> None:
        """Wait no more for acknowledgements."""
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None

    def _lose(self) -> None:
        self._give_up = None
        self.note("timed out")
        self.source.lose(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    def note(self, what: str, piece: Piece = b"") -> None:
        """Write to the trace."""
        self._medium.trace.append(Event(self._loop.time(), self.source.connection, self._is_to_server, what, piece))


def shorten(data: bytes) -> str:
    """Return the beginning of bytes for a person."""
    return repr(data) if len(data) <= SHOWN else f"{data[:SHOWN]!r}..."
