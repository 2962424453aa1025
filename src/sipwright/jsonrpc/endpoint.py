"""One server of a client (L2): its connection while there is one, and whether it may be asked now.

An `Endpoint` is what the choice has to know of it, an `OutgoingEndpoint` keeps it connected. Which endpoint gets a call
is `groups`; nothing here waits: connecting goes on beside the calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.connecting import Connect
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.serving import Serving
from sipwright.jsonrpc.sockets import reason
from sipwright.jsonrpc.tls import Tls

logger = logging.getLogger("sipwright.jsonrpc.client")
# Who has set up no logging hears of servers by the exceptions of calls, not on stderr.
logger.addHandler(logging.NullHandler())

MAX_RECONNECT_DELAY = 30.0
# Seconds between looks whether the last call of a server that was taken away has ended.
LEAVE_INTERVAL = 0.05


class EndpointOwner(Protocol):
    """Who is told what becomes of an endpoint."""

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        """Take note that the endpoint can be asked now and could not before, or the other way round."""

    def endpoint_connected(self, endpoint: Endpoint) -> None:
        """Take note of a new connection, before anything is sent on it."""

    def endpoint_lost(self, connection: Connection, reason: str) -> None:
        """Take the calls of a connection that is gone."""


class Endpoint:
    """A server as the choice sees it.

    `max_pending` is how many calls may be in flight; `is_out` is true while it is left out because its calls fail (set
    by `health`); `is_leaving` once it was taken away or wants no more calls. `failures` counts what went wrong in a
    row, `failed` in all; `blocked` how often it did not read what it was sent. `serving` answers what the server asks,
    where it may ask anything.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: ServerAddress, name: str, owner: EndpointOwner, max_pending: int
    ) -> None:
        self.address = address
        self.name = name
        self.max_pending = max_pending
        self.connection: Connection | None = None
        self.serving: Serving | None = None
        self.connects = 0
        self.blocked = 0
        self.failures = 0
        self.failed = 0
        self.is_out = False
        self.is_leaving = False
        self.is_tried = False
        self.is_given_up = False
        self.last_failure = ""
        self._loop = loop
        self._owner = owner
        self._stopped = False
        # Of connections that are gone.
        self._former_calls = 0

    @property
    def calls(self) -> int:
        """How many requests were sent."""
        return self._former_calls + (0 if self.connection is None else self.connection.peer.requests)

    @property
    def is_ready(self) -> bool:
        """True when a call can be sent: connected, reading what it is sent, and not out, leaving or stopped."""
        connection = self.connection
        return not (connection is None or connection.is_blocked or self.is_out or self.is_leaving or self._stopped)

    @property
    def state(self) -> str:
        """What an operator is told: connected, blocked, out, draining, connecting or given_up."""
        if self.is_leaving:
            return "draining"
        if self.connection is None:
            return "given_up" if self.is_given_up else "connecting"
        return "out" if self.is_out else "blocked" if self.connection.is_blocked else "connected"

    @property
    def pending(self) -> int:
        """How many calls are in flight."""
        return 0 if self.connection is None else len(self.connection.pending)

    def stop(self) -> None:
        """Take the server out of the choice and close the connection. Its pending calls are the owner's to end."""
        self._stopped = True
        if self.connection is not None:
            self.tell()
            self.connection.close()

    def leave(self) -> None:
        """Take no more calls, and close the connection once those in flight have ended."""
        if not self.is_leaving:
            self.is_leaving = True
            self.tell()
            self._leave()

    def _leave(self) -> None:
        if not self.is_leaving or self._stopped:
            return
        if self.pending:
            self._loop.call_later(LEAVE_INTERVAL, self._leave)
        else:
            self.gone()

    def gone(self) -> None:
        """Close the connection of a server that has left."""
        if self.connection is not None:
            self.connection.close()

    def tell(self) -> None:
        """Let the groups choose anew."""
        self.is_tried = True
        self._owner.endpoint_changed(self)

    # What the connection tells

    def connection_ready(self, connection: Connection) -> None:
        """Let the connection take part in the choice, now and in every group."""
        if self._stopped:
            connection.close()
            return
        if self.connection is None:
            logger.info("connected to JSON-RPC server %s", self.name)
            self.connects += 1
            self.connection = connection
            self.connected()
            self._owner.endpoint_connected(self)
        elif self.serving is not None:
            self.serving.go_on()
        self.tell()

    def connected(self) -> None:
        """Take note of a new connection."""

    def connection_blocked(self, connection: Connection) -> None:
        """Take the connection out of the choice until the server reads again."""
        self.blocked += 1
        logger.warning("JSON-RPC server %s does not read, %d calls are pending", self.name, len(connection.pending))
        if self.serving is not None:
            self.serving.choose_reading()
        self.tell()

    def connection_ended(self, connection: Connection, why: str) -> None:
        """Hand its calls back."""
        if self.connection is connection:
            self._former_calls += connection.peer.requests
            self.connection = None
            if self.serving is not None:
                self.serving.connection_ended()
            self.disconnected(why)
        self._owner.endpoint_lost(connection, why)

    def disconnected(self, why: str) -> None:
        """Take note of the end of the connection."""
        self.last_failure = why
        self.tell()

    def stream_ended(self, _connection: Connection, /) -> bool:
        """Give up a connection on which no answer can come any more."""
        return False


class OutgoingEndpoint(Endpoint):
    """A server at an address, kept connected from `start` to `stop`.

    After a lost connection it is asked again at once if the connection had lasted for `reconnect_interval` seconds,
    otherwise, and after each failure, after `reconnect_interval` doubled for each failure in a row, up to 30 s, each
    delay varied by a quarter with `random() -> [0, 1)`. `max_attempts`: how many times in a row it is asked *again*;
    -1 without limit; a success resets it (Kamailio: max_conn_attempts, where 0 also leaves the first attempt).

    `make(endpoint)` returns the connection to use, `connect` makes it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: ServerAddress,
        owner: EndpointOwner,
        make: Callable[[Endpoint], Connection],
        *,
        max_pending: int,
        reconnect_interval: float,
        max_attempts: int,
        random: Callable[[], float],
        connect: Connect,
        tls: Tls | None = None,
    ) -> None:
        super().__init__(loop, address, str(address), owner, max_pending)
        self._make = make
        self._interval = reconnect_interval
        self._max_attempts = max_attempts
        self._attempts_left = max_attempts
        self._random = random
        self._connector = connect
        self._tls = tls
        self._failures = 0
        self._connected_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._attempt: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect; anew, when it was given up."""
        if self.is_given_up:
            self.is_given_up = False
            self._attempts_left = self._max_attempts
        self._timer = None
        self._attempt = self._loop.create_task(self._connect())

    def stop(self) -> None:
        """Take the server out of the choice, close the connection and connect no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
        super().stop()

    def gone(self) -> None:
        """Connect no more."""
        self.stop()

    async def _connect(self) -> None:
        try:
            await self._connector(self._loop, self.address, lambda: self._make(self), self._tls)
        except (OSError, ValueError, OverflowError) as error:
            # Not an OSError: a host name that cannot be written in IDNA, a port that is no port.
            self._attempt = None
            self._fail(f"cannot connect: {reason(error)}")
        else:
            self._attempt = None

    def connected(self) -> None:
        """Take note of a new connection."""
        self._attempts_left = self._max_attempts
        self._connected_at = self._loop.time()

    def disconnected(self, why: str) -> None:
        """Begin to connect again."""
        if self._loop.time() - self._connected_at >= self._interval:
            self._failures = 0
            self._fail(why, at_once=True)
        else:
            self._fail(why)

    def _fail(self, why: str, at_once: bool = False) -> None:
        """Note a failure, and have the next attempt made after its delay if there is to be one."""
        self.last_failure = why
        self.is_given_up = self._attempts_left == 0
        self.tell()
        if self._stopped or self.is_leaving:
            return
        if self.is_given_up:
            logger.error("JSON-RPC server %s: %s; no attempts are left", self.name, why)
            return
        self._attempts_left = max(self._attempts_left - 1, -1)
        delay = 0.0
        if not at_once:
            delay = min(self._interval * 2.0 ** min(self._failures, 30), MAX_RECONNECT_DELAY)
            delay = min(delay * (0.75 + self._random() / 2), MAX_RECONNECT_DELAY)
            self._failures += 1
        logger.warning("JSON-RPC server %s: %s; next attempt in %.1f s", self.name, why, delay)
        self._timer = self._loop.call_later(delay, self.start)
