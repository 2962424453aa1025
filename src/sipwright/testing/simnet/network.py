"""Hosts and the links between them, what goes wrong with them, and running programs on them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import random
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextvars import Context, ContextVar, Token, copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from sipwright.jsonrpc.resolve import SrvRecord
from sipwright.testing.simnet.connection import SimConnection
from sipwright.testing.simnet.flow import Event, Link, Node
from sipwright.testing.simnet.listening import SimServer
from sipwright.testing.simnet.loop import AddressInfo, SimLoop
from sipwright.testing.simnet.sockets import family_of
from sipwright.testing.simnet.transport import Side, SimTransport

# Seconds between the attempts of TCP to connect to somebody who is silent (Linux, tcp_syn_retries = 6).
SYN_INTERVALS = (1, 2, 4, 8, 16, 32, 64)
# Ports that are given to who wants any.
FIRST_PORT = 40000
# Seconds within one host.
LOCAL_LATENCY = (0.00002, 0.0001)

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Listener:
    """Who listens: what gets the connections, and the context of who began to listen."""

    accept: Callable[[SimTransport], object]
    context: Context


_current: ContextVar[SimHost] = ContextVar("sipwright.testing.simnet host")


class SimHost(Node):
    """A machine. What is done in `with host:`, and the tasks and servers that are begun in it, are on that machine.

    `addresses` are its own, besides 127.0.0.1 and ::1, which every host has.
    """

    def __init__(self, network: SimNetwork, name: str, addresses: Sequence[str]) -> None:
        super().__init__()
        self.name = name
        self.addresses = list(addresses)
        self._network = network
        self._listeners: dict[tuple[str, int], Listener] = {}
        # Connections that came while the programs took nothing.
        self._unaccepted: list[tuple[Listener, SimConnection]] = []
        self._tokens: list[Token[SimHost]] = []

    def __repr__(self) -> str:
        return f"<SimHost {self.name}>"

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(self, *_error: object) -> None:
        _current.reset(self._tokens.pop())

    # Faults

    def kill(self) -> None:
        """End the programs of the host: nobody listens any more, and their connections are closed.

        The other ends are told by the system. The objects of the programs live on and lose their connections.
        """
        self._listeners.clear()
        self._unaccepted.clear()
        for end in self._ends():
            end.lose(ConnectionAbortedError(errno.ECONNABORTED, "the host's programs were killed"), silently=False)

    def power_off(self) -> None:
        """End the host: what it has open is gone and nobody is told; who sends to it gets no answer."""
        self.is_off = True
        self._listeners.clear()
        self._unaccepted.clear()
        for end in self._ends():
            end.lose(ConnectionAbortedError(errno.ECONNABORTED, "the host was powered off"))
        self._network.refresh()

    def power_on(self) -> None:
        """Start the host, without any program: who sends on an old connection is told that there is none."""
        self.is_off = False
        self._network.refresh()

    def stall(self) -> None:
        """Let the programs take nothing that comes, as if they hung; the system goes on taking it until it is full."""
        self.is_stalled = True

    def resume(self) -> None:
        """Let the programs take what has come since `stall`."""
        self.is_stalled = False
        unaccepted, self._unaccepted = self._unaccepted, []
        for listener, connection in unaccepted:
            self.accept(listener, connection)
        for end in self._ends():
            self._network.loop.call_soon(end.incoming.pump, context=end.context)

    def _ends(self) -> list[SimTransport]:
        return [
            end
            for connection in self._network.connections
            for end in (connection.client_end, connection.server_end)
            if end.node is self
        ]

    # What the network uses

    def has(self, address: str) -> bool:
        """Return whether an address is one of the host's."""
        return address in self.addresses or ipaddress.ip_address(address).is_loopback

    def listener(self, address: Any) -> Listener | None:
        """Return who listens on an address."""
        if isinstance(address, str):
            return self._listeners.get((address, 0))
        host, port = address[:2]
        anywhere = "::" if ":" in host else "0.0.0.0"  # noqa: S104  nothing real
        return self._listeners.get((host, port)) or self._listeners.get((anywhere, port))

    def listen(self, places: Sequence[tuple[str, int]], listener: Listener) -> None:
        """Let somebody listen. Raises OSError when somebody else does."""
        for place in places:
            if place in self._listeners:
                raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {place[0]}:{place[1]}")
        for place in places:
            self._listeners[place] = listener

    def unlisten(self, places: Sequence[tuple[str, int]], listener: Listener) -> None:
        """Let somebody listen no more."""
        for place in places:
            if self._listeners.get(place) is listener:
                del self._listeners[place]

    def accept(self, listener: Listener, connection: SimConnection) -> None:
        """Give a connection to who listens."""
        if self.is_stalled:
            self._unaccepted.append((listener, connection))
        else:
            connection.server_end.context.run(listener.accept, connection.server_end)


class SimNetwork:
    """Hosts, and the links between them; the loop in which all their programs run is `loop`.

    `latency` is (least, most) in seconds, one way, for hosts that nothing else was said of; `window` is how many bytes
    the systems take of a connection before its program has read them. `random` is the source of all chance; give
    `net.random.random` to programs that want chance, too. `local` is the host of all that runs on no other one.
    `trace` has the last events, `connections` is what is open. `names` are the addresses by host name, which a test may
    change.

    Use it in `with`: at the end it cancels what still runs and closes the loop.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        latency: tuple[float, float] = (0.0005, 0.0015),
        window: int = 65536,
        trace_size: int = 2000,
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311  to be foretold is the point
        self.latency = latency
        self.window = window
        self.trace: deque[Event] = deque(maxlen=trace_size)
        self.names: dict[str, list[str]] = {}
        self.loop = SimLoop(self)
        self._hosts: dict[str, SimHost] = {}
        self._services: dict[str, tuple[list[SrvRecord], float]] = {}
        self._links: dict[tuple[SimHost, SimHost], Link] = {}
        self._connections: dict[int, SimConnection] = {}
        self._last_connection = 0
        self._last_port = FIRST_PORT
        self.local = self.add_host("localhost", "10.0.0.1")
        self.names["localhost"] = ["127.0.0.1", "::1"]

    # What a test builds

    def add_host(self, name: str, *addresses: str) -> SimHost:
        """Add a machine with its name and IP addresses; without addresses it gets one of each family."""
        number = len(self._hosts) + 1
        host = SimHost(self, name, addresses or (f"10.0.{number >> 8}.{number & 255}", f"fd00::{number:x}"))
        if name in self.names or any(set(host.addresses) & set(other.addresses) for other in self._hosts.values()):
            raise ValueError(f"there is a host with the name {name!r} or one of its addresses")
        self._hosts[name] = host
        self.names[name] = list(host.addresses)
        return host

    def add_srv(self, name: str, *records: tuple[int, int, int, str], ttl: float = 60.0) -> None:
        """Set the SRV records of a name: (priority, weight, port, target) each; none is a service that is not offered.

        The network is the resolver: `Client("srv:_rpc._tcp.example.org,1", resolver=net)`.
        """
        self._services[name.lower()] = [SrvRecord(*record) for record in records], ttl

    def remove_srv(self, name: str) -> None:
        """Forget a name: questions for it fail."""
        self._services.pop(name.lower(), None)

    def link(self, source: SimHost, sink: SimHost) -> Link:
        """Return one direction of the way between two hosts, to set its latency, its cutting and its faults."""
        try:
            return self._links[source, sink]
        except KeyError:
            link = self._links[source, sink] = Link(LOCAL_LATENCY if source is sink else self.latency)
            return link

    # Faults

    def cut(self, source: SimHost, sink: SimHost, *, one_way: bool = False) -> None:
        """Let nothing arrive between two hosts, or from the first at the second; both are none the wiser."""
        self.link(source, sink).is_cut = True
        if not one_way:
            self.link(sink, source).is_cut = True
        self.refresh()

    def heal(self) -> None:
        """Mend all links that were cut: what was sent meanwhile arrives, if its sender has not given up."""
        for link in self._links.values():
            link.is_cut = False
        self.refresh()

    def refresh(self) -> None:
        """Let connections find out that links or hosts have changed."""
        for connection in self.connections:
            connection.to_server.unstick()
            connection.to_client.unstick()

    @property
    def connections(self) -> list[SimConnection]:
        """The connections that are open at one end at least, in the order in which they were made."""
        return list(self._connections.values())

    # Running

    def run(self, main: Coroutine[Any, Any, T], *, limit: float = 3600.0) -> T:
        """Run a coroutine, for `limit` simulated seconds at most, and return its result.

        Raises what it raises, with the seed and the end of the trace in its notes; TimeoutError when it has not ended.
        """
        with self._explained():
            return self.loop.run_until_complete(_limited(main, limit))

    def advance(self, seconds: float) -> None:
        """Let so much time pass for what is running already."""
        with self._explained():
            self.loop.run_until_complete(asyncio.sleep(seconds))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            error.add_note(f"simulated network: seed {self.seed}, the last events before {self.loop.time():.6f}:")
            error.add_note(self.story(30))
            raise

    def story(self, last: int | None = None) -> str:
        """Return the trace as text, a line for each event, or the last lines of it."""
        events = list(self.trace)
        return "\n".join(str(event) for event in (events if last is None else events[-last:]))

    def close(self) -> None:
        """Cancel the tasks that still run, and close the loop."""
        if self.loop.is_closed():
            return
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What programs and the loop ask for

    async def resolve_srv(self, name: str, /) -> tuple[list[SrvRecord], float]:
        """Return the SRV records of a name and the seconds for which they hold. Raises OSError."""
        await self._ask()
        if name.lower() not in self._services:
            raise OSError(f"no SRV records of {name}: the name does not exist")
        records, ttl = self._services[name.lower()]
        return list(records), ttl

    async def resolve(self, host: str | None, port: int, family: int, flags: int) -> list[AddressInfo]:
        """Return the addresses of a name."""
        if host is None:
            found = ["0.0.0.0", "::"] if flags & socket.AI_PASSIVE else ["127.0.0.1", "::1"]  # noqa: S104
        elif _is_address(host):
            found = [host]
        else:
            name = host.lower().removesuffix(".")
            if name != "localhost":
                await self._ask()
            found = self.names.get(name, [])
        infos = [_info(address, port) for address in found]
        infos = [info for info in infos if family in (0, info[0])]
        if not infos:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return infos

    async def connect(self, address: Any) -> SimTransport:
        """Connect from the present host."""
        here = self._here()
        there = here if isinstance(address, str) else self._host_of(here, address[0])
        if there is None:
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        way, back = self.link(here, there), self.link(there, here)
        for interval in SYN_INTERVALS:
            if not (way.is_cut or back.is_cut or here.is_off or there.is_off):
                await self._pass(way)
                listener = there.listener(address)
                if listener is None:
                    await self._pass(back)
                    raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
                connection = self._connection(here, there, address, listener.context)
                there.accept(listener, connection)
                try:
                    await self._pass(back)
                except BaseException:
                    connection.client_end.abort()
                    raise
                return connection.client_end
            await asyncio.sleep(interval)
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def listen(self, addresses: Sequence[Any], accept: Callable[[SimTransport], object]) -> SimServer:
        """Listen on the present host."""
        here = self._here()
        any_port = 0
        names: list[Any] = []
        places: list[tuple[str, int]] = []
        for address in addresses:
            if isinstance(address, str):
                names.append(address)
                places.append((address, 0))
                continue
            host, port = address[0], address[1]
            if host not in ("0.0.0.0", "::") and not here.has(host):  # noqa: S104
                raise OSError(errno.EADDRNOTAVAIL, f"{os.strerror(errno.EADDRNOTAVAIL)}: {host}")
            if not port:
                port = any_port = any_port or self._port()
            names.append((host, port, *address[2:]))
            places.append((host, port))
        listener = Listener(accept, copy_context())
        # Tried now, so that it is told here; connections are accepted from `start_serving` on.
        here.listen(places, listener)
        here.unlisten(places, listener)
        return SimServer(
            self.loop, names, lambda: here.listen(places, listener), lambda: here.unlisten(places, listener)
        )

    def connection_ended(self, connection: SimConnection) -> None:
        """Forget a connection."""
        self._connections.pop(connection.number, None)

    def _connection(self, here: SimHost, there: SimHost, address: Any, context: Context) -> SimConnection:
        self._last_connection += 1
        if isinstance(address, str):
            own: Any = ""
            names = here.name, f"{there.name} {address}"
        else:
            local = address[0] if here is there else _of_family(here.addresses, address[0])
            own = _info(local, self._port())[4]
            names = f"{here.name}:{own[1]}", f"{there.name}:{address[1]}"
        connection = SimConnection(
            self,
            self._last_connection,
            Side(here, names[0], own, copy_context()),
            Side(there, names[1], address, context.copy()),
            (self.link(here, there), self.link(there, here)),
        )
        self._connections[connection.number] = connection
        connection.to_server.note("connected")
        return connection

    def _here(self) -> SimHost:
        host = _current.get(self.local)
        return host if host._network is self else self.local  # noqa: SLF001  same file

    def _host_of(self, here: SimHost, address: str) -> SimHost | None:
        if ipaddress.ip_address(address).is_loopback:
            return here
        return next((host for host in self._hosts.values() if address in host.addresses), None)

    def _port(self) -> int:
        self._last_port += 1
        if self._last_port > 65535:
            self._last_port = FIRST_PORT
        return self._last_port

    async def _ask(self) -> None:
        """Wait for an answer of a name server next door."""
        least, most = self.latency
        await asyncio.sleep(2 * (least + (most - least) * self.random.random()))

    async def _pass(self, link: Link) -> None:
        least, most = link.latency
        await asyncio.sleep(least + (most - least) * self.random.random())


async def _limited(main: Coroutine[Any, Any, T], limit: float) -> T:
    async with asyncio.timeout(limit):
        return await main


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _info(address: str, port: int) -> AddressInfo:
    place = (address, port, 0, 0) if ":" in address else (address, port)
    return family_of(place), socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place


def _of_family(addresses: Sequence[str], like: str) -> str:
    return next((address for address in addresses if (":" in address) == (":" in like)), addresses[0])
