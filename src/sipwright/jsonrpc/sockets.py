"""What all ways to connect have in common (L2): bounds, the order of addresses, options of sockets, words for errors.

Nothing here waits: with asyncio that is `connecting`, without it `sync_connecting`.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

# Seconds for one address, and for the handshake of TLS.
CONNECT_TIMEOUT = 3.0
# Seconds until the next address is tried beside one that has not answered yet (RFC 8305 section 8).
STAGGER = 0.25
# Seconds of silence after which TCP asks whether the other machine still lives.
KEEP_ALIVE = 10

AddressInfo = tuple[Any, Any, int, str, Any]


def interleaved(addresses: Sequence[AddressInfo]) -> list[AddressInfo]:
    """Return the addresses so that the families alternate, beginning with that of the first (RFC 8305 section 4)."""
    by_family: dict[Any, list[AddressInfo]] = {}
    for address in addresses:
        by_family.setdefault(address[0], []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*by_family.values())) if address is not None]


def keep_alive(connection: socket.socket, seconds: float = KEEP_ALIVE) -> None:
    """Have the system find out, within about twice so many seconds, that the other end of a TCP connection is gone.

    The connection then ends. So does one whose other end takes nothing that is sent, for so long (TCP_USER_TIMEOUT,
    tcp(7)).
    """
    every = max(1, round(seconds / 3))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", max(1, round(seconds))),
        ("TCP_KEEPINTVL", every),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", round(seconds * 2000)),
    ):
        # Not every system has each of them.
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def path_of(path: str) -> str:
    """Return the path of a Unix socket as the system wants it: a name in the abstract namespace begins with NUL."""
    return "\0" + path[1:] if path.startswith("@") else path


def remove_stale(path: str | os.PathLike[str]) -> None:
    """Remove the file of a socket that nobody listens on. Raises OSError: somebody does, or it is no socket."""
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise FileExistsError(0, "there is a file of that name, and it is no socket")
    if is_listening(path):
        raise FileExistsError(0, "another server listens there")
    os.unlink(path)


def is_listening(path: str | os.PathLike[str]) -> bool:
    """Tell whether somebody listens on the socket of a file; also when this process may not use it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            # Somebody with a full backlog is somebody.
            return error.errno in (errno.EACCES, errno.EPERM, errno.EAGAIN)
    return True


def reason(error: BaseException) -> str:
    """Return what went wrong, for a person: asyncio's own text repeats the address."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, socket.gaierror) or not isinstance(error, OSError) or error.errno is None:
        if isinstance(error, ConnectionResetError) and not error.args:
            # What asyncio has for a handshake of TLS that the other end breaks off.
            return "the other end closed the connection during the TLS handshake (does it speak TLS?)"
        return str(error.args[-1]) if error.args else str(error) or type(error).__name__
    return os.strerror(error.errno)
