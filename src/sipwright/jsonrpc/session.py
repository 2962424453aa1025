"""One client's connection to a server (L2): who owns it, from the accept to the end.

What it asks is served by its `serving`, what functions see of it is its `remote`. The server that it belongs to counts
it, and may have too many.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import Protocol

from sipwright.jsonrpc.auth import Check, TokenGate
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.dispatch import Dispatcher
from sipwright.jsonrpc.executor import Executor, ServerEvent
from sipwright.jsonrpc.framing import Framing
from sipwright.jsonrpc.listeners import address_of
from sipwright.jsonrpc.peer import Peer
from sipwright.jsonrpc.rpc_connection import RemoteCall, RemoteDeadlines, RpcConnection, answered
from sipwright.jsonrpc.serving import Serving
from sipwright.jsonrpc.sockets import keep_alive

logger = logging.getLogger("sipwright.jsonrpc.server")


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What connections are held to; times are in seconds, None is no limit. `check` is of `auth`, None for none."""

    max_size: int
    check: Check | None
    auth_timeout: float
    idle_timeout: float | None
    keepalive: float | None


class SessionOwner(Protocol):
    """The server of a session."""

    dispatcher: Dispatcher
    executor: Executor
    session_options: SessionOptions
    deadlines: RemoteDeadlines

    def session_began(self, session: Session) -> bool:
        """Take note of a connection. False: it is one too many."""

    def session_ended(self, session: Session) -> None:
        """Forget a connection."""


class Session:
    """The owner of one client's Connection."""

    def __init__(self, server: SessionOwner, loop: asyncio.AbstractEventLoop, framing: Framing) -> None:
        self._server = server
        self._loop = loop
        self._is_connected = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._requests = 0
        self.serving = Serving(server.dispatcher, server.executor)
        self.serving.remote = self.remote = RpcConnection(self.serving, server.deadlines)
        peer: Peer[RemoteCall] = Peer(answered, self.serving.requested)
        self.connection = Connection(loop, self, peer, "client", server.session_options.max_size, framing)
        self.serving.attach(self.connection)

    # What comes from the connection

    def connection_ready(self, connection: Connection, /) -> None:
        """Begin; or, when the connection was blocked, go on."""
        if self._is_connected:
            self.remote.freed()
            self.serving.go_on()
        elif self._server.session_began(self):
            self._is_connected = True
            self._begin(connection)
        else:
            connection.abort("too many connections")

    def connection_blocked(self, _connection: Connection, /) -> None:
        """Have what is asked wait."""
        self.serving.choose_reading()

    def connection_ended(self, _connection: Connection, reason: str, /) -> None:
        """End the calls in both directions, as far as they end with it."""
        logger.debug("JSON-RPC client %s is gone: %s", self.remote.peer_address, reason)
        for timer in self._timers.values():
            timer.cancel()
        self.remote.ended(reason)
        self.serving.connection_ended()
        self._server.session_ended(self)
        if self._is_connected and self._server.executor.hooks:
            self._server.executor.tell(ServerEvent("disconnected", self.remote))

    def stream_ended(self, connection: Connection, /) -> bool:
        """Close, but not before what was asked is answered: a client may say that it asks no more and still wait."""
        if self._is_tls:
            # There is no half of a connection in TLS.
            return False
        self.remote.stream_ended()
        self.serving.when_done = connection.close
        if not self.serving.undone:
            connection.close()
        return True

    @property
    def _is_tls(self) -> bool:
        transport = self.connection.transport
        return transport is not None and transport.get_extra_info("sslcontext") is not None

    def _begin(self, connection: Connection) -> None:
        transport, options = connection.transport, self._server.session_options
        assert transport is not None
        end = transport.get_extra_info("socket")
        name = transport.get_extra_info("peername") or ""
        address = address_of(name, "tls" if self._is_tls else "tcp")
        self.remote.opened(connection, address, transport.get_extra_info("peercert") or None)
        if options.keepalive is not None and end is not None and end.family != socket.AF_UNIX:
            keep_alive(end, options.keepalive)
        if options.check is not None:
            self.serving.gate = TokenGate(options.check, self.serving, self.remote)
            if self.remote.identity is None:
                self._timers["auth"] = self._loop.call_later(options.auth_timeout, self._auth_time_over)
        if options.idle_timeout is not None:
            self._watch_idling(options.idle_timeout)
        if self._server.executor.hooks:
            self._server.executor.tell(ServerEvent("connected", self.remote))

    # Time limits

    def _auth_time_over(self) -> None:
        if self.remote.identity is None:
            logger.info("JSON-RPC client %s has not authenticated itself in time", self.remote.peer_address)
            self.connection.close()

    def _watch_idling(self, timeout: float) -> None:
        self._timers["idle"] = self._loop.call_later(timeout, self._idle_time_over, timeout)

    def _idle_time_over(self, timeout: float) -> None:
        serving = self.serving
        is_busy = serving.undone or self.connection.pending
        # Looked at once in that time, so that a call does not have to move a timer: it may last twice as long.
        if serving.requests == self._requests and not is_busy:
            logger.info("JSON-RPC client %s has asked nothing for %g s", self.remote.peer_address, timeout)
            self.connection.close()
        else:
            self._requests = -1 if is_busy else serving.requests
            self._watch_idling(timeout)
