"""One connection of a service that has dialled in, from the accept to the end.

First it has to say which group it serves (`rpc.serve`). Then it is asked through its relay, and may ask itself. When it
has said `rpc.drain`, nothing new is asked, and once the last answer is there it is told so.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from typing import Any, Protocol

from sipwright.errors import RpcAnswerError
from sipwright.jsonrpc import openrpc
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.dispatch import Dispatcher
from sipwright.jsonrpc.executor import Executor
from sipwright.jsonrpc.framing import Framing
from sipwright.jsonrpc.messages import Message, encode_notification
from sipwright.jsonrpc.peer import Peer
from sipwright.jsonrpc.serving import Batch, Serving
from sipwright.jsonrpc.sockets import keep_alive
from sipwright.modules.jsonrpc.relay import Relay, Relayed

logger = logging.getLogger("sipwright.jsonrpc.dialed")

SERVE, DRAIN, PING = "rpc.serve", "rpc.drain", "rpc.ping"
BEFORE_SERVING = (SERVE, PING, openrpc.DISCOVER)
UNAUTHORIZED = -32001
REDIAL = "rpc.redial"
"""The notification by which a service is told that its connection will be closed, and that it should make another."""
KEEPALIVE = 60.0
# A service that drains has as a rule dialled in elsewhere just before: the workers shall hear of that first (seconds).
NEWS_SECONDS = 0.1
# A worker that has just been started may know of no other connection yet than this one, and connect now.
STARTING_SECONDS = 0.4
_CREDENTIALS = struct.Struct("3i")


class DoorOwner(Protocol):
    """What a connection belongs to."""

    log: logging.Logger
    dispatcher: Dispatcher
    executor: Executor
    max_size: int
    framing: Framing
    serve_timeout: float

    def service_began(self, service: DialedService) -> bool:
        """Take note of a connection. False: it is one too many."""

    def service_ended(self, service: DialedService) -> None:
        """Forget a connection."""

    def service_drained(self, service: DialedService) -> None:
        """Ask nothing of it any more."""


class DialedService:
    """The owner of the connection. `group` is None until it serves one; `peer` names the other end for a person."""

    def __init__(self, owner: DoorOwner, loop: asyncio.AbstractEventLoop) -> None:
        self.group: str | None = None
        self.peer = ""
        self.relay: Relay | None = None
        self.since = time.time()
        self.is_draining = False
        # Set when nobody will ask it any more, and nothing is open.
        self.is_done = asyncio.Event()
        self._owner = owner
        self._loop = loop
        self._is_known = False
        self._is_closed_to_others = False
        self._timer: asyncio.TimerHandle | None = None
        self.serving = Serving(owner.dispatcher, owner.executor, self)
        self.serving.gate = self._is_refused
        peer: Peer[Relayed] = Peer(_answered, self.serving.requested)
        self.connection = Connection(loop, self, peer, "service", owner.max_size, owner.framing)
        self.serving.attach(self.connection)

    # ---- what the connection tells

    def connection_ready(self, connection: Connection, /) -> None:
        """Begin; or go on, when the service had not read."""
        if self._is_known:
            if self.relay is not None:
                self.relay.read(True)
            self.serving.go_on()
            return
        self.peer = _name_of(connection)
        if not self._owner.service_began(self):
            connection.abort("too many services")
            return
        self._is_known = True
        self._timer = self._loop.call_later(self._owner.serve_timeout, self._is_late)

    def connection_blocked(self, _connection: Connection, /) -> None:
        """Take nothing from the workers for it: then they ask others."""
        if self.relay is not None:
            self.relay.read(False)
        self.serving.choose_reading()

    def connection_ended(self, _connection: Connection, reason: str, /) -> None:
        """Let those who have asked know."""
        if self._timer is not None:
            self._timer.cancel()
        self.serving.connection_ended()
        self.connection.peer.take_all()
        if self.relay is not None:
            self.relay.close(reason)
        if self._is_known:
            if self.group is not None:
                self._owner.log.info("JSON-RPC service %s of group '%s' is gone: %s", self.peer, self.group, reason)
            self._owner.service_ended(self)
        self.is_done.set()

    def stream_ended(self, _connection: Connection, /) -> bool:
        """Give it up: who sends no more answers nothing."""
        return False

    def _is_late(self) -> None:
        if self.group is None:
            self._owner.log.warning("%s has dialled in, and not said rpc.serve in time: disconnected", self.peer)
            self.connection.abort("no rpc.serve in time")

    def _is_refused(self, message: Message, batch: Batch | None) -> bool:
        """Let nothing be asked by those who have not shown a token (the `gate` of a Serving)."""
        if self.group is not None or message.method in BEFORE_SERVING:
            return False
        self.serving.fail(message, RpcAnswerError(UNAUTHORIZED, "Not authenticated", f"say {SERVE} first"), batch)
        return True

    # ---- what becomes of it

    def serve(self, group: str, relay: Relay) -> None:
        """Let it be asked through a relay, which listens."""
        self.group = group
        self.relay = relay

    def ask_to_redial(self) -> None:
        """Have the service make another connection, and drain this one."""
        self.connection.write(encode_notification(REDIAL, None))

    def drain(self) -> None:
        """Have nobody ask it anything new."""
        if self.is_draining:
            return
        self.is_draining = True
        if self.relay is None:
            self.is_done.set()
        else:
            self._timer = self._loop.call_later(NEWS_SECONDS, self._take_away)

    def _take_away(self) -> None:
        self._owner.service_drained(self)
        self._timer = self._loop.call_later(STARTING_SECONDS, self._stop_listening)

    def _stop_listening(self) -> None:
        assert self.relay is not None
        self.relay.stop_listening()
        self._is_closed_to_others = True
        self.look_whether_done()

    def look_whether_done(self) -> None:
        """Note whether it has nothing to do any more."""
        if self._is_closed_to_others and self.relay is not None and self.relay.is_idle:
            self.is_done.set()

    def disconnect(self) -> None:
        """Close the connection, once what is written has been sent."""
        # In the next turn: the answer that is being made may not be written yet.
        self._loop.call_soon(self.connection.close)

    def describe(self) -> dict[str, Any]:
        """Return what an operator wants to know."""
        return {
            "group": self.group,
            "peer": self.peer,
            "address": "" if self.relay is None else f"unix:{self.relay.path}",
            "state": "new" if self.group is None else "draining" if self.is_draining else "serving",
            "age": round(time.time() - self.since, 1),
            "pending": len(self.connection.pending),
            "calls": 0 if self.relay is None else self.relay.calls,
        }


def _answered(call: Relayed, message: Message) -> None:
    call.answered(message)


def _name_of(connection: Connection) -> str:
    """Return where a connection comes from; of a Unix socket, the process."""
    assert connection.transport is not None
    end = connection.transport.get_extra_info("socket")
    name = connection.transport.get_extra_info("peername")
    if isinstance(name, tuple):
        if end is not None:
            keep_alive(end, KEEPALIVE)
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if end is not None and hasattr(socket, "SO_PEERCRED"):
        pid, _, _ = _CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return f"process-{pid}"
    return "unix"
