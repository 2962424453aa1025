"""One connection that carries JSON-RPC in frames (L2): bytes to the peer, payloads to bytes.

Owns the transport, the decoder and the peer of one connection. All payloads that are written in one turn of the event
loop leave in one `transport.write`, unless they are more than `HIGH_WATER` bytes. While the transport's buffer is full
(the other end does not read), the owner is told, so that it can send elsewhere. At most `SLICE` payloads are taken in
one turn; while more are there, nothing is read. A bad frame, the end of the stream or an error of the socket end
the connection, and the owner hears of it at once, not when asyncio has cleaned up.

Client and server use the same class; what differs is the owner. asyncio sets TCP_NODELAY on every TCP socket itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, Protocol, cast

from sipwright.errors import FramingParseError
from sipwright.jsonrpc.framing import NETSTRING, Framing
from sipwright.jsonrpc.peer import Peer

# Bytes that may wait for the other end to read before the connection counts as blocked, and down to which they must
# have gone before it counts as free again.
HIGH_WATER = 1 << 20
LOW_WATER = 1 << 18
# Payloads taken in one turn of the loop. asyncio reads up to 256 KB at a time: as empty payloads that are 87,000, which
# took 0.35 s; so many of them take 4 ms.
SLICE = 1000

CALLBACK_FAULTS: Final = (Exception, asyncio.CancelledError)
"""What a callback or a method may raise without harm to others: asking a cancelled future raises CancelledError."""


class ConnectionOwner(Protocol):
    """Who is told what happens to a connection."""

    def connection_ready(self, connection: Connection) -> None:
        """Take note that the connection can be written to: it was made, or its buffer has emptied."""

    def connection_blocked(self, connection: Connection) -> None:
        """Take note that the connection's buffer is full; what is still written is kept: write no more."""

    def connection_ended(self, connection: Connection, reason: str) -> None:
        """Take note that the connection is gone. Called once; calls may be pending."""

    def stream_ended(self, connection: Connection, /) -> bool:
        """Return whether to keep the connection open for writing although the other end sends no more."""


class Wakes(Protocol):
    """Who wakes the tasks that wait for answers: all of one read together."""

    def hold(self) -> None:
        """Wake nobody until `release`."""

    def release(self) -> None:
        """Wake, now, all whose answers have come."""

    def release_later(self) -> None:
        """Wake in the next turn of the loop who was not woken by `release`."""


class Connection(asyncio.Protocol):
    """A protocol for `loop.create_connection` or `loop.create_server`.

    `pending` is the peer's table, `server` the name that the owner gave the other end, `limit` how many calls may be in
    flight as far as the owner is concerned, `waker` wakes tasks after each read. Exceptions of callbacks go to the
    loop's exception handler.
    """

    __slots__ = (
        "_backlog",
        "_call_soon",
        "_decoder",
        "_encode",
        "_ended",
        "_fault",
        "_is_read",
        "_is_taking",
        "_is_wanted",
        "_last_written",
        "_loop",
        "_out",
        "_owner",
        "_receive",
        "_size",
        "_unsent",
        "_written",
        "is_blocked",
        "limit",
        "peer",
        "pending",
        "request",
        "server",
        "transport",
        "waker",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: ConnectionOwner,
        peer: Peer[Any],
        server: str,
        max_size: int = 1 << 20,
        framing: Framing = NETSTRING,
    ) -> None:
        self.peer = peer
        self.pending = peer.pending
        self.request = peer.request
        self.server = server
        self.limit = 1 << 30
        self.transport: asyncio.Transport | None = None
        self.is_blocked = False
        self.waker: Wakes | None = None
        self._receive = peer.receive
        self._is_taking = False
        self._decoder = framing.decoder(max_size)
        self._encode = None if framing is NETSTRING else framing.encode
        self._out: list[bytes] = []
        self._size = 0
        # The id of the last request whose bytes were given to the transport.
        self._last_written = 0
        # Of what was given to the transport and has not left at once: where in the stream it begins, and the id of the
        # last request before it. Not with TLS, where the transport's numbers are not those of what was written.
        self._written = 0
        self._unsent: deque[tuple[int, int]] | None = None
        # Payloads that were received and not taken yet, and the fault that was behind the last of them.
        self._backlog: deque[bytes] = deque()
        self._fault: FramingParseError | None = None
        self._is_wanted = True
        self._is_read = True
        self._loop = loop
        self._call_soon = loop.call_soon
        self._owner = owner
        self._ended = False

    def write(self, payload: bytes) -> None:
        """Send one payload, together with all others of this turn of the loop."""
        out = self._out
        if not out and not self._is_taking:
            self._call_soon(self._flush)
        size = len(payload)
        # Netstrings are made here: the call of a function would cost 60 ns.
        out.append(b"%d:%b," % (size, payload) if self._encode is None else self._encode(payload))
        self._size += size
        if self._size > HIGH_WATER:
            # The rest of this turn may write more than there is memory for: let it know whether the other end reads.
            self._flush()

    def ask(self, call: Any, head: bytes) -> None:
        """Enter a call with the peer and send it: `write(request(call, head, call.params))` in one piece.

        Written out, because this is once for each call and the two cost 0.1 us more.
        """
        peer = self.peer
        peer.requests = call.id = number = peer.requests + 1
        self.pending[number] = call
        params = call.params
        if params is None:
            payload = b'{"id":%d%b}' % (number, head)
        else:
            payload = b'{"id":%d%b,"params":%b}' % (number, head, params)
        out = self._out
        if not out and not self._is_taking:
            self._call_soon(self._flush)
        size = len(payload)
        out.append(b"%d:%b," % (size, payload) if self._encode is None else self._encode(payload))
        self._size += size
        if self._size > HIGH_WATER:
            self._flush()

    def may_have_left(self, request_id: int) -> bool:
        """Tell whether any byte of a request may have left this machine; only then can the other end have seen it."""
        return request_id <= self._last_written

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._size = 0
        if self.transport is None or not out or self._ended:
            return
        before, self._last_written = self._last_written, self.peer.requests
        data = b"".join(out) if len(out) > 1 else out[0]
        begin = self._written
        self._written += len(data)
        # It may tell the owner that it is full, and the owner may write something else.
        self.transport.write(data)
        if self._unsent is not None:
            if self.transport.get_write_buffer_size():
                self._unsent.append((begin, before))
            elif self._unsent:
                self._unsent.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start (called by asyncio)."""
        # asyncio declares it too wide; not checked, because the transports of uvloop are no asyncio.Transport.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        if transport.get_extra_info("sslcontext") is None:
            self._unsent = deque()
        self._owner.connection_ready(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the other end (called by asyncio)."""
        try:
            payloads = self._decoder.feed(data)
        except FramingParseError as error:
            payloads, self._fault = list(error.payloads), error
        if len(payloads) > SLICE or self._backlog:
            if not self._backlog:
                self._call_soon(self._go_on)
            self._backlog += payloads
            self._choose_reading()
            return
        self._take(payloads)
        if self._fault is not None:
            self._end_by_fault(self._fault)

    def read(self, is_wanted: bool) -> None:
        """Read from the other end, or do not."""
        self._is_wanted = is_wanted
        self._choose_reading()

    @property
    def is_behind(self) -> bool:
        """True while payloads that were received are not taken yet."""
        return bool(self._backlog)

    def _choose_reading(self) -> None:
        read = self._is_wanted and not self._backlog
        transport = self.transport
        if read == self._is_read or transport is None or transport.is_closing():
            return
        self._is_read = read
        if read:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _go_on(self) -> None:
        backlog = self._backlog
        if self._ended or (self.transport is not None and self.transport.is_closing()):
            backlog.clear()
            return
        self._take([backlog.popleft() for _ in range(min(SLICE, len(backlog)))])
        if backlog:
            self._call_soon(self._go_on)
        elif self._fault is not None:
            self._end_by_fault(self._fault)
        else:
            self._choose_reading()

    def _take(self, payloads: list[bytes]) -> None:
        """Take payloads, wake who waited for them, and send what all of that has led to, in one turn of the loop.

        Two further turns, for the tasks and for the flush, would cost a fifth of a call with some twenty of them.
        """
        receive, waker = self._receive, self.waker
        self._is_taking = True
        if waker is not None:
            waker.hold()
        try:
            for payload in payloads:
                try:
                    receive(payload)
                except CALLBACK_FAULTS as error:  # the boundary: a callback's fault must not stop the others
                    self._loop.call_exception_handler(
                        {"message": "error while handling a JSON-RPC message", "exception": error, "protocol": self}
                    )
            if waker is not None:
                waker.release()
        finally:
            self._is_taking = False
            if waker is not None:
                # What ends the program (KeyboardInterrupt) leaves them to the next turn.
                waker.release_later()
            if self._out and self.transport is not None and not self.transport.is_closing():
                self._flush()

    def _end_by_fault(self, fault: FramingParseError) -> None:
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
        if self.pending and self._backlog and not self._ended:
            # What came in time are the answers to calls that would now fail.
            rest = list(self._backlog)
            self._backlog.clear()
            self._take(rest)
        self._end(f"connection lost: {exc}" if exc else "connection closed")

    def close(self) -> None:
        """Write what was given to `write`, then close."""
        if self.transport is not None and not self._ended:
            self._flush()
            self.transport.close()

    def abort(self, reason: str) -> None:
        """Close without writing what is left, and tell the owner at once."""
        if self.transport is not None:
            self._see_what_left(self.transport)
            self.transport.abort()
        self._end(reason)

    def _see_what_left(self, transport: asyncio.Transport) -> None:
        """Find the last request of which a byte may have left, while the transport still knows what it has not sent."""
        sent = self._written - transport.get_write_buffer_size()
        for begin, before in self._unsent or ():
            if begin >= sent:
                self._last_written = before
                return

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._out.clear()
            self._backlog.clear()
            self._owner.connection_ended(self, reason)
