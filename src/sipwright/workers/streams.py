"""The listening stream sockets that modules of a script want: owns them over the lives of workers and of scripts.

They are opened before the workers are forked, which inherit them, and all accept on them. A reload opens what the new
script wants besides, and closes what no script wants any more; what both want stays open all the time.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator

from sipwright.errors import ArgumentError, StartError
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.listeners import parse_listen
from sipwright.jsonrpc.sockets import remove_stale
from sipwright.workers.privileges import Identity

BACKLOG = 1024
# Of Unix sockets: the server's user and group.
MODE = 0o660

Streams = dict[str, list[socket.socket]]


class OpenStreams:
    """Those that are open, by address as the script writes it."""

    def __init__(self) -> None:
        self._open: Streams = {}
        self._files: dict[str, str] = {}

    def open(self, addresses: Iterable[str], identity: Identity) -> None:
        """Open those that are not open. StartError: one of them cannot be; then none was opened."""
        opened: list[str] = []
        try:
            for address in addresses:
                if address not in self._open:
                    self._open[address] = self._listen(address, identity)
                    opened.append(address)
        except BaseException:
            for address in opened:
                self._close(address)
            raise

    def keep(self, addresses: Iterable[str]) -> None:
        """Close those that are not among the addresses."""
        for address in self._open.keys() - set(addresses):
            self._close(address)

    def of(self, addresses: Iterable[str]) -> Streams:
        """Return those of some addresses."""
        return {address: self._open[address] for address in addresses if address in self._open}

    def others(self, addresses: Iterable[str]) -> Iterator[socket.socket]:
        """Give those of all other addresses."""
        for address in self._open.keys() - set(addresses):
            yield from self._open[address]

    def _listen(self, text: str, identity: Identity) -> list[socket.socket]:
        try:
            address = parse_listen(text)
            if address.kind != "unix":
                return _listen_at(address)
            opened = _listen_at_path(address.host, identity)
        except ArgumentError as error:
            raise StartError(f"cannot listen on {text}: {error.message}") from None
        except OSError as error:
            raise StartError(f"cannot listen on {text}: {error.strerror or error}") from None
        if not address.host.startswith("@"):
            self._files[text] = address.host
        return [opened]

    def _close(self, address: str) -> None:
        for listening in self._open.pop(address):
            listening.close()
        path = self._files.pop(address, None)
        if path is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _listen_at(address: ServerAddress) -> list[socket.socket]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, place in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            opened.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(place)
            listening.listen(BACKLOG)
            listening.setblocking(False)
    except BaseException:
        for listening in opened:
            listening.close()
        raise
    return opened


def _listen_at_path(path: str, identity: Identity) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("@"):
            listening.bind(f"\0{path[1:]}")
        else:
            remove_stale(path)
            listening.bind(path)
            os.chmod(path, MODE)
            if identity.uid is not None and os.geteuid() == 0:
                os.chown(path, identity.uid, -1 if identity.gid is None else identity.gid)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening
