"""The server over real sockets: the examples of the specification, limits, and a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from random import Random
from typing import Any

import msgspec
import pytest

from sipwright.errors import ArgumentError, RpcAnswerError, RpcConnectionError, StartError
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.server import Server
from sipwright.jsonrpc.service import Service, remote
from sipwright.netstring import Decoder, encode
from tests.jsonrpc.wire import Wire


def make_server(**options: Any) -> Server:
    server = Server(**options)
    server.add_method("ping", lambda: "pong")
    server.add_method("subtract", lambda minuend, subtrahend: minuend - subtrahend)
    server.add_method("sum", lambda *numbers: sum(numbers))
    server.add_method("notify_hello", lambda number: None)
    server.add_method("update", lambda *numbers: None)
    server.add_method("get_data", lambda: ["hello", 5])

    @server.method
    async def sleep(seconds: float, value: Any = None) -> Any:
        await asyncio.sleep(seconds)
        return value

    return server


def serve(test: Callable[[Wire, Server], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with make_server(**options) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                await test(Wire(reader, writer), server)
            finally:
                writer.close()

    asyncio.run(main())


def without_data(answer: Any) -> Any:
    """What the specification shows: our errors have a further text in `data`."""
    if isinstance(answer, list):
        return [without_data(one) for one in answer]
    if "error" in answer:
        answer["error"].pop("data", None)
    return answer


def fault(code: int, message: str, request_id: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": request_id}


# The examples of section 7 of the specification; None stands for no answer.
EXAMPLES: list[tuple[str, Any]] = [
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        {"jsonrpc": "2.0", "result": 19, "id": 1},
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
        {"jsonrpc": "2.0", "result": -19, "id": 2},
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        {"jsonrpc": "2.0", "result": 19, "id": 3},
    ),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', fault(-32601, "Method not found", "1")),
    ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', fault(-32700, "Parse error")),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', fault(-32600, "Invalid Request")),
    (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]',
        fault(-32700, "Parse error"),
    ),
    ("[]", fault(-32600, "Invalid Request")),
    ("[1]", [fault(-32600, "Invalid Request")]),
    ("[1,2,3]", [fault(-32600, "Invalid Request")] * 3),
    (
        """[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
        ]""",
        [
            {"jsonrpc": "2.0", "result": 7, "id": "1"},
            {"jsonrpc": "2.0", "result": 19, "id": "2"},
            fault(-32600, "Invalid Request"),
            fault(-32601, "Method not found", "5"),
            {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"},
        ],
    ),
    (
        """[
        {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
        ]""",
        None,
    ),
]


@pytest.mark.parametrize(("request_", "answer"), EXAMPLES)
def test_the_examples_of_the_specification(request_: str, answer: Any) -> None:
    async def test(wire: Wire, _server: Server) -> None:
        wire.send(request_)
        if answer is None:
            assert await wire.nothing_comes()
        else:
            assert without_data(await wire.receive()) == answer

    serve(test)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ('{"method": "ping", "id": 1}', -32600),
        ('{"jsonrpc": "1.0", "method": "ping", "id": 1}', -32600),
        ('{"jsonrpc": "2.0", "method": "ping", "params": 1, "id": 1}', -32600),
        ('{"jsonrpc": "2.0", "method": null, "id": 1}', -32600),
        ('{"jsonrpc": "2.0", "method": 5, "id": 1}', -32600),
        ('{"jsonrpc": "2.0", "method": "ping", "params": [1], "id": 1}', -32602),
        ('{"jsonrpc": "2.0", "method": "sleep", "params": {}, "id": 1}', -32602),
    ],
)
def test_a_wrong_request_is_answered_with_its_id_and_code(request_: str, code: int) -> None:
    async def test(wire: Wire, _server: Server) -> None:
        wire.send(request_)
        answer = await wire.receive()
        assert (answer["error"]["code"], answer["id"]) == (code, 1)
        assert isinstance(answer["error"]["data"], str)

    serve(test)


def test_a_null_id_is_answered_and_a_response_is_not() -> None:
    async def test(wire: Wire, _server: Server) -> None:
        wire.send('{"jsonrpc": "2.0", "method": "ping", "id": null}')
        assert await wire.receive() == {"jsonrpc": "2.0", "result": "pong", "id": None}
        wire.send('{"jsonrpc": "2.0", "result": 5, "id": 1}')
        assert await wire.nothing_comes()

    serve(test)


def test_async_functions_are_answered_when_they_end_and_plain_ones_at_once() -> None:
    async def test(wire: Wire, _server: Server) -> None:
        wire.send('{"jsonrpc":"2.0","method":"sleep","params":[0.03,"a"],"id":1}')
        wire.send('{"jsonrpc":"2.0","method":"sleep","params":[0.01,"b"],"id":2}')
        wire.send('{"jsonrpc":"2.0","method":"ping","id":3}')
        assert [(await wire.receive())["id"] for _ in range(3)] == [3, 2, 1]

    serve(test)


def test_a_batch_is_answered_when_all_of_it_is_done() -> None:
    async def test(wire: Wire, _server: Server) -> None:
        wire.send(
            '[{"jsonrpc":"2.0","method":"sleep","params":[0.02,"a"],"id":1},{"jsonrpc":"2.0","method":"ping","id":2}]'
        )
        assert await wire.nothing_comes()
        assert [answer["id"] for answer in await wire.receive()] == [2, 1]

    serve(test)


def test_a_function_answers_with_an_error_by_raising_it() -> None:
    async def test(wire: Wire, server: Server) -> None:
        def refuse() -> None:
            raise RpcAnswerError(404, "no user", {"id": 1})

        async def refuse_later() -> None:
            raise RpcAnswerError(405, "no")

        server.add_method("refuse", refuse)
        server.add_method("refuse_later", refuse_later)
        wire.send('{"jsonrpc":"2.0","method":"refuse","id":1}', '{"jsonrpc":"2.0","method":"refuse"}')
        assert (await wire.receive())["error"] == {"code": 404, "message": "no user", "data": {"id": 1}}
        wire.send('{"jsonrpc":"2.0","method":"refuse_later","id":1}')
        assert (await wire.receive())["error"] == {"code": 405, "message": "no"}

    serve(test)


def test_any_other_exception_is_logged_and_says_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def test(wire: Wire, server: Server) -> None:
        def broken() -> None:
            raise RuntimeError("secret")

        async def broken_later() -> None:
            raise RuntimeError("secret")

        async def cancels() -> None:
            raise asyncio.CancelledError

        def bad_error() -> None:
            raise RpcAnswerError(1, "m", object())

        server.add_method("broken", broken)
        server.add_method("broken_later", broken_later)
        server.add_method("cancels", cancels)
        server.add_method("bad_error", bad_error)
        server.add_method("unwritable", object)
        for method in ("broken", "broken_later", "cancels", "bad_error", "unwritable"):
            wire.send(f'{{"jsonrpc":"2.0","method":"{method}","id":1}}')
            assert (await wire.receive())["error"] == {"code": -32603, "message": "Internal error"}
        wire.send('{"jsonrpc":"2.0","method":"broken"}')
        assert await wire.nothing_comes()

    with caplog.at_level(logging.ERROR):
        serve(test)
    assert len(caplog.records) == 6
    assert caplog.records[0].exc_info is not None
    assert "broken" in caplog.records[0].getMessage()


def test_only_so_many_async_functions_run_at_a_time_and_none_is_lost() -> None:
    running, most = 0, 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1
        return number

    async def main() -> None:
        server = Server(max_concurrent=3)
        server.add_method("work", work)
        server.add_method("ping", lambda: "pong")
        async with server, Client(f"127.0.0.1:{server.port},1") as one, Client(f"127.0.0.1:{server.port},1") as two:
            calls = [client.call("work", [number]) for number in range(15) for client in (one, two)]
            batch = one.batch([("work", [number]) for number in range(7)]).send()
            results, batched = await asyncio.gather(asyncio.gather(*calls), batch)
            assert sorted(results) == sorted([*range(15), *range(15)])
            assert batched == list(range(7))
            assert await two.call("ping") == "pong"

    asyncio.run(main())
    assert most == 3


def test_a_request_over_the_size_limit_ends_its_connection_only() -> None:
    async def test(wire: Wire, server: Server) -> None:
        other = Wire(*await asyncio.open_connection("127.0.0.1", server.port))
        wire.send(b'{"jsonrpc":"2.0","method":"ping","id":1}', b"x" * 2000)
        assert (await wire.receive())["result"] == "pong"
        with pytest.raises((EOFError, ConnectionError)):
            await wire.receive()
        assert await other.nothing_comes()
        other.writer.close()

    serve(test, max_size=1000)


def test_a_client_that_asks_no_more_still_gets_its_answers() -> None:
    async def test(wire: Wire, _server: Server) -> None:
        wire.send(
            '{"jsonrpc":"2.0","method":"ping","id":1}', '{"jsonrpc":"2.0","method":"sleep","params":[0.01],"id":2}'
        )
        wire.writer.write_eof()
        assert (await wire.receive())["id"] == 1
        assert (await wire.receive())["id"] == 2
        with pytest.raises(EOFError):
            await wire.receive()

    serve(test)


def test_a_client_that_reads_nothing_is_not_read_from_for_ever() -> None:
    async def main() -> None:
        async with make_server() as server:
            server.add_method("big", lambda: "x" * 100_000)
            sock = socket.create_connection(("127.0.0.1", server.port))
            sock.setblocking(False)
            request = encode(b'{"jsonrpc":"2.0","method":"big","id":1}') * 100
            blocked = 0
            for _ in range(3000):
                try:
                    sock.send(request)
                    blocked = 0
                except BlockingIOError:
                    blocked += 1
                    if blocked == 20:
                        break
                await asyncio.sleep(0.001)
            assert blocked == 20
            sock.close()

    asyncio.run(main())


def test_what_a_client_has_asked_waits_while_it_reads_no_answers() -> None:
    number, size = 1500, 20_000

    async def main() -> None:
        called = 0

        def big() -> str:
            nonlocal called
            called += 1
            return "x" * size

        async with make_server() as server:
            server.add_method("big", big)
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                # All in one read of the server: without a bound, 30 MB of answers would wait.
                sock.sendall(encode(b'{"jsonrpc":"2.0","method":"big","id":1}') * number)
                sock.setblocking(False)
                before = -1
                while called != before:
                    before = called
                    await asyncio.sleep(0.02)
                # What a megabyte holds, and what the system takes for itself.
                assert 50 <= called < number // 2
                loop = asyncio.get_running_loop()
                decoder, answers = Decoder(), 0
                while answers < number:
                    answers += len(decoder.feed(await loop.sock_recv(sock, 1 << 20)))
                assert called == number

    asyncio.run(asyncio.wait_for(main(), 10))


def test_a_blocked_client_leaves_the_others_their_turn_in_the_queue() -> None:
    """A session that is blocked and waits for a running function is queued once."""

    async def main() -> None:
        async with make_server(max_concurrent=1) as server:
            server.add_method("big", lambda: "x" * 100_000)
            slow = encode(b'{"jsonrpc":"2.0","method":"sleep","params":[0.05],"id":2}')
            big = encode(b'{"jsonrpc":"2.0","method":"big","id":1}')
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.sendall(slow + big * 300 + slow + big * 10)
                sock.setblocking(False)
                async with Client(f"127.0.0.1:{server.port},1") as client:
                    for _ in range(3):
                        assert await client.call("sleep", [0.01, "slept"]) == "slept"
                    loop = asyncio.get_running_loop()
                    decoder, answers = Decoder(), 0
                    while answers < 312:
                        answers += len(decoder.feed(await loop.sock_recv(sock, 1 << 20)))
                    assert await client.call("sleep", [0, "slept"]) == "slept"
                    assert len(server.executor._queue) == 0

    asyncio.run(asyncio.wait_for(main(), 10))


def test_one_client_too_many_is_turned_away_until_another_goes(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with make_server(max_connections=2) as server:
            clients = [Wire(*await asyncio.open_connection("127.0.0.1", server.port)) for _ in range(2)]
            assert all([await client.nothing_comes() for client in clients])
            for _ in range(3):
                late = Wire(*await asyncio.open_connection("127.0.0.1", server.port))
                with pytest.raises((EOFError, ConnectionError)):
                    await late.receive()
                late.writer.close()
            assert server.refused == 3
            assert caplog.messages == ["2 JSON-RPC clients are connected: no more are let in"]
            clients[0].writer.close()
            await asyncio.sleep(0.02)
            again = Wire(*await asyncio.open_connection("127.0.0.1", server.port))
            assert await again.nothing_comes()
            for client in (again, clients[1]):
                client.writer.close()

    caplog.set_level(logging.WARNING, "sipwright.jsonrpc.server")
    asyncio.run(main())


def test_a_flood_of_payloads_leaves_the_others_their_turn() -> None:
    flood = 60_000

    async def main() -> None:
        async with make_server() as server:
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.setblocking(False)
                other = Wire(*await asyncio.open_connection("127.0.0.1", server.port))
                await asyncio.get_running_loop().sock_sendall(sock, b"0:," * flood)
                assert await other.nothing_comes()
                behind = [session for session in server._sessions if session.connection.is_behind]
                # It was answered while most of the flood was still to be taken.
                assert len(behind) == 1
                assert len(behind[0].connection._backlog) > flood // 2
                other.writer.close()

    asyncio.run(main())


def test_close_answers_what_was_read() -> None:
    number = 2500

    async def main() -> None:
        server = make_server()
        await server.start()
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            # All in one read of the server, and taken by turns.
            sock.sendall(encode(b'{"jsonrpc":"2.0","method":"ping","id":1}') * number)
            sock.setblocking(False)
            while not any(session.connection.is_behind for session in server._sessions):
                await asyncio.sleep(0)
            closing = asyncio.create_task(server.close())
            decoder, answers = Decoder(), 0
            while data := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
                answers += len(decoder.feed(data))
            assert answers == number
            await closing

    asyncio.run(asyncio.wait_for(main(), 10))


def test_close_lets_running_functions_end_and_answers_them() -> None:
    async def main() -> None:
        server = make_server(max_concurrent=1)
        await server.start()
        async with Client(f"127.0.0.1:{server.port},1", reconnect_interval=60) as client:
            calls = [asyncio.create_task(client.call("sleep", [0.02, number])) for number in range(2)]
            await asyncio.sleep(0.01)
            await server.close(timeout=2)
            assert await asyncio.gather(*calls) == [0, 1]
            with pytest.raises(RpcConnectionError):
                await client.call("ping", timeout=0.05)

    asyncio.run(main())


def test_close_cancels_what_takes_too_long() -> None:
    async def main() -> None:
        ended: list[str] = []

        async def stuck() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("cancelled")

        server = Server()
        server.add_method("stuck", stuck)
        await server.start()
        forever = asyncio.create_task(server.serve_forever())
        async with Client(f"127.0.0.1:{server.port},1", reconnect_interval=60) as client:
            call = asyncio.create_task(client.call("stuck"))
            await asyncio.sleep(0.02)
            await server.close(timeout=0.02)
            with pytest.raises(RpcConnectionError):
                await call
        assert ended == ["cancelled"]
        await forever

    asyncio.run(main())


def test_cancelling_serve_forever_closes_the_server() -> None:
    async def main() -> None:
        server = make_server()
        await server.start()
        port = server.port
        forever = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        forever.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forever
        with pytest.raises(OSError, match=r"refused|failed"):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(main())


def test_a_busy_or_wrong_port_is_one_clear_message() -> None:
    async def main() -> None:
        async with make_server() as server:
            with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{server.port}: .*in use"):
                await Server().start(port=server.port)
            with pytest.raises(StartError, match=r"cannot listen on 127\.0\.0\.1:70000"):
                await Server().start(port=70000)
            with pytest.raises(StartError, match="already"):
                await server.start()
        with pytest.raises(RuntimeError, match="does not listen"):
            _ = Server().port

    asyncio.run(main())


def test_functions_are_registered_by_name_or_by_decorator() -> None:
    server = Server()

    @server.method
    def one() -> int:
        return 1

    @server.method("name.of.two")
    def two() -> int:
        return 2

    assert (one(), two()) == (1, 2)
    assert list(server.dispatcher) == ["one", "name.of.two"]
    with pytest.raises(ArgumentError, match="already"):
        server.method(one)


def test_methods_are_registered_with_their_limits_and_keep_being_functions() -> None:
    server = Server()

    @server.method(timeout=1)
    def one() -> int:
        return 1

    @server.method("two", rate=5, concurrency=2, thread=True)
    def second() -> int:
        return 2

    server.add_method("three", lambda: 3, timeout=2)
    assert (one(), second()) == (1, 2)
    assert list(server.dispatcher) == ["one", "two", "three"]
    assert [method.is_plain for method in server.dispatcher.methods()] == [False, False, False]
    with pytest.raises(ArgumentError, match="timeout is a number above 0"):
        server.method(timeout=0)


def test_objects_are_services_with_their_public_methods() -> None:
    class Base:
        def inherited(self) -> str:
            return "inherited"

    class Users(Base):
        kind = "not a method"

        def __init__(self) -> None:
            self.field = len

        async def get(self, id: int) -> dict[str, int]:  # noqa: A002
            return {"id": id}

        @staticmethod
        def static() -> str:
            return "static"

        @property
        def computed(self) -> str:
            raise AssertionError("not to be asked")

        def _private(self) -> None:
            pass

    async def main() -> None:
        server = Server()
        server.add_service(Users(), prefix="users.")
        assert sorted(server.dispatcher) == ["users.get", "users.inherited", "users.static"]
        with pytest.raises(ArgumentError, match="already"):
            server.add_service(Users(), prefix="users.")
        with pytest.raises(ArgumentError, match="no public methods"):
            server.add_service(object())
        async with server, Client(f"127.0.0.1:{server.port},1") as client:
            assert await client.call("users.get", {"id": 5}) == {"id": 5}
            assert await client.call("users.static") == "static"

    asyncio.run(main())


def test_an_implementation_of_a_service_answers_the_calls_of_its_proxy() -> None:
    class Users(Service, prefix="users."):
        async def get(self, id: int) -> dict[str, int]:  # noqa: A002
            raise NotImplementedError

        @remote(method="removeUser")
        async def remove(self, id: int, *, now: bool = False) -> str:  # noqa: A002
            raise NotImplementedError

    class Kept(Users, implementation=True):
        def __init__(self) -> None:
            self.users = {5: {"age": 50}}

        async def get(self, id: int) -> dict[str, int]:  # noqa: A002
            return self.users[id]

        async def remove(self, id: int, *, now: bool = False) -> str:  # noqa: A002
            del self.users[id]
            return "now" if now else "later"

        def not_declared(self) -> None:
            pass

    async def main() -> None:
        server = Server()
        server.add_service(Kept(), prefix="v1.")
        assert list(server.dispatcher) == ["v1.users.get", "v1.users.removeUser"]
        server = Server(timeout=1)
        server.add_service(Kept())
        async with server, Client(f"127.0.0.1:{server.port},1") as client:
            users = Users(client)
            assert await users.get(5) == {"age": 50}
            assert await users.remove(5, now=True) == "now"
            with pytest.raises(TypeError, match="no implementation"):
                server.add_service(users)

    asyncio.run(main())


def test_exceptions_of_ones_own_are_mapped_to_errors() -> None:
    server = Server()
    server.error(LookupError, code=404)
    server.error(PermissionError, code=403, message="Forbidden")

    @server.error(ZeroDivisionError, ValueError, code=422)
    def describe(error: Exception) -> dict[str, str]:
        return {"kind": type(error).__name__}

    @server.error(OverflowError, code=1)
    def broken(_error: Exception) -> None:
        raise RuntimeError

    kinds: dict[str, Exception] = {"key": KeyError("x"), "no": PermissionError("secret")}
    kinds |= {"zero": ZeroDivisionError(), "over": OverflowError()}

    def fail(kind: str) -> None:
        raise kinds[kind]

    server.add_method("fail", fail)

    async def main() -> None:
        async with server, Client(f"127.0.0.1:{server.port},1") as client:
            found = []
            for kind in ("key", "no", "zero", "over"):
                with pytest.raises(RpcAnswerError) as caught:
                    await client.call("fail", [kind])
                found.append((caught.value.code, caught.value.message, caught.value.data))
            assert found == [
                (404, "'x'", None),
                (403, "Forbidden", None),
                (422, "ZeroDivisionError", {"kind": "ZeroDivisionError"}),
                (-32603, "Internal error", None),
            ]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_concurrent", 0),
        ("max_connections", -1),
        ("max_size", 0),
        ("max_response", 0),
        ("max_threads", 0),
        ("auth_timeout", 0.0),
        ("idle_timeout", -1.0),
        ("keepalive", 40_000),
    ],
)
def test_an_option_that_lets_nothing_through_is_refused(option: str, value: float) -> None:
    with pytest.raises(ArgumentError, match=f"{option} is a number above 0.*, not {value}"):
        Server(**{option: value})  # type: ignore[arg-type]


def test_results_are_whatever_msgspec_encodes() -> None:
    class User(msgspec.Struct):
        name: str
        born: date

    @dataclass
    class Pair:
        left: int
        right: User

    async def main() -> None:
        server = Server()
        server.add_method("pair", lambda: Pair(1, User("Alice", date(2000, 1, 2))))
        async with server, Client(f"127.0.0.1:{server.port},1") as client:
            assert await client.call("pair") == {"left": 1, "right": {"name": "Alice", "born": "2000-01-02"}}

    asyncio.run(main())


def test_the_counters_balance_whatever_is_asked() -> None:
    async def test(wire: Wire, server: Server) -> None:
        wire.send("nonsense", "[]", "[1,2]", '{"jsonrpc":"2.0","method":"ping","id":1}')
        wire.send('{"jsonrpc":"2.0","method":"ping"}', '{"jsonrpc":"2.0","method":"nope"}')
        sleep, ping = '"method":"sleep","params":[0.01],"id":1', '"method":"ping","id":2'
        wire.send(f'[{{"jsonrpc":"2.0",{sleep}}},{{"jsonrpc":"2.0",{ping}}}]')
        wire.send('{"jsonrpc":"2.0","method":"sleep","params":[0.05],"id":9}')
        for _ in range(5):
            await wire.receive()
        assert server.counters() == {
            "requests": 10,
            "results": 3,
            "errors": 4,
            "notifications": 2,
            "cancelled": 0,
            "running": 1,
            "connections": 1,
            "refused": 0,
        }
        assert (await wire.receive())["id"] == 9
        assert server.counters()["running"] == 0

    serve(test)


def test_a_server_that_was_not_started_says_so() -> None:
    async def main() -> None:
        async with asyncio.timeout(1):
            with pytest.raises(RuntimeError, match="not started"):
                await Server().serve_forever()
            server = Server()
            await server.close()
            await server.serve_forever()

    asyncio.run(main())


def test_a_function_that_meets_a_cancelled_future_does_not_end_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def test(wire: Wire, server: Server) -> None:
        def broken() -> None:
            raise asyncio.CancelledError

        server.add_method("broken", broken)
        wire.send('{"jsonrpc":"2.0","method":"broken","id":1}', '{"jsonrpc":"2.0","method":"ping","id":2}')
        assert (await wire.receive())["error"]["code"] == -32603
        assert (await wire.receive())["result"] == "pong"

    serve(test)
    assert "broken" in caplog.text


def test_a_batch_of_too_many_elements_is_refused_as_a_whole() -> None:
    async def test(wire: Wire, server: Server) -> None:
        start = time.perf_counter()
        wire.send("[" + "1," * 500_000 + "1]")
        answer = await wire.receive()
        assert time.perf_counter() - start < 1
        assert (answer["error"]["code"], answer["id"]) == (-32600, None)
        assert "10000" in answer["error"]["data"]
        wire.send(json.dumps([{"jsonrpc": "2.0", "method": "ping", "id": n} for n in range(10_000)]))
        assert len(await wire.receive()) == 10_000

    serve(test)


def test_garbage_of_every_kind_harms_nobody_else() -> None:
    async def main() -> None:
        random = Random(1)
        server = make_server(max_size=10_000)
        async with server, Client(f"127.0.0.1:{server.port},1") as client:
            await client.connected(1)

            async def pour(data: bytes) -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(data)
                with contextlib.suppress(ConnectionError, TimeoutError):
                    async with asyncio.timeout(0.2):
                        while await reader.read(65536):
                            pass
                writer.close()

            garbage = [random.randbytes(random.randrange(1, 5000)) for _ in range(30)]
            garbage += [encode(random.randbytes(random.randrange(200))) for _ in range(30)]
            garbage += [b"999999999:", b"10000:" + b"x" * 9999, b"0:," * 1000]
            garbage += [encode(b"[" * 9000), encode(b'{"a":' * 900)]
            garbage += [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01", encode(b"\xff\xfe"), b"1" * 9]
            poured = asyncio.gather(*(pour(data) for data in garbage))
            while not poured.done():
                assert await client.call("ping", timeout=2) == "pong"
                await asyncio.sleep(0.005)
            await poured
            async with asyncio.timeout(2):
                while len(server._sessions) > 1:
                    await asyncio.sleep(0.01)
        assert not server._sessions
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.parametrize("nest", ["[", '{"a":'])
def test_json_that_nests_too_deeply_is_answered_and_harms_nobody(nest: str) -> None:
    close = {"[": "]", '{"a":': "}"}[nest]

    async def test(wire: Wire, server: Server) -> None:
        server.add_method("take", lambda value: value)
        for depth in (100, 100_000):
            value = nest * depth + "1" + close * depth
            wire.send(f'{{"jsonrpc":"2.0","method":"take","params":[{value}],"id":1}}')
            answer = await wire.receive()
            assert ("result" in answer) == (depth == 100)
            if depth > 100:
                assert answer["error"]["code"] in (-32700, -32602)
        assert await wire.nothing_comes()

    serve(test)


def test_clients_that_never_finish_a_frame_cost_nothing_but_their_connection() -> None:
    async def main() -> None:
        server = make_server()
        async with server, Client(f"127.0.0.1:{server.port},1") as client:
            slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(50)]
            for _, writer in slow:
                writer.write(b"100000:")
            for _ in range(20):
                for _, writer in slow:
                    writer.write(b"x")
                assert await client.call("ping", timeout=2) == "pong"
            assert len(asyncio.all_tasks()) == 1
            for _, writer in slow:
                writer.close()

    asyncio.run(main())


def test_a_client_that_leaves_takes_its_waiting_requests_along() -> None:
    async def main() -> None:
        server = make_server(max_concurrent=1)
        async with server, Client(f"127.0.0.1:{server.port},1") as client:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(encode(b'{"jsonrpc":"2.0","method":"sleep","params":[0.02],"id":1}') * 50)
            await asyncio.sleep(0.01)
            writer.transport.abort()
            start = time.perf_counter()
            assert await client.call("sleep", [0, "mine"], timeout=2) == "mine"
            assert time.perf_counter() - start < 0.5

    asyncio.run(main())
