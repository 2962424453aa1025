"""What middlewares see and may do, one inside of the other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.middleware import Next, RpcRequest
from sipwright.jsonrpc.rpc_connection import RpcConnection
from sipwright.jsonrpc.server import Server
from tests.jsonrpc.wire import Wire, serve


def test_the_first_is_the_outermost_and_each_sees_the_result() -> None:
    server = Server()
    seen: list[str] = []

    def watch(name: str) -> None:
        @server.middleware
        async def middleware(request: RpcRequest, call_next: Next) -> Any:
            seen.append(f"{name} before")
            result = await call_next(request)
            seen.append(f"{name} after {result}")
            return f"{name}({result})"

    watch("outer")
    watch("inner")
    server.add_method("plain", lambda: "plain")

    @server.method
    async def later() -> str:
        await asyncio.sleep(0)
        return "later"

    async def test(wire: Wire) -> None:
        for method in ("plain", "later"):
            seen.clear()
            assert (await wire.ask(method))["result"] == f"outer(inner({method}))"
            assert seen == ["outer before", "inner before", f"inner after {method}", f"outer after inner({method})"]
        assert server.counters()["results"] == 2

    serve(server, test)


def test_a_middleware_knows_method_params_connection_and_whether_anybody_waits() -> None:
    server = Server()
    seen: list[Any] = []

    @server.middleware
    async def middleware(request: RpcRequest, call_next: Next) -> Any:
        seen.append((request.method, request.params, request.id, request.is_notification))
        request.connection.state["calls"] = request.connection.state.get("calls", 0) + 1
        return await call_next(request)

    @server.method
    def calls(connection: RpcConnection) -> int:
        return int(connection.state["calls"])

    async def test(wire: Wire) -> None:
        wire.tell("calls", [])
        assert (await wire.ask("calls", request_id="a"))["result"] == 2
        assert (await wire.ask("calls", {"x": 1}))["error"]["code"] == -32602
        assert seen == [
            ("calls", [], None, True),
            ("calls", None, "a", False),
            ("calls", {"x": 1}, 1, False),
        ]

    serve(server, test)


def test_a_middleware_may_change_params_answer_itself_or_refuse() -> None:
    server = Server()

    @server.middleware
    async def middleware(request: RpcRequest, call_next: Next) -> Any:
        if request.method == "cached":
            return "from the cache"
        if request.method.startswith("admin."):
            raise RpcAnswerError(403, "Forbidden", request.method)
        request.params = [number * 2 for number in request.params]
        return await call_next(request)

    @server.method(thread=True)
    def add(a: int, b: int) -> int:
        return a + b

    @server.method
    def subtract(a: int, b: int) -> int:
        return a - b

    async def test(wire: Wire) -> None:
        assert (await wire.ask("add", [1, 2]))["result"] == 6
        assert (await wire.ask("subtract", [5, 1]))["result"] == 8
        assert (await wire.ask("subtract", ["x", 1]))["error"]["data"] == "'a': Expected `int`, got `str`"
        assert (await wire.ask("cached"))["result"] == "from the cache"
        assert (await wire.ask("admin.stop"))["error"] == {"code": 403, "message": "Forbidden", "data": "admin.stop"}

    serve(server, test)


def test_unknown_methods_and_exceptions_of_functions_pass_through() -> None:
    server = Server()
    seen: list[Any] = []

    @server.middleware
    async def middleware(request: RpcRequest, call_next: Next) -> Any:
        try:
            return await call_next(request)
        except RpcAnswerError as error:
            seen.append(error.code)
            raise
        except ValueError:
            seen.append("ValueError")
            return "mended"

    @server.method
    async def broken() -> None:
        raise ValueError

    async def test(wire: Wire) -> None:
        assert (await wire.ask("nothing"))["error"]["code"] == -32601
        assert (await wire.ask("broken"))["result"] == "mended"
        assert seen == [-32601, "ValueError"]

    serve(server, test)


def test_a_middleware_that_is_broken_is_an_internal_error_of_the_call() -> None:
    server = Server()

    @server.middleware
    async def middleware(_request: RpcRequest, _call_next: Next) -> Any:
        raise RuntimeError("secret")

    server.add_method("plain", lambda: "plain")

    async def test(wire: Wire) -> None:
        assert (await wire.ask("plain"))["error"] == {"code": -32603, "message": "Internal error"}

    serve(server, test)


def test_a_plain_function_is_no_middleware() -> None:
    with pytest.raises(ArgumentError, match="a middleware is an async function"):
        Server().middleware(lambda request, call_next: call_next(request))


def test_calls_within_middlewares_count_as_running_and_are_bounded() -> None:
    server = Server(max_concurrent=1)
    running, most = 0, 0

    @server.middleware
    async def middleware(request: RpcRequest, call_next: Next) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        return await call_next(request)

    server.add_method("plain", lambda: "plain")

    async def test(wire: Wire) -> None:
        for number in range(4):
            wire.send(f'{{"jsonrpc":"2.0","method":"plain","id":{number}}}')
        assert [(await wire.receive())["id"] for _ in range(4)] == [0, 1, 2, 3]
        assert most == 1

    serve(server, test)
