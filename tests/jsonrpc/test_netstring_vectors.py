"""Right and wrong netstrings on real sockets, whole, in single bytes and cut in two at every byte.

What is complete before a fault is answered, then the connection ends at once, with the pending calls of a client.
The streams are in `vectors/netstrings.txt`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import pytest

from sipwright.errors import RpcConnectionError
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.server import Server
from sipwright.netstring import encode
from tests.jsonrpc.bytewire import Wire, connected, listening

LIMIT = 1000
PARSE_ERROR = -32700


class Vector(NamedTuple):
    """A stream. `fault` is empty for a right one."""

    name: str
    fault: str
    text: str

    def stream(self, message: Callable[[int], bytes]) -> bytes:
        """Return the stream with a right message, by its number from 1, in each <ok> and <limit>."""
        number = 0

        def frame(match: re.Match[str]) -> str:
            nonlocal number
            if match[0] == "<big>":
                return encode(b"x" * (LIMIT + 1)).decode()
            number += 1
            content = message(number)
            return encode(content.ljust(LIMIT) if match[0] == "<limit>" else content).decode()

        return unquote_to_bytes(re.sub("<ok>|<big>|<limit>", frame, self.text))

    @property
    def messages(self) -> int:
        """How many right messages come before the fault."""
        if self.fault:
            return int(self.text.startswith("<ok>"))
        return self.text.count("<ok>") + self.text.count("<limit>")

    @property
    def empty(self) -> int:
        """How many empty payloads there are, which are no JSON."""
        return 0 if self.fault else self.text.count("0:,")


def read_vectors() -> list[Vector]:
    lines = (Path(__file__).parent / "vectors" / "netstrings.txt").read_text().splitlines()
    vectors = []
    for line in lines:
        if line and not line.startswith("#"):
            name, fault, text = line.split(" ", 2)
            vectors.append(Vector(name, "" if fault == "-" else fault.replace("%20", " "), text))
    return vectors


VECTORS = read_vectors()
every_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
# Cutting the streams with a long payload at each of their thousand bytes shows no more than these places do.
PLACES = 90


async def send_whole(wire: Wire, stream: bytes) -> None:
    wire.write(stream)


async def send_by_bytes(wire: Wire, stream: bytes) -> None:
    await wire.write_by_bytes(stream)


def cut_at(place: int) -> Callable[[Wire, bytes], Awaitable[None]]:
    async def send(wire: Wire, stream: bytes) -> None:
        wire.write(stream[:place])
        await asyncio.sleep(0)
        wire.write(stream[place:])

    return send


def ways(stream: bytes) -> list[Callable[[Wire, bytes], Awaitable[None]]]:
    places = {*range(1, min(PLACES, len(stream))), *range(max(1, len(stream) - PLACES), len(stream))}
    return [send_whole, send_by_bytes, *map(cut_at, sorted(places))]


# The server


def request(number: int) -> bytes:
    return b'{"jsonrpc":"2.0","method":"ping","id":%d}' % number


async def answers_of(server: Server, vector: Vector, send: Callable[[Wire, bytes], Awaitable[None]]) -> list[Any]:
    """Send the stream to the server and return its answers, up to the end of the connection."""
    async with connected(server.port) as wire:
        await send(wire, vector.stream(request))
        if not vector.fault:
            # The server is still there and listens.
            assert not wire.is_ended
            wire.transport.write_eof()
        return [json.loads(payload) for payload in await wire.rest()]


@every_vector
def test_the_server_answers_what_is_right_and_ends_the_connection_at_a_fault(vector: Vector) -> None:
    async def main() -> None:
        server = Server(max_size=LIMIT)
        server.add_method("ping", lambda: "pong")
        async with server:
            for send in ways(vector.stream(request)):
                answers = await answers_of(server, vector, send)
                results = [answer["id"] for answer in answers if answer.get("result") == "pong"]
                faults = [answer["error"]["code"] for answer in answers if "error" in answer]
                assert results == list(range(1, vector.messages + 1))
                assert faults == [PARSE_ERROR] * vector.empty

    asyncio.run(main())


# The client


def answer(number: int) -> bytes:
    return b'{"jsonrpc":"2.0","result":"fine","id":%d}' % number


@every_vector
def test_the_client_takes_what_is_right_and_loses_the_connection_at_a_fault(vector: Vector) -> None:
    async def ask(port: int, accepted: Callable[[], Awaitable[Wire]], send: Any) -> None:
        """Make a call for each right message and one that is not answered; send the stream as the answers."""
        async with Client(f"127.0.0.1:{port},1", timeout=20, max_size=LIMIT, reconnect_interval=60) as client:
            wire = await accepted()
            calls = [asyncio.create_task(client.call("get")) for _ in range(vector.messages + 1)]
            for number in range(1, len(calls) + 1):
                assert json.loads(await wire.receive())["id"] == number
            await send(wire, vector.stream(answer))
            if vector.fault:
                with pytest.raises(RpcConnectionError, match=f"bad netstring: .*{vector.fault}"):
                    await asyncio.wait_for(calls[-1], 2)
            else:
                wire.send(answer(len(calls)))
            done = calls if not vector.fault else calls[:-1]
            assert await asyncio.wait_for(asyncio.gather(*done), 2) == ["fine"] * len(done)
            assert client.connections == {f"127.0.0.1:{port}": None if vector.fault else 0}
            assert client.counters()["malformed"] == vector.empty

    async def main() -> None:
        async with listening() as (port, accepted):
            for send in ways(vector.stream(answer)):
                await ask(port, accepted, send)

    asyncio.run(main())
