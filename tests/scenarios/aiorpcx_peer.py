# mypy: ignore-errors
# aiorpcX has no types.
"""JSON-RPC by aiorpcX over netstrings, in a process of its own; the netstrings are its own, too.

    aiorpcx_peer.py serve            prints `listening PORT`, then answers for ever: `add`, `echo`, `refuse`, `ask_back`
    aiorpcx_peer.py call PORT        calls `add`, `echo`, `refuse`, sends a notification and a batch, answers what it is
                                     asked (`name`), and prints what came of each as a line of JSON

`ask_back` asks its caller for `name` before it answers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aiorpcx


class NetstringFramer(aiorpcx.FramerBase):
    """Netstrings for aiorpcX."""

    def __init__(self) -> None:
        self.buffer = b""
        self.messages: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    def frame(self, message: bytes) -> bytes:
        return b"%d:%b," % (len(message), message)

    def received_bytes(self, data: bytes) -> None:
        self.buffer += data
        while b":" in self.buffer:
            digits, _, rest = self.buffer.partition(b":")
            size = int(digits)
            if len(rest) <= size:
                return
            assert rest[size : size + 1] == b","
            self.messages.put_nowait(rest[:size])
            self.buffer = rest[size + 1 :]

    def fail(self, exception: Exception) -> None:
        self.messages.put_nowait(exception)

    async def receive_message(self) -> bytes:
        message = await self.messages.get()
        if isinstance(message, Exception):
            raise message
        return message


class Session(aiorpcx.RPCSession):
    """Both ends."""

    def default_framer(self) -> NetstringFramer:
        return NetstringFramer()

    async def handle_request(self, request: Any) -> Any:
        if request.method == "add":
            return sum(request.args)
        if request.method == "echo":
            return request.args
        if request.method == "name":
            return "aiorpcX"
        if request.method == "ask_back":
            return f"hello {await self.send_request('name')}"
        raise aiorpcx.RPCError(7, "refused")


async def serve() -> None:
    server = await aiorpcx.serve_rs(Session, "127.0.0.1", 0)
    print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


async def call(port: int) -> None:
    async with aiorpcx.connect_rs("127.0.0.1", port, session_factory=Session) as session:
        say(await session.send_request("add", [1, 2]))
        say(await session.send_request("echo", {"a": [1.5, None, "é"]}))
        try:
            await session.send_request("refuse")
        except aiorpcx.RPCError as error:
            say([error.code, error.message])
        await session.send_notification("note", ["seen"])
        async with session.send_batch() as batch:
            batch.add_request("add", [3, 4])
            batch.add_notification("note", ["in a batch"])
            batch.add_request("refuse")
        say([str(result) for result in batch.results])
        say(await session.send_request("ask_back"))


def say(content: Any) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else call(int(sys.argv[2])))
