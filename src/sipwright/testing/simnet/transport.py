"""One end of a simulated connection: a transport that behaves as asyncio's do over TCP."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sipwright.testing.simnet.flow import Flow, Mark, Node, Piece
from sipwright.testing.simnet.sockets import SimSocket, keepalive_of, patience_of

if TYPE_CHECKING:
    # The connection makes its transports.
    from sipwright.testing.simnet.connection import SimConnection

# Bytes in the write buffer above which asyncio pauses a protocol when it was told nothing else.
HIGH_WATER = 64 * 1024


@dataclass(slots=True)
class Side:
    """What an end of a connection is made of: its host and address, and the context in which its protocol runs."""

    node: Node
    name: str
    address: Any
    context: Context


class SimTransport(asyncio.Transport):
    """One end of a simulated connection, with or without a protocol yet."""

    # What asks for it is loop.start_tls.
    _start_tls_compatible = True
    # What get_extra_info looks at.
    _extra: dict[str, Any]

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: SimConnection,
        side: Side,
        peername: Any,
    ) -> None:
        self._sock: Any = SimSocket(side.address, peername)
        super().__init__({"sockname": side.address, "peername": peername, "socket": self._sock})
        self.node = side.node
        self.context = side.context
        self.connection = connection
        # Set by the connection, which has all four.
        self.incoming: Flow
        self.outgoing: Flow
        # Nothing arrives here any more, and nothing is sent.
        self.is_finished = False
        self.was_reset = False
        self._loop = loop
        self._protocol: asyncio.BaseProtocol | None = None
        self._server: Any = None
        self._is_made = False
        self._is_closing = False
        self._is_over = False
        self._error: Exception | None = None
        self._is_paused = False
        self._is_write_paused = False
        self._has_eof = False
        self._high = HIGH_WATER
        self._low = HIGH_WATER // 4

    # Beginning

    def attach(
        self,
        protocol: asyncio.BaseProtocol,
        made: Callable[[], object] | None = None,
        *,
        sock: socket.socket | None = None,
        server: Any = None,
    ) -> None:
        """Give the connection to a protocol; `made()` is called after its `connection_made`."""
        self._protocol = protocol
        self._server = server
        if sock is not None:
            # A program's own: its options count, and it is closed at the end.
            self._sock = self._extra["socket"] = sock
        if server is not None:
            server.attach(self)
        self._loop.call_soon(self._make, made, context=self.context)

    def _make(self, made: Callable[[], object] | None) -> None:
        assert self._protocol is not None
        try:
            self._protocol.connection_made(self)
        finally:
            self._is_made = True
            # What has come before, in a turn of its own as asyncio would.
            self._loop.call_soon(self._finish if self.is_finished else self.incoming.pump, context=self.context)
            if made is not None:
                made()

    @property
    def patience(self) -> float | None:
        """Seconds after which bytes that are not acknowledged end the connection; None: never."""
        return patience_of(self._sock)

    @property
    def keepalive(self) -> float | None:
        """Seconds of silence after which the connection ends when its other end is not there; None: never."""
        return keepalive_of(self._sock)

    @property
    def is_listening(self) -> bool:
        """True while what arrives is handed on at once."""
        return self._is_made and not (self._is_paused or self._is_closing or self.node.is_stalled)

    # What asyncio's transports have

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        assert self._protocol is not None
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give the connection to another protocol."""
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Return whether the transport is closing or closed."""
        return self._is_closing

    def is_reading(self) -> bool:
        """Return whether what arrives is handed on."""
        return not (self._is_paused or self._is_closing)

    def pause_reading(self) -> None:
        """Hand on nothing more."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Hand on again."""
        if self._is_paused:
            self._is_paused = False
            if not self._is_closing:
                self._loop.call_soon(self.incoming.pump, context=self.context)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is paused and resumed, in bytes."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._pause_if_full()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high)."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that were written and are not sent."""
        return self.outgoing.unsent_size

    def write(self, data: Any) -> None:
        """Send bytes."""
        if self._has_eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._is_closing:
            return
        if self.was_reset:
            self.lose(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
            return
        self.outgoing.write(bytes(data))
        self._pause_if_full()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Send bytes."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return that write_eof is supported."""
        return True

    def write_eof(self) -> None:
        """Send what was written and then the end of the stream; still read."""
        if not (self._has_eof or self._is_closing):
            self._has_eof = True
            if not self.outgoing.unsent:
                self.outgoing.send(Mark.FIN)

    def close(self) -> None:
        """Read no more, send what was written, and close."""
        if not self._is_closing:
            self._is_closing = True
            if not self.outgoing.unsent:
                self._loop.call_soon(self._finish, context=self.context)

    def abort(self) -> None:
        """Close without sending what is not sent yet."""
        if not self.is_finished:
            self._is_closing = True
            self.outgoing.drop_unsent()
            self._loop.call_soon(self._finish, context=self.context)

    def _force_close(self, error: Exception) -> None:
        # Called by asyncio's TLS.
        self.lose(error, silently=False)

    # What the flows and the network tell

    def lose(self, error: Exception, *, silently: bool = True) -> None:
        """Lose the connection. With `silently`, the other end is not told."""
        if not self.is_finished:
            self._is_closing = True
            self.is_finished = silently
            self._error = error
            self.outgoing.drop_unsent()
            self._loop.call_soon(self._finish, context=self.context)

    def drained(self) -> None:
        """Take note that bytes have left the write buffer."""
        size = self.outgoing.unsent_size
        if self._is_write_paused and size <= self._low:
            self._is_write_paused = False
            self._tell("resume_writing")
        if not self.outgoing.unsent:
            if self._is_closing:
                self._loop.call_soon(self._finish, context=self.context)
            elif self._has_eof:
                self.outgoing.send(Mark.FIN)

    def take(self, piece: Piece) -> None:
        """Hand one piece to the protocol."""
        if piece is Mark.RST:
            self.lose(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
        elif piece is Mark.FIN:
            self._take_end()
        else:
            protocol = self._protocol
            try:
                if isinstance(protocol, asyncio.BufferedProtocol):
                    _feed(protocol, cast("bytes", piece))
                else:
                    cast("asyncio.Protocol", protocol).data_received(cast("bytes", piece))
            except Exception as error:  # what asyncio does: a protocol's fault ends its connection
                self._fail(error, "Fatal error: protocol.data_received() call failed.")

    def _take_end(self) -> None:
        try:
            stays_open = cast("asyncio.Protocol", self._protocol).eof_received()
        except Exception as error:  # what asyncio does: a protocol's fault ends its connection
            self._fail(error, "Fatal error: protocol.eof_received() call failed.")
            return
        if not stays_open:
            self.close()

    def _fail(self, error: Exception, message: str) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )
        self.lose(error, silently=False)

    def _pause_if_full(self) -> None:
        if self.outgoing.unsent_size > self._high and not self._is_write_paused:
            self._is_write_paused = True
            self._tell("pause_writing")

    def _tell(self, what: str) -> None:
        try:
            getattr(self._protocol, what)()
        except Exception as error:  # what asyncio does
            self._loop.call_exception_handler(
                {"message": f"protocol.{what}() failed", "exception": error, "transport": self}
            )

    def _finish(self) -> None:
        if not self.is_finished:
            self.is_finished = True
            # A socket that is closed while there is something to read is reset (RFC 1122 section 4.2.2.13).
            self.outgoing.send(Mark.RST if self.incoming.arrived else Mark.FIN)
        if not self._is_over:
            self._is_over = True
            self.incoming.close()
            self.connection.end_gone()
        if self._protocol is not None and not self._is_made:
            # It is told of the end after it was told of the beginning.
            return
        protocol, self._protocol = self._protocol, None
        try:
            if protocol is not None:
                protocol.connection_lost(self._error)
        finally:
            self._sock.close()
            if self._server is not None:
                self._server.detach(self)
                self._server = None


def _feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    while data:
        buffer = memoryview(protocol.get_buffer(len(data)))
        size = min(len(buffer), len(data))
        if not size:
            raise RuntimeError("get_buffer() returned an empty buffer")
        buffer[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]
