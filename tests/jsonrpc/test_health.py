"""Circuit breakers: servers that do not answer are left out until a probe is answered."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import Any

import pytest

from sipwright.errors import RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc.client import Client
from sipwright.testing.fakerpc import FakeRpcServer, after, error, never, result
from tests.jsonrpc.test_client import QUICK, settled
from tests.jsonrpc.test_tries import ready

BREAKER: dict[str, Any] = {**QUICK, "max_failures": 3, "probe_interval": 0.02, "timeout": 0.05}


async def times_out(client: Client, count: int) -> None:
    for _ in range(count):
        with pytest.raises(RpcTimeoutError):
            await client.call("get")


def test_a_server_that_does_not_answer_is_left_out_and_a_probe_brings_it_back() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", never())
            first.on("rpc.ping", never(), never(), error(-32601, "Method not found"))
            second.on("get", result("second"))
            async with Client(f"{first.address},2 {second.address},1", **BREAKER) as client:
                told: list[tuple[str, str]] = []
                client.watch_servers = lambda event, server: told.append((event, server))
                await ready(client, 2)
                await times_out(client, 3)
                assert client.counters()["out"] == 1
                assert client.servers()[0]["state"] == "out"
                assert client.servers()[0]["failures"] == 3
                assert await client.call("get") == "second"
                first.on("get", result("first"))
                async with asyncio.timeout(3):
                    while await client.call("get") != "first":
                        await asyncio.sleep(0.005)
                assert len(first.received("rpc.ping")) == 3
                assert [event for event, server in told if server == first.address][-2:] == ["out", "back"]
                counts = client.counters()
                assert counts["out"] == 0
                # Probes are no calls.
                assert counts["calls"] == counts["results"] + 3
                assert settled(client)

    asyncio.run(main())


def test_an_answer_in_between_keeps_the_server_in() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            rpc.on("other", error(1, "an answer too"))
            async with Client(f"{rpc.address},1", **BREAKER) as client:
                await ready(client, 1)
                for _ in range(3):
                    await times_out(client, 2)
                    with pytest.raises(Exception, match="an answer too"):
                        await client.call("other")
                assert client.counters()["out"] == 0

    asyncio.run(main())


def test_without_another_server_calls_fail_at_once_and_say_why() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            rpc.on("rpc.ping", never())
            async with Client(f"{rpc.address},1", **BREAKER) as client:
                await ready(client, 1)
                await times_out(client, 3)
                begin = time.monotonic()
                assert not client.submit_notification("note", None)
                done = asyncio.get_running_loop().create_future()
                client.submit("get", None, lambda _argument, call: done.set_result(call))
                call = await done
                assert time.monotonic() - begin < 0.03
                assert call.status == "failure"
                assert "is left out after 3 calls without an answer" in call.reason

    asyncio.run(main())


def test_a_server_that_restarts_while_it_is_out_is_asked_first() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            rpc.on("rpc.ping", never())
            async with Client(f"{rpc.address},1", **BREAKER | {"probe_interval": 60}) as client:
                await ready(client, 1)
                await times_out(client, 3)
                await rpc.stop()
                rpc.on("get", result("back"))
                rpc.on("rpc.ping", after(0.02, result("pong")))
                await rpc.start()
                assert await client.call("get", timeout=2) == "back"
                assert settled(client)

    asyncio.run(main())


def test_a_client_is_closed_with_a_probe_under_way() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            rpc.on("rpc.ping", never())
            async with Client(f"{rpc.address},1", **BREAKER) as client:
                await ready(client, 1)
                await times_out(client, 3)
                await rpc.wait_for_calls(4)
            assert settled(client)
            with pytest.raises(RpcConnectionError):
                await client.call("get")

    asyncio.run(main())


def test_a_call_without_an_answer_counts_once_however_many_parts_its_time_has() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            async with Client(f"{rpc.address},1", **BREAKER) as client:
                await ready(client, 1)
                with pytest.raises(RpcTimeoutError):
                    await client.call("get", retry=5, idempotent=True)
                [server] = client.servers()
                assert (server["state"], server["failures"]) == ("connected", 1)

    asyncio.run(main())


def test_a_server_is_not_blamed_for_the_time_in_which_it_is_not_asked() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", error(1, "busy"))
            second.on("get", never())
            settings = {**BREAKER, "retry_codes": [1]}
            # Its answer is there, and the other server's awaited, when the time is over.
            async with Client(f"{first.address},2 {second.address},1", **settings) as client:
                await ready(client, 2)
                first.on("get", after(0.02, error(1, "busy")))
                with pytest.raises(RpcTimeoutError):
                    await client.call("get", hedge=0.01, retry=2, idempotent=True)
                assert [server["failures"] for server in client.servers()] == [0, 1]
            # The call waits for its next try when a part of its time is over.
            first.on("get", error(1, "busy"))
            await second.stop()
            async with Client(f"{first.address},2 {second.address},1", retry_delay=0.08, **settings) as client:
                await ready(client, 1)
                with pytest.raises(RpcConnectionError):
                    await client.call("get", retry=3, idempotent=True)
                assert [server["failures"] for server in client.servers()] == [0, 0]

    asyncio.run(main())


def test_a_client_that_is_closed_leaves_no_timer_of_a_probe_behind() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            client = Client(f"{rpc.address},1", **BREAKER | {"probe_interval": 60})
            async with client:
                await ready(client, 1)
                await times_out(client, 3)
            is_there = weakref.ref(client)
            del client
            gc.collect()
            assert is_there() is None

    asyncio.run(main())
