"""The client as functions see it: who it is, and calls in both directions on one connection."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sipwright.errors import RpcAnswerError, RpcConnectionError, RpcResultError, RpcTimeoutError
from sipwright.jsonrpc import rpc_connection
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.rpc_connection import RpcConnection, identity_of
from sipwright.jsonrpc.server import Server
from tests.jsonrpc.wire import Wire, connect, serve


class User(msgspec.Struct):
    name: str


def make_server(**options: Any) -> Server:
    server = Server(**options)

    @server.method
    async def relay(method: str, client: RpcConnection, params: Any = None, timeout: float = 1.0) -> Any:
        return await client.call(method, params, timeout=timeout)

    return server


async def answer(wire: Wire, *members: str) -> Any:
    """Take a call of the server and answer it; return its method and params."""
    call = await wire.receive()
    for member in members:
        wire.send(f'{{"jsonrpc":"2.0","id":{call["id"]},{member}}}')
    return call["method"], call.get("params")


def test_a_function_calls_its_client_on_the_same_connection() -> None:
    async def test(wire: Wire) -> None:
        wire.send('{"jsonrpc":"2.0","method":"relay","params":["name",null,[1]],"id":"a"}'.replace(",null", ""))
        assert await answer(wire, '"result":"Alice"') == ("name", [1])
        assert await wire.receive() == {"jsonrpc": "2.0", "result": "Alice", "id": "a"}

    serve(make_server(), test)


def test_every_outcome_of_such_a_call_is_its_own_exception() -> None:
    server = Server()
    outcomes: list[Any] = []

    @server.method
    async def ask(client: RpcConnection, timeout: float = 1.0) -> None:
        try:
            outcomes.append(await client.call("get", {"id": 1}, timeout=timeout, result=User))
        except Exception as error:
            outcomes.append(error)

    async def test(wire: Wire) -> None:
        async def once(*members: str, timeout: float = 1.0) -> Any:
            wire.send(f'{{"jsonrpc":"2.0","method":"ask","params":[{timeout}],"id":9}}')
            assert await answer(wire, *members) == ("get", {"id": 1})
            assert (await wire.receive())["id"] == 9
            return outcomes[-1]

        assert await once('"result":{"name":"Alice"}') == User("Alice")
        error = await once('"error":{"code":5,"message":"no","data":[1]}')
        assert isinstance(error, RpcAnswerError)
        assert (error.code, error.message, error.data) == (5, "no", [1])
        assert isinstance(await once('"result":{"name":5}'), RpcResultError)
        assert isinstance(await once('"jsonrpc":"2.0"'), RpcAnswerError)
        error = await once(timeout=0.02)
        assert isinstance(error, RpcTimeoutError)
        assert "no answer to 'get' from 127.0.0.1:" in str(error)
        # Late and doubled answers harm nothing.
        wire.send('{"jsonrpc":"2.0","id":5,"result":1}', '{"jsonrpc":"2.0","id":1,"result":1}')
        assert await once('"result":{"name":"Bob"}') == User("Bob")

    serve(server, test)


def test_the_end_of_the_connection_ends_the_calls_on_it() -> None:
    server = Server()
    outcomes: list[Any] = []
    kept: list[RpcConnection] = []

    @server.method
    async def ask(client: RpcConnection) -> None:
        kept.append(client)
        try:
            await client.call("get", timeout=10)
        except RpcConnectionError as error:
            outcomes.append(str(error))

    async def test(wire: Wire) -> None:
        wire.send('{"jsonrpc":"2.0","method":"ask","id":1}')
        await wire.receive()
        wire.writer.transport.abort()
        async with asyncio.timeout(2):
            while not outcomes:
                await asyncio.sleep(0.005)
        assert outcomes == ["'get': the client has ended its stream"]
        while kept[0].is_open:
            await asyncio.sleep(0.005)
        assert not kept[0].is_open
        with pytest.raises(RpcConnectionError, match="gone"):
            await kept[0].call("get")
        with pytest.raises(RpcConnectionError, match="gone"):
            await kept[0].notify("hello")
        kept[0].close()
        assert server.connections == []

    serve(server, test)


def test_answers_are_read_while_all_functions_wait_for_them() -> None:
    """Requests that wait would otherwise keep the connection from being read, and with it what they wait for."""

    async def test(wire: Wire) -> None:
        for number in range(20):
            wire.send(f'{{"jsonrpc":"2.0","method":"relay","params":["get"],"id":{number}}}')
        start = time.perf_counter()
        done = 0
        while done < 20:
            message = await wire.receive()
            if "method" in message:
                # Later than one turn of the server, which has stopped reading by then if it ever does.
                await asyncio.sleep(0.005)
                wire.send(f'{{"jsonrpc":"2.0","result":1,"id":{message["id"]}}}')
            else:
                assert message["result"] == 1
                done += 1
        assert time.perf_counter() - start < 1

    serve(make_server(max_concurrent=2), test)


def test_a_cancelled_function_gives_its_call_up() -> None:
    server = make_server(cancel_method="rpc.cancel")

    async def test(wire: Wire) -> None:
        wire.send('{"jsonrpc":"2.0","method":"relay","params":{"method":"get"},"id":1}')
        call = await wire.receive()
        wire.tell("rpc.cancel", {"id": 1})
        assert "error" in await wire.receive()
        assert next(iter(server._sessions)).connection.pending == {}
        wire.send(f'{{"jsonrpc":"2.0","result":1,"id":{call["id"]}}}')
        assert (await wire.ask("rpc.ping"))["result"] == "pong"
        assert next(iter(server._sessions)).connection.peer.late == 1

    serve(server, test)


def test_only_so_many_calls_to_one_client_are_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_connection, "MAX_PENDING", 2)

    async def test(wire: Wire) -> None:
        for number in range(3):
            wire.send(f'{{"jsonrpc":"2.0","method":"relay","params":["get"],"id":{number}}}')
        messages = [await wire.receive() for _ in range(3)]
        refused = [message for message in messages if "error" in message]
        assert [message["id"] for message in refused] == [2]

    serve(make_server(), test)


def test_notifications_wait_while_the_client_does_not_read() -> None:
    server = Server()

    @server.method
    async def flood(client: RpcConnection, timeout: float) -> str:
        try:
            for _ in range(200):
                await client.notify("news", ["x" * 100_000], timeout=timeout)
        except RpcTimeoutError:
            return "not read"
        return "sent"

    async def test(wire: Wire) -> None:
        wire.send('{"jsonrpc":"2.0","method":"flood","params":[0.1],"id":1}')
        await asyncio.sleep(0.4)
        connection = next(iter(server._sessions)).connection
        assert connection.transport is not None
        # What is allowed to wait, and not the 20 MB.
        assert connection.transport.get_write_buffer_size() < 3_000_000
        news = 0
        while "method" in (message := await wire.receive()):
            news += 1
        assert message["result"] == "not read"
        assert 0 < news < 200
        wire.send('{"jsonrpc":"2.0","method":"flood","params":[5],"id":1}')
        while "method" in (message := await wire.receive()):
            pass
        assert message["result"] == "sent"

    serve(server, test)


def test_state_is_kept_with_each_connection_and_clients_can_be_told_and_disconnected() -> None:
    server = Server()

    @server.method
    def remember(value: int, client: RpcConnection) -> list[int]:
        values: list[int] = client.state.setdefault("values", [])
        values.append(value)
        return values

    async def test(wire: Wire) -> None:
        other = await connect(server.addresses[0])
        assert (await wire.ask("remember", [1]))["result"] == [1]
        assert (await other.ask("remember", [2]))["result"] == [2]
        assert (await wire.ask("remember", [3]))["result"] == [1, 3]
        for client in server.connections:
            await client.notify("bye", client.state["values"])
            client.close()
        assert (await wire.receive())["params"] == [1, 3]
        assert (await other.receive())["params"] == [2]
        assert await wire.is_closed()
        assert await other.is_closed()
        other.writer.close()

    serve(server, test)


def test_a_thread_calls_the_client_through_the_loop() -> None:
    server = Server()

    async def test(wire: Wire) -> None:
        loop = asyncio.get_running_loop()

        @server.method(thread=True)
        def ask(client: RpcConnection) -> Any:
            return asyncio.run_coroutine_threadsafe(client.call("get"), loop).result(2)

        wire.send('{"jsonrpc":"2.0","method":"ask","id":1}')
        await answer(wire, '"result":"from the client"')
        assert (await wire.receive())["result"] == "from the client"

    serve(server, test)


def test_a_client_on_a_unix_socket_is_known_by_its_process(tmp_path: Path) -> None:
    server = Server()

    @server.method
    def who(client: RpcConnection) -> Any:
        return client.credentials, str(client.peer_address)

    async def main() -> None:
        address = await server.listen(f"unix:{tmp_path}/socket")
        wire = await connect(address)
        assert (await wire.ask("who"))["result"] == [[os.getpid(), os.getuid(), os.getgid()], "unix:"]
        tcp = await connect(await server.listen("tcp:127.0.0.1:0"))
        port = tcp.writer.get_extra_info("sockname")[1]
        assert (await tcp.ask("who"))["result"] == [None, f"127.0.0.1:{port}"]
        for one in (wire, tcp):
            one.writer.close()
        await server.close()

    asyncio.run(asyncio.wait_for(main(), 5))


def test_an_identity_is_the_common_name_or_else_the_first_alternative_one() -> None:
    subject = ((("countryName", "DE"),), (("commonName", "alice"),))
    assert identity_of({"subject": subject, "subjectAltName": (("DNS", "a.example"),)}) == "alice"
    assert identity_of({"subject": subject[:1], "subjectAltName": (("URI", "sip:a"), ("DNS", "b"))}) == "sip:a"
    assert identity_of({"subject": ()}) is None
    assert str(ServerAddress("", 0, "unix")) == "unix:"
