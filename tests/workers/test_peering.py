"""Handing datagrams over: what goes out comes in, in order, and a worker that does not read blocks nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sipwright.sip.parse import parse
from sipwright.transport.udp import UdpSocket, bind
from sipwright.workers.peering import BATCH, BATCH_BYTES, WAITING_BYTES, Handover, Inlet, Outlet, channel
from sipwright.workers.steering import Steering
from tests.workers.test_steering import request

SOURCE = ("192.0.2.1", 5060)


class Way:
    """An outlet, an inlet, and what came out of it."""

    def __init__(self) -> None:
        out, self.end = channel()
        loop = asyncio.get_running_loop()
        self.outlet = Outlet(out, loop)
        self.taken: list[tuple[bytes, Any, Any]] = []
        self.sockets = [UdpSocket(bind("127.0.0.1", 0)[0], self.take) for _ in range(2)]
        self.notes: list[tuple[str, bytes]] = []
        self.inlet = Inlet(self.end, self.sockets, self.take, lambda *note: self.notes.append(note), loop)

    def take(self, data: bytes, source: Any, udp: Any) -> None:
        self.taken.append((data, source, udp))

    def close(self) -> None:
        self.outlet.close()
        self.inlet.close()
        for udp in self.sockets:
            udp.close()


def on_a_way(check: Callable[[Way], Awaitable[None]]) -> None:
    async def run() -> None:
        way = Way()
        try:
            await check(way)
        finally:
            way.close()

    asyncio.run(asyncio.wait_for(run(), 10))


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0)


@pytest.mark.parametrize("source", [SOURCE, ("2001:db8::1", 5060, 0, 3)])
def test_a_datagram_comes_as_it_was_sent_with_source_and_socket(source: Any) -> None:
    async def check(way: Way) -> None:
        way.inlet.open()
        way.outlet.give(1, source, b"\x00\xff data")
        await until(lambda: bool(way.taken))
        assert way.taken == [(b"\x00\xff data", source, way.sockets[1])]
        assert (way.outlet.sent, way.inlet.received, way.outlet.dropped) == (1, 1, 0)

    on_a_way(check)


def test_all_datagrams_of_one_turn_are_one_message_in_order() -> None:
    async def check(way: Way) -> None:
        for number in range(BATCH - 1):
            way.outlet.give(0, SOURCE, b"%d" % number)
        with pytest.raises(BlockingIOError):
            way.end.recv(1)
        way.outlet.flush()
        way.inlet.drain()
        assert [data for data, _, _ in way.taken] == [b"%d" % number for number in range(BATCH - 1)]
        way.outlet.give(0, SOURCE, b"later")
        await asyncio.sleep(0)
        assert len(way.end.recv(65536)) < 100

    on_a_way(check)


def test_long_datagrams_go_out_before_they_are_too_long_together() -> None:
    async def check(way: Way) -> None:
        long = [bytes([number]) * 65507 for number in range(40)]
        way.inlet.open()
        for data in long:
            way.outlet.give(0, SOURCE, data)
        await until(lambda: len(way.taken) == len(long))
        assert [data for data, _, _ in way.taken] == long
        assert len(long[0]) > BATCH_BYTES

    on_a_way(check)


def test_a_note_comes_behind_the_datagrams_that_were_given_before_it() -> None:
    async def check(way: Way) -> None:
        way.outlet.give(0, SOURCE, b"x")
        way.outlet.tell("tm:continue", b"\xff1 ROUTE")
        way.inlet._take()
        assert (len(way.taken), way.notes) == (1, [])
        way.inlet.drain()
        assert way.notes == [("tm:continue", b"\xff1 ROUTE")]
        assert way.inlet.received == way.outlet.sent == 2

    on_a_way(check)


def test_what_has_no_room_waits_until_it_is_read() -> None:
    async def check(way: Way) -> None:
        number = 3000
        for count in range(number):
            way.outlet.give(0, SOURCE, b"%d" % count + b"x" * 500)
        assert way.outlet.is_waiting
        way.inlet.open()
        await until(lambda: len(way.taken) == number)
        assert [int(data.partition(b"x")[0]) for data, _, _ in way.taken] == list(range(number))
        assert (way.outlet.sent, way.outlet.dropped) == (number, 0)

    on_a_way(check)


def test_what_is_too_much_for_a_worker_that_does_not_read_is_dropped_and_counted() -> None:
    async def check(way: Way) -> None:
        number = 2 * WAITING_BYTES // 10_000
        for _ in range(number):
            way.outlet.give(0, SOURCE, b"x" * 10_000)
        way.outlet.flush()
        assert way.outlet.dropped > 0
        way.inlet.open()
        await until(lambda: not way.outlet.is_waiting)
        way.inlet.drain()
        assert way.outlet.sent + way.outlet.dropped == number
        assert way.inlet.received == way.outlet.sent

    on_a_way(check)


def test_what_still_waits_at_the_end_counts_as_dropped() -> None:
    async def run() -> None:
        way = Way()
        for _ in range(1000):
            way.outlet.give(0, SOURCE, b"x" * 1000)
        way.outlet.close()
        way.inlet.drain()
        assert way.outlet.sent + way.outlet.dropped == 1000
        assert way.inlet.received == way.outlet.sent
        way.close()

    asyncio.run(run())


def test_with_nobody_at_the_other_end_datagrams_are_dropped() -> None:
    async def run() -> None:
        out, end = channel()
        outlet = Outlet(out, asyncio.get_running_loop())
        end.close()
        outlet.give(0, SOURCE, b"x")
        outlet.flush()
        assert (outlet.sent, outlet.dropped) == (0, 1)
        outlet.close()

    asyncio.run(run())


# ---- whom a message goes to


class Given:
    """Stands for an outlet."""

    def __init__(self) -> None:
        self.datagrams: list[tuple[int, Any, bytes]] = []
        self.notes: list[tuple[str, bytes]] = []
        self.sent = self.dropped = 0

    def tell(self, name: str, payload: bytes) -> None:
        self.notes.append((name, payload))

    def give(self, address_index: int, source: Any, data: bytes) -> None:
        self.datagrams.append((address_index, source, data))


def handing(steering: Steering | None, index: int, peers: dict[int, Any], sockets: list[Any]) -> Handover:
    return Handover(steering, index, sockets, peers)


def test_a_message_goes_to_its_owner_and_to_nobody_when_that_is_this_worker() -> None:
    steering = Steering(3, "a1b2c3")
    peers: dict[int, Any] = {0: Given(), 2: Given()}
    sockets = [object(), object()]
    hand_over = handing(steering, 1, peers, sockets)
    for number in range(30):
        message = parse(request(f"z9hG4bK{number * 31}"))
        owner = steering.owner(message)
        assert hand_over(message, SOURCE, sockets[1]) == (owner != 1)  # type: ignore[arg-type]
        if owner != 1:
            assert peers[owner].datagrams.pop() == (1, SOURCE, message.data)
    assert not any(peer.datagrams for peer in peers.values())


def test_a_worker_that_is_replaced_gives_its_own_to_its_heir_and_the_rest_to_their_owners() -> None:
    steering = Steering(2, "a1b2c3")
    peers: dict[int, Any] = {1: Given()}
    heir: Any = Given()
    sockets = [object()]
    hand_over = handing(steering, 0, peers, sockets)
    hand_over.heir = heir
    for number in range(20):
        assert hand_over(parse(request(f"z9hG4bK{number}")), SOURCE, sockets[0])  # type: ignore[arg-type]
    assert {steering.owner(parse(data)) for _, _, data in heir.datagrams} == {0}
    assert {steering.owner(parse(data)) for _, _, data in peers[1].datagrams} == {1}


def test_a_single_worker_owns_everything() -> None:
    hand_over = handing(Steering(1), 0, {}, [object()])
    assert not hand_over(parse(request()), SOURCE, object())  # type: ignore[arg-type]


def test_a_note_goes_to_the_worker_of_its_index() -> None:
    peers: dict[int, Any] = {1: Given()}
    hand_over = handing(Steering(2), 0, peers, [object()])
    assert hand_over.tell(1, "tm:continue", b"1 ROUTE")
    assert peers[1].notes == [("tm:continue", b"1 ROUTE")]
    assert not hand_over.tell(2, "tm:continue", b"1 ROUTE")
