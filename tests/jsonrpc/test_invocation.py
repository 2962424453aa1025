"""Calls with limits, deadlines and threads, and calls that are cancelled, over real sockets."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from random import Random
from typing import Any

import pytest

from sipwright.errors import RpcAnswerError
from sipwright.jsonrpc import limits
from sipwright.jsonrpc.executor import ServerEvent
from sipwright.jsonrpc.messages import Id
from sipwright.jsonrpc.middleware import Next, RpcRequest
from sipwright.jsonrpc.server import Server
from tests.jsonrpc.wire import Wire, connect, serve


def assert_balanced(server: Server, **expected: int) -> None:
    counters = server.counters()
    ended = ("results", "errors", "notifications", "cancelled", "running")
    assert counters["requests"] == sum(counters[name] for name in ended), counters
    assert {name: counters[name] for name in expected} == expected


def test_a_method_that_is_called_too_often_says_when_to_come_again() -> None:
    server = Server()

    @server.method(rate=2)
    def limited() -> str:
        return "ok"

    @server.method
    def free() -> str:
        return "ok"

    async def test(wire: Wire) -> None:
        assert [("result" in await wire.ask("limited")) for _ in range(3)] == [True, True, False]
        error = (await wire.ask("limited"))["error"]
        assert (error["code"], error["message"]) == (limits.RATE_EXCEEDED, "Rate limit exceeded")
        assert 0 < error["data"]["retry_after"] <= 0.5
        assert (await wire.ask("free"))["result"] == "ok"
        await asyncio.sleep(error["data"]["retry_after"])
        assert (await wire.ask("limited"))["result"] == "ok"
        assert_balanced(server, requests=6, results=4, errors=2)

    serve(server, test)


def test_only_so_many_calls_of_a_method_run_and_the_others_keep_their_order() -> None:
    server = Server()
    running, most = 0, 0
    order: list[int] = []

    @server.method(concurrency=2)
    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(number)
        await asyncio.sleep(0.01)
        running -= 1
        return number

    server.add_method("quick", lambda: "quick")

    async def test(wire: Wire) -> None:
        for number in range(7):
            wire.send(f'{{"jsonrpc":"2.0","method":"work","params":[{number}],"id":{number}}}')
        # Others do not wait behind them.
        assert (await wire.ask("quick"))["result"] == "quick"
        assert [(await wire.receive())["result"] for _ in range(7)] == list(range(7))
        assert (most, order) == (2, list(range(7)))
        assert_balanced(server, requests=8, results=8, running=0)

    serve(server, test)


def test_calls_that_wait_for_a_place_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WAITING", 2)
    server = Server()

    @server.method(concurrency=1)
    async def work() -> None:
        await asyncio.sleep(0.02)

    async def test(wire: Wire) -> None:
        for number in range(4):
            wire.send(f'{{"jsonrpc":"2.0","method":"work","id":{number}}}')
        first = await wire.receive()
        assert (first["id"], first["error"]["code"]) == (3, limits.TOO_MANY_CALLS)
        assert [(await wire.receive())["id"] for _ in range(3)] == [0, 1, 2]

    serve(server, test)


def test_a_call_that_takes_too_long_is_cancelled_and_answered() -> None:
    server = Server()
    ended: list[str] = []

    @server.method(timeout=0.03)
    async def slow(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "done"

    @server.method(timeout=0.03)
    async def stubborn() -> str:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            return "a result after all"
        return "done"

    @server.method(timeout=0.03)
    async def own() -> None:
        raise TimeoutError("a timeout of its own")

    async def test(wire: Wire) -> None:
        assert (await wire.ask("slow", [0.0]))["result"] == "done"
        start = time.perf_counter()
        for method in ("slow", "stubborn"):
            error = (await wire.ask(method, [5] if method == "slow" else None))["error"]
            assert error == {"code": limits.DEADLINE_EXCEEDED, "message": "Deadline exceeded", "data": "0.03 seconds"}
        assert time.perf_counter() - start < 1
        assert (await wire.ask("own"))["error"]["code"] == -32603
        assert ended == ["cancelled"]
        assert_balanced(server, requests=4, results=1, errors=3)

    serve(server, test)


def test_the_deadline_also_ends_calls_that_wait_for_a_place() -> None:
    server = Server(timeout=0.4)

    @server.method(concurrency=1, timeout=float("inf"))
    async def work(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    @server.method(concurrency=1)
    async def short(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    async def test(wire: Wire) -> None:
        wire.send('{"jsonrpc":"2.0","method":"short","params":[0.3],"id":1}')
        wire.send('{"jsonrpc":"2.0","method":"short","params":[0.3],"id":2}')
        wire.send('{"jsonrpc":"2.0","method":"short","params":[0.3],"id":3}')
        wire.send('{"jsonrpc":"2.0","method":"work","params":[0.6],"id":4}')
        answers = {answer["id"]: answer for answer in [await wire.receive() for _ in range(4)]}
        assert [request_id for request_id, answer in sorted(answers.items()) if "result" in answer] == [1, 4]
        assert {answers[2]["error"]["code"], answers[3]["error"]["code"]} == {limits.DEADLINE_EXCEEDED}
        # The place is free again.
        assert (await wire.ask("short", [0.0]))["result"] == "done"
        assert_balanced(server, requests=5, results=3, errors=2)

    serve(server, test)


def test_plain_functions_may_block_in_threads_with_the_context_of_the_call() -> None:
    server = Server(max_threads=4)
    context: contextvars.ContextVar[str] = contextvars.ContextVar("context")

    @server.middleware
    async def mark(request: Any, call_next: Any) -> Any:
        context.set(request.params[0])
        return await call_next(request)

    @server.method(thread=True)
    def block(name: str, seconds: float) -> list[Any]:
        time.sleep(seconds)
        return [context.get(), threading.current_thread() is threading.main_thread()]

    @server.method(thread=True)
    def stop(name: str) -> None:
        raise StopIteration

    server.add_method("quick", lambda _name: "quick")

    async def test(wire: Wire) -> None:
        start = time.perf_counter()
        for number in range(4):
            wire.send(f'{{"jsonrpc":"2.0","method":"block","params":["{number}",0.5],"id":{number}}}')
        assert (await wire.ask("quick", ["q"]))["result"] == "quick"
        assert time.perf_counter() - start < 0.4
        answers = [await wire.receive() for _ in range(4)]
        assert time.perf_counter() - start < 1.5
        assert all(answer["result"] == [str(answer["id"]), False] for answer in answers)
        assert (await wire.ask("stop", ["s"]))["error"]["code"] == -32603
        assert (await wire.ask("block", ["x", "y"]))["error"]["code"] == -32602

    serve(server, test)


def test_a_server_may_call_all_plain_functions_in_threads_but_never_async_ones() -> None:
    server = Server(threads=True)

    def name() -> str:
        return threading.current_thread().name

    async def name_of_async() -> str:
        return name()

    server.add_method("plain", name)
    server.add_method("here", name, thread=False)
    server.add_method("async", name_of_async)

    async def test(wire: Wire) -> None:
        assert (await wire.ask("plain"))["result"].startswith("jsonrpc")
        for method in ("here", "async"):
            assert (await wire.ask(method))["result"] == threading.current_thread().name

    serve(server, test)


def test_a_thread_over_its_deadline_is_answered_for_and_goes_on() -> None:
    server = Server()
    ended = threading.Event()

    @server.method(thread=True, timeout=0.03)
    def block() -> None:
        time.sleep(0.15)
        ended.set()

    async def test(wire: Wire) -> None:
        assert (await wire.ask("block"))["error"]["code"] == limits.DEADLINE_EXCEEDED
        assert not ended.is_set()
        assert await asyncio.to_thread(ended.wait, 2)
        assert_balanced(server, requests=1, errors=1)

    serve(server, test)


def test_a_client_cancels_its_own_calls_by_their_ids() -> None:
    server = Server(cancel_method="rpc.cancel", max_concurrent=2)
    cancelled: list[str] = []

    @server.method
    async def sleep(name: str) -> str:
        try:
            await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            cancelled.append(name)
            raise
        return name

    async def test(wire: Wire) -> None:
        other = await connect(server.addresses[0])
        other.send('{"jsonrpc":"2.0","method":"sleep","params":["theirs"],"id":1}')
        await asyncio.sleep(0.02)
        wire.send('{"jsonrpc":"2.0","method":"sleep","params":["mine"],"id":1}')
        # This one waits until one of the others has ended.
        wire.send('{"jsonrpc":"2.0","method":"sleep","params":["waits"],"id":"w"}')
        await asyncio.sleep(0.02)
        wire.tell("rpc.cancel", {"id": 1})
        answer = await wire.receive()
        assert (answer["id"], answer["error"]) == (1, {"code": limits.CALL_CANCELLED, "message": "Call cancelled"})
        await asyncio.sleep(0.02)
        wire.tell("rpc.cancel", {"id": "w"})
        assert (await wire.receive())["id"] == "w"
        assert (await other.receive())["result"] == "theirs"
        assert cancelled == ["mine", "waits"]
        # Of calls that ended, or never were, and of nonsense, nothing is said.
        for params in ({"id": 1}, {"id": 77}, {}, [None]):
            wire.tell("rpc.cancel", params)
        assert (await wire.ask("rpc.cancel", {"id": 5}))["result"] is None
        assert (await wire.ask("rpc.cancel", {"id": []}))["error"]["code"] == -32602
        assert_balanced(server, requests=11, results=2, errors=1, cancelled=2, notifications=6)
        other.writer.close()

    serve(server, test)


def test_calls_are_cancelled_before_they_begin() -> None:
    server = Server(cancel_method="$/cancelRequest")
    begun: list[int] = []

    @server.method(concurrency=1)
    async def work(number: int) -> int:
        begun.append(number)
        await asyncio.sleep(0.05)
        return number

    @server.method
    async def free(number: int) -> int:
        begun.append(number)
        return number

    async def test(wire: Wire) -> None:
        # In one packet: its task was made and has not had a turn; or it waits for a place.
        wire.send(
            '{"jsonrpc":"2.0","method":"free","params":[1],"id":1}',
            '{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}',
            '{"jsonrpc":"2.0","method":"work","params":[2],"id":2}',
            '{"jsonrpc":"2.0","method":"work","params":[3],"id":3}',
            '{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":3}}',
        )
        assert [(await wire.receive())["id"] for _ in range(3)] == [3, 1, 2]
        assert begun == [2]
        assert (await wire.ask("work", [4]))["result"] == 4
        assert_balanced(server, requests=6, results=2, cancelled=2, notifications=2)

    serve(server, test)


def test_without_the_option_there_is_no_method_to_cancel() -> None:
    async def test(wire: Wire) -> None:
        assert (await wire.ask("rpc.cancel", {"id": 1}))["error"]["code"] == -32601

    serve(Server(), test)


def test_hooks_are_told_of_connections_and_of_each_call_with_its_outcome() -> None:
    server = Server(cancel_method="rpc.cancel")
    events: list[ServerEvent] = []
    server.hook(events.append)

    @server.hook
    def broken(_event: ServerEvent) -> None:
        raise RuntimeError("a hook's fault is nobody else's")

    server.add_method("plain", lambda: 1)

    @server.method
    async def later() -> None:
        await asyncio.sleep(0.02)

    @server.method
    def refuse() -> None:
        raise RpcAnswerError(7, "no")

    async def test(wire: Wire) -> None:
        await wire.ask("plain")
        await wire.ask("later", request_id="x")
        await wire.ask("refuse")
        wire.tell("refuse", [])
        await wire.ask("nothing")
        wire.send('{"jsonrpc":"2.0","method":"later","id":5}')
        wire.tell("rpc.cancel", [5])
        await wire.receive()

    serve(server, test)
    calls = [(e.kind, e.method, e.id, e.status, e.code) for e in events if e.method]
    assert calls == [
        ("started", "plain", 1, "", 0),
        ("ended", "plain", 1, "result", 0),
        ("started", "later", "x", "", 0),
        ("ended", "later", "x", "result", 0),
        ("started", "refuse", 1, "", 0),
        ("ended", "refuse", 1, "error", 7),
        ("started", "refuse", None, "", 0),
        ("ended", "refuse", None, "error", 7),
        ("started", "nothing", 1, "", 0),
        ("ended", "nothing", 1, "error", -32601),
        ("started", "later", 5, "", 0),
        ("ended", "later", 5, "cancelled", limits.CALL_CANCELLED),
    ]
    assert [e.kind for e in events if not e.method] == ["connected", "disconnected"]
    assert events[4].ms >= 15
    assert events[7].is_notification
    assert {e.connection.peer_address.host for e in events} == {"127.0.0.1"}


def test_closing_ends_what_runs_and_waits_and_the_counters_balance() -> None:
    server = Server(timeout=10)

    @server.method(concurrency=1)
    async def forever() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        await server.start()
        wire = await connect(server.addresses[0])
        for number in range(3):
            wire.send(f'{{"jsonrpc":"2.0","method":"forever","id":{number}}}')
        await asyncio.sleep(0.02)
        assert_balanced(server, requests=3, running=3)
        start = time.perf_counter()
        await server.close(timeout=0.05)
        assert time.perf_counter() - start < 1
        assert await wire.is_closed()
        assert_balanced(server, requests=3, cancelled=3, running=0)
        assert len(asyncio.all_tasks()) == 1
        wire.writer.close()

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_asked_cancelled_and_hung_up_every_call_ends_once_and_nothing_is_left(seed: int) -> None:
    random = Random(seed)
    server = Server(cancel_method="rpc.cancel", max_concurrent=5, timeout=0.05, max_threads=2)
    started: list[tuple[int, Id]] = []
    ended: list[tuple[int, Id]] = []

    @server.hook
    def note(event: ServerEvent) -> None:
        if event.kind in ("started", "ended"):
            (started if event.kind == "started" else ended).append((id(event.connection), event.id))

    @server.middleware
    async def middleware(request: RpcRequest, call_next: Next) -> Any:
        if request.id is not None and hash(request.id) % 7 == 0:
            await asyncio.sleep(0)
        return await call_next(request)

    @server.method(concurrency=2)
    async def placed(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @server.method
    async def free(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @server.method(rate=50, timeout=float("inf"))
    def rated(seconds: float) -> None:
        if seconds > 0.05:
            raise ValueError("too long")

    @server.method(thread=True)
    def thread(seconds: float) -> None:
        time.sleep(seconds / 5)

    server.error(ValueError, code=1)

    async def client(number: int) -> None:
        wire = await connect(server.addresses[0])
        expected = 0
        for request_id in range(40):
            method = random.choice(["placed", "free", "rated", "thread", "nothing"])
            seconds = random.choice([0, 0.001, 0.01, 0.08])
            member = "" if random.random() < 0.2 else f',"id":{request_id}'
            expected += bool(member)
            wire.send(f'{{"jsonrpc":"2.0","method":"{method}","params":[{seconds}]{member}}}')
            if random.random() < 0.3:
                wire.tell("rpc.cancel", {"id": random.randrange(request_id + 1)})
            if random.random() < 0.3:
                await asyncio.sleep(random.choice([0, 0.005]))
        if number % 2:
            await asyncio.sleep(0.01)
            wire.writer.transport.abort()
        else:
            answers = [(await wire.receive())["id"] for _ in range(expected)]
            assert sorted(answers) == sorted(set(answers))
            assert (await wire.ask("free", [0], "last"))["id"] == "last"
            wire.writer.close()

    async def main() -> None:
        async with server:
            async with asyncio.timeout(20):
                await asyncio.gather(*map(client, range(6)))
                while server.counters()["running"]:
                    await asyncio.sleep(0.01)
        assert_balanced(server, running=0, connections=0)
        assert len(started) == len(ended)
        assert sorted(started, key=str) == sorted(ended, key=str)
        assert server.executor.servings == set()
        assert all(method.places.taken == 0 for method in server.dispatcher.methods() if method.places is not None)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
