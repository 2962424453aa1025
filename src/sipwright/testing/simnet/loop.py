"""An event loop whose time is simulated: owns the clock; whatever goes over a network is asked of a `Fabric`.

When nothing is ready, the time jumps to the next timer: nothing is waited for. It is asyncio's own loop with another
selector, so tasks, timeouts, streams and TLS are the real ones. What would reach out of the simulation is refused with
NotImplementedError (datagrams, pipes, processes, signals) or done at once in this thread (executors).
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
from asyncio import sslproto
from collections.abc import Callable, Sequence
from ssl import SSLContext, create_default_context
from typing import Any, Protocol
from weakref import WeakKeyDictionary, finalize

from sipwright.testing.simnet.listening import SimServer
from sipwright.testing.simnet.transport import SimTransport

# A program that turns so often without a pause polls for something (`while ...: await asyncio.sleep(0)`). Time goes on
# meanwhile in the real world; here from then on by so many seconds each turn.
POLLING_TURNS = 1000
POLLING_STEP = 0.001
# What adding up floats may leave between the time and the moment of a timer.
RESOLUTION = 1e-9

Factory = Callable[[], asyncio.BaseProtocol]
AddressInfo = tuple[int, int, int, str, Any]


class Fabric(Protocol):
    """What the loop needs of a network."""

    async def resolve(self, host: str | None, port: int, family: int, flags: int) -> list[AddressInfo]:
        """Return the addresses of a name. Raises socket.gaierror."""

    async def connect(self, address: Any) -> SimTransport:
        """Return this end of a new connection to (address, port, ...), or to the path of a Unix socket.

        Raises OSError.
        """

    def listen(self, addresses: Sequence[Any], accept: Callable[[SimTransport], object]) -> SimServer:
        """Listen on addresses; `accept(transport)` gets the connections. Raises OSError."""


class SimLoop(asyncio.BaseEventLoop):
    """The loop of a simulated network. `errors` are what was given to its exception handler."""

    # BaseEventLoop's heap of timers.
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, fabric: Fabric) -> None:
        super().__init__()
        self.errors: list[dict[str, Any]] = []
        self._fabric = fabric
        self._now = 0.0
        self._turns = 0
        # The token sockets that were connected, until create_connection gets them.
        self._claims: WeakKeyDictionary[socket.socket, tuple[SimTransport, finalize[Any, Any]]] = WeakKeyDictionary()
        # What BaseEventLoop waits with.
        self._selector = self

    # The clock

    def time(self) -> float:
        """Return the simulated time, in seconds from 0."""
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Let the time pass instead of waiting (called by BaseEventLoop once a turn)."""
        if timeout is None:
            raise RuntimeError("deadlock: what is waited for will never come, as no timer is running")
        if timeout > 0.0:
            # Exactly the moment of the timer, unless the loop looks after a day whether the clock was set.
            self._now = min(self._scheduled[0].when(), self._now + timeout + RESOLUTION)
            self._turns = 0
        else:
            self._turns += 1
            if self._turns > POLLING_TURNS:
                self._now += POLLING_STEP
        # Timers that end within this are over: exactly those whose moment has come.
        self._clock_resolution = math.ulp(self._now)
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        # Called by call_soon_threadsafe: nothing has to be woken.
        pass

    def timers(self) -> list[asyncio.TimerHandle]:
        """Return the timers that are running, the earliest first: at the end of a test, what was forgotten."""
        return sorted(timer for timer in self._scheduled if not timer.cancelled())

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep the fault in `errors`, and do what asyncio does."""
        self.errors.append(context)
        super().call_exception_handler(context)

    # What programs use

    async def getaddrinfo(self, host: Any, port: Any, *, family: int = 0, flags: int = 0, **_options: Any) -> list[Any]:
        """Return the addresses of a name of the simulated network. Raises socket.gaierror."""
        name = host.decode() if isinstance(host, bytes) else host
        return list(await self._fabric.resolve(name, int(port or 0), family, flags))

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        """Refuse: the simulated network has no reverse names."""
        raise NotImplementedError("the simulated network has no reverse names")

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket in the simulation. Outside of it the socket is never connected: it is a token."""
        transport = await self._fabric.connect(address)
        # Who drops the socket instead of giving it to create_connection has closed the connection.
        dropped = finalize(sock, transport.abort)
        dropped.atexit = False
        self._claims[sock] = transport, dropped

    async def create_connection(
        self,
        protocol_factory: Factory,
        host: Any = None,
        port: Any = None,
        *,
        ssl: SSLContext | bool | None = None,
        family: int = 0,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        """Connect, as asyncio does; several addresses of a name are tried in their order. Raises OSError."""
        if sock is not None:
            transport, dropped = self._claims.pop(sock)
            dropped.detach()
        else:
            transport = await self._connect_first(await self.getaddrinfo(host, port, family=family))
        if ssl and server_hostname is None:
            server_hostname = host
        return await self._attach(transport, protocol_factory, ssl or None, server_hostname, sock, options)

    async def create_unix_connection(
        self,
        protocol_factory: Factory,
        path: Any = None,
        *,
        ssl: SSLContext | bool | None = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        """Connect to a Unix socket of the same simulated host, as asyncio does. Raises OSError."""
        if sock is not None:
            return await self.create_connection(
                protocol_factory, ssl=ssl, sock=sock, server_hostname=server_hostname, **options
            )
        transport = await self._fabric.connect(os.fspath(path))
        return await self._attach(transport, protocol_factory, ssl or None, server_hostname, None, options)

    async def _connect_first(self, addresses: Sequence[AddressInfo]) -> SimTransport:
        failures: list[OSError] = []
        for address in addresses:
            try:
                return await self._fabric.connect(address[4])
            except OSError as error:
                failures.append(error)
        raise failures[0]

    async def _attach(
        self,
        transport: SimTransport,
        factory: Factory,
        ssl: SSLContext | bool | None,
        server_hostname: str | None,
        sock: socket.socket | None,
        options: dict[str, Any],
    ) -> tuple[Any, Any]:
        protocol = factory()
        waiter = self.create_future()
        try:
            if ssl is None:
                transport.attach(protocol, lambda: _wake(waiter), sock=sock)
                await waiter
                return transport, protocol
            context = create_default_context() if ssl is True else ssl
            layer = self._tls_layer(protocol, context, waiter, False, server_hostname, options)
            transport.attach(layer, sock=sock)
            await waiter
        except BaseException:
            transport.close()
            raise
        return layer._app_transport, protocol  # noqa: SLF001  as asyncio's own loops do

    def _tls_layer(
        self,
        protocol: asyncio.BaseProtocol,
        context: Any,
        waiter: Any,
        is_server: bool,
        server_hostname: str | None,
        options: dict[str, Any],
    ) -> Any:
        return sslproto.SSLProtocol(
            self,
            protocol,
            context,
            waiter,
            is_server,
            server_hostname,
            ssl_handshake_timeout=options.get("ssl_handshake_timeout"),
            ssl_shutdown_timeout=options.get("ssl_shutdown_timeout"),
        )

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Factory,
        host: Any = None,
        port: Any = None,
        *,
        family: int = 0,
        flags: int = socket.AI_PASSIVE,
        ssl: SSLContext | None = None,
        start_serving: bool = True,
        **options: Any,
    ) -> SimServer:
        """Listen on addresses of the simulated host that this is called on, as asyncio does. Raises OSError."""
        if "sock" in options and options["sock"] is not None:
            raise NotImplementedError(
                "the simulated network listens on addresses, not on sockets that were made before"
            )
        hosts: list[Any] = [host] if host is None or isinstance(host, (str, bytes)) else list(host)
        addresses = [
            info[4] for one in hosts for info in await self._fabric.resolve(one or None, port or 0, family, flags)
        ]
        return await self._serve(list(dict.fromkeys(addresses)), protocol_factory, ssl, start_serving, options)

    async def create_unix_server(  # type: ignore[override]
        self,
        protocol_factory: Factory,
        path: Any = None,
        *,
        ssl: SSLContext | None = None,
        start_serving: bool = True,
        **options: Any,
    ) -> SimServer:
        """Listen on a path of the simulated host, which is no file. Raises OSError."""
        return await self._serve([os.fspath(path)], protocol_factory, ssl, start_serving, options)

    async def _serve(
        self,
        addresses: list[Any],
        factory: Factory,
        ssl: SSLContext | None,
        start_serving: bool,
        options: dict[str, Any],
    ) -> SimServer:
        def accept(transport: SimTransport) -> None:
            protocol = factory()
            if ssl is not None:
                protocol = self._tls_layer(protocol, ssl, None, True, None, options)
            transport.attach(protocol, server=server)

        server = self._fabric.listen(addresses, accept)
        if start_serving:
            await server.start_serving()
        return server

    def run_in_executor(self, _executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Call the function in this thread, in the next turn: it takes no simulated time, and must not block."""
        future = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # what it raises is for who awaits it
                future.set_exception(error)

        self.call_soon(run)
        return future

    async def create_datagram_endpoint(self, *_arguments: Any, **_options: Any) -> Any:
        """Refuse: the simulated network has no datagrams."""
        raise NotImplementedError("the simulated network has no datagrams")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
