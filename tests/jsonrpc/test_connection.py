"""One connection, without sockets: what is written together, and what a callback's fault leaves alone."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from sipwright.jsonrpc.connection import HIGH_WATER, SLICE, Connection
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
        self.is_read = True
        self.unsent = 0

    def is_closing(self) -> bool:
        return not self.is_open

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def set_write_buffer_limits(self, high: int, low: int) -> None: ...

    def get_extra_info(self, name: str) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.unsent

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


def test_what_is_more_than_the_transport_should_hold_leaves_before_the_turn_ends() -> None:
    world = World()
    payload = b"x" * (HIGH_WATER // 4)
    for number in range(1, 11):
        world.connection.write(payload)
        # So that the transport can say that it is full, and the owner writes no more.
        assert len(world.transport.written) == number // 5
    world.connection.write(b"rest")
    world.loop.run()
    assert b"".join(world.transport.written) == encode(payload) * 10 + encode(b"rest")


def results(*numbers: int) -> bytes:
    return b"".join(encode(b'{"id":%d,"result":1}' % number) for number in numbers)


def asking(calls: int) -> tuple[World, list[int]]:
    """Return a connection with so many pending calls, and where those that were answered are listed."""
    answered: list[int] = []
    world = World(lambda call, _message: answered.append(call.id))
    for _ in range(calls):
        world.connection.request(Call(), request_head("m"), None)
    return world, answered


def test_many_payloads_of_one_read_are_taken_by_turns_and_nothing_is_read_meanwhile() -> None:
    number = 2 * SLICE + 5
    world, answered = asking(number)
    world.connection.data_received(results(*range(1, number + 1)))
    steps = [len(answered)]
    while world.loop.soon:
        assert (world.transport.is_read, world.connection.is_behind) == (False, True)
        world.loop.run()
        steps.append(len(answered))
    assert steps == [0, SLICE, 2 * SLICE, number]
    assert answered == [*range(1, number + 1)]
    assert (world.transport.is_read, world.connection.is_behind) == (True, False)


def test_as_many_as_may_be_taken_at_once_are() -> None:
    world, answered = asking(SLICE)
    world.connection.data_received(results(*range(1, SLICE + 1)))
    assert len(answered) == SLICE
    assert world.transport.is_read


def test_what_comes_behind_waiting_payloads_is_taken_behind_them() -> None:
    # A transport may still deliver what it had read before it was paused.
    world, answered = asking(SLICE + 3)
    world.connection.data_received(results(*range(1, SLICE + 2)))
    world.connection.data_received(results(SLICE + 2))
    world.connection.data_received(results(SLICE + 3))
    while world.loop.soon:
        world.loop.run()
    assert answered == [*range(1, SLICE + 4)]


def test_a_fault_behind_many_payloads_ends_the_connection_after_them() -> None:
    world, answered = asking(SLICE + 1)
    world.connection.data_received(results(*range(1, SLICE + 2)) + b"rubbish")
    assert world.owner.events == ["ready"]
    while world.loop.soon:
        world.loop.run()
    assert len(answered) == SLICE + 1
    assert world.owner.events == ["ready", "bad netstring: not a length"]
    assert not world.transport.is_open


def test_answers_that_came_before_the_connection_was_lost_count() -> None:
    world, answered = asking(SLICE + 2)
    world.connection.data_received(results(*range(1, SLICE + 2)))
    world.connection.connection_lost(ConnectionResetError("reset"))
    assert len(answered) == SLICE + 1
    assert world.owner.events == ["ready", "connection lost: reset"]
    world.loop.run()
    assert len(answered) == SLICE + 1


def test_requests_of_one_that_has_gone_are_not_begun() -> None:
    taken: list[object] = []
    world = World()
    connection: Any = world.connection
    connection._receive = taken.append
    world.connection.data_received(encode(b"{}") * (SLICE + 1))
    world.connection.connection_lost(None)
    while world.loop.soon:
        world.loop.run()
    assert taken == []


def test_the_owner_and_the_waiting_payloads_both_have_a_say_in_reading() -> None:
    world, _answered = asking(SLICE + 1)
    world.connection.data_received(results(*range(1, SLICE + 2)))
    world.connection.read(False)
    while world.loop.soon:
        world.loop.run()
    assert not world.transport.is_read
    world.connection.read(True)
    assert world.transport.is_read
