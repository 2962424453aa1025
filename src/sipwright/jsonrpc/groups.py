"""Server groups (L2): which server gets the next call, and keeping the servers connected.

An `Endpoint` is one server: its connection while there is one, and the attempts to have one again. A `Group` is an
ordered choice among endpoints: the highest priority with a ready server, strict round robin inside it. An endpoint may
be in several groups; there is one TCP connection to it. Nothing here waits: connecting goes on beside the calls.

The choice is on the hot path, so a group keeps one ring of ready connections per priority, rebuilt when a server comes
or goes, and a choice is one look and one rotation.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Collection, Sequence

from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.connection import Connection

logger = logging.getLogger("sipwright.jsonrpc.client")
# Who has set up no logging hears of servers by the exceptions of calls, not on stderr.
logger.addHandler(logging.NullHandler())

# Seconds for one address of a server; a name may have several (localhost: ::1 and 127.0.0.1), tried in their order.
# Not the happy eyeballs of asyncio: in Python 3.11 they lose a socket when they are cancelled at the wrong moment.
CONNECT_TIMEOUT = 3.0
MAX_RECONNECT_DELAY = 30.0


class Endpoint:
    """One server, kept connected from `start` to `stop`.

    After a lost connection it is asked again at once if the connection had lasted for `reconnect_interval` seconds,
    otherwise, and after each failure, after `reconnect_interval` doubled for each failure in a row, up to 30 s, each
    delay varied by a quarter with `random() -> [0, 1)`. `max_attempts`: how many times in a row it is asked *again*;
    -1 without limit; a success resets it (Kamailio: max_conn_attempts, where 0 also leaves the first attempt).

    `make(endpoint)` returns the connection to use; `lost(connection, reason)` takes the calls of a lost one.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: ServerAddress,
        make: Callable[[Endpoint], Connection],
        lost: Callable[[Connection, str], object],
        *,
        reconnect_interval: float,
        max_attempts: int,
        random: Callable[[], float],
    ) -> None:
        self.address = address
        self.name = str(address)
        self.groups: list[Group] = []
        self.connection: Connection | None = None
        self.blocked = 0
        self.is_tried = False
        self.is_given_up = False
        self.connects = 0
        self.last_failure = ""
        self._loop = loop
        self._make = make
        self._lost = lost
        self._interval = reconnect_interval
        self._max_attempts = max_attempts
        self._attempts_left = max_attempts
        self._random = random
        self._failures = 0
        self._connected_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def is_ready(self) -> bool:
        """True when a call can be sent: connected, the server reads what it is sent, and `stop` was not called."""
        return self.connection is not None and not self.connection.is_blocked and not self._stopped

    def start(self) -> None:
        """Begin to connect."""
        self._timer = None
        self._attempt = self._loop.create_task(self._connect())

    def stop(self) -> None:
        """Take the server out of the choice, close the connection and connect no more.

        Calls that are pending on it are the caller's to end.
        """
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
        if self.connection is not None:
            self._tell()
            self.connection.close()

    async def _connect(self) -> None:
        try:
            sock = await self._connect_socket()
        except (OSError, ValueError, OverflowError) as error:
            # Not an OSError: a host name that cannot be written in IDNA, a port that is no port.
            self._attempt = None
            self._fail(f"cannot connect: {_reason(error)}")
            return
        # From here on the transport owns the socket, also when this task is cancelled.
        await self._loop.create_connection(lambda: self._make(self), sock=sock)
        self._attempt = None

    async def _connect_socket(self) -> socket.socket:
        """Return a socket that is connected to the first address that takes it."""
        failure: OSError = OSError("the name has no addresses")
        host, port = self.address.host, self.address.port
        try:
            # Without a question to anybody; only a name costs a thread, so that it does not block.
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            addresses = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in addresses:
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:
                # An IPv6 address on a machine without IPv6.
                failure = error
                continue
            try:
                sock.setblocking(False)
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await self._loop.sock_connect(sock, address)
            except TimeoutError:
                sock.close()
                failure = OSError(f"no answer within {CONNECT_TIMEOUT:g} s")
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure

    def connection_ready(self, connection: Connection) -> None:
        """Let the connection take part in the choice, now and in every group."""
        if self._stopped:
            connection.close()
            return
        if self.connection is None:
            logger.info("connected to JSON-RPC server %s", self.name)
            self.connects += 1
            self._attempts_left = self._max_attempts
            self._connected_at = self._loop.time()
        self.connection = connection
        self._tell()

    def connection_blocked(self, connection: Connection) -> None:
        """Take the connection out of the choice until the server reads again."""
        self.blocked += 1
        logger.warning("JSON-RPC server %s does not read, %d calls are pending", self.name, len(connection.pending))
        self._tell()

    def connection_ended(self, connection: Connection, reason: str) -> None:
        """Hand its calls back and begin to connect again."""
        if self.connection is connection:
            self.connection = None
            if self._loop.time() - self._connected_at >= self._interval:
                self._failures = 0
                self._fail(reason, at_once=True)
            else:
                self._fail(reason)
        self._lost(connection, reason)

    def stream_ended(self, _connection: Connection, /) -> bool:
        """Give up a connection on which no answer can come any more."""
        return False

    def _fail(self, reason: str, at_once: bool = False) -> None:
        """Note a failure, and have the next attempt made after its delay if there is to be one."""
        self.last_failure = reason
        self.is_given_up = self._attempts_left == 0
        self._tell()
        if self._stopped:
            return
        if self.is_given_up:
            logger.error("JSON-RPC server %s: %s; no attempts are left", self.name, reason)
            return
        self._attempts_left = max(self._attempts_left - 1, -1)
        delay = 0.0
        if not at_once:
            delay = min(self._interval * 2.0 ** min(self._failures, 30), MAX_RECONNECT_DELAY)
            delay = min(delay * (0.75 + self._random() / 2), MAX_RECONNECT_DELAY)
            self._failures += 1
        logger.warning("JSON-RPC server %s: %s; next attempt in %.1f s", self.name, reason, delay)
        self._timer = self._loop.call_later(delay, self.start)

    def _tell(self) -> None:
        self.is_tried = True
        for group in self.groups:
            group.refresh()


def _reason(error: Exception) -> str:
    """Return what went wrong, for a person: asyncio's own text repeats the address."""
    if isinstance(error, socket.gaierror) or not isinstance(error, OSError) or error.errno is None:
        return str(error.args[-1]) if error.args else str(error)
    return os.strerror(error.errno)


class Group:
    """Endpoints by priority. `on_change()` is called after a server came, went, or could not be reached."""

    __slots__ = ("_levels", "_max_pending", "_on_change", "_rings", "_top", "endpoints", "name")

    def __init__(
        self,
        name: str,
        members: Sequence[tuple[int, Endpoint]],
        max_pending: int,
        on_change: Callable[[Group], object],
    ) -> None:
        self.name = name
        self.endpoints = [endpoint for _, endpoint in members]
        self._max_pending = max_pending
        self._on_change = on_change
        priorities = sorted({priority for priority, _ in members}, reverse=True)
        self._levels = [[endpoint for p, endpoint in members if p == priority] for priority in priorities]
        self._rings: list[deque[Connection]] = [deque() for _ in priorities]
        self._top: deque[Connection] = deque()
        for endpoint in self.endpoints:
            if self not in endpoint.groups:
                endpoint.groups.append(self)

    def pick(self) -> Connection | None:
        """Return the connection for the next call, None when no server can take one."""
        ring = self._top
        if ring:
            connection = ring[0]
            if len(connection.pending) < self._max_pending:
                ring.rotate(-1)
                return connection
        return self.pick_other(())

    def pick_other(self, asked: Collection[str]) -> Connection | None:
        """Return the connection for the next call, or None, among the servers whose names are not in `asked`.

        Those that are passed over keep their turn.
        """
        for ring in self._rings:
            for index, connection in enumerate(ring):
                if len(connection.pending) < self._max_pending and connection.server not in asked:
                    del ring[index]
                    ring.append(connection)
                    return connection
        return None

    @property
    def is_ready(self) -> bool:
        """True when at least one server is connected and reads."""
        return bool(self._top)

    @property
    def is_starting(self) -> bool:
        """True until the first attempt to connect has ended for every server."""
        return not all(endpoint.is_tried for endpoint in self.endpoints)

    @property
    def is_given_up(self) -> bool:
        """True when no server is connected and none will be asked again (also when there are none)."""
        return all(endpoint.is_given_up and endpoint.connection is None for endpoint in self.endpoints)

    def refresh(self) -> None:
        """Rebuild the rings: who stays keeps its turn, who comes is last."""
        for level, ring in zip(self._levels, self._rings, strict=True):
            ready = [endpoint.connection for endpoint in level if endpoint.is_ready]
            stay = [connection for connection in ring if connection in ready]
            ring.clear()
            ring.extend(stay)
            ring.extend(c for c in ready if c is not None and c not in stay)
        self._top = next((ring for ring in self._rings if ring), self._rings[0] if self._rings else self._top)
        self._on_change(self)
