"""A JSON-RPC server for tests (real TCP, scripted answers), which can also misbehave in each way a server can.

It uses nothing of `sipwright.jsonrpc.server`: what it sends is exactly what a test says.

    async with FakeRpcServer() as rpc:
        rpc.on("get_user", result({"name": "Petros"}))
        rpc.on("get_route", error(404, "no route"), after(0.2, result("x")), never())
        ...
        assert rpc.calls[0].params == {"id": 1234}

In code without an event loop it is used as `with FakeRpcServer() as rpc:` and runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from sipwright.errors import FramingParseError
from sipwright.jsonrpc.framing import Framing, find_framing
from sipwright.jsonrpc.messages import METHOD_NOT_FOUND, NOT_JSON, decode_json, encode_error, encode_json, encode_result
from sipwright.jsonrpc.tls import Tls
from sipwright.testing.fakeserver import FakeServer


@dataclass(slots=True)
class RecordedCall:
    """A request or notification that the server received. `connection` counts the connections from 1."""

    method: str
    params: Any
    id: int | str | None
    is_notification: bool
    payload: bytes
    connection: int


Answer = Callable[["FakeConnection", RecordedCall], object]
"""What is done with one call: sends something on its connection, now or later, or nothing."""


def result(value: Any) -> Answer:
    """Answer with a result: Python objects, or a function of the call's params that returns them."""

    def answer(connection: FakeConnection, call: RecordedCall) -> None:
        content = value(call.params) if callable(value) else value
        connection.send_payload(encode_result(call.id, encode_json(content)))

    return answer


def error(code: int, message: str, data: Any = None) -> Answer:
    """Answer with an error."""

    def answer(connection: FakeConnection, call: RecordedCall) -> None:
        text = None if data is None else encode_json(data)
        connection.send_payload(encode_error(call.id, code, message, text))

    return answer


def payload(text: str | bytes) -> Answer:
    """Answer with a payload as it is written here, in a right frame; `%d` stands for the call's id."""
    template = text.encode() if isinstance(text, str) else text

    def answer(connection: FakeConnection, call: RecordedCall) -> None:
        connection.send_payload(template.replace(b"%d", encode_json(call.id)))

    return answer


def raw(data: bytes) -> Answer:
    """Send bytes as they are, without a frame around them: a wrong length, half a frame, rubbish."""
    return lambda connection, _call: connection.send(data)


def never() -> Answer:
    """Do not answer."""
    return lambda _connection, _call: None


def hang_up() -> Answer:
    """Close the connection."""
    return lambda connection, _call: connection.hang_up()


def after(seconds: float, answer: Answer) -> Answer:
    """Do something else, but so much later."""
    return lambda connection, call: connection.later(seconds, lambda: answer(connection, call))


def both(*answers: Answer) -> Answer:
    """Do several things, one after another: `both(result(1), result(1))` answers twice."""

    def answer(connection: FakeConnection, call: RecordedCall) -> None:
        for one in answers:
            one(connection, call)

    return answer


class FakeRpcServer(FakeServer):
    """A server with scripted answers.

    `port` 0 takes a free one and keeps it over `stop` and `start`. With `byte_by_byte`, everything is sent as single
    bytes in separate segments. With `hold` = n, answers are kept until n are there and then sent in reverse order.
    Calls of methods without a script are answered with -32601; those of a batch are answered one by one. What is no
    frame of its `framing` or no JSON ends its connection. With `tls` it is a TLS server.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        byte_by_byte: bool = False,
        hold: int = 1,
        framing: str | Framing = "netstring",
        tls: Tls | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.byte_by_byte = byte_by_byte
        self.hold = hold
        self.framing = find_framing(framing)
        self.tls = tls
        self.calls: list[RecordedCall] = []
        self.connections_made = 0
        self.connections: list[FakeConnection] = []
        self._scripts: dict[str, list[Answer]] = {}
        self._held: list[tuple[FakeConnection, bytes]] = []
        self._listener: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """The server as "host:port", or "tls:host:port"."""
        return f"{'' if self.tls is None else 'tls:'}{self.host}:{self.port}"

    def on(self, method: str, *answers: Answer) -> None:
        """Set what is done with the calls of a method, one after another; the last is repeated for ever."""
        self._scripts[method] = list(answers)

    def received(self, method: str) -> list[RecordedCall]:
        """Return the calls of one method so far."""
        return [call for call in self.calls if call.method == method]

    async def wait_for_calls(self, count: int, timeout: float = 2.0) -> None:
        """Wait until so many calls and notifications have come. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while len(self.calls) < count:
                await asyncio.sleep(0.002)

    def wait_for_calls_in_thread(self, count: int, timeout: float = 5.0) -> None:
        """Do what `wait_for_calls` does, for code without an event loop."""
        deadline = time.monotonic() + timeout
        while len(self.calls) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.calls)} calls of {count} came")
            time.sleep(0.005)

    # Life

    async def start(self) -> None:
        """Listen, in the running event loop."""
        loop = asyncio.get_running_loop()
        context = None if self.tls is None else self.tls.server_context()
        self._listener = await loop.create_server(lambda: FakeConnection(self), self.host, self.port, ssl=context)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more and cut all connections; `start` continues on the same port."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.hang_up()
        # Cut connections are reported by the loop in its next turns.
        while self.connections:
            await asyncio.sleep(0.001)

    def hang_up(self) -> None:
        """Cut all connections, but go on listening."""
        for connection in list(self.connections):
            connection.hang_up()

    # What the connections use

    def next_answer(self, method: str) -> Answer:
        """Return what is to be done with the next call of a method."""
        script = self._scripts.get(method)
        if not script:
            return error(METHOD_NOT_FOUND, "Method not found")
        return script.pop(0) if len(script) > 1 else script[0]

    def give(self, connection: FakeConnection, data: bytes) -> None:
        """Send what an answer is, or hold it until enough are there."""
        self._held.append((connection, data))
        if len(self._held) >= self.hold:
            held, self._held = self._held, []
            for to, one in reversed(held):
                to.send_now(one)


class FakeConnection(asyncio.Protocol):
    """One connection to the fake server."""

    def __init__(self, server: FakeRpcServer) -> None:
        self._server = server
        self._decoder = server.framing.decoder(1 << 20)
        self._transport: asyncio.Transport | None = None
        self._unsent = b""
        self.number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the connection (called by asyncio)."""
        # asyncio declares it too wide; not checked, because the transports of uvloop are no asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections_made += 1
        self._server.connections.append(self)
        self.number = self._server.connections_made

    def connection_lost(self, _exc: Exception | None, /) -> None:
        """Forget the connection (called by asyncio)."""
        self._transport = None
        self._server.connections.remove(self)

    def data_received(self, data: bytes) -> None:
        """Record calls and do what the script says (called by asyncio)."""
        try:
            for one in self._decoder.feed(data):
                content = decode_json(one)
                for message in content if isinstance(content, list) else [content]:
                    if isinstance(message, dict) and "method" in message:
                        self._take(message, one)
        except (FramingParseError, *NOT_JSON):
            self.hang_up()

    def _take(self, message: dict[str, Any], payload: bytes) -> None:
        call = RecordedCall(
            message["method"], message.get("params"), message.get("id"), "id" not in message, payload, self.number
        )
        self._server.calls.append(call)
        if not call.is_notification:
            self._server.next_answer(call.method)(self, call)

    def send_payload(self, content: bytes) -> None:
        """Send a payload in its frame, in the server's manner."""
        self.send(self._server.framing.encode(content))

    def send(self, data: bytes) -> None:
        """Send bytes in the server's manner."""
        self._server.give(self, data)

    def send_now(self, data: bytes) -> None:
        """Send bytes, one by one if the server is to; nothing when the connection is gone."""
        if not self._server.byte_by_byte:
            if self._transport is not None:
                self._transport.write(data)
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send_byte)
        self._unsent += data

    def _send_byte(self) -> None:
        # One byte in each turn of the loop, and TCP_NODELAY is set: they leave one by one.
        if self._transport is not None and self._unsent:
            self._transport.write(self._unsent[:1])
            self._unsent = self._unsent[1:]
            asyncio.get_running_loop().call_soon(self._send_byte)

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something later."""
        asyncio.get_running_loop().call_later(seconds, action)

    def hang_up(self) -> None:
        """Cut the connection, without waiting for what was sent."""
        if self._transport is not None:
            self._transport.abort()
