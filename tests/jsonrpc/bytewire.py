"""The other end of a connection, as bytes: a client and a server that send what is written and show what came."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from sipwright.netstring import Decoder, encode


class Wire(asyncio.Protocol):
    """A connection to one of our servers, or of one of our clients. What came before its end is never lost."""

    transport: asyncio.Transport

    def __init__(self, made: Callable[[Wire], object] = lambda wire: None) -> None:
        self.is_ended = False
        self._made = made
        self._decoder = Decoder()
        self._payloads: list[bytes] = []
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._made(self)

    def data_received(self, data: bytes) -> None:
        self._payloads += self._decoder.feed(data)
        self._changed.set()

    def eof_received(self) -> bool:
        self.is_ended = True
        self._changed.set()
        return True

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_ended = True
        self._changed.set()

    def send(self, *payloads: bytes) -> None:
        """Send payloads as netstrings."""
        self.write(b"".join(encode(payload) for payload in payloads))

    def write(self, data: bytes) -> None:
        """Send bytes as they are; they are lost when the connection has ended."""
        if not self.is_ended:
            self.transport.write(data)

    async def write_by_bytes(self, data: bytes) -> None:
        """Send bytes as they are, each in a segment of its own."""
        for index in range(len(data)):
            self.write(data[index : index + 1])
            # It has left (asyncio sets TCP_NODELAY), and what is in the same loop reads it now.
            await asyncio.sleep(0)

    async def receive(self) -> bytes:
        """Return the next payload. Raises EOFError when the other end has closed the connection."""
        async with asyncio.timeout(5):
            while not self._payloads:
                if self.is_ended:
                    raise EOFError
                self._changed.clear()
                await self._changed.wait()
        return self._payloads.pop(0)

    async def rest(self) -> list[bytes]:
        """Return all payloads up to the end of the connection."""
        payloads = []
        with contextlib.suppress(EOFError):
            while True:
                payloads.append(await self.receive())
        return payloads


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    """Connect to a server on loopback."""
    _, wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", port)
    try:
        yield wire
    finally:
        wire.transport.abort()


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[tuple[int, Callable[[], Coroutine[Any, Any, Wire]]]]:
    """Listen on loopback; give the port, and a function that waits for the next connection."""
    accepted: asyncio.Queue[Wire] = asyncio.Queue()
    wires: list[Wire] = []

    def accept(wire: Wire) -> None:
        wires.append(wire)
        accepted.put_nowait(wire)

    server = await asyncio.get_running_loop().create_server(lambda: Wire(accept), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], accepted.get
    finally:
        server.close()
        for wire in wires:
            wire.transport.abort()
