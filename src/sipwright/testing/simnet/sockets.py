"""What programs ask of the sockets behind transports and servers: addresses, and the options that TCP goes by."""

from __future__ import annotations

import math
import socket
from typing import Any


class SimSocket:
    """A socket that is none: the end of a simulated connection, or what listens. It keeps the options it is given."""

    def __init__(self, sockname: Any, peername: Any = None) -> None:
        self.family = family_of(sockname)
        self.type = socket.SOCK_STREAM
        self.proto = 0 if self.family == socket.AF_UNIX else socket.IPPROTO_TCP
        self._sockname = sockname
        self._peername = peername
        self._options: dict[tuple[int, int], Any] = {}

    def getsockname(self) -> Any:
        """Return its address."""
        return self._sockname

    def getpeername(self) -> Any:
        """Return the address of the other end."""
        return self._peername

    def setsockopt(self, level: int, name: int, value: Any, _length: int = 0) -> None:
        """Set an option."""
        self._options[level, name] = value

    def getsockopt(self, level: int, name: int, _length: int = 0) -> Any:
        """Return an option; one that was not set as Linux has it."""
        return self._options.get((level, name), _DEFAULTS.get((level, name), 0))

    def fileno(self) -> int:
        """Return that there is no file descriptor."""
        return -1

    def close(self) -> None:
        """Do nothing: the transport closes the connection."""


_DEFAULTS = {
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 7200,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 75,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 9,
}


def patience_of(sock: Any) -> float | None:
    """Return the seconds after which bytes that are not acknowledged end a connection; None: never (a Unix socket)."""
    if sock.family == socket.AF_UNIX:
        return None
    milliseconds: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    # Linux sends about 15 times (tcp_retries2).
    return milliseconds / 1000 if milliseconds else 900.0


def keepalive_of(sock: Any) -> float | None:
    """Return the seconds of silence after which a connection ends, when its other end is not there; None: never."""
    if sock.family == socket.AF_UNIX or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return None
    idle, interval, count, patience = (
        sock.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    )
    if patience:
        # It takes the place of the count, but is looked at when a probe is due (tcp(7)).
        count = max(1, math.ceil((patience / 1000 - idle) / interval))
    return float(idle + interval * count)


def family_of(address: Any) -> socket.AddressFamily:
    """Return the family of an address as sockets have it."""
    if isinstance(address, (str, bytes)):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET
