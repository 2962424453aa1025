"""Calls that wait for a server: when all are full, and in which order they go on."""

from __future__ import annotations

import asyncio
import time

import pytest

from sipwright.errors import ArgumentError, RpcConnectionError
from sipwright.jsonrpc.addresses import parse_address
from sipwright.jsonrpc.calls import PendingCall
from sipwright.jsonrpc.client import Client
from sipwright.testing.fakerpc import FakeRpcServer, after, error, never, result
from tests.jsonrpc.test_client import QUICK, Outcomes, settled
from tests.jsonrpc.test_tries import ready


def test_a_full_server_refuses_or_has_calls_wait_their_turn() -> None:
    async def main() -> None:
        for when_full, statuses in (("refuse", ["failure"] * 4 + ["ok"] * 2), ("wait", ["ok"] * 6)):
            async with FakeRpcServer() as rpc:
                rpc.on("get", after(0.01, result(lambda params: params[0])))
                async with Client(f"{rpc.address},1", max_pending=2, when_full=when_full, **QUICK) as client:  # type: ignore[arg-type]
                    await ready(client, 1)
                    outcomes = Outcomes()
                    for number in range(6):
                        client.submit("get", b"[%d]" % number, outcomes.done, number)
                    assert client.counters()["waiting"] == 4
                    calls = await outcomes.wait(6)
                    assert sorted(str(call.status) for call in calls) == sorted(statuses)
                    assert [call.params[0] for call in rpc.calls] == list(range(len(rpc.calls)))
                    assert client.counters()["waiting"] == 0
                    assert settled(client)

    asyncio.run(main())


def test_at_most_so_many_wait() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            servers = f"{rpc.address},1"
            async with Client(servers, max_pending=1, when_full="wait", max_waiting=2, **QUICK) as client:
                await ready(client, 1)
                outcomes = Outcomes()
                for number in range(4):
                    client.submit("get", None, outcomes.done, number)
                [call] = await outcomes.wait(1)
                assert outcomes.ended[0][0] == 3
                assert call.reason == "2 calls wait for a server already"
                assert client.counters()["waiting"] == 2
            assert settled(client)

    asyncio.run(main())


def test_where_none_may_wait_it_is_told_what_there_is_no_waiting_for() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            async with Client(f"{rpc.address},1", max_pending=1, when_full="wait", max_waiting=0, **QUICK) as client:
                await ready(client, 1)
                blocking = asyncio.create_task(client.call("get"))
                await rpc.wait_for_calls(1)
                with pytest.raises(RpcConnectionError, match="has as many calls pending as it may have"):
                    await client.call("get")
                blocking.cancel()

    asyncio.run(main())


def test_the_slot_of_a_call_that_times_out_or_is_given_up_is_the_next_ones() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never(), never(), result("third"))
            async with Client(f"{rpc.address},1", max_pending=1, when_full="wait", **QUICK) as client:
                await ready(client, 1)
                outcomes = Outcomes()
                client.submit("get", None, outcomes.done, "times out", timeout=0.03)
                second = client.submit("get", None, outcomes.done, "given up")
                client.submit("get", None, outcomes.done, "third")
                await rpc.wait_for_calls(2)
                second.cancel()
                await outcomes.wait(2)
                assert [(name, call.status) for name, call in outcomes.ended] == [
                    ("times out", "timeout"),
                    ("third", "ok"),
                ]
                assert settled(client)

    asyncio.run(main())


def test_one_that_waits_ends_at_its_deadline_and_says_why() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            async with Client(f"{rpc.address},1", max_pending=1, when_full="wait", **QUICK) as client:
                await ready(client, 1)
                blocking = asyncio.create_task(client.call("get", timeout=1))
                await rpc.wait_for_calls(1)
                with pytest.raises(RpcConnectionError, match="has as many calls pending as it may have"):
                    await client.call("get", timeout=0.03)
                blocking.cancel()

    asyncio.run(main())


def test_one_that_waits_for_a_full_server_goes_to_another_that_comes() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", never())
            second.on("get", result("second"))
            await second.stop()
            servers = f"{first.address},2 {second.address},1"
            async with Client(servers, max_pending=1, when_full="wait", **QUICK) as client:
                await ready(client, 1)
                blocking = asyncio.create_task(client.call("get"))
                await first.wait_for_calls(1)
                waiting = asyncio.create_task(client.call("get"))
                await asyncio.sleep(0.01)
                await second.start()
                assert await waiting == "second"
                blocking.cancel()

    asyncio.run(main())


def test_one_that_waits_comes_before_one_that_is_made_when_the_former_ends() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never(), result(1))
            async with Client(f"{rpc.address},1", max_pending=1, when_full="wait", **QUICK) as client:
                await ready(client, 1)
                outcomes = Outcomes()

                def go_on(number: int, call: PendingCall) -> None:
                    outcomes.done(number, call)
                    if number < 5:
                        client.submit("get", None, go_on, number + 1)

                client.submit("get", None, go_on, 0, timeout=0.03)
                client.submit("get", None, outcomes.done, "waits")
                await outcomes.wait(7)
                assert [name for name, _ in outcomes.ended[:3]] == [0, "waits", 1]
                assert settled(client)

    asyncio.run(main())


def test_groups_that_share_a_server_take_turns() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", result(1))
            servers = f"{rpc.address},1"
            async with Client(servers, groups={"other": servers}, max_pending=1, when_full="wait", **QUICK) as client:
                await ready(client, 1)
                outcomes = Outcomes()
                for group in ("", "other"):
                    for _ in range(4):
                        client.submit("get", None, outcomes.done, group, group=group)
                await outcomes.wait(8)
                assert [group for group, _ in outcomes.ended] == ["", "", "other", "", "other", "", "other", "other"]
                assert settled(client)

    asyncio.run(main())


def test_the_slot_of_a_call_that_waits_for_its_next_try_is_the_next_ones() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", error(1, "busy"))
            rpc.on("other", result(1))
            settings = {**QUICK, "max_pending": 1, "when_full": "wait", "retry_codes": [1], "retry_delay": 30}
            async with Client(f"{rpc.address},1", **settings) as client:
                await ready(client, 1)
                outcomes = Outcomes()
                delayed = client.submit("get", None, outcomes.done, retry=1)
                client.submit("other", None, outcomes.done, timeout=1)
                [call] = await outcomes.wait(1)
                assert (call.method, call.status) == ("other", "ok")
                delayed.cancel()
                assert settled(client)

    asyncio.run(main())


def test_the_slot_that_a_further_try_leaves_is_the_next_ones() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            for rpc in (first, second):
                rpc.on("get", never())
                rpc.on("other", result(1))
            servers, groups = f"{first.address},2 {second.address},1", {"first": f"{first.address},1"}
            async with Client(servers, groups=groups, max_pending=1, when_full="wait", **QUICK) as client:
                await ready(client, 2)
                moving = asyncio.create_task(client.call("get", retry=1, idempotent=True, timeout=2))
                await first.wait_for_calls(1)
                begin = time.monotonic()
                assert await client.call("other", group="first", timeout=3) == 1
                assert time.monotonic() - begin < 1.5
                moving.cancel()

    asyncio.run(main())


def test_a_notification_takes_no_slot_and_needs_none() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", never())
            servers = f"{first.address},2 {second.address},1"
            async with Client(servers, max_pending=1, **QUICK) as client:
                await ready(client, 2)
                client.drain_server(parse_address(second.address))
                blocking = asyncio.create_task(client.call("get"))
                await first.wait_for_calls(1)
                await client.notify("seen", [1])
                await first.wait_for_calls(2)
                assert client.counters()["notifications"] == 1
                blocking.cancel()

    asyncio.run(main())


def test_what_to_do_when_all_are_full_is_one_of_two_words() -> None:
    with pytest.raises(ArgumentError, match="when_full is 'refuse' or 'wait', not 'drop'"):
        Client("", when_full="drop")  # type: ignore[arg-type]
