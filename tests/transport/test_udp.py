"""UDP sockets: datagrams in, datagrams out, and what a socket says of an address that it cannot have."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
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


# Bytes.
BUFFER = 1 << 20


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


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")


@on_linux
def test_what_finds_no_room_in_the_receive_buffer_is_counted(client: socket.socket) -> None:
    udp = UdpSocket(bind("127.0.0.1", 0, 1, 20_000)[0], ignore)
    try:
        assert (udp.queued, udp.drops) == (0, 0)
        for _ in range(200):
            client.sendto(b"x" * 500, udp.address)
        assert 10_000 < udp.queued <= 40_000
        dropped = udp.drops
        assert 100 < dropped < 200
        for _ in range(3):
            client.sendto(b"x" * 500, udp.address)
        assert udp.drops == dropped + 3
    finally:
        udp.close()


def test_a_larger_receive_buffer_holds_more(client: socket.socket) -> None:
    udp = UdpSocket(bind("127.0.0.1", 0, 1, 2 * BUFFER)[0], ignore)
    try:
        for _ in range(100):
            client.sendto(b"x" * 500, udp.address)
        assert udp.drops == 0
    finally:
        udp.close()


@on_linux
def test_a_system_that_gives_less_is_told_of_with_the_remedy(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    UdpSocket(bind("127.0.0.1", 0, 1, limit)[0], ignore).close()
    assert caplog.messages == []
    UdpSocket(bind("127.0.0.1", 0, 1, limit + 1000)[0], ignore).close()
    (line,) = caplog.messages
    assert line == (
        f"udp:127.0.0.1:0: the system gave a receive buffer of {limit} bytes instead of {limit + 1000}; "
        f"to allow more: sysctl -w net.core.rmem_max={limit + 1000}"
    )


def test_where_the_system_does_not_tell_nothing_is_queued_or_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    # No such option.
    monkeypatch.setattr("sipwright.transport.udp._SO_MEMINFO", 9999)
    udp = UdpSocket(bind("127.0.0.1", 0, 1, BUFFER)[0], ignore)
    assert (udp.queued, udp.drops) == (0, 0)
    udp.close()
