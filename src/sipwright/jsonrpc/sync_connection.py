"""One connection of the client without asyncio (L2): bytes to the peer, payloads to bytes; never waits.

Owns the socket, the decoder and the peer. Everything is called with the client's lock held, by whichever thread has
something to send or was told by its lane that something came. What the socket does not take at once is kept, and sent
when the lane says that it can be.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from sipwright.errors import FramingParseError
from sipwright.jsonrpc.framing import NETSTRING, Framing
from sipwright.jsonrpc.peer import Peer
from sipwright.jsonrpc.sockets import reason
from sipwright.jsonrpc.sync_calls import SyncRequest
from sipwright.jsonrpc.sync_connecting import SIZE, Channel
from sipwright.jsonrpc.sync_lane import Lane

if TYPE_CHECKING:  # a cycle: a server has connections
    from sipwright.jsonrpc.sync_servers import SyncServer

# Bytes that may wait for the other end to read before the connection counts as blocked, and down to which they must
# have gone before it counts as free again.
HIGH_WATER = 1 << 20
LOW_WATER = 1 << 18


class SyncConnection:
    """A connection to `server` in a lane.

    `ended(connection, reason)` is called once, when it is lost; its requests are pending then. `freed(connection)` is
    called when it was blocked and can be written to again. `sent` counts the bytes that the system has taken; `is_busy`
    is true while something is done with it, and stays so when that was interrupted.
    """

    __slots__ = (
        "_channel",
        "_decoder",
        "_encode",
        "_ended",
        "_freed",
        "_is_watched",
        "_out",
        "_queued",
        "is_blocked",
        "is_busy",
        "is_lost",
        "lane",
        "peer",
        "pending",
        "sent",
        "server",
        "sock",
    )

    def __init__(
        self,
        sock: socket.socket,
        channel: Channel | None,
        server: SyncServer,
        lane: Lane,
        peer: Peer[SyncRequest],
        framing: Framing,
        max_size: int,
        ended: Callable[[SyncConnection, str], object],
        freed: Callable[[SyncConnection], object],
    ) -> None:
        self.sock = sock
        self.server = server
        self.lane = lane
        self.peer = peer
        self.pending = peer.pending
        self.sent = 0
        self.is_blocked = False
        self.is_busy = False
        self.is_lost = False
        self._channel = channel
        self._decoder = framing.decoder(max_size)
        self._encode = None if framing is NETSTRING else framing.encode
        self._is_watched = False
        self._queued = 0
        self._out: deque[bytes | memoryview] = deque()
        self._ended = ended
        self._freed = freed

    def ask(self, request: SyncRequest, head: bytes, params: bytes | None) -> None:
        """Send a request."""
        was_busy, self.is_busy = self.is_busy, True
        self.write(self.prepare(request, head, params))
        self.is_busy = was_busy

    def prepare(self, request: SyncRequest, head: bytes, params: bytes | None) -> bytes:
        """Enter a request that is about to be written, and return its payload."""
        request.start = self._queued
        return self.peer.request(request, head, params)

    @property
    def unsent(self) -> int:
        """How many bytes the system has not taken yet."""
        return self._queued - self.sent

    def write(self, payload: bytes) -> None:
        """Send one payload, or keep what the system does not take now."""
        if self.is_lost:
            return
        was_busy, self.is_busy = self.is_busy, True
        data = b"%d:%b," % (len(payload), payload) if self._encode is None else self._encode(payload)
        try:
            self._queue(data if self._channel is None else self._channel.wrap(data))
        except ssl.SSLError as error:
            self.lose(reason(error))
        self.is_busy = was_busy

    def _queue(self, data: bytes) -> None:
        self._out.append(data)
        self._queued += len(data)
        if len(self._out) == 1:
            self.flush()
        if self.unsent > HIGH_WATER and not self.is_blocked:
            self.is_blocked = True
            self.server.blocked += 1

    def flush(self) -> None:
        """Send what the system takes of what is kept."""
        out = self._out
        was_busy, self.is_busy = self.is_busy, True
        try:
            while out:
                count = self.sock.send(out[0])
                self.sent += count
                if count == len(out[0]):
                    out.popleft()
                else:
                    out[0] = memoryview(out[0])[count:]
        except BlockingIOError:
            pass
        except OSError as error:
            # Answers that came in time may be there still.
            self._read_rest()
            self.lose(reason(error))
            return
        self.is_busy = was_busy
        if bool(out) != self._is_watched:
            self._is_watched = not self._is_watched
            self.lane.watch(self, self._is_watched)
        if self.is_blocked and self.unsent <= LOW_WATER:
            self.is_blocked = False
            self._freed(self)

    def read(self) -> None:
        """Take what has come."""
        self.is_busy = True
        try:
            data = self.sock.recv(SIZE)
        except BlockingIOError:
            self.is_busy = False
            return
        except OSError as error:
            self.lose(reason(error))
            return
        if data:
            self._take(data)
        else:
            self.lose("closed by the other end")
        self.is_busy = False

    def _read_rest(self) -> None:
        while not self.is_lost:
            try:
                data = self.sock.recv(SIZE)
            except OSError:
                return
            if not data:
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        is_over = False
        fault = ""
        if self._channel is not None:
            try:
                data, is_over = self._channel.unwrap(data)
                rest = self._channel.rest()
            except ssl.SSLError as error:
                self.lose(reason(error))
                return
            if rest:
                self._queue(rest)
        try:
            payloads = self._decoder.feed(data)
        except FramingParseError as error:
            payloads, fault = list(error.payloads), str(error)
        receive = self.peer.receive
        for payload in payloads:
            receive(payload)
        if fault or is_over:
            self.lose(fault or "closed by the other end")

    def say_goodbye(self) -> None:
        """Tell the other end, with TLS, that the connection is closed on purpose."""
        if self._channel is not None and not self.is_lost:
            self._queue(self._channel.goodbye())

    def lose(self, why: str) -> None:
        """Give the connection up."""
        if not self.is_lost:
            self.is_lost = True
            self.is_busy = False
            self.lane.remove(self)
            self._ended(self, why)
