"""Where a server listens (L2): addresses to listening sockets, of TCP, TLS and Unix; knows nothing of JSON-RPC.

A Unix socket's file that a server has left behind, and that nobody listens on any more, is put away; where somebody
does, the server does not start. The file goes when its listener closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sipwright.errors import ArgumentError, StartError
from sipwright.jsonrpc.addresses import ServerAddress, parse_address
from sipwright.jsonrpc.sockets import remove_stale

BACKLOG = 1024
HANDSHAKE_SECONDS = 10.0
"""How long a client may take for the handshake of TLS."""

Factory = Callable[[], asyncio.BaseProtocol]


class Listener:
    """Sockets that are listened on, of one address: a name may have several."""

    def __init__(self, listening: asyncio.Server, kind: str, file: tuple[str, int] | None = None) -> None:
        self._listening = listening
        # The path of a Unix socket, and the inode that it had.
        self._file = file
        self.addresses = [address_of(one.getsockname(), kind) for one in listening.sockets]

    def close(self) -> None:
        """Listen no more; connections stay."""
        self._listening.close()
        if self._file is not None:
            path, inode = self._file
            with contextlib.suppress(OSError):
                # Another server may have taken the name.
                if os.stat(path).st_ino == inode:
                    os.unlink(path)


async def listen(
    address: ServerAddress | socket.socket, factory: Factory, context: ssl.SSLContext | None, mode: int
) -> Listener:
    """Listen on an address, or a socket that is bound.

    `context` is for TLS, None for none; `mode` are the permissions of a Unix socket. Raises StartError.
    """
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {"backlog": BACKLOG, "ssl": context}
    if context is not None:
        options["ssl_handshake_timeout"] = HANDSHAKE_SECONDS
    try:
        if isinstance(address, socket.socket):
            return await _listen_on(loop, address, factory, options)
        if address.kind == "unix":
            return await _listen_at(loop, address.host, mode, factory, options)
        if not 0 <= address.port <= 65535:
            raise StartError(f"cannot listen on {address}: the port is out of range, 0 to 65535")
        listening = await loop.create_server(factory, address.host, address.port, **options)
        return Listener(listening, "tcp" if context is None else "tls")
    except (OSError, UnicodeError, ValueError) as error:
        raise StartError(f"cannot listen on {_name(address)}: {_reason(error)}") from error


def parse_listen(text: str) -> ServerAddress:
    """Read where to listen: `"127.0.0.1:9999"`, `"tcp:[::1]:0"`, `"tls:0.0.0.0:9999"` or `"unix:/path"`.

    Port 0 takes a free one. Raises ArgumentError.
    """
    if text.endswith(":0") and not text.startswith("unix:"):
        return replace(parse_address(text[:-1] + "1"), port=0)
    address = parse_address(text)
    if address.kind == "srv":
        raise ArgumentError("nobody listens on srv records, but on tcp:, tls: or unix:", 0)
    return address


def address_of(name: Any, kind: str) -> ServerAddress:
    """Return the address for what `getsockname` or `getpeername` says: for Unix sockets the host is the path."""
    if isinstance(name, tuple):
        return ServerAddress(str(name[0]), int(name[1]), "tls" if kind == "tls" else "tcp")
    if isinstance(name, bytes):
        name = name.decode("utf-8", "surrogateescape")
    return ServerAddress("@" + name[1:] if name[:1] == "\0" else name, 0, "unix")


async def _listen_on(
    loop: asyncio.AbstractEventLoop, bound: socket.socket, factory: Factory, options: dict[str, Any]
) -> Listener:
    if bound.family == socket.AF_UNIX:
        return Listener(await loop.create_unix_server(factory, sock=bound, **options), "unix")
    listening = await loop.create_server(factory, sock=bound, **options)
    return Listener(listening, "tcp" if options["ssl"] is None else "tls")


async def _listen_at(
    loop: asyncio.AbstractEventLoop, path: str, mode: int, factory: Factory, options: dict[str, Any]
) -> Listener:
    """Listen on a Unix socket. asyncio would do so, too, but take the name of a server that runs."""
    is_file = not path.startswith("@")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if is_file:
            remove_stale(path)
        bound.bind(path if is_file else "\0" + path[1:])
        if is_file:
            # Before it listens: nobody can connect until then.
            os.chmod(path, mode)
        listening = await loop.create_unix_server(factory, sock=bound, **options)
    except BaseException:
        bound.close()
        raise
    return Listener(listening, "unix", (path, os.stat(path).st_ino) if is_file else None)


def _name(address: ServerAddress | socket.socket) -> str:
    return str(address_of(address.getsockname(), "tcp") if isinstance(address, socket.socket) else address)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and "error while attempting to bind" in str(error) and error.errno is not None:
        # asyncio's text, which repeats the address.
        return os.strerror(error.errno)
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
