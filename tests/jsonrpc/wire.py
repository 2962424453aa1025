"""The other end of a server under test: payloads as they are written and as they come."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.framing import NETSTRING, Framing
from sipwright.jsonrpc.server import Server


class Wire:
    """A client that sends payloads as they are written and reads payloads as they come."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, framing: Framing = NETSTRING
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._encode = framing.encode
        self._decoder = framing.decoder(1 << 20)
        self._read: list[bytes] = []

    def send(self, *payloads: str | bytes) -> None:
        data = [payload.encode() if isinstance(payload, str) else payload for payload in payloads]
        self.writer.write(b"".join(self._encode(one) for one in data))

    async def receive(self) -> Any:
        async with asyncio.timeout(2):
            while not self._read:
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self._read += self._decoder.feed(data)
        return json.loads(self._read.pop(0))

    async def nothing_comes(self) -> bool:
        """True when the answer to a request that is made now is the next that comes."""
        self.send('{"jsonrpc":"2.0","method":"ping","id":"sync"}')
        answer = await self.receive()
        return isinstance(answer, dict) and answer["id"] == "sync"

    async def ask(self, method: str, params: Any = None, request_id: Any = 1) -> Any:
        """Call a method and return the whole answer, which is the next that comes."""
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": request_id}
        self.send(json.dumps({name: value for name, value in request.items() if name != "params" or value is not None}))
        return await self.receive()

    def tell(self, method: str, params: Any) -> None:
        """Send a notification."""
        self.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}))

    async def is_closed(self) -> bool:
        """True when the server disconnects and sends nothing before."""
        try:
            async with asyncio.timeout(2):
                return await self.reader.read(65536) == b""
        except ConnectionError:
            return True


async def connect(
    address: ServerAddress, framing: Framing = NETSTRING, context: ssl.SSLContext | None = None, host: str | None = None
) -> Wire:
    if address.kind == "unix":
        path = "\0" + address.host[1:] if address.host.startswith("@") else address.host
        return Wire(*await asyncio.open_unix_connection(path), framing)
    opened = asyncio.open_connection(address.host, address.port, ssl=context, server_hostname=host)
    return Wire(*await opened, framing)


def serve(server: Server, test: Callable[[Wire], Awaitable[object]], seconds: float = 10.0) -> None:
    """Run a test against a server, with one client that is connected."""

    async def main() -> None:
        async with server:
            wire = await connect(server.addresses[0])
            try:
                await test(wire)
            finally:
                wire.writer.close()

    asyncio.run(asyncio.wait_for(main(), seconds))
