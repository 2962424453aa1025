"""The clients of the control interface: owns their sockets, in the supervisor's loop and in that of asyncio.

A client that sends what is no netstring, or that does not read its answers, is disconnected; so is one too many.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

from sipwright.errors import FramingParseError
from sipwright.workers.session import Ask, Session

MAX_CLIENTS = 100
# Bytes that may wait for a client to read.
MAX_WAITING = 16 << 20
_MAX_READ = 64 * 1024


class Clients:
    """Those who are connected, driven by a selector: its keys have a function as data, to be called with the events."""

    def __init__(self, selector: selectors.BaseSelector, ask: Ask) -> None:
        self._selector = selector
        self._ask = ask
        self._listener: socket.socket | None = None
        self._clients: set[_Client] = set()

    def listen(self, listener: socket.socket) -> None:
        """Begin to accept clients."""
        listener.setblocking(False)
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def sockets(self) -> Iterator[socket.socket]:
        """Give all sockets, for a child process to close."""
        if self._listener is not None:
            yield self._listener
        for client in self._clients:
            yield client.socket

    def close(self) -> None:
        """Disconnect everybody."""
        for client in list(self._clients):
            client.close()
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, _events: int) -> None:
        assert self._listener is not None
        try:
            end, _ = self._listener.accept()
        except OSError:
            # It has gone again; or there are no descriptors left, then it waits.
            return
        if len(self._clients) >= MAX_CLIENTS:
            end.close()
            return
        end.setblocking(False)
        client = _Client(self._selector, end, self._ask, self._clients.discard)
        self._clients.add(client)


class _Client:
    """One of them. One that has said that it sends no more still gets its answers."""

    def __init__(
        self, selector: selectors.BaseSelector, end: socket.socket, ask: Ask, closed: Callable[[_Client], object]
    ) -> None:
        self.socket = end
        self._selector = selector
        self._closed = closed
        self._is_open = True
        self._has_ended = False
        self._waiting = bytearray()
        self._session = Session(ask, self._write)
        self._events = 0
        self._choose_events()

    def close(self) -> None:
        """Disconnect; what is answered later is dropped."""
        if self._is_open:
            self._is_open = False
            if self._events:
                self._selector.unregister(self.socket)
            self.socket.close()
            self._closed(self)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if self._is_open and events & selectors.EVENT_READ:
            self._read()

    def _read(self) -> None:
        try:
            data = self.socket.recv(_MAX_READ)
            if data:
                self._session.feed(data)
            else:
                self._has_ended = True
                self._flush()
        except BlockingIOError:
            return
        except (OSError, FramingParseError):
            self.close()

    def _write(self, data: bytes) -> None:
        if self._is_open:
            self._waiting += data
            self._flush()

    def _flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: self.socket.send(self._waiting)]
        except BlockingIOError:
            if len(self._waiting) > MAX_WAITING:
                self.close()
                return
        except OSError:
            self.close()
            return
        if self._has_ended and not self._waiting and not self._session.unanswered:
            self.close()
        else:
            self._choose_events()

    def _choose_events(self) -> None:
        events = 0 if self._has_ended else selectors.EVENT_READ
        if self._waiting:
            events |= selectors.EVENT_WRITE
        if events == self._events:
            return
        if not events:
            self._selector.unregister(self.socket)
        elif not self._events:
            self._selector.register(self.socket, events, self._ready)
        else:
            self._selector.modify(self.socket, events, self._ready)
        self._events = events


class AsyncClients:
    """Those who are connected, on an asyncio event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ask: Ask) -> None:
        self._loop = loop
        self._ask = ask
        self._server: asyncio.AbstractServer | None = None
        self.connections: set[_Connection] = set()

    async def listen(self, listener: socket.socket) -> None:
        """Begin to accept clients."""
        self._server = await self._loop.create_unix_server(partial(_Connection, self, self._ask), sock=listener)

    def close(self) -> None:
        """Disconnect everybody."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()


class _Connection(asyncio.Protocol):
    """One of them."""

    def __init__(self, clients: AsyncClients, ask: Ask) -> None:
        self._clients = clients
        self._session = Session(ask, self._write)
        self._transport: asyncio.Transport | None = None
        self._has_ended = False

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._clients.connections) >= MAX_CLIENTS:
            self._transport.abort()
        else:
            self._clients.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._session.feed(data)
        except FramingParseError:
            self.close()

    def eof_received(self) -> bool:
        self._has_ended = True
        return bool(self._session.unanswered)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._clients.connections.discard(self)

    # Called by others.

    def close(self) -> None:
        """Disconnect, once what is written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_WAITING:
            self._transport.abort()
        elif self._has_ended and not self._session.unanswered:
            self.close()
