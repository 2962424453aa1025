"""The scripted server: it does exactly what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest

from sipwright.errors import RpcAnswerError
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.tls import Tls
from sipwright.netstring import encode
from sipwright.testing.fakerpc import FakeRpcServer, after, both, error, payload, result
from tests.jsonrpc.certificates import Certificates


def test_answers_follow_the_script_and_calls_are_recorded() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", error(1, "first"), result({"n": 2}), after(0.01, result(lambda params: params["x"])))
            with pytest.raises(RpcAnswerError, match="first"):
                await client.call("get", {"x": 1})
            assert await client.call("get", {"x": 2}) == {"n": 2}
            assert [await client.call("get", {"x": n}) for n in (3, 4)] == [3, 4]
            await client.notify("log", [1])
            await rpc.wait_for_calls(5)
            assert [call.params for call in rpc.received("get")] == [{"x": 1}, {"x": 2}, {"x": 3}, {"x": 4}]
            assert [(call.is_notification, call.connection) for call in rpc.received("log")] == [(True, 1)]
            with pytest.raises(RpcAnswerError, match="not found"):
                await client.call("unscripted")
            with pytest.raises(TimeoutError):
                await rpc.wait_for_calls(7, timeout=0.01)

    asyncio.run(main())


@pytest.mark.parametrize("framing", ["netstring", "newline", "content-length"])
def test_it_speaks_any_framing_and_tls(certificates: Certificates, framing: str) -> None:
    async def main() -> None:
        own = Tls(certfile=certificates.server.certfile, keyfile=certificates.server.keyfile)
        trusted = Tls(cafile=certificates.ca)
        async with FakeRpcServer(framing=framing, tls=own) as rpc:
            rpc.on("get", result(1), error(2, "no"))
            assert rpc.address == f"tls:127.0.0.1:{rpc.port}"
            async with Client(f"{rpc.address},1", framing=framing, tls=trusted) as client:
                assert await client.call("get") == 1
                with pytest.raises(RpcAnswerError, match="no"):
                    await client.call("get")

    asyncio.run(main())


def test_it_runs_in_a_thread_for_code_without_a_loop() -> None:
    with FakeRpcServer() as rpc:
        rpc.on("get", payload('{"id":%d,"result":1}'))
        with socket.create_connection((rpc.host, rpc.port)) as sock:
            sock.sendall(encode(b'{"method":"get","id":7}'))
            sock.settimeout(2)
            assert sock.recv(100) == b'19:{"id":7,"result":1},'
        rpc.wait_for_calls_in_thread(1)
        with pytest.raises(TimeoutError):
            rpc.wait_for_calls_in_thread(2, timeout=0.01)
        assert rpc.calls[0].id == 7


def test_it_can_be_stopped_and_started_on_its_port() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            port = rpc.port
            await rpc.stop()
            with pytest.raises(OSError, match=r"refused|failed"):
                await asyncio.open_connection(rpc.host, port)
            await rpc.start()
            assert rpc.port == port

    asyncio.run(main())


@pytest.mark.parametrize("data", [b"rubbish", encode(b"rubbish"), encode(b"\xff"), encode(b"[" * 100_000)])
def test_rubbish_from_a_client_ends_its_connection(data: bytes) -> None:
    async def main() -> None:
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        async with FakeRpcServer() as rpc:
            reader, writer = await asyncio.open_connection(rpc.host, rpc.port)
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        assert problems == []

    asyncio.run(main())


def test_answers_of_a_client_are_not_calls() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", both(payload('{"jsonrpc":"2.0","method":"ask","id":1}'), result(1)))
            assert await client.call("get") == 1
            assert await client.call("get") == 1
            assert [call.method for call in rpc.calls] == ["get", "get"]

    asyncio.run(main())


def test_a_busy_port_leaves_no_thread_behind() -> None:
    with FakeRpcServer() as rpc:
        threads = threading.active_count()
        with pytest.raises(OSError, match="in use"), FakeRpcServer(port=rpc.port):
            pass
        assert threading.active_count() == threads
