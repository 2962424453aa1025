"""A service that dials in (L2): it connects to the router, and is asked on connections of its own making.

    server = Server()

    @server.method
    def get_user(id: int) -> dict[str, str]: ...

    async with Dialer(server, "tcp:router.example.org:9998", group="users", token="secret", connections=2):
        await server.serve_forever()

The router needs to know no address of the service, and the service needs no open port. `Dialer` keeps the connections
up: one that is lost is made again, with longer and longer pauses while that fails; one that the router wants to close
(`rpc.redial`) is replaced before it is given up. At the end it says `rpc.drain` and waits until everything is answered.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from sipwright.errors import ArgumentError, RpcAnswerError, RpcConnectionError, RpcError
from sipwright.jsonrpc.addresses import ServerAddress, parse_address
from sipwright.jsonrpc.connecting import connect
from sipwright.jsonrpc.framing import Framing, find_framing
from sipwright.jsonrpc.rpc_connection import RemoteDeadlines, RpcConnection
from sipwright.jsonrpc.server import Server
from sipwright.jsonrpc.session import Session
from sipwright.jsonrpc.sockets import reason
from sipwright.jsonrpc.tls import Tls

logger = logging.getLogger("sipwright.jsonrpc.dial")

SERVE: Final = "rpc.serve"
DRAIN: Final = "rpc.drain"
REDIAL: Final = "rpc.redial"
LONGEST_PAUSE: Final = 30.0
SERVE_TIMEOUT: Final = 5.0
# How long a connection that the router wants to close is kept while no other one can be made, in seconds.
REDIAL_SECONDS: Final = 2.0
# What is left of a drained connection has to end in this time, in seconds.
DRAIN_SECONDS: Final = 60.0
_KEY: Final = "sipwright.jsonrpc.dial"


class Dialer:
    """Keeps `connections` connections to a router, on which it asks the methods of a server.

    `address` is `"tcp:host:port"`, `"tls:host:port"` or `"unix:/path"`; `group` and `token` are what the router's
    script says (an empty group is that of its servers). The server need not listen itself. `reconnect_interval`
    (seconds) is the pause after a failure, doubled for each one in a row, up to 30 s, each varied by a quarter.

    Use it in `async with`, or call `start()` in the running loop and `close()` at the end, before that of the server.
    Raises ArgumentError for an address that is none.
    """

    def __init__(
        self,
        server: Server,
        address: str | ServerAddress,
        *,
        group: str = "",
        token: str = "",
        connections: int = 1,
        framing: str | Framing = "netstring",
        tls: Tls | None = None,
        reconnect_interval: float = 1.0,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self.address = parse_address(address) if isinstance(address, str) else address
        if self.address.kind == "srv":
            raise ArgumentError("to dial in, the address is tcp:, tls: or unix:, not srv:", 0)
        if self.address.kind == "tls" and tls is None:
            raise ArgumentError(f"{self.address} needs TLS settings: tls=Tls(...)")
        if connections < 1:
            raise ArgumentError(f"connections is at least 1, not {connections}")
        self.group = group
        self.last_failure = ""
        self._server = server
        self._token = token
        self._number = connections
        self._framing = find_framing(framing)
        self._tls = tls
        self._interval = reconnect_interval
        self._random = random
        self._lines: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._serving: set[_Line] = set()
        self._changed = asyncio.Event()
        self._is_closing = False
        server.dispatcher.add(REDIAL, _redial, is_builtin=True)

    @property
    def connections(self) -> int:
        """How many connections are serving."""
        return len(self._serving)

    def start(self) -> None:
        """Begin to dial, in the running event loop."""
        if self._lines:
            raise RuntimeError("the dialer was started before")
        loop = asyncio.get_running_loop()
        owner = _Owner(self._server, loop)
        self._lines = [loop.create_task(self._keep(owner)) for _ in range(self._number)]

    async def connected(self, timeout: float | None = None) -> None:
        """Wait until all connections are serving.

        Raises RpcConnectionError after `timeout` seconds, with what was wrong last.
        """
        try:
            async with asyncio.timeout(timeout):
                while self.connections < self._number:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise RpcConnectionError(f"{self.address}: {self.last_failure or 'not connected'}") from None

    async def close(self, timeout: float = 5.0) -> None:
        """Let the router ask nothing new, answer what is open within `timeout` seconds, and disconnect."""
        self._is_closing = True
        for line in self._lines:
            line.cancel()
        for serving in list(self._serving):
            self._leave(serving)
        tasks = [*self._lines, *self._leaving]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- one connection after another

    async def _keep(self, owner: _Owner) -> None:
        clock = owner.loop.time
        failures = 0
        former: _Line | None = None
        while True:
            try:
                line = await self._dial(owner)
            except (OSError, RpcError, ValueError) as error:
                failures += 1
                self.last_failure = _why(error)
                line = None
            if former is not None:
                # Also when there is no other one: the router closes it.
                self._leave(former)
                former = None
            if line is not None:
                logger.info("serving the group '%s' at %s", self.group, self.address)
                began = clock()
                # Meanwhile the router asks; it ends with the connection, or with the wish for another one.
                await line.is_over.wait()
                if line.is_open:
                    former = line
                    owner.loop.call_later(REDIAL_SECONDS, self._leave, former)
                    continue
                self._forget(line)
                failures = 0 if clock() - began >= self._interval else failures + 1
                self.last_failure = "the connection was lost"
            delay = self._delay(failures)
            logger.warning("not serving at %s: %s; next attempt in %.1f s", self.address, self.last_failure, delay)
            await asyncio.sleep(delay)

    def _delay(self, failures: int) -> float:
        if not failures:
            # Not all services at once.
            return self._interval / 4 * self._random()
        doubled = self._interval * 2.0 ** min(failures - 1, 30)
        return min(doubled, LONGEST_PAUSE) * (0.75 + self._random() / 2)

    async def _dial(self, owner: _Owner) -> _Line:
        line = _Line(owner, self._framing)
        await connect(owner.loop, self.address, lambda: line.session.connection, self._tls)
        try:
            await line.remote.call(SERVE, {"group": self.group, "token": self._token}, timeout=SERVE_TIMEOUT)
        except BaseException:
            line.session.connection.close()
            raise
        self._serving.add(line)
        self._changed.set()
        return line

    def _forget(self, line: _Line) -> None:
        self._serving.discard(line)
        self._changed.set()

    def _leave(self, line: _Line) -> None:
        """Drain a connection and close it, beside everything else; once."""
        if line in self._serving:
            self._forget(line)
            task = asyncio.get_running_loop().create_task(_drain(line))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


async def serve_dialing(server: Server, address: str | ServerAddress, **options: Any) -> None:
    """Serve at a router that is dialled in to, until cancelled; then drain. The options are those of `Dialer`."""
    async with Dialer(server, address, **options):
        await asyncio.Event().wait()


async def _drain(line: _Line) -> None:
    try:
        # Answered once nobody asks any more. Meanwhile the connection may be lost.
        await line.remote.call(DRAIN, timeout=DRAIN_SECONDS)
        async with asyncio.timeout(DRAIN_SECONDS):
            while line.is_open and line.session.serving.undone:
                # Notifications, for one, which the router does not wait for.
                await asyncio.sleep(0.01)
    except (RpcError, TimeoutError) as error:
        logger.info("a connection was closed before it was drained: %s", error)
    finally:
        line.session.connection.close()
    while line.is_open:
        await asyncio.sleep(0.01)


async def _redial(connection: RpcConnection) -> None:
    """Make another connection in the place of this one, which will be closed."""
    line = connection.state.get(_KEY)
    if line is not None:
        line.is_over.set()


class _Owner:
    """What the sessions of dialled connections belong to: the server, with what is different on these."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.dispatcher = server.dispatcher
        self.executor = server.executor
        # Who is dialled in to need not prove who it is, and may have nothing to ask for long.
        self.session_options = replace(server.session_options, check=None, idle_timeout=None)
        self.deadlines = RemoteDeadlines()
        self._server = server
        self.lines: dict[Session, _Line] = {}

    def session_began(self, session: Session) -> bool:
        """Count it with the server's connections."""
        return self._server.session_began(session)

    def session_ended(self, session: Session) -> None:
        """Let its line know."""
        self._server.session_ended(session)
        line = self.lines.pop(session, None)
        if line is not None:
            line.is_open = False
            line.is_over.set()


class _Line:
    """One connection: `is_over` is set when it has ended, or shall be replaced."""

    def __init__(self, owner: _Owner, framing: Framing) -> None:
        self.is_open = True
        self.is_over = asyncio.Event()
        self.session = Session(owner, owner.loop, framing)
        owner.lines[self.session] = self
        self.remote.state[_KEY] = self

    @property
    def remote(self) -> RpcConnection:
        """The other end."""
        return self.session.remote


def _why(error: Exception) -> str:
    if isinstance(error, RpcAnswerError):
        return f"refused: {error.message}"
    return str(error) if isinstance(error, RpcError) else reason(error)
