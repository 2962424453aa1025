"""One connection, without sockets: what is written together, and what a callback's fault leaves alone."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.messages import Message, request_head
from sipwright.jsonrpc.peer import Peer
from sipwright.netstring import encode


class FakeLoop:
    def __init__(self) -> None:
        self.soon: list[Any] = []
        self.problems: list[dict[str, Any]] = []

    def call_soon(self, callback: Any) -> None:
        self.soon.append(callback)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.problems.append(context)

    def run(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


class FakeTransport:
    """Has the methods of asyncio.Transport but is none: as uvloop's."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_open = True

    def set_write_buffer_limits(self, high: int, low: int) -> None: ...

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.is_open = False

    abort = close


class Owner:
    def __init__(self) -> None:
        self.events: list[str] = []

    def connection_ready(self, connection: Connection) -> None:
        self.events.append("ready")

    def connection_blocked(self, connection: Connection) -> None:
        self.events.append("blocked")

    def connection_ended(self, connection: Connection, reason: str) -> None:
        self.events.append(reason)

    def stream_ended(self, connection: Connection, /) -> bool:
        return False


class Call:
    id = 0


class World:
    def __init__(self, answered: Any = None) -> None:
        self.loop = FakeLoop()
        self.owner = Owner()
        self.transport = FakeTransport()
        self.answered: list[Message] = []
        peer: Peer[Call] = Peer(answered or (lambda call, message: self.answered.append(message)))
        self.connection = Connection(cast("asyncio.AbstractEventLoop", self.loop), self.owner, peer, "s:1", 1000)
        self.connection.connection_made(cast("asyncio.BaseTransport", self.transport))


def test_what_is_written_in_one_turn_leaves_in_one_piece() -> None:
    world = World()
    for payload in (b"a", b"bc"):
        world.connection.write(payload)
    assert world.transport.written == []
    world.loop.run()
    world.connection.write(b"d")
    world.loop.run()
    assert world.transport.written == [b"1:a,2:bc,", b"1:d,"]


@pytest.mark.parametrize("fault", [RuntimeError("mine"), asyncio.CancelledError()])
def test_the_fault_of_one_callback_is_reported_and_the_other_answers_arrive(fault: BaseException) -> None:
    taken: list[int] = []

    def answered(call: Call, message: Message) -> None:
        if call.id == 1:
            raise fault
        taken.append(call.id)

    world = World(answered)
    for _ in range(3):
        world.connection.request(Call(), request_head("m"), None)
    world.connection.data_received(b"".join(encode(b'{"id":%d,"result":1}' % number) for number in (1, 2, 3)))
    assert taken == [2, 3]
    assert [problem["exception"] for problem in world.loop.problems] == [fault]
    assert world.transport.is_open
    assert world.owner.events == ["ready"]


def test_the_owner_hears_of_the_end_once_and_nothing_is_written_after_it() -> None:
    world = World()
    world.connection.write(b"a")
    world.connection.data_received(b"rubbish")
    world.connection.write(b"b")
    world.loop.run()
    world.connection.connection_lost(None)
    assert world.owner.events == ["ready", "bad netstring: not a length"]
    assert world.transport.written == [b"1:a,"]
    assert not world.transport.is_open
