"""Plain byte streams to and from the addresses of services, for the actions that look at bytes themselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from sipwright.errors import ArgumentError, CommandError
from sipwright.jsonrpc.addresses import ServerAddress, parse_address
from sipwright.jsonrpc.connecting import reason
from sipwright.jsonrpc.tls import Tls

Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def os_path(address: ServerAddress) -> str:
    """Return the path of a Unix socket as the system wants it."""
    return f"\0{address.host[1:]}" if address.host.startswith("@") else address.host


async def open_stream(address: ServerAddress, tls: Tls | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to an address of the kinds tcp, tls and unix. Raises OSError."""
    if address.kind == "unix":
        return await asyncio.open_unix_connection(os_path(address))
    if address.kind == "tcp":
        return await asyncio.open_connection(address.host, address.port)
    tls = tls or Tls()
    return await asyncio.open_connection(
        address.host, address.port, ssl=tls.client_context(), server_hostname=tls.server_name or address.host
    )


@contextlib.asynccontextmanager
async def listening(text: str, tls: Tls | None, accept: Accept) -> Any:
    """Listen on an address in which port 0 takes a free one; give the ServerAddress that it has then.

    `accept` is a task of each connection; those that still run at the end are cancelled. Raises CommandError.
    """
    tasks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(accept(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener, address = await _listen(text, tls, accepted)
    try:
        yield address
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if address.kind == "unix" and not address.host.startswith("@"):
            with contextlib.suppress(OSError):
                os.unlink(address.host)


async def _listen(text: str, tls: Tls | None, accepted: Any) -> tuple[asyncio.Server, ServerAddress]:
    is_any_port = text.endswith(":0")
    address = parse_address(text[:-1] + "1" if is_any_port else text)
    try:
        if address.kind == "unix":
            return await asyncio.start_unix_server(accepted, os_path(address)), address
        context = _context(text, tls) if address.kind == "tls" else None
        server = await asyncio.start_server(accepted, address.host, 0 if is_any_port else address.port, ssl=context)
    except (OSError, UnicodeError) as error:
        raise CommandError(f"cannot listen on {text}: {reason(error)}") from None
    port = server.sockets[0].getsockname()[1]
    return server, ServerAddress(address.host, port, address.kind)


def _context(text: str, tls: Tls | None) -> ssl.SSLContext:
    if tls is None:
        raise CommandError(f"to listen on {text}, a certificate is needed")
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
