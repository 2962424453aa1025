"""How a connection is made without asyncio (L2): in the thread that needs it, with a bound, with TLS or without.

A name may have several addresses: they are tried in turn, the families alternating, the next one after `STAGGER`
seconds or as soon as one has failed, and the first that answers wins (RFC 8305). Resolving a name takes as long as the
system lets it take: there is no bound to that without another thread.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress

from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.sockets import CONNECT_TIMEOUT, STAGGER, AddressInfo, interleaved, keep_alive, path_of
from sipwright.jsonrpc.tls import Tls

SIZE = 1 << 16


class Channel:
    """TLS over a socket that somebody else reads and writes: what is plain, and what is on the wire.

    Not an `ssl.SSLSocket`: reading one in one thread while another writes it is not safe before Python 3.13.
    """

    __slots__ = ("_incoming", "_outgoing", "_tls")

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def shake_hands(self, sock: socket.socket, until: float) -> None:
        """Make the handshake on a socket that does not block. Raises OSError (ssl.SSLError is one)."""
        while True:
            try:
                self._tls.do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                is_done = False
            data = memoryview(self._outgoing.read())
            while data:
                _wait(sock, select.POLLOUT, until)
                data = data[sock.send(data) :]
            if is_done:
                return
            _wait(sock, select.POLLIN, until)
            came = sock.recv(SIZE)
            if not came:
                raise ConnectionResetError(errno.ECONNRESET, "closed during the handshake of TLS")
            self._incoming.write(came)

    def wrap(self, data: bytes) -> bytes:
        """Return what to send for some plain bytes."""
        self._tls.write(data)
        return self._outgoing.read()

    def unwrap(self, data: bytes) -> tuple[bytes, bool]:
        """Return the plain bytes that are complete with some that came, and whether the other end has said goodbye.

        TLS may want to answer what came: `rest` is that. Raises ssl.SSLError.
        """
        self._incoming.write(data)
        plain: list[bytes] = []
        try:
            while piece := self._tls.read(SIZE):
                plain.append(piece)
        except ssl.SSLWantReadError:
            return b"".join(plain), False
        except ssl.SSLZeroReturnError:
            pass
        return b"".join(plain), True

    def rest(self) -> bytes:
        """Return what TLS has to send of its own."""
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        """Return what to send before the connection is closed."""
        with suppress(ssl.SSLError):  # it wants to read the other end's, which nobody waits for
            self._tls.unwrap()
        return self._outgoing.read()


def connect(address: ServerAddress, tls: Tls | None, until: float) -> tuple[socket.socket, Channel | None]:
    """Return a socket that is connected to a server of the kind tcp, tls or unix, and does not block.

    It has until the time `until` of the monotonic clock. Raises OSError, or ValueError for an address that cannot be
    one, such as a name that IDNA does not know.
    """
    until = min(until, time.monotonic() + CONNECT_TIMEOUT)
    if address.kind == "unix":
        return _first([(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path_of(address.host))], until), None
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    sock = _first(interleaved(found), until)
    try:
        keep_alive(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.kind != "tls":
            return sock, None
        assert tls is not None  # the client sees to that
        channel = Channel(tls.client_context(), tls.server_name or address.host)
        channel.shake_hands(sock, until)
    except BaseException:
        sock.close()
        raise
    return sock, channel


def _first(addresses: Sequence[AddressInfo], until: float) -> socket.socket:
    """Return a socket that is connected to the first address that takes it."""
    left = list(addresses)
    trying: dict[int, socket.socket] = {}
    failure = OSError("the name has no addresses")
    next_at = 0.0
    try:
        while left or trying:
            now = time.monotonic()
            if now >= until:
                raise TimeoutError("no answer in time")
            if left and (now >= next_at or not trying):
                next_at = now + STAGGER
                try:
                    sock = _begin(left.pop(0))
                except OSError as error:
                    # No such socket at once, or an IPv6 address on a machine without IPv6.
                    failure, next_at = error, 0.0
                else:
                    trying[sock.fileno()] = sock
                continue
            for number in _ready(trying, min(until, next_at) if left else until):
                sock = trying.pop(number)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return sock
                sock.close()
                failure, next_at = OSError(code, ""), 0.0
        raise failure
    finally:
        for sock in trying.values():
            sock.close()


def _begin(address: AddressInfo) -> socket.socket:
    family, kind, protocol, _, place = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(place)
        # A Unix socket whose queue is full says EAGAIN, and does not become writable.
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "")
    except BaseException:
        sock.close()
        raise
    return sock


def _ready(sockets: dict[int, socket.socket], until: float) -> list[int]:
    poll = select.poll()
    for number in sockets:
        poll.register(number, select.POLLOUT)
    return [number for number, _ in poll.poll(max(0.0, until - time.monotonic()) * 1000)]


def _wait(sock: socket.socket, event: int, until: float) -> None:
    poll = select.poll()
    poll.register(sock, event)
    if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
        raise TimeoutError("no answer to the handshake of TLS in time")
