"""What the client tells a watch: each request that is sent, how each call ends, answers that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from sipwright.jsonrpc.calls import PendingCall
from sipwright.jsonrpc.client import Client
from sipwright.netstring import encode
from sipwright.testing.fakerpc import FakeRpcServer, after, both, error, hang_up, never, raw, result

QUICK: dict[str, Any] = {"reconnect_interval": 0.02, "random": lambda: 0.5}


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


class Told:
    """A watch that keeps what it is told: event, argument of the call, server, id."""

    def __init__(self, client: Client) -> None:
        self.events: list[tuple[str, Any, str, int | None]] = []
        client.watch = self.take

    def take(self, event: str, call: PendingCall | None, server: str, number: int | None) -> None:
        self.events.append((event, None if call is None else call.argument, server, number))

    async def wait(self, count: int) -> list[tuple[str, Any, str, int | None]]:
        async with asyncio.timeout(3):
            while len(self.events) < count:
                await asyncio.sleep(0.001)
        return self.events


def ignore(_argument: Any, _call: PendingCall) -> None:
    pass


def test_each_call_is_told_when_it_is_sent_and_when_it_has_ended() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", result(1))
            rpc.on("miss", error(404, "no user"))
            told = Told(client)
            client.submit("get", None, ignore, "first")
            await told.wait(2)
            client.submit("miss", None, ignore, "second")
            assert await told.wait(4) == [
                ("request", "first", rpc.address, 1),
                ("ok", "first", rpc.address, 1),
                ("request", "second", rpc.address, 2),
                ("error", "second", rpc.address, 2),
            ]

    run(main())


def test_a_timeout_and_its_late_answer_have_the_same_id() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", after(0.06, result(1)))
            told = Told(client)
            client.submit("get", None, ignore, "mine", timeout=0.02)
            assert await told.wait(3) == [
                ("request", "mine", rpc.address, 1),
                ("timeout", "mine", rpc.address, 1),
                ("late", None, rpc.address, 1),
            ]

    run(main())


def test_doubled_and_unknown_answers_are_told() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", both(result(1), result(1), raw(encode(b'{"result":1,"id":"strange"}'))))
            told = Told(client)
            client.submit("get", None, ignore)
            assert [(event, number) for event, _, _, number in await told.wait(4)] == [
                ("request", 1),
                ("ok", 1),
                ("doubled", 1),
                ("unknown", None),
            ]

    run(main())


def test_a_call_that_is_sent_nowhere_has_no_id() -> None:
    async def main() -> None:
        async with Client("") as client:
            told = Told(client)
            client.submit("get", None, ignore, "mine")
            assert await told.wait(1) == [("failure", "mine", "", None)]

    run(main())


def test_a_further_try_is_told_as_a_request_of_its_own() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", hang_up())
            second.on("get", result(1))
            async with Client(f"{first.address},2 {second.address},1", **QUICK) as client:
                while None in client.connections.values():
                    await asyncio.sleep(0.001)
                told = Told(client)
                client.submit("get", None, ignore, "mine", retry=1, idempotent=True)
                assert await told.wait(3) == [
                    ("request", "mine", first.address, 1),
                    ("request", "mine", second.address, 1),
                    ("ok", "mine", second.address, 1),
                ]

    run(main())


def test_the_calls_of_a_batch_and_those_that_waited_are_told() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", never())
            told = Told(client)
            client.submit("get", None, ignore, "waited")  # the connection is not there yet
            await told.wait(1)
            client.submit_batch([("get", None, ignore, "a"), ("note", None, None, None), ("get", None, ignore, "b")])
            assert [(event, argument, number) for event, argument, _, number in told.events] == [
                ("request", "waited", 1),
                ("request", "a", 2),
                ("request", "b", 3),
            ]

    run(main())
