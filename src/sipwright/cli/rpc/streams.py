"""Plain byte streams to and from the addresses of services, for the actions that look at bytes themselves."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from sipwright.errors import ArgumentError, CommandError, StartError
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.listeners import listen
from sipwright.jsonrpc.sockets import path_of
from sipwright.jsonrpc.tls import Tls

# Permissions of a Unix socket: as those of `Server.listen`.
MODE = 0o600

Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def open_stream(address: ServerAddress, tls: Tls | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to an address of the kinds tcp, tls and unix. Raises OSError."""
    if address.kind == "unix":
        return await asyncio.open_unix_connection(path_of(address.host))
    if address.kind == "tcp":
        return await asyncio.open_connection(address.host, address.port)
    tls = tls or Tls()
    return await asyncio.open_connection(
        address.host, address.port, ssl=tls.client_context(), server_hostname=tls.server_name or address.host
    )


@contextlib.asynccontextmanager
async def listening(address: ServerAddress, tls: Tls | None, accept: Accept) -> AsyncIterator[list[ServerAddress]]:
    """Listen on an address in which port 0 takes a free one; give the addresses that it is then.

    `accept` is a task of each connection; those that still run at the end are cancelled. Raises CommandError.
    """
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = loop.create_task(accept(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def make() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), accepted, loop=loop)

    context = _context(address, tls) if address.kind == "tls" else None
    try:
        listener = await listen(address, make, context, MODE)
    except StartError as error:
        raise CommandError(str(error)) from None
    try:
        yield listener.addresses
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _context(address: ServerAddress, tls: Tls | None) -> ssl.SSLContext:
    if tls is None:
        raise CommandError(f"to listen on {address}, a certificate is needed")
    try:
        return tls.server_context()
    except ArgumentError as error:
        raise CommandError(f"TLS: {error.message}") from None


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """Give an event that is set when SIGINT or SIGTERM comes."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    yield stopped
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
