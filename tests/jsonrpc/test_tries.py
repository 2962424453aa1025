"""Further tries: what is sent again, what must not be, hedging, codes, delays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from sipwright.errors import RpcAnswerError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc.client import Client
from sipwright.testing.fakerpc import FakeRpcServer, after, error, hang_up, never, result
from tests.jsonrpc.test_client import QUICK, Outcomes, settled


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def ready(client: Client, servers: int) -> None:
    async with asyncio.timeout(2):
        while sum(pending is not None for pending in client.connections.values()) < servers:
            await asyncio.sleep(0.001)


# What may be sent again


def test_a_call_that_may_have_left_is_not_sent_again() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("pay", hang_up())
            second.on("pay", result("paid"))
            async with Client(f"{first.address},2 {second.address},1", **QUICK) as client:
                await ready(client, 2)
                with pytest.raises(RpcConnectionError):
                    await client.call("pay", retry=3)
                assert second.calls == []
                assert settled(client)

    run(main())


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {"idempotent": True}),
        ({"idempotent_methods": ["get"]}, {}),
        ({"retry_lost": True}, {}),
    ],
)
def test_an_idempotent_or_listed_call_is_sent_again(settings: dict[str, Any], options: dict[str, Any]) -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", hang_up())
            second.on("get", result("second"))
            async with Client(f"{first.address},2 {second.address},1", **QUICK, **settings) as client:
                await ready(client, 2)
                assert await client.call("get", retry=1, **options) == "second"
                assert client.counters()["retries"] == 1
                assert settled(client)

    run(main())


def test_a_call_of_which_no_byte_has_left_is_sent_again_and_one_before_it_is_not() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", never())
            second.on("get", result("second"))
            async with Client(f"{first.address},2 {second.address},1", **QUICK) as client:
                await ready(client, 2)
                outcomes = Outcomes()
                client.submit("get", None, outcomes.done, "left", retry=1)
                await first.wait_for_calls(1)
                # Written in this turn of the loop, which also ends the connection.
                client.submit("get", None, outcomes.done, "never left", retry=1)
                [connection] = [c for c in client._pool.connections() if c.server == first.address]
                connection.abort("test")
                await outcomes.wait(2)
                by_name = dict(outcomes.ended)
                assert by_name["left"].status == "failure"
                assert (by_name["never left"].status, by_name["never left"].result) == ("ok", b'"second"')
                assert by_name["never left"].tries == 2
                assert len(first.calls) == 1
                assert settled(client)

    run(main())


def test_a_call_that_still_waits_in_the_transport_is_one_that_never_left() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            second.on("get", result("second"))
            async with Client(f"{first.address},2 {second.address},1", **QUICK) as client:
                await ready(client, 2)
                [connection] = first.connections
                assert connection._transport is not None
                connection._transport.pause_reading()
                outcomes = Outcomes()
                # More than the sockets of both ends hold, but less than would have it count as blocked.
                payload = b'["%b"]' % (b"x" * 300_000)
                for number in range(40):
                    client.submit("get", payload, outcomes.done, number, retry=1)
                    await asyncio.sleep(0)
                    if client.counters()["blocked"]:
                        break
                number_of_calls = number + 1
                [own] = [c for c in client._pool.connections() if c.server == first.address]
                # As when the other end closes: found by reading.
                own.eof_received()
                await outcomes.wait(number_of_calls)
                statuses = [str(call.status) for _, call in sorted(outcomes.ended, key=lambda one: one[0])]
                assert statuses[0] == "failure"
                assert statuses[-1] == "ok"
                assert statuses == sorted(statuses), "those that left came before those that had not"
                assert settled(client)

    run(main())


# Codes


def test_an_error_with_a_listed_code_leads_to_the_next_server() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", error(-32050, "busy"))
            second.on("get", result("second"))
            servers = f"{first.address},2 {second.address},1"
            async with Client(servers, **QUICK, retry_codes=[-32001, range(-32099, -32049)]) as client:
                await ready(client, 2)
                assert await client.call("get", retry=1) == "second"
                with pytest.raises(RpcAnswerError, match="busy"):
                    await client.call("get")
                assert client.counters()["errors"] == 1
                assert settled(client)

    run(main())


def test_an_error_with_another_code_or_of_the_last_server_ends_the_call() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", error(-32050, "first"), error(1, "other"))
            second.on("get", error(-32050, "second"))
            async with Client(f"{first.address},2 {second.address},1", **QUICK, retry_codes=[-32050]) as client:
                await ready(client, 2)
                with pytest.raises(RpcAnswerError, match="second"):
                    await client.call("get", retry=5)
                with pytest.raises(RpcAnswerError, match="other"):
                    await client.call("get", retry=5)
                assert settled(client)

    run(main())


def test_a_hedged_call_does_not_end_by_a_listed_code_while_another_server_is_asked() -> None:
    async def main() -> None:
        async with FakeRpcServer() as slow, FakeRpcServer() as busy:
            slow.on("get", after(0.1, result("slow")))
            busy.on("get", error(-32050, "busy"))
            async with Client(f"{slow.address},2 {busy.address},1", **QUICK, retry_codes=[-32050]) as client:
                await ready(client, 2)
                assert await client.call("get", idempotent=True, hedge=0.01) == "slow"
                assert len(busy.calls) == 1
                assert settled(client)

    run(main())


# Delays


def test_a_call_without_deadline_ends_when_no_server_will_ever_be_asked_again() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", hang_up())
            settings = {**QUICK, "max_conn_attempts": 2, "retry_delay": 0.01}
            async with Client(f"{rpc.address},1", **settings) as client:
                await ready(client, 1)
                call = asyncio.create_task(client.call("get", retry=3, idempotent=True, timeout=float("inf")))
                await rpc.wait_for_calls(1)
                await rpc.stop()
                with pytest.raises(RpcConnectionError, match="could not be asked again"):
                    await asyncio.wait_for(call, 3)
                assert settled(client)

    run(main())


def test_when_all_were_asked_they_are_asked_again_after_a_growing_delay() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", *[error(-32050, "busy")] * 3, result("at last"))
            async with Client(f"{rpc.address},1", **QUICK, retry_codes=[-32050], retry_delay=0.02) as client:
                await ready(client, 1)
                begin = time.monotonic()
                assert await client.call("get", retry=3) == "at last"
                assert 0.02 + 0.04 + 0.08 <= time.monotonic() - begin < 1
                assert client.counters()["retries"] == 3
                assert settled(client)

    run(main())


def test_a_call_whose_only_server_restarts_is_sent_again_when_it_is_back() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            async with Client(f"{rpc.address},1", **QUICK, retry_delay=0.01) as client:
                await ready(client, 1)
                call = asyncio.create_task(client.call("get", retry=1, idempotent=True, timeout=4))
                await rpc.wait_for_calls(1)
                await rpc.stop()
                await asyncio.sleep(0.05)
                rpc.on("get", result("back"))
                await rpc.start()
                assert await call == "back"
                assert settled(client)

    run(main())


def test_the_deadline_ends_a_call_that_waits_for_its_next_try() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", hang_up())
            async with Client(f"{rpc.address},1", reconnect_interval=60, retry_delay=10) as client:
                await ready(client, 1)
                begin = time.monotonic()
                with pytest.raises(RpcConnectionError, match="could not be asked again: no server is connected"):
                    await client.call("get", retry=1, idempotent=True, timeout=0.2)
                assert time.monotonic() - begin < 1
                assert settled(client)

    run(main())


def test_a_call_that_waits_for_its_next_try_can_be_given_up_and_ends_with_the_client() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", hang_up())
            outcomes = Outcomes()
            async with Client(f"{rpc.address},1", reconnect_interval=60, retry_delay=10) as client:
                await ready(client, 1)
                given_up = client.submit("get", None, outcomes.done, retry=1, idempotent=True)
                client.submit("get", None, outcomes.done, "stays", retry=1, idempotent=True)
                await rpc.wait_for_calls(2)
                await asyncio.sleep(0.02)
                assert client.pending == 2
                given_up.cancel()
                assert client.pending == 1
            assert [(name, call.status) for name, call in outcomes.ended] == [("stays", "failure")]
            assert settled(client)

    run(main())


# Hedging


def test_a_second_server_is_asked_after_the_delay_and_the_first_answer_wins() -> None:
    async def main() -> None:
        async with FakeRpcServer() as slow, FakeRpcServer() as quick:
            slow.on("get", after(0.2, result("slow")))
            quick.on("get", result("quick"))
            async with Client(f"{slow.address},2 {quick.address},1", **QUICK) as client:
                await ready(client, 2)
                begin = time.monotonic()
                assert await client.call("get", idempotent=True, hedge=0.02) == "quick"
                assert 0.02 <= time.monotonic() - begin < 0.15
                await asyncio.sleep(0.25)
                counts = client.counters()
                assert (counts["calls"], counts["results"], counts["hedges"], counts["late"]) == (1, 1, 1, 1)
                assert settled(client)

    run(main())


def test_the_first_server_may_still_win_and_no_hedge_is_sent_when_it_is_quick() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", after(0.06, result("first")), result("first"))
            second.on("get", never())
            async with Client(f"{first.address},2 {second.address},1", **QUICK, hedge=0.02) as client:
                await ready(client, 2)
                assert await client.call("get", idempotent=True) == "first"
                assert await client.call("get", idempotent=True) == "first"
                await asyncio.sleep(0.05)
                assert len(second.calls) == 1
                assert client.connections == {first.address: 0, second.address: 0}
                assert settled(client)

    run(main())


def test_a_call_that_is_not_idempotent_is_never_hedged() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("pay", after(0.08, result("paid")))
            async with Client(f"{first.address},2 {second.address},1", **QUICK, hedge=0.01) as client:
                await ready(client, 2)
                assert await client.call("pay") == "paid"
                assert second.calls == []

    run(main())


def test_a_call_may_say_that_it_is_not_to_be_hedged() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", after(0.05, result("first")), never())
            second.on("get", result("second"))
            async with Client(f"{first.address},2 {second.address},1", **QUICK, hedge=0.01) as client:
                await ready(client, 2)
                assert await client.call("get", idempotent=True, hedge=float("inf")) == "first"
                assert second.calls == []
                # Its further tries are by parts of its time then.
                answer = await client.call("get", idempotent=True, hedge=float("inf"), retry=1, timeout=0.1)
                assert (answer, client.counters()["hedges"]) == ("second", 0)

    run(main())


def test_a_hedged_call_survives_the_loss_of_either_connection() -> None:
    async def main() -> None:
        for lost in (0, 1):
            async with FakeRpcServer() as first, FakeRpcServer() as second:
                servers = (first, second)
                servers[lost].on("get", after(0.05, hang_up()))
                servers[1 - lost].on("get", after(0.1, result("answered")))
                async with Client(f"{first.address},2 {second.address},1", **QUICK) as client:
                    await ready(client, 2)
                    assert await client.call("get", idempotent=True, hedge=0.01) == "answered"
                    assert settled(client)

    run(main())


def test_a_hedged_call_without_any_answer_is_one_timeout() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second, FakeRpcServer() as third:
            for rpc in (first, second, third):
                rpc.on("get", never())
            servers = f"{first.address},3 {second.address},2 {third.address},1"
            async with Client(servers, **QUICK) as client:
                await ready(client, 3)
                with pytest.raises(RpcTimeoutError):
                    await client.call("get", idempotent=True, hedge=0.01, retry=2, timeout=0.1)
                assert [len(rpc.calls) for rpc in (first, second, third)] == [1, 1, 1]
                assert set(client.connections.values()) == {0}
                assert client.counters()["timeouts"] == 1
                assert settled(client)

    run(main())


def test_giving_up_a_hedged_call_frees_all_its_slots() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", never())
            second.on("get", never())
            async with Client(f"{first.address},2 {second.address},1", **QUICK) as client:
                await ready(client, 2)
                task = asyncio.create_task(client.call("get", idempotent=True, hedge=0.01))
                await second.wait_for_calls(1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert set(client.connections.values()) == {0}
                assert settled(client)

    run(main())


def test_a_hedge_of_no_time_asks_a_second_server_at_once_and_does_not_spin_where_there_is_none() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", after(0.2, result(1)))
            async with Client(f"{rpc.address},1", **QUICK) as client:
                await ready(client, 1)
                begin = time.process_time()
                assert await client.call("get", idempotent=True, hedge=0) == 1
                assert time.process_time() - begin < 0.1

    run(main())


# Giving up


def test_the_server_is_told_what_nobody_waits_for_any_more() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", never())
            second.on("get", result(2))
            servers = f"{first.address},2 {second.address},1"
            async with Client(servers, **QUICK, cancel_method="rpc.cancel") as client:
                await ready(client, 2)
                cancelled = asyncio.create_task(client.call("get"))
                await first.wait_for_calls(1)
                cancelled.cancel()
                with pytest.raises(RpcTimeoutError):
                    await client.call("get", timeout=0.03)
                assert await client.call("get", idempotent=True, hedge=0.01) == 2
                await first.wait_for_calls(6)
                told = [call.params for call in first.received("rpc.cancel")]
                assert told == [{"id": call.id} for call in first.received("get")]
                assert all(call.is_notification for call in first.received("rpc.cancel"))
                assert second.received("rpc.cancel") == []

    run(main())


# Servers to be avoided


def test_a_server_to_be_avoided_is_asked_only_where_no_other_can_be() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            for server in (first, second):
                server.on("get", result(server.port))
            async with Client(f"{first.address},2 {second.address},1", **QUICK) as client:
                await ready(client, 2)
                outcomes = Outcomes()
                for avoid in ([], [first.address], [first.address, second.address]):
                    client.submit("get", None, outcomes.done, avoid=avoid)
                ended = await outcomes.wait(3)
                assert sorted(call.server for call in ended) == sorted([first.address, second.address, first.address])
                assert [len(server.calls) for server in (first, second)] == [2, 1]
                assert settled(client)

    run(main())
