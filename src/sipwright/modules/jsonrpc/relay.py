"""The way of all workers to one service that has dialled in: a Unix socket, behind which its connection is.

A worker connects to it as to any other server, also the one that has the connection. What is asked there goes on to the
service with an id of its own, and the answer goes back to where the question came from, with the question's id. When
the service is gone, so are these connections: those who have asked know it at once, as with any server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET

from sipwright.errors import JsonRpcParseError
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.framing import Framing
from sipwright.jsonrpc.listeners import Listener, listen
from sipwright.jsonrpc.messages import (
    NOT_JSON,
    Id,
    Message,
    encode_error,
    encode_json,
    encode_notification,
    request_head,
)
from sipwright.jsonrpc.peer import Peer

MODE = 0o600


class _Cancelled(msgspec.Struct):
    id: int


_decode_cancelled = msgspec.json.Decoder(_Cancelled).decode


class Relayed:
    """A call on its way: who has asked, with what id, and (`id`) its id at the service."""

    __slots__ = ("asker", "id", "origin")

    id: int

    def __init__(self, asker: Asker, origin: Id) -> None:
        self.asker = asker
        self.origin = origin

    def answered(self, message: Message) -> None:
        """Give the service's answer to whoever has asked, as it came."""
        members = b"" if message.result is UNSET else b',"result":%b' % bytes(message.result)
        if message.error is not UNSET:
            members += b',"error":%b' % bytes(message.error)
        self.asker.calls.pop(self.origin, None)
        self.asker.connection.write(b'{"jsonrpc":"2.0"%b,"id":%b}' % (members, encode_json(self.origin)))


class Relay:
    """The socket at `path`, and who is connected to it.

    `service` is the connection to the service; `limit` is how many calls are kept in mind with it, also those that
    nobody waits for any more. `cancel_method` is the notification that gives up the request whose id it has, None if
    there is none. `changed` is called when somebody has gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        service: Connection,
        *,
        limit: int,
        max_size: int,
        framing: Framing,
        cancel_method: str | None,
        changed: Callable[[], object],
    ) -> None:
        self.path = path
        self.service = service
        self.max_size = max_size
        self.framing = framing
        self._cancel_method = cancel_method
        self.askers: set[Asker] = set()
        self.calls = 0
        self._loop = loop
        self._limit = limit
        self._changed = changed
        self._listener: Listener | None = None

    async def open(self) -> None:
        """Listen. StartError: it cannot."""
        address = ServerAddress(self.path, 0, "unix")
        self._listener = await listen(address, lambda: Asker(self, self._loop).connection, None, MODE)

    @property
    def is_idle(self) -> bool:
        """Whether nobody is connected."""
        return not self.askers

    def stop_listening(self) -> None:
        """Let nobody connect any more; those who are stay."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def close(self, why: str) -> None:
        """Disconnect everybody, at once."""
        self.stop_listening()
        for asker in list(self.askers):
            asker.connection.abort(why)

    def read(self, is_wanted: bool) -> None:
        """Take what is asked, or let it wait because the service does not read."""
        for asker in self.askers:
            asker.connection.read(is_wanted)

    def began(self, asker: Asker) -> None:
        """Take note of a worker."""
        self.askers.add(asker)
        asker.connection.read(not self.service.is_blocked)

    def ended(self, asker: Asker) -> None:
        """Forget a worker, and what it has asked."""
        self.askers.discard(asker)
        peer = self.service.peer
        for call in asker.calls.values():
            peer.abandon(call)
        self._changed()

    def ask(self, asker: Asker, message: Message) -> None:
        """Pass a request on, or a notification."""
        assert message.method is not None
        params = None if message.params is UNSET else bytes(message.params)
        service = self.service
        if message.id is UNSET:
            if message.method == self._cancel_method:
                params = self._cancelled(asker, params)
            service.write(encode_notification(message.method, params))
            return
        self.calls += 1
        asker.calls[message.id] = call = Relayed(asker, message.id)
        service.write(service.request(call, request_head(message.method), params))
        pending = service.pending
        if len(pending) > self._limit:
            # Whoever has asked waits no longer, and does not say so.
            self._forget(next(iter(pending.values())))

    def _cancelled(self, asker: Asker, params: bytes | None) -> bytes | None:
        """Return the params of a cancellation with the id that the service knows; the answer is not waited for."""
        with suppress(*NOT_JSON):
            given = _decode_cancelled(params or b"")
            call = asker.calls.get(given.id)
            if call is not None:
                self._forget(call)
                return b'{"id":%d}' % call.id
        return params

    def _forget(self, call: Relayed) -> None:
        self.service.peer.abandon(call)
        call.asker.calls.pop(call.origin, None)


class Asker:
    """A worker that is connected to the relay: the owner of its connection."""

    def __init__(self, relay: Relay, loop: asyncio.AbstractEventLoop) -> None:
        self._relay = relay
        self._is_known = False
        # What it has asked, by its own ids.
        self.calls: dict[Id | Any, Relayed] = {}
        peer: Peer[Any] = Peer(_nothing_is_asked, self._requested)
        self.connection = Connection(loop, self, peer, "worker", relay.max_size, relay.framing)

    def connection_ready(self, _connection: Connection, /) -> None:
        """Begin; or go on, when the worker had not read."""
        if not self._is_known:
            self._is_known = True
            self._relay.began(self)

    def connection_blocked(self, _connection: Connection, /) -> None:
        """Keep what is written: it is no more than what the worker has asked for."""

    def connection_ended(self, _connection: Connection, _reason: str, /) -> None:
        """Let go what it has asked."""
        if self._is_known:
            self._relay.ended(self)

    def stream_ended(self, _connection: Connection, /) -> bool:
        """Close: a worker that sends no more has gone."""
        return False

    def _requested(self, messages: list[Message | JsonRpcParseError], _is_batch: bool) -> None:
        for message in messages:
            if isinstance(message, JsonRpcParseError):
                self.connection.write(encode_error(message.request_id, message.code, str(message)))
            elif message.method is not None:
                self._relay.ask(self, message)


def _nothing_is_asked(_call: Any, _message: Message) -> None:
    raise AssertionError("nothing is asked of the other workers")
