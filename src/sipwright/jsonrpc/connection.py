"""One TCP connection that carries JSON-RPC in netstrings (L2): bytes to the peer, payloads to bytes.

Owns the transport, the decoder and the peer of one connection. All payloads that are written in one turn of the event
loop leave in one `transport.write`. While the transport's buffer is full (the other end does not read), the owner is
told, so that it can send elsewhere. A bad netstring, the end of the stream or an error of the socket end the
connection, and the owner hears of it at once, not when asyncio has cleaned up.

Client and server use the same class; what differs is the owner. asyncio sets TCP_NODELAY on every TCP socket itself.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, cast

from sipwright.errors import NetstringParseError
from sipwright.jsonrpc.peer import Peer
from sipwright.netstring import Decoder

# Bytes that may wait for the other end to read before the connection counts as blocked, and down to which they must
# have gone before it counts as free again.
HIGH_WATER = 1 << 20
LOW_WATER = 1 << 18

CALLBACK_FAULTS: Final = (Exception, asyncio.CancelledError)
"""What a callback or a method may raise without harm to others: asking a cancelled future raises CancelledError."""


class ConnectionOwner(Protocol):
    """Who is told what happens to a connection."""

    def connection_ready(self, connection: Connection) -> None:
        """Take note that the connection can be written to: it was made, or its buffer has emptied."""

    def connection_blocked(self, connection: Connection) -> None:
        """Take note that the connection's buffer is full; what is still written is kept, without limit."""

    def connection_ended(self, connection: Connection, reason: str) -> None:
        """Take note that the connection is gone. Called once; calls may be pending."""

    def stream_ended(self, connection: Connection, /) -> bool:
        """Return whether to keep the connection open for writing although the other end sends no more."""


class Connection(asyncio.Protocol):
    """A protocol for `loop.create_connection` or `loop.create_server`.

    `pending` is the peer's table, `server` the name that the owner gave the other end. Exceptions of callbacks go to
    the loop's exception handler.
    """

    __slots__ = (
        "_call_soon",
        "_decoder",
        "_ended",
        "_loop",
        "_out",
        "_owner",
        "_receive",
        "is_blocked",
        "peer",
        "pending",
        "request",
        "server",
        "transport",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: ConnectionOwner,
        peer: Peer[Any],
        server: str,
        max_size: int = 1 << 20,
    ) -> None:
        self.peer = peer
        self.pending = peer.pending
        self.request = peer.request
        self.server = server
        self.transport: asyncio.Transport | None = None
        self.is_blocked = False
        self._receive = peer.receive
        self._decoder = Decoder(max_size)
        self._out: list[bytes] = []
        self._loop = loop
        self._call_soon = loop.call_soon
        self._owner = owner
        self._ended = False

    def write(self, payload: bytes) -> None:
        """Send one payload, together with all others of this turn of the loop."""
        out = self._out
        if not out:
            self._call_soon(self._flush)
        out.append(b"%d:%b," % (len(payload), payload))

    def _flush(self) -> None:
        out = self._out
        if self.transport is not None and out and not self._ended:
            self.transport.write(b"".join(out) if len(out) > 1 else out[0])
        out.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start (called by asyncio)."""
        # asyncio declares it too wide; not checked, because the transports of uvloop are no asyncio.Transport.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        self._owner.connection_ready(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the other end (called by asyncio)."""
        fault = None
        try:
            payloads = self._decoder.feed(data)
        except NetstringParseError as error:
            payloads, fault = list(error.payloads), error
        receive = self._receive
        for payload in payloads:
            try:
                receive(payload)
            except CALLBACK_FAULTS as error:  # the boundary: a callback's fault must not stop the others
                self._loop.call_exception_handler(
                    {"message": "error while handling a JSON-RPC message", "exception": error, "protocol": self}
                )
        if fault is not None:
            # What is written already, answers to the payloads before the fault for one, still leaves.
            self._flush()
            self.abort(str(fault))

    def eof_received(self) -> bool:
        """Take the end of the stream (called by asyncio)."""
        if self._owner.stream_ended(self):
            return True
        # Not left to asyncio: it would first wait until everything is written, which may be for ever.
        self.abort("closed by the other end")
        return False

    def pause_writing(self) -> None:
        """Take note of a full buffer (called by asyncio)."""
        self.is_blocked = True
        self._owner.connection_blocked(self)

    def resume_writing(self) -> None:
        """Take note of an emptied buffer (called by asyncio)."""
        self.is_blocked = False
        if not self._ended:
            self._owner.connection_ready(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection (called by asyncio)."""
        self._end(f"connection lost: {exc}" if exc else "connection closed")

    def close(self) -> None:
        """Write what was given to `write`, then close."""
        if self.transport is not None and not self._ended:
            self._flush()
            self.transport.close()

    def abort(self, reason: str) -> None:
        """Close without writing what is left, and tell the owner at once."""
        if self.transport is not None:
            self.transport.abort()
        self._end(reason)

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._out.clear()
            self._owner.connection_ended(self, reason)
