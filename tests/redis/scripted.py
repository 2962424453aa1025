"""A server that speaks RESP over real TCP, with answers that a test writes, and mischief."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sipwright.redis.addresses import RedisAddress
from sipwright.redis.client import Client
from sipwright.redis.resp import Decoder

OK = b"+OK\r\n"
Answer = Callable[[list[bytes]], "bytes | None"]


class ScriptedServer:
    """Answers each command with what `answer(words)` returns; None: not at all.

    `commands` are all that came, `reads` how many came with each piece that was read from the socket.
    """

    def __init__(self, answer: Answer = lambda _words: OK) -> None:
        self.answer = answer
        self.commands: list[list[bytes]] = []
        self.reads: list[int] = []
        self.connections: list[asyncio.Transport] = []
        self.port = 0
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.hang_up()
        await asyncio.sleep(0.01)

    def hang_up(self) -> None:
        for transport in self.connections:
            transport.abort()
        self.connections.clear()

    @property
    def address(self) -> RedisAddress:
        return RedisAddress("127.0.0.1", self.port)

    def received(self, *but: str) -> list[str]:
        """Return the commands so far, as text, without some that are of no interest."""
        texts = [b" ".join(words).decode() for words in self.commands]
        return [text for text in texts if text.split()[0] not in but]


class _Connection(asyncio.Protocol):
    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.decoder = Decoder()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.connections.append(transport)

    def data_received(self, data: bytes) -> None:
        commands: list[Any] = self.decoder.feed(data)
        self.server.reads.append(len(commands))
        for words in commands:
            self.server.commands.append(words)
            answer = self.server.answer(words)
            if answer is not None and not self.transport.is_closing():
                self.transport.write(answer)


class Asker:
    """A client and what came of what was asked: `replies`, in the order in which they came."""

    def __init__(self, address: RedisAddress, **settings: Any) -> None:
        self.client = Client(address, random=lambda: 0.5, **settings)
        self.replies: list[tuple[Any, Any]] = []

    def take(self, argument: Any, reply: Any) -> None:
        self.replies.append((argument, reply))

    def ask(self, *words: Any, as_: Any = None) -> bool:
        return self.client.submit(words, self.take, as_ if as_ is not None else words[0])

    async def came(self, count: int = 1) -> list[tuple[Any, Any]]:
        async with asyncio.timeout(3):
            while len(self.replies) < count:
                await asyncio.sleep(0.001)
        return self.replies

    async def up(self, is_up: bool = True) -> None:
        async with asyncio.timeout(3):
            while self.client.is_up != is_up:
                await asyncio.sleep(0.001)
