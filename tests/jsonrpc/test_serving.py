"""The serving half of a connection by itself: no socket, a transport that the test looks at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.dispatch import Dispatcher
from sipwright.jsonrpc.executor import Executor
from sipwright.jsonrpc.framing import NEWLINE
from sipwright.jsonrpc.limits import RESULT_TOO_LARGE
from sipwright.jsonrpc.peer import Peer
from sipwright.jsonrpc.serving import MAX_WAITING, Serving


class Transport(asyncio.Transport):
    """Keeps what is written, and whether it is read from."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Any] = []
        self.is_read = True

    def write(self, data: Any) -> None:
        self.lines += [json.loads(line) for line in bytes(data).splitlines()]

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass


class End:
    """One end of a connection that serves, as a client would set it up that lets servers call it."""

    def __init__(self, **options: Any) -> None:
        self.dispatcher = Dispatcher()
        self.executor = Executor(**options)
        self.serving = Serving(self.dispatcher, self.executor)
        self.transport = Transport()
        peer: Peer[Any] = Peer(lambda *_: None, self.serving.requested)
        self.connection = Connection(asyncio.get_running_loop(), self, peer, "test", framing=NEWLINE)
        self.serving.attach(self.connection)
        self.connection.connection_made(self.transport)

    def connection_ready(self, _connection: Connection, /) -> None:
        self.serving.go_on()

    def connection_blocked(self, _connection: Connection, /) -> None:
        self.serving.choose_reading()

    def connection_ended(self, _connection: Connection, _reason: str, /) -> None:
        self.serving.connection_ended()

    def stream_ended(self, _connection: Connection, /) -> bool:
        return False

    def ask(self, method: str, *, number: int | None = 1, params: str = "[]") -> None:
        request_id = "" if number is None else f',"id":{number}'
        text = f'{{"jsonrpc":"2.0","method":"{method}","params":{params}{request_id}}}\n'
        self.connection.data_received(text.encode())

    async def answers(self, number: int) -> list[Any]:
        async with asyncio.timeout(2):
            while len(self.transport.lines) < number:
                await asyncio.sleep(0)
        return self.transport.lines

    def counters(self) -> dict[str, int]:
        counters = self.executor.counters()
        assert counters["requests"] == sum(counters.values()) - counters["requests"]
        return {name: number for name, number in counters.items() if number}


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 5))


def test_any_connection_can_serve() -> None:
    async def main() -> None:
        end = End()
        end.dispatcher.add("add", lambda a, b: a + b)
        end.ask("add", params="[1,2]")
        end.ask("add", params="{}", number=2)
        end.ask("nothing", number=3)
        end.ask("add", params="[1,2]", number=None)
        answers = await end.answers(3)
        assert [answer.get("result", answer.get("error", {}).get("code")) for answer in answers] == [3, -32602, -32601]
        assert end.counters() == {"requests": 4, "results": 1, "errors": 2, "notifications": 1}

    run(main)


def test_requests_that_wait_keep_the_connection_from_being_read() -> None:
    async def main() -> None:
        end = End(max_concurrent=1)
        gate = asyncio.Event()
        end.dispatcher.add("wait", gate.wait)
        for number in range(3):
            end.ask("wait", number=number)
        assert not end.transport.is_read
        assert end.counters() == {"requests": 3, "running": 3}
        gate.set()
        assert [answer["id"] for answer in await end.answers(3)] == [0, 1, 2]
        await asyncio.sleep(0)
        assert end.transport.is_read

    run(main)


def test_with_calls_of_its_own_in_flight_it_is_read_up_to_a_bound() -> None:
    async def main() -> None:
        end = End(max_concurrent=1)
        gate = asyncio.Event()
        end.dispatcher.add("wait", gate.wait)

        class Call:
            id = 0

        end.connection.peer.request(Call(), b',"method":"x"', None)
        for number in range(MAX_WAITING):
            end.ask("wait", number=number)
        assert (end.transport.is_read, end.counters()["running"]) == (True, MAX_WAITING)
        end.ask("wait", number=MAX_WAITING)
        assert (end.transport.is_read, end.counters()["running"]) == (False, MAX_WAITING + 1)
        gate.set()
        assert len(await end.answers(MAX_WAITING + 1)) == MAX_WAITING + 1
        assert end.counters() == {"requests": MAX_WAITING + 1, "results": MAX_WAITING + 1}

    run(main)


def test_the_end_of_the_connection_drops_what_waits_and_lets_what_runs_go_on() -> None:
    async def main() -> None:
        end = End(max_concurrent=1)
        gate, ended = asyncio.Event(), []

        async def wait() -> None:
            await gate.wait()
            ended.append(1)

        end.dispatcher.add("wait", wait)
        for number in range(3):
            end.ask("wait", number=number)
        await asyncio.sleep(0)
        end.connection.connection_lost(None)
        assert end.counters() == {"requests": 3, "cancelled": 2, "running": 1}
        gate.set()
        while not ended:
            await asyncio.sleep(0)
        assert end.counters() == {"requests": 3, "cancelled": 2, "results": 1}
        # Its numbers are kept, and it is not.
        assert end.executor.servings == set()
        assert end.transport.lines == []

    run(main)


def test_several_connections_share_one_executor() -> None:
    async def main() -> None:
        one = End(max_concurrent=1)
        other = End()
        other.executor = one.executor
        other.serving.executor = one.executor
        one.executor.servings.add(other.serving)
        gate = asyncio.Event()
        for end in (one, other):
            end.dispatcher.add("wait", gate.wait)
        one.ask("wait")
        other.ask("wait")
        assert (one.transport.is_read, other.transport.is_read) == (True, False)
        gate.set()
        await one.answers(1)
        await other.answers(1)
        assert one.counters() == {"requests": 2, "results": 2}

    run(main)


def test_an_answer_above_the_limit_becomes_an_error() -> None:
    async def main() -> None:
        end = End(max_response=100)
        end.dispatcher.add("text", lambda size: "x" * size)
        end.ask("text", params="[50]")
        end.ask("text", params="[100]", number=2)
        small, large = await end.answers(2)
        assert small["result"] == "x" * 50
        assert large["error"] == {
            "code": RESULT_TOO_LARGE,
            "message": "Result too large",
            "data": "136 bytes, the limit is 100",
        }
        assert end.counters() == {"requests": 2, "results": 1, "errors": 1}

    run(main)


def test_a_batch_above_the_limit_is_refused_as_a_whole() -> None:
    async def main() -> None:
        end = End(max_batch=2)
        end.dispatcher.add("ping", lambda: "pong")
        call = '{"jsonrpc":"2.0","method":"ping","id":1}'
        end.connection.data_received(f"[{call},{call}]\n[{call},{call},{call}]\n".encode())
        two, three = await end.answers(2)
        assert [answer["result"] for answer in two] == ["pong", "pong"]
        assert three["error"] == {
            "code": -32600,
            "message": "Invalid Request",
            "data": "a batch of more than 2 messages",
        }
        assert end.counters() == {"requests": 3, "results": 2, "errors": 1}

    run(main)
