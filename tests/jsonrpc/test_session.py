"""Connections of a server from the accept to the end: time limits, bad frames, and TLS that ends."""

from __future__ import annotations

import asyncio
import time

import pytest

from sipwright.jsonrpc.executor import ServerEvent
from sipwright.jsonrpc.server import Server
from sipwright.jsonrpc.tls import Tls
from tests.jsonrpc.certificates import Certificates
from tests.jsonrpc.wire import Wire, connect, serve


def test_a_client_that_asks_nothing_for_long_is_disconnected() -> None:
    server = Server(idle_timeout=0.3)

    @server.method
    async def sleep(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "slept"

    async def test(wire: Wire) -> None:
        start = time.perf_counter()
        # It asks now and then, or waits for an answer.
        for _ in range(4):
            await asyncio.sleep(0.12)
            assert (await wire.ask("rpc.ping"))["result"] == "pong"
        assert (await wire.ask("sleep", [0.7]))["result"] == "slept"
        assert time.perf_counter() - start > 1.1
        start = time.perf_counter()
        assert await wire.is_closed()
        assert 0.05 < time.perf_counter() - start < 2

    serve(server, test)


@pytest.mark.parametrize("garbage", [b"5:hello;", b"GET / HTTP/1.1\r\n\r\n", b"01:x,", b"9999999999:"])
def test_a_stream_that_is_no_frames_is_answered_as_far_as_it_was_and_ends(garbage: bytes) -> None:
    server = Server()

    async def test(wire: Wire) -> None:
        wire.send('{"jsonrpc":"2.0","method":"rpc.ping","id":1}')
        wire.writer.write(garbage)
        assert (await wire.receive())["result"] == "pong"
        assert await wire.is_closed()
        assert server.counters()["connections"] == 0

    serve(server, test)


def test_a_tls_client_that_goes_ends_its_connection(certificates: Certificates) -> None:
    events: list[ServerEvent] = []

    async def main() -> None:
        server = Server(tls=Tls(certfile=certificates.server.certfile, keyfile=certificates.server.keyfile))
        server.hook(events.append)
        async with server:
            wire = await connect(server.addresses[0], context=Tls(cafile=certificates.ca).client_context())
            assert (await wire.ask("rpc.ping"))["result"] == "pong"
            wire.writer.close()
            await wire.writer.wait_closed()
            async with asyncio.timeout(2):
                while server.connections:
                    await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(main(), 5))
    assert [event.kind for event in events] == ["connected", "started", "ended", "disconnected"]
    assert events[0].connection.peer_address.kind == "tls"


def test_a_client_that_is_one_too_many_is_no_event() -> None:
    server = Server(max_connections=1)
    events: list[str] = []
    server.hook(lambda event: events.append(event.kind))

    async def test(wire: Wire) -> None:
        await wire.ask("rpc.ping")
        late = await connect(server.addresses[0])
        assert await late.is_closed()
        late.writer.close()
        assert server.counters()["refused"] == 1

    serve(server, test)
    assert events == ["connected", "started", "ended", "disconnected"]
