"""UDP sockets: owns how datagrams come in and go out, and nothing of what is in them.

A raw non-blocking socket with a reader on the event loop: on each wake-up datagrams are drained, up to a bound so
that timers and connections get their turn. asyncio's own datagram transport costs several times more per datagram.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from sipwright.errors import StartError

logger = logging.getLogger("sipwright")

Address: TypeAlias = tuple[Any, ...]
Receive: TypeAlias = Callable[[bytes, Address, "UdpSocket"], None]

# Datagrams taken at one wake-up before others get their turn.
DRAIN = 64
MAX_DATAGRAM = 65535
RECEIVE_BUFFER = 4 * 1024 * 1024

# What the system knows of a socket's memory (Linux, linux/sock_diag.h): nine numbers, the first of them how many bytes
# wait to be read, the last how many datagrams found no room.
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")

_REASONS = {
    errno.EADDRINUSE: "the address is already in use by another program",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "permission denied (ports below 1024 need a privilege)",
}


class UdpSocket:
    """A bound UDP socket. `open()` starts giving datagrams to `receive(data, source, self)`; `close()` ends it.

    `address` is the bound IP address and port. `send(data, address)` never raises and never blocks: a datagram that
    the system does not take is counted in `send_errors` (the transaction's timers send it again). `receive_buffer` is
    how many bytes of datagrams may wait in the system; `queued` is how many do, with what the system needs for them,
    and `drops` how many datagrams found no room. Where the system does not tell, both are 0.
    """

    __slots__ = (
        "_drops_before",
        "_loop",
        "_receive",
        "_recvfrom",
        "_sendto",
        "_socket",
        "address",
        "proto",
        "send_errors",
    )

    def __init__(self, bound: socket.socket, receive: Receive) -> None:
        self._socket = bound
        # The system counts as long as there is the socket, which may have been another process's before.
        self._drops_before = self._memory()[-1]
        self._receive = receive
        self._loop: asyncio.AbstractEventLoop | None = None
        # Bound once: two attribute look-ups less per datagram.
        self._sendto = bound.sendto
        self._recvfrom = bound.recvfrom
        name = bound.getsockname()
        self.address: tuple[str, int] = (name[0], name[1])
        self.proto = "udp"
        self.send_errors = 0

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start receiving."""
        self._loop = loop
        loop.add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        """Stop receiving and let the socket go."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop = None
        self._socket.close()

    def send(self, data: bytes, address: Address) -> None:
        """Send one datagram."""
        try:
            self._sendto(data, address)
        except (OSError, TypeError, OverflowError):
            # The others come from an address that is none; whoever sends us a Via chooses it.
            self.send_errors += 1

    @property
    def queued(self) -> int:
        """Bytes that wait to be read."""
        return self._memory()[0]

    @property
    def drops(self) -> int:
        """Datagrams that the system dropped because the receive buffer was full."""
        return self._memory()[-1] - self._drops_before & 0xFFFFFFFF

    def _memory(self) -> tuple[int, ...]:
        # 0.5 us; SO_RXQ_OVFL would want recvmsg() for each datagram.
        try:
            return _MEMINFO.unpack(self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
        except (OSError, struct.error):
            return (0,) * 9

    def _readable(self) -> None:
        recvfrom = self._recvfrom
        receive = self._receive
        for _ in range(DRAIN):
            try:
                data, source = recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error of an earlier datagram is reported here (ECONNREFUSED); the socket itself is well.
                continue
            receive(data, source, self)


def bind(host: str, port: int, count: int = 1, receive_buffer: int = RECEIVE_BUFFER) -> list[socket.socket]:
    """Bind `count` sockets to one address, for as many workers; the system spreads the datagrams over them.

    Port 0 is any free port, the same for all. `receive_buffer` is what may wait in each, in bytes; where the system
    gives less, the log says so. StartError: the address cannot be had, or another program has it.
    """
    name = f"udp:{host}:{port}"
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise StartError(f"cannot listen on {name}: unknown host '{host}'") from None
    family, _kind, _proto, _canonical, address = infos[0]
    sockets: list[socket.socket] = []
    try:
        # A socket that shares its port joins those of any other server of the same user: ask without sharing first.
        alone = _bind(family, address, receive_buffer, shared=False)
        _tell_of_less(alone, name, receive_buffer)
        if count == 1:
            return [alone]
        address = alone.getsockname()
        alone.close()
        while len(sockets) < count:
            sockets.append(_bind(family, address, receive_buffer, shared=True))
    except OSError as error:
        for bound in sockets:
            bound.close()
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise StartError(f"cannot listen on {name}: {reason}") from None
    return sockets


def _bind(family: int, address: Address, receive_buffer: int, *, shared: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _tell_of_less(bound: socket.socket, name: str, receive_buffer: int) -> None:
    """Log that the system gave a smaller receive buffer than it was asked for, and what to do."""
    given = bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    if sys.platform == "linux":
        # It doubles the number, for what it needs besides the datagrams themselves.
        given //= 2
    if given < receive_buffer:
        logger.info(
            "%s: the system gave a receive buffer of %d bytes instead of %d; "
            "to allow more: sysctl -w net.core.rmem_max=%d",
            name,
            given,
            receive_buffer,
            receive_buffer,
        )
