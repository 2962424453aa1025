"""How a connection is made (L2): to a host's addresses by Happy Eyeballs, to a Unix socket, with TLS or without.

A name may have several addresses: they are tried in turn, the families alternating, the next one after `STAGGER`
seconds or as soon as one has failed, and the first that answers wins (RFC 8305). Not by asyncio's own happy eyeballs:
in Python 3.11 they lose a socket when they are cancelled at the wrong moment.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from sipwright.jsonrpc import sockets
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.sockets import CONNECT_TIMEOUT, KEEP_ALIVE, STAGGER, AddressInfo, interleaved, path_of
from sipwright.jsonrpc.tls import Tls

# Connects to an address and has a protocol made there. Raises OSError (ssl.SSLError is one), ValueError.
Connect = Callable[
    [asyncio.AbstractEventLoop, ServerAddress, Callable[[], asyncio.Protocol], Tls | None], Awaitable[None]
]


async def connect(
    loop: asyncio.AbstractEventLoop,
    address: ServerAddress,
    make: Callable[[], asyncio.Protocol],
    tls: Tls | None,
    *,
    keep_alive: int = KEEP_ALIVE,
) -> None:
    """Connect to a server of the kind tcp, tls or unix, and let `make()` have the connection.

    After `keep_alive` seconds of silence TCP asks whether the other machine lives.

    Raises OSError, or ValueError for an address that cannot be one, such as a name that IDNA does not know.
    """
    if address.kind == "unix":
        sock = await _connected(loop, (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path_of(address.host)))
    else:
        sock = await connect_host(loop, address.host, address.port)
        sockets.keep_alive(sock, keep_alive)
    # From here on the transport owns the socket, also when this task is cancelled.
    if address.kind == "tls":
        assert tls is not None  # the pool sees to that
        await loop.create_connection(
            make,
            sock=sock,
            ssl=tls.client_context(),
            server_hostname=tls.server_name or address.host,
            ssl_handshake_timeout=CONNECT_TIMEOUT,
        )
    else:
        await loop.create_connection(make, sock=sock)


async def connect_host(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """Return a socket that is connected to one of the addresses of a host."""
    try:
        # Without a question to anybody; only a name costs a thread, so that it does not block.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = interleaved(found)
    if not addresses:
        raise OSError("the name has no addresses")
    if len(addresses) == 1:
        return await _connected(loop, addresses[0])
    return await _first(loop, addresses)


async def _first(loop: asyncio.AbstractEventLoop, addresses: Sequence[AddressInfo]) -> socket.socket:
    left = list(addresses)
    attempts: list[asyncio.Task[socket.socket]] = []
    failure: BaseException = OSError("the name has no addresses")
    try:
        while left or attempts:
            if left:
                attempts.append(loop.create_task(_connected(loop, left.pop(0))))
            ended, _ = await asyncio.wait(
                attempts, timeout=STAGGER if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            # In the order in which they were begun; what else has ended is let go below.
            for attempt in [one for one in attempts if one in ended]:
                attempts.remove(attempt)
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                failure = error
        raise failure
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_let_go)


def _let_go(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connected(loop: asyncio.AbstractEventLoop, address: AddressInfo) -> socket.socket:
    family, kind, protocol, _, place = address
    # May fail: an IPv6 address on a machine without IPv6.
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await loop.sock_connect(sock, place)
        if family == socket.AF_UNIX:
            _check_unix(sock)
    except TimeoutError:
        sock.close()
        raise OSError(f"no answer within {CONNECT_TIMEOUT:g} s") from None
    except BaseException:
        sock.close()
        raise
    return sock


def _check_unix(sock: socket.socket) -> None:
    """Raise OSError when a socket is not connected.

    Where the other end accepts nobody, connect(2) fails with EAGAIN, which asyncio takes for a connection on its way.
    """
    try:
        sock.getpeername()
    except OSError:
        raise OSError("its queue of connections is full") from None
