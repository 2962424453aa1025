"""One connection to a Redis server (L2): commands out, replies to whoever asked, in their order.

All commands of one turn of the event loop leave in one `transport.write`, and the next ones do not wait for their
replies. The owner is told of the end once, with what is pending still in `pending`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, cast

from sipwright.errors import RedisError, RespParseError
from sipwright.redis.resp import Decoder, Reply

CALLBACK_FAULTS: Final = (Exception, asyncio.CancelledError)
"""What a callback may raise without harm to others: asking a cancelled future raises CancelledError."""

Done: TypeAlias = Callable[[Any, Reply | RedisError], object]
# Who is told the reply, with which argument, and when it was asked for.
Pending: TypeAlias = tuple[Done, Any, float]


class ConnectionOwner(Protocol):
    """Who is told of the end of a connection."""

    def connection_ended(self, connection: Connection, reason: str) -> None:
        """Take note that the connection is gone, and with it what is pending."""


class Connection(asyncio.Protocol):
    """A protocol for `loop.create_connection`. Exceptions of callbacks go to the loop's exception handler."""

    __slots__ = ("_call_soon", "_clock", "_decoder", "_loop", "_out", "_owner", "is_ended", "pending", "transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: ConnectionOwner) -> None:
        self.transport: asyncio.Transport | None = None
        self.pending: deque[Pending] = deque()
        self.is_ended = False
        self._decoder = Decoder()
        self._out: list[bytes] = []
        self._owner = owner
        self._loop = loop
        self._call_soon = loop.call_soon
        self._clock = loop.time

    def request(self, data: bytes, done: Done, argument: Any) -> None:
        """Send a command, together with all others of this turn of the loop; `done(argument, reply)` comes later."""
        out = self._out
        if not out:
            self._call_soon(self._flush)
        out.append(data)
        self.pending.append((done, argument, self._clock()))

    def _flush(self) -> None:
        out = self._out
        if self.transport is not None and out and not self.is_ended:
            self.transport.write(b"".join(out) if len(out) > 1 else out[0])
        out.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start (called by asyncio)."""
        # asyncio declares it too wide; not checked, because the transports of uvloop are no asyncio.Transport.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the server (called by asyncio)."""
        fault = None
        try:
            replies = self._decoder.feed(data)
        except RespParseError as error:
            replies, fault = list(error.replies), str(error)
        pending = self.pending
        for reply in replies:
            if not pending:
                # Ended by a callback; or a reply that nobody asked for, and then no other can be told whose it is.
                fault = fault or "a reply to nothing"
                break
            done, argument, _asked = pending.popleft()
            call_back(self._loop, done, argument, reply)
        if fault is not None and not self.is_ended:
            self.abort(f"the server does not speak RESP: {fault}")

    def eof_received(self) -> bool:
        """Take the end of the stream (called by asyncio)."""
        self.abort("closed by the server")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection (called by asyncio)."""
        self._end(f"connection lost: {exc}" if exc else "connection closed")

    def abort(self, reason: str) -> None:
        """Close without writing what is left, and tell the owner at once."""
        if self.transport is not None:
            self.transport.abort()
        self._end(reason)

    def _end(self, reason: str) -> None:
        if not self.is_ended:
            self.is_ended = True
            self._out.clear()
            self._owner.connection_ended(self, reason)


def call_back(loop: asyncio.AbstractEventLoop, done: Done, argument: Any, reply: Reply | RedisError) -> None:
    """Tell a reply to whoever asked for it: the boundary to what others do with it."""
    try:
        done(argument, reply)
    except CALLBACK_FAULTS as error:
        loop.call_exception_handler({"message": "error while handling a reply of Redis", "exception": error})
