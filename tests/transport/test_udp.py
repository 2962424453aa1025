"""UDP sockets: datagrams in, datagrams out, and what a socket says of an address that it cannot have."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sipwright.errors import StartError
from sipwright.transport.udp import DRAIN, UdpSocket, bind


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(2)
        yield made


def ignore(_data: bytes, _source: Any, _socket: UdpSocket) -> None:
    pass


def test_every_datagram_is_received_with_its_source_and_answered(client: socket.socket) -> None:
    number = DRAIN + 10
    received: list[bytes] = []

    def receive(data: bytes, source: Any, udp: UdpSocket) -> None:
        received.append(data)
        udp.send(data + b"!", source)

    async def run() -> None:
        udp = UdpSocket(bind("127.0.0.1", 0)[0], receive)
        for index in range(number):
            client.sendto(b"%d" % index, udp.address)
        udp.open(asyncio.get_running_loop())
        while len(received) < number:
            await asyncio.sleep(0)
        udp.close()

    asyncio.run(asyncio.wait_for(run(), 5))
    assert received == [b"%d" % index for index in range(number)]
    assert [client.recv(100) for _ in range(number)] == [data + b"!" for data in received]


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", 0),
        ("255.255.255.255", 5060),
        ("::1", 5060),
        ("127.0.0.1", 70000),
        ("nul\0byte", 5060),
        ("\udcff", 5060),
    ],
)
def test_what_cannot_be_sent_is_counted_and_nothing_is_raised(address: tuple[str, int]) -> None:
    udp = UdpSocket(bind("127.0.0.1", 0)[0], ignore)
    try:
        udp.send(b"x", address)
        assert udp.send_errors == 1
    finally:
        udp.close()


@pytest.mark.parametrize(
    ("host", "message"),
    [("127.0.0.1", "already in use"), ("203.0.113.1", "no such address"), ("no host", "unknown host 'no host'")],
)
@pytest.mark.parametrize("count", [1, 2])
def test_an_address_that_cannot_be_had_is_explained(client: socket.socket, host: str, message: str, count: int) -> None:
    with pytest.raises(StartError, match=message):
        bind(host, client.getsockname()[1], count)


def test_the_sockets_of_several_workers_share_one_port_and_nobody_else_can_join_them() -> None:
    sockets = bind("127.0.0.1", 0, 3)
    try:
        port = sockets[0].getsockname()[1]
        assert [bound.getsockname() for bound in sockets] == [("127.0.0.1", port)] * 3
        with pytest.raises(StartError, match="already in use"):
            bind("127.0.0.1", port, 3)
    finally:
        for bound in sockets:
            bound.close()
