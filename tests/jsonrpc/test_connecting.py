"""Connections are made: several addresses at once, Unix sockets, impossible addresses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sipwright.errors import RpcConnectionError
from sipwright.jsonrpc import connecting
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.connecting import connect_host
from sipwright.jsonrpc.sockets import interleaved
from sipwright.testing.fakerpc import FakeConnection, FakeRpcServer, result

V4, V6 = socket.AF_INET, socket.AF_INET6


def info(family: Any, address: str, port: int = 1) -> Any:
    return (family, socket.SOCK_STREAM, 6, "", (address, port) if family == V4 else (address, port, 0, 0))


def test_a_family_of_addresses_that_the_machine_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:

            async def addresses(*_args: Any, **_options: Any) -> list[Any]:
                return [
                    (9999, socket.SOCK_STREAM, 6, "", ("::1", rpc.port, 0, 0)),
                    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", rpc.port)),
                ]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
            async with Client(f"localhost:{rpc.port},1") as client:
                await client.connected(1)

    asyncio.run(main())


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", -1), ("a\0b", 1), ("a", 1 << 70)])
def test_an_impossible_address_is_a_failure_that_says_so(host: str, port: int) -> None:
    async def main() -> None:
        async with Client([ServerSpec(ServerAddress(host, port), 1)]) as client:
            with pytest.raises(RpcConnectionError, match="cannot connect"):
                await client.call("get", timeout=0.1)

    asyncio.run(main())


def test_the_families_of_addresses_alternate() -> None:
    addresses = [info(V6, "::1"), info(V6, "::2"), info(V4, "1.1.1.1"), info(V6, "::3"), info(V4, "2.2.2.2")]
    places = [address[4][0] for address in interleaved(addresses)]
    assert places == ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]


def answers(monkeypatch: pytest.MonkeyPatch, addresses: list[Any], answer: Any) -> list[str]:
    """Let a name have these addresses, and `answer(address)` say what connecting to one of them does."""
    asked: list[str] = []

    async def connect(_loop: Any, sock: socket.socket, place: Any) -> None:
        asked.append(place[0])
        await answer(place[0])

    async def getaddrinfo(*_args: Any, **_options: Any) -> list[Any]:
        return addresses

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(type(loop), "sock_connect", connect)
    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    return asked


def test_the_next_address_is_tried_beside_one_that_is_silent_and_the_first_answer_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async def answer(place: str) -> None:
            await asyncio.sleep({"10.0.0.1": 100, "10.0.0.2": 0.3, "10.0.0.3": 0.01}[place])

        monkeypatch.setattr(connecting, "STAGGER", 0.02)
        asked = answers(monkeypatch, [info(V4, f"10.0.0.{n}") for n in (1, 2, 3)], answer)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        (await connect_host(loop, "name.example", 1)).close()
        assert asked == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        assert 0.04 < loop.time() - begin < 0.25

    asyncio.run(main())


def test_an_address_that_refuses_makes_way_for_the_next_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def answer(place: str) -> None:
            if place == "10.0.0.1":
                raise ConnectionRefusedError(111, "refused")

        monkeypatch.setattr(connecting, "STAGGER", 100)
        asked = answers(monkeypatch, [info(V4, "10.0.0.1"), info(V4, "10.0.0.2")], answer)
        async with asyncio.timeout(5):
            (await connect_host(asyncio.get_running_loop(), "name.example", 1)).close()
        assert asked == ["10.0.0.1", "10.0.0.2"]

    asyncio.run(main())


def test_when_no_address_answers_the_last_failure_is_told_and_no_socket_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async def answer(place: str) -> None:
            raise ConnectionRefusedError(111, "refused")

        answers(monkeypatch, [info(V4, "10.0.0.1"), info(V4, "10.0.0.2")], answer)
        with pytest.raises(ConnectionRefusedError):
            await connect_host(asyncio.get_running_loop(), "name.example", 1)

    asyncio.run(main())


def test_who_gives_up_connecting_leaves_no_attempt_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def answer(place: str) -> None:
            await asyncio.sleep(100)

        monkeypatch.setattr(connecting, "STAGGER", 0.01)
        answers(monkeypatch, [info(V4, "10.0.0.1"), info(V4, "10.0.0.2")], answer)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connect_host(asyncio.get_running_loop(), "name.example", 1)
        await asyncio.sleep(0.01)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.parametrize("abstract", [False, True])
def test_a_unix_socket_is_a_server_like_any_other(tmp_path: Path, abstract: bool) -> None:
    async def main() -> None:
        rpc = FakeRpcServer()
        rpc.on("get", result(1))
        path = f"@sipwright-test-{id(rpc)}" if abstract else str(tmp_path / "rpc.sock")
        loop = asyncio.get_running_loop()
        place = "\0" + path[1:] if abstract else path
        listener = await loop.create_unix_server(lambda: FakeConnection(rpc), place)
        async with Client(f"unix:{path},1", timeout=2) as client:
            assert await client.call("get") == 1
            assert client.connections == {f"unix:{path}": 0}
        listener.close()
        while rpc.connections:
            await asyncio.sleep(0.001)

    asyncio.run(main())


def test_a_unix_socket_that_is_not_there_is_a_failure_that_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with Client(f"unix:{tmp_path}/none,1") as client:
            with pytest.raises(RpcConnectionError, match="/none: cannot connect: No such file or directory"):
                await client.call("get", timeout=0.1)

    asyncio.run(main())


def test_silent_servers_are_asked_by_tcp_as_often_as_the_client_wants() -> None:
    async def main() -> None:
        connect = partial(connecting.connect, keep_alive=30)
        async with FakeRpcServer() as rpc, Client(f"{rpc.address},1", connect=connect) as client:
            await client.connected(1)
            (connection,) = client._pool.connections()
            assert connection.transport is not None
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30

    asyncio.run(main())


def test_a_unix_socket_whose_queue_is_full_is_not_connected(tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "socket")
        with contextlib.ExitStack() as sockets:
            listener = sockets.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen(0)
            is_full = 0
            while not is_full:
                waiting = sockets.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                is_full = waiting.connect_ex(path)
            async with Client(f"unix:{path},1", reconnect_interval=0.02) as client:
                with pytest.raises(RpcConnectionError, match="cannot connect: its queue of connections is full"):
                    await client.call("get", timeout=0.2)
                assert client.servers()[0]["calls"] == 0

    asyncio.run(main())
