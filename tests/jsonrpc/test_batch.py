"""Batches of the client: one payload, each call with an end of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref

import pytest

from sipwright.errors import RpcAnswerError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.server import Server
from sipwright.testing.fakerpc import FakeRpcServer, error, hang_up, never, result


def test_a_batch_is_one_payload_and_gives_results_and_errors_in_order() -> None:
    async def main() -> None:
        async with FakeRpcServer(hold=3) as rpc, Client(rpc.address + ",1") as client:
            rpc.on("add", result(sum))
            rpc.on("bad", error(1, "no"))
            outcome = await client.batch([("add", [1, 2]), ("bad", None), ("add", [3, 4])])
            assert outcome[0] == 3
            assert isinstance(outcome[1], RpcAnswerError)
            assert outcome[2] == 7
            assert len({call.payload for call in rpc.calls}) == 1
            assert [request["method"] for request in json.loads(rpc.calls[0].payload)] == ["add", "bad", "add"]
            assert client.pending == 0

    asyncio.run(main())


def test_a_filled_batch_is_sent_at_the_end_of_its_block() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("add", result(sum))
            rpc.on("bad", error(1, "no"))
            async with client.batch() as batch:
                first = batch.call("add", [1, 2])
                batch.notify("log", {"text": "x"})
                second = batch.call("bad")
            assert batch.result(first) == 3
            with pytest.raises(RpcAnswerError, match="no"):
                batch.result(second)
            assert rpc.received("log")[0].is_notification
            with pytest.raises(RuntimeError, match="sent before"):
                await batch

    asyncio.run(main())


def test_a_block_that_fails_sends_nothing() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            await client.connected(1)
            with contextlib.suppress(KeyError):
                async with client.batch() as batch:
                    batch.call("add", [1, 2])
                    raise KeyError
            await asyncio.sleep(0.01)
            assert rpc.calls == []

    asyncio.run(main())


def test_calls_without_answers_time_out_each() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("add", result(sum))
            rpc.on("none", never())
            outcome = await client.batch([("add", [1]), ("none", None)], timeout=0.05)
            assert outcome[0] == 1
            assert isinstance(outcome[1], RpcTimeoutError)

    asyncio.run(main())


def test_a_lost_connection_ends_the_calls_of_a_batch_and_cancelling_frees_them() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1", reconnect_interval=0.01) as client:
            rpc.on("cut", hang_up())
            rpc.on("none", never())
            [outcome] = await client.batch([("cut", None)])
            assert isinstance(outcome, RpcConnectionError)
            await client.connected(1)
            task = asyncio.ensure_future(client.batch([("none", None), ("none", None)]).send())
            await rpc.wait_for_calls(3)
            assert client.pending == 2
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.pending == 0

    asyncio.run(main())


def test_empty_batches_and_batches_of_notifications_have_no_results() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            assert await client.batch() == []
            batch = client.batch()
            batch.notify("log", [1])
            assert await batch == []
            await rpc.wait_for_calls(1)

    asyncio.run(main())


def test_a_batch_without_servers_fails() -> None:
    async def main() -> None:
        async with Client("") as client:
            with pytest.raises(RpcConnectionError, match="no servers"):
                await client.batch([("add", [1])], timeout=0.01)

    asyncio.run(main())


def test_a_batch_is_filled_before_and_asked_after_it_is_sent() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("add", result(sum))
            batch = client.batch([("add", [1])])
            with pytest.raises(RuntimeError, match="not sent"):
                batch.result(0)
            assert await batch == [1]
            for add in (batch.call, batch.notify):
                with pytest.raises(RuntimeError, match="sent before"):
                    add("add", [2])

    asyncio.run(main())


def test_a_wrong_method_name_sends_nothing_and_leaves_nothing_pending() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            await client.connected(1)
            with pytest.raises(ValueError, match="surrogates"):
                client.batch([("add", [1]), ("\ud800", None)])
            with pytest.raises(ValueError, match="surrogates"):
                client.submit_batch([("add", b"[1]", print, 1), ("log", None, None, 1), ("\ud800", None, None, 1)])
            counts = client.counters()
            assert (counts["calls"], counts["pending"], counts["notifications"]) == (0, 0, 0)

    asyncio.run(main())


def test_ended_batches_are_freed_without_the_garbage_collector() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("add", result(sum))
            batch = client.batch([("add", [1])])
            batch.notify("log")
            freed = weakref.ref(batch)
            gc.disable()
            try:
                await batch
                del batch
                await asyncio.sleep(0)
                assert freed() is None
            finally:
                gc.enable()

    asyncio.run(main())


def test_a_batch_has_as_many_messages_as_a_server_takes() -> None:
    async def main() -> None:
        async with Server() as server, Client(f"127.0.0.1:{server.port},1") as client:
            server.add_method("add", lambda a: a)
            batch = client.batch([("add", [n]) for n in range(10_000)])
            with pytest.raises(ValueError, match="at most 10000"):
                batch.notify("add", [1])
            assert await batch == list(range(10_000))

    asyncio.run(main())
