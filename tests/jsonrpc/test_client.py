"""The client and its callback core (`caller`) over real sockets: answers, deadlines, failover, misbehaving servers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any

import pytest

from sipwright.errors import (
    ArgumentError,
    RpcAnswerError,
    RpcClosedError,
    RpcConnectionError,
    RpcTimeoutError,
)
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec
from sipwright.jsonrpc.calls import PendingCall
from sipwright.jsonrpc.client import Client
from sipwright.netstring import encode
from sipwright.testing.fakerpc import FakeRpcServer, after, both, error, hang_up, never, payload, raw, result

QUICK: dict[str, Any] = {"reconnect_interval": 0.02, "random": lambda: 0.5}


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Outcomes:
    """Collects what `done` is called with, and waits for it."""

    def __init__(self) -> None:
        self.ended: list[tuple[Any, PendingCall]] = []

    def done(self, argument: Any, call: PendingCall) -> None:
        self.ended.append((argument, call))

    async def wait(self, count: int) -> list[PendingCall]:
        async with asyncio.timeout(3):
            while len(self.ended) < count:
                await asyncio.sleep(0.001)
        return [call for _, call in self.ended]


def settled(client: Client) -> bool:
    """Nothing is pending, and every call ended in exactly one way."""
    counts = client.counters()
    ended = sum(counts[name] for name in ("results", "errors", "timeouts", "failures", "cancelled"))
    return counts["pending"] == 0 and counts["calls"] == ended and counts["cancelled"] >= 0


# The callback core


def test_a_result_comes_back_raw_with_what_is_known_of_the_call() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", after(0.02, payload('{"jsonrpc":"2.0","result":{ "price": 1.10 },"id":%d}')))
            outcomes = Outcomes()
            handle = client.submit("get", b'{"id":1234}', outcomes.done, "mine")
            assert handle.status is None
            assert handle.ms == 0
            [call] = await outcomes.wait(1)
            assert outcomes.ended[0][0] == "mine"
            assert call is handle
            assert (call.status, call.result, call.error) == ("ok", b'{ "price": 1.10 }', None)
            assert (call.server, call.method) == (rpc.address, "get")
            assert 15 <= call.ms < 500
            assert rpc.calls[0].payload == b'{"id":1,"jsonrpc":"2.0","method":"get","params":{"id":1234}}'
            assert settled(client)

    run(main())


def test_an_error_answer_keeps_code_message_data_and_text() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            text = '{ "code": 404, "message": "no user", "data": [1.10] }'
            rpc.on("get", payload(f'{{"error":{text},"id":%d}}'))
            outcomes = Outcomes()
            client.submit("get", None, outcomes.done)
            [call] = await outcomes.wait(1)
            assert call.status == "error"
            assert call.error is not None
            assert (call.error.text, call.error.code, call.error.data) == (text.encode(), 404, b"[1.10]")
            assert client.counters()["errors"] == 1

    run(main())


def test_no_answer_is_a_timeout_and_a_late_one_is_counted_and_dropped() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", after(0.06, result(1)))
            outcomes = Outcomes()
            client.submit("get", None, outcomes.done, timeout=0.02)
            [call] = await outcomes.wait(1)
            assert call.status == "timeout"
            assert 20 <= call.ms < 1000
            await asyncio.sleep(0.08)
            assert len(outcomes.ended) == 1
            assert client.counters()["late"] == 1
            assert settled(client)

    run(main())


def test_done_is_never_called_from_inside_submit() -> None:
    async def main() -> None:
        client = Client("")
        client.start()
        outcomes = Outcomes()
        client.submit("get", None, outcomes.done)
        assert outcomes.ended == []
        assert client.pending == 1
        [call] = await outcomes.wait(1)
        assert (call.status, call.reason, call.server) == ("failure", "there are no servers", "")
        assert settled(client)
        await client.close()

    run(main())


def test_a_call_made_before_the_first_connection_waits_for_it() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", result(1))
            outcomes = Outcomes()
            client.submit("get", None, outcomes.done)
            assert client.connections == {rpc.address: None}
            assert (await outcomes.wait(1))[0].status == "ok"

    run(main())


def test_when_the_first_attempts_fail_waiting_calls_fail_at_once_and_later_ones_too() -> None:
    async def main() -> None:
        async with Client(f"127.0.0.1:{free_port()},1 127.0.0.1:{free_port()},2", reconnect_interval=60) as client:
            outcomes = Outcomes()
            client.submit("get", None, outcomes.done, timeout=5)
            [first] = await outcomes.wait(1)
            assert first.status == "failure"
            assert "Connect call failed" in first.reason or "refused" in first.reason
            client.submit("get", None, outcomes.done, timeout=5)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(outcomes.ended) == 2
            assert settled(client)

    run(main())


def test_a_cancelled_call_frees_its_slot_and_is_not_reported() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", after(0.02, result(1)))
            outcomes = Outcomes()
            waiting = client.submit("get", None, outcomes.done, wait=True)
            waiting.cancel()
            assert client.pending == 0
            await client.connected(1)
            call = client.submit("get", None, outcomes.done, timeout=0.03)
            call.cancel()
            call.cancel()
            assert client.pending == 0
            await asyncio.sleep(0.05)
            assert outcomes.ended == []
            assert call.status == "cancelled"
            assert client.counters()["late"] == 1
            assert client.counters()["cancelled"] == 2
            assert settled(client)

    run(main())


def test_an_exception_of_done_is_reported_and_does_not_stop_other_calls() -> None:
    async def main() -> None:
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

        def broken(argument: Any, call: PendingCall) -> None:
            raise RuntimeError(f"mine {call.status}")

        async with FakeRpcServer(hold=2) as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", result(1))
            rpc.on("none", never())
            await client.connected(1)
            outcomes = Outcomes()
            client.submit("none", None, broken, timeout=0.01)
            client.submit("get", None, broken)
            client.submit("get", None, outcomes.done)
            await outcomes.wait(1)
            await asyncio.sleep(0.02)
            assert sorted(str(problem["exception"]) for problem in problems) == ["mine ok", "mine timeout"]
            assert settled(client)

    run(main())


def test_calls_of_one_turn_leave_in_one_segment_and_are_answered_in_any_order() -> None:
    async def main() -> None:
        async with FakeRpcServer(hold=50) as rpc, Client(rpc.address + ",1") as client:
            rpc.on("echo", result(lambda params: params))
            results = await asyncio.gather(*(client.call("echo", [number]) for number in range(50)))
            assert results == [[number] for number in range(50)]

    run(main())


def test_notifications_are_refused_when_no_server_can_take_them() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            assert not client.submit_notification("log", b"[1]")
            await client.connected(1)
            assert client.submit_notification("log", b"[1]")
            await rpc.wait_for_calls(1)
            assert rpc.calls[0].payload == b'{"jsonrpc":"2.0","method":"log","params":[1]}'
            assert rpc.calls[0].is_notification
            assert client.counters()["notifications"] == 1

    run(main())


def test_a_wrong_group_or_method_name_is_refused_at_once() -> None:
    async def main() -> None:
        async with Client("") as client:
            outcomes = Outcomes()
            with pytest.raises(ArgumentError, match="no group"):
                client.submit("get", None, outcomes.done, group="nope")
            with pytest.raises(ValueError, match="surrogates"):
                client.submit("\udcff", None, outcomes.done)
            assert client.pending == 0
        with pytest.raises(ArgumentError):
            Client("localhost")
        with pytest.raises(RuntimeError, match="not started"):
            Client("").submit("get", None, outcomes.done)

    run(main())


def test_a_number_of_tries_below_none_is_none() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", result(1))
            assert await client.call("get", retry=-1, idempotent=True) == 1

    run(main())


def test_waiting_calls_that_the_server_cannot_take_all_end_at_once() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1", max_pending=2) as client:
            rpc.on("get", after(0.05, result(1)))
            await client.connected(1)
            outcomes = Outcomes()
            for _ in range(2):
                client.submit("get", None, outcomes.done, timeout=5)
            [endpoint] = client._pool.endpoints
            assert endpoint.connection is not None
            endpoint.connection.pause_writing()
            client.submit("get", None, outcomes.done, "waits", timeout=5, wait=True)
            await asyncio.sleep(0.01)
            assert outcomes.ended == []
            endpoint.connection.resume_writing()
            [call] = await outcomes.wait(1)
            assert (outcomes.ended[0][0], call.status) == ("waits", "failure")
            assert "as many calls" in call.reason
            await outcomes.wait(3)
            assert settled(client)

    run(main())


def test_the_value_of_a_call_that_is_pending_or_was_given_up_says_so() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", never())
            call = client.submit("get", None, Outcomes().done)
            with pytest.raises(RuntimeError, match="'get' has not ended"):
                call.value()
            call.cancel()
            with pytest.raises(RpcConnectionError, match="given up"):
                call.value()

    run(main())


def test_who_calls_while_the_client_closes_is_told_so_and_nothing_is_lost() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, FakeRpcServer() as other:
            for one in (rpc, other):
                one.on("get", never())
            client = Client(f"{rpc.address},1 {other.address},1", retry=1)
            client.start()
            await asyncio.sleep(0.05)
            reasons: list[str] = []
            sent: list[bool] = []

            def again(left: int, call: PendingCall) -> None:
                reasons.append(call.reason)
                sent.append(client.submit_notification("log", None))
                if left:
                    client.submit("get", None, again, left - 1)

            for _ in range(10):
                client.submit("get", None, again, 3)
            await rpc.wait_for_calls(5)
            # Closed twice at the same time, for good measure.
            await asyncio.gather(client.close(), client.close())
            await asyncio.sleep(0.01)
            assert reasons == ["the client was closed"] * 40
            assert not any(sent)
            assert settled(client)

    run(main())


def test_close_while_a_connection_is_being_made_ends_at_once() -> None:
    async def main() -> None:
        # A port that takes no more connections: its queue is full.
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            with contextlib.ExitStack() as stack:
                for _ in range(3):
                    sock = stack.enter_context(socket.socket())
                    sock.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        sock.connect(("127.0.0.1", port))
                client = Client(f"127.0.0.1:{port},1")
                client.start()
                call = asyncio.create_task(client.call("get"))
                await asyncio.sleep(0.05)
                async with asyncio.timeout(1):
                    await client.close()
                    with pytest.raises(RpcClosedError):
                        await call
        assert settled(client)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    run(main())


# Choice of server, failover and fail-back


def test_calls_are_spread_evenly_and_groups_are_apart() -> None:
    async def main() -> None:
        async with FakeRpcServer() as a, FakeRpcServer() as b, FakeRpcServer() as c:
            for one in (a, b, c):
                one.on("get", result(one.port))
            servers = [ServerSpec(ServerAddress(a.host, a.port), 1), ServerSpec(ServerAddress(b.host, b.port), 1)]
            async with Client(servers, groups={"other": c.address + ",1"}) as client:
                await asyncio.sleep(0.02)
                for _ in range(10):
                    await client.call("get")
                assert (len(a.calls), len(b.calls), len(c.calls)) == (5, 5, 0)
                assert await client.call("get", group="other") == c.port

    run(main())


def test_a_server_in_several_groups_has_one_connection() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", result(1))
            async with Client(rpc.address + ",1", groups={"a": rpc.address + ",2", "b": rpc.address + ",1"}) as client:
                await asyncio.gather(*(client.call("get", group=name) for name in (None, "a", "b") for _ in range(20)))
                assert rpc.connections_made == 1
                assert sorted(call.id for call in rpc.calls if isinstance(call.id, int)) == list(range(1, 61))

    run(main())


@pytest.mark.parametrize("count", [1, 7, 30])
def test_calls_at_once_to_equal_servers_differ_by_at_most_one(count: int) -> None:
    async def main() -> None:
        async with FakeRpcServer() as a, FakeRpcServer() as b, FakeRpcServer() as c, FakeRpcServer() as low:
            servers = f"{low.address},1 {a.address},5 {b.address},5 {c.address},5"
            async with Client(servers) as client:
                await asyncio.sleep(0.05)
                for one in (a, b, c):
                    one.on("get", result(1))
                await asyncio.gather(*(client.call("get") for _ in range(count)))
                numbers = [len(one.calls) for one in (a, b, c)]
                assert sum(numbers) == count
                assert max(numbers) - min(numbers) <= 1
                assert low.calls == []

    run(main())


def test_calls_of_a_lost_connection_move_once_for_each_try_and_never_to_a_server_that_was_asked() -> None:
    async def main() -> None:
        async with FakeRpcServer() as a, FakeRpcServer() as b, FakeRpcServer() as c:
            a.on("get", hang_up())
            b.on("get", after(0.02, hang_up()))
            c.on("get", result("c"))
            servers = f"{a.address},3 {b.address},2 {c.address},1"
            async with Client(servers, **QUICK | {"reconnect_interval": 0.001}, timeout=5, retry_lost=True) as client:
                await asyncio.sleep(0.05)
                with pytest.raises(RpcConnectionError, match=b.address):
                    await client.call("get", retry=1)
                await asyncio.sleep(0.05)
                assert await client.call("get", retry=2) == "c"
                assert [len(one.calls) for one in (a, b, c)] == [2, 2, 1]
                assert settled(client)

    run(main())


def test_a_lost_server_is_passed_over_and_taken_back_when_it_returns() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", result("first"))
            second.on("get", result("second"))
            async with Client(f"{first.address},2 {second.address},1", **QUICK) as client:
                await asyncio.sleep(0.02)
                assert await client.call("get") == "first"
                await first.stop()
                assert await client.call("get") == "second"
                await first.start()
                async with asyncio.timeout(2):
                    while await client.call("get") != "first":
                        await asyncio.sleep(0.005)
                assert client.counters()["reconnects"] == 1

    run(main())


def test_a_call_of_a_lost_connection_ends_at_once_or_moves_to_another_server() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", hang_up())
            second.on("get", result("second"))
            async with Client(f"{first.address},2 {second.address},1", **QUICK) as client:
                await asyncio.sleep(0.02)
                outcomes = Outcomes()
                client.submit("get", None, outcomes.done, "moves", timeout=5, retry=1, idempotent=True)
                client.submit("get", None, outcomes.done, "ends", timeout=5)
                client.submit("get", None, outcomes.done, "must not move", timeout=5, retry=1)
                await outcomes.wait(3)
                by_name = dict(outcomes.ended)
                assert by_name["ends"].status == by_name["must not move"].status == "failure"
                assert by_name["ends"].server == by_name["must not move"].server == first.address
                assert by_name["moves"].status == "ok"
                assert by_name["moves"].server == second.address
                assert by_name["moves"].ms < 1000
                assert client.counters()["retries"] == 1
                assert settled(client)

    run(main())


def test_a_call_that_is_given_up_while_its_connection_is_lost_does_not_move() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", hang_up())
            second.on("get", result("second"))
            async with Client(f"{first.address},2 {second.address},1", **QUICK) as client:
                await asyncio.sleep(0.02)
                outcomes = Outcomes()
                moving: list[PendingCall] = []
                client.submit("get", None, lambda _argument, _call: moving[0].cancel(), timeout=5)
                moving.append(client.submit("get", None, outcomes.done, timeout=5, retry=1))
                await asyncio.sleep(0.05)
                assert (moving[0].status, outcomes.ended, second.calls) == ("cancelled", [], [])
                assert settled(client)

    run(main())


def test_a_retry_needs_another_server() -> None:
    async def main() -> None:
        async with FakeRpcServer() as only, Client(only.address + ",1", **QUICK) as client:
            only.on("get", hang_up(), result(1))
            with pytest.raises(RpcConnectionError):
                await client.call("get", retry=5)
            assert client.counters()["retries"] == 0

    run(main())


def test_only_an_idempotent_call_is_asked_again_after_a_part_of_its_time() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", never())
            second.on("get", result("second"))
            async with Client(f"{first.address},2 {second.address},1") as client:
                await asyncio.sleep(0.02)
                with pytest.raises(RpcTimeoutError):
                    await client.call("get", retry=1, timeout=0.06)
                assert second.calls == []
                assert await client.call("get", retry=1, timeout=0.06, idempotent=True) == "second"
                assert settled(client)

    run(main())


def test_the_deadline_covers_all_tries() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            for one in (first, second):
                one.on("get", never())
            async with Client(f"{first.address},2 {second.address},1") as client:
                await asyncio.sleep(0.02)
                outcomes = Outcomes()
                client.submit("get", None, outcomes.done, timeout=0.06, retry=2, idempotent=True)
                [call] = await outcomes.wait(1)
                assert call.status == "timeout"
                assert 60 <= call.ms < 1000
                assert (len(first.calls), len(second.calls)) == (1, 1)
                assert settled(client)

    run(main())


def test_max_pending_makes_a_server_unavailable_for_new_calls() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1", max_pending=2) as client:
            rpc.on("get", after(0.02, result(1)))
            await client.connected(1)
            outcomes = Outcomes()
            for name in "abc":
                client.submit("get", None, outcomes.done, name)
            await outcomes.wait(3)
            assert [(name, call.status) for name, call in outcomes.ended] == [
                ("c", "failure"),
                ("a", "ok"),
                ("b", "ok"),
            ]
            assert "as many calls" in outcomes.ended[0][1].reason

    run(main())


def test_a_server_that_does_not_read_is_passed_over() -> None:
    async def main() -> None:
        accepted: list[asyncio.StreamWriter] = []

        async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            accepted.append(writer)

        listener = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1024)
        address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with Client(f"{address},1") as client:
            await client.connected(1)
            big = b'["%b"]' % (b"x" * 500_000)
            taken = 0
            async with asyncio.timeout(5):
                while client.submit_notification("log", big):
                    taken += 1
                    await asyncio.sleep(0.001)
            assert taken >= 2
            with pytest.raises(RpcConnectionError, match="does not read"):
                await client.notify("log", [1], timeout=0.02)
            for writer in accepted:
                writer.transport.abort()
        listener.close()

    run(main())


def test_what_waits_for_a_server_that_does_not_read_has_a_bound_in_bytes_also_within_one_turn() -> None:
    async def main() -> None:
        async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            accepted.append(writer)

        accepted: list[asyncio.StreamWriter] = []
        listener = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1024)
        async with Client(f"127.0.0.1:{listener.sockets[0].getsockname()[1]},1", timeout=0.2) as client:
            await client.connected(1)
            params = b'["%b"]' % (b"x" * 50_000)
            outcomes = Outcomes()
            # 100 MB, without a turn of the loop in between, as when many scripts go on at the same moment.
            for number in range(2000):
                client.submit("get", params, outcomes.done, number)
            [endpoint] = client._pool.endpoints
            assert endpoint.connection is not None
            assert endpoint.connection.transport is not None
            assert endpoint.connection.transport.get_write_buffer_size() < 4_000_000
            await outcomes.wait(2000)
            ends = [call.status for _, call in outcomes.ended]
            # Some are on their way, the others could not be sent at all.
            assert 20 < ends.count("timeout") < 400
            assert ends.count("failure") == 2000 - ends.count("timeout")
            assert "does not read what it is sent" in outcomes.ended[0][1].reason
            assert client.counters()["blocked"] == 1
            accepted[0].transport.abort()
        listener.close()

    run(main())


# Servers that misbehave


def test_bytes_that_come_one_at_a_time_are_an_answer() -> None:
    async def main() -> None:
        async with FakeRpcServer(byte_by_byte=True) as rpc, Client(rpc.address + ",1") as client:
            rpc.on("echo", result(lambda params: params))
            assert await client.call("echo", {"id": 1}) == {"id": 1}
            assert settled(client)

    run(main())


def test_answers_that_come_twice_or_belong_to_nobody_are_counted_and_dropped() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on(
                "get",
                both(
                    payload('{"result":1,"id":999}'),
                    payload('{"result":1,"id":null}'),
                    payload("rubbish"),
                    payload("[]"),
                    result(1),
                    result(2),
                ),
            )
            rpc.on("last", result("end"))
            assert await client.call("get") == 1
            assert await client.call("last") == "end"
            counts = client.counters()
            assert (counts["unknown"], counts["doubled"], counts["malformed"]) == (2, 1, 2)
            assert settled(client)

    run(main())


@pytest.mark.parametrize("data", [b"xyz", b"5:abcdefgh", b"007:1234567,", b"1234567890:", b"99999999:", b":,"])
def test_a_bad_netstring_ends_the_connection_and_its_calls_at_once(data: bytes) -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1", **QUICK) as client:
            rpc.on("get", never(), both(payload('{"result":"before","id":1}'), raw(data)), result("again"))
            outcomes = Outcomes()
            client.submit("get", None, outcomes.done, 1, timeout=5)
            client.submit("get", None, outcomes.done, 2, timeout=5)
            await outcomes.wait(2)
            # The answer before the fault counts; the other call does not run into its timeout.
            assert [(number, call.status) for number, call in outcomes.ended] == [(1, "ok"), (2, "failure")]
            assert "bad netstring" in outcomes.ended[1][1].reason
            assert outcomes.ended[1][1].ms < 1000
            assert await client.call("get") == "again"
            assert client.counters()["reconnects"] == 1
            assert settled(client)

    run(main())


def test_a_close_in_the_middle_of_an_answer_ends_the_call_at_once() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1", **QUICK) as client:
            rpc.on("get", both(raw(b'36:{"jsonrpc":"2.0","res'), after(0.01, hang_up())), result(1))
            with pytest.raises(RpcConnectionError, match=r"connection|closed"):
                await client.call("get", timeout=5)
            assert await client.call("get") == 1
            assert settled(client)

    run(main())


def test_requests_of_a_server_are_answered_that_there_is_no_such_method() -> None:
    async def main() -> None:
        answers: list[bytes] = []

        async def asking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(encode(b'{"jsonrpc":"2.0","method":"note","params":[]}'))
            writer.write(encode(b'{"jsonrpc":"2.0","method":"ask","id":"x"}'))
            answers.append(await reader.readuntil(b"},"))
            writer.close()

        listener = await asyncio.start_server(asking, "127.0.0.1", 0)
        async with Client(f"127.0.0.1:{listener.sockets[0].getsockname()[1]},1", reconnect_interval=60):
            async with asyncio.timeout(2):
                while not answers:
                    await asyncio.sleep(0.002)
        listener.close()
        assert b"-32601" in answers[0]

    run(main())


def test_what_is_neither_an_answer_nor_a_request_is_counted_and_not_answered() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", both(payload("{}"), payload('{"id":%d}'), payload('{"id":%d}'), payload('{"id":99}')))
            rpc.on("last", result("end"))
            with pytest.raises(RpcAnswerError, match="neither"):
                await client.call("get")
            assert await client.call("last") == "end"
            counts = client.counters()
            assert (counts["malformed"], counts["doubled"], len(rpc.calls)) == (2, 1, 2)

    run(main())


def test_a_server_that_asks_and_does_not_read_fills_no_memory() -> None:
    async def main() -> None:
        request = encode(b'{"jsonrpc":"2.0","method":"ask","id":"%b"}' % (b"x" * 1000)) * 1000
        accepted: list[asyncio.StreamWriter] = []

        async def asking(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(writer)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(20):
                writer.write(request)
                await writer.drain()
            writer.write(encode(b"[1]"))

        listener = await asyncio.start_server(asking, "127.0.0.1", 0, limit=1024)
        async with Client(f"127.0.0.1:{listener.sockets[0].getsockname()[1]},1") as client:
            async with asyncio.timeout(10):
                while client.counters()["malformed"] == 0:
                    await asyncio.sleep(0.01)
            [endpoint] = client._pool.endpoints
            assert endpoint.connection is not None
            assert endpoint.connection.transport is not None
            assert endpoint.connection.transport.get_write_buffer_size() < 5_000_000
            accepted[0].transport.abort()
        listener.close()

    run(main())


# The async face


def test_errors_are_typed_and_keep_what_the_server_said() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1", timeout=0.05) as client:
            rpc.on("bad", error(404, "no user", {"id": 1}))
            rpc.on("text", payload('{"error":"broken","id":%d}'))
            rpc.on("never", never())
            with pytest.raises(RpcAnswerError) as caught:
                await client.call("bad")
            assert (caught.value.code, caught.value.message, caught.value.data) == (404, "no user", {"id": 1})
            with pytest.raises(RpcAnswerError, match="broken"):
                await client.call("text")
            with pytest.raises(RpcTimeoutError, match=r"'never' from 127\.0\.0\.1:\d+ within \d+ ms"):
                await client.call("never")
            with pytest.raises(TypeError, match="array or an object"):
                await client.call("get", "text")
            assert settled(client)

    run(main())


def test_a_result_that_is_not_unicode_is_an_error_only_when_it_is_decoded() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", payload(b'{"id":%d,"result":"\xff"}'))
            rpc.on("bad", payload(b'{"id":%d,"error":{"code":1,"message":"m","data":"\xff"}}'))
            outcomes = Outcomes()
            client.submit("get", None, outcomes.done)
            [call] = await outcomes.wait(1)
            assert call.result == b'"\xff"'
            with pytest.raises(RpcAnswerError, match="cannot be decoded"):
                await client.call("get")
            with pytest.raises(RpcAnswerError, match="m"):
                await client.call("bad")

    run(main())


def test_a_call_waits_for_a_server_within_its_deadline() -> None:
    async def main() -> None:
        rpc = FakeRpcServer(port=free_port())
        rpc.on("get", result(1))
        async with Client(rpc.address + ",1", **QUICK) as client:
            await asyncio.sleep(0.02)
            call = asyncio.create_task(client.call("get", timeout=3))
            notification = asyncio.create_task(client.notify("log", timeout=3))
            await asyncio.sleep(0.01)
            await rpc.start()
            assert await call == 1
            await notification
            await rpc.wait_for_calls(2)
            await rpc.stop()
            with pytest.raises(RpcConnectionError, match="no server is connected"):
                await client.call("get", timeout=0.03)
            with pytest.raises(RpcConnectionError, match="no server is connected"):
                await client.notify("log", timeout=0.03)
            with pytest.raises(RpcConnectionError, match="no server is connected"):
                await client.connected(0.01)
            assert settled(client)

    run(main())


def test_cancelling_the_awaiting_task_frees_the_pending_slot() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", never())
            await client.connected(1)
            task = asyncio.create_task(client.call("get"))
            await rpc.wait_for_calls(1)
            assert client.pending == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.pending == 0
            assert settled(client)

    run(main())


def test_close_ends_pending_calls_and_later_ones() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            client = Client(rpc.address + ",1")
            client.start()
            call = asyncio.create_task(client.call("get"))
            await rpc.wait_for_calls(1)
            await client.close()
            with pytest.raises(RpcClosedError):
                await call
            with pytest.raises(RpcClosedError):
                await client.call("get")
            with pytest.raises(RpcClosedError):
                await client.notify("log")
            assert settled(client)
            assert client.connections == {rpc.address: None}

    run(main())


def test_close_gives_pending_calls_the_time_that_it_is_told() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", after(0.02, result("done")))
            client = Client(rpc.address + ",1")
            client.start()
            call = asyncio.create_task(client.call("get"))
            await rpc.wait_for_calls(1)
            await client.close(timeout=2)
            assert await call == "done"

    run(main())


def test_what_was_written_before_close_arrives() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            async with Client(rpc.address + ",1") as client:
                for number in range(100):
                    await client.notify("log", [number])
            await rpc.wait_for_calls(100)

    run(main())


def test_a_host_that_does_not_exist_is_a_failure_that_says_so() -> None:
    async def main() -> None:
        async with Client("no-such-host.invalid:1,1", **QUICK) as client:
            with pytest.raises(RpcConnectionError, match="no-such-host"):
                await client.call("get", timeout=0.2)

    run(main())


def test_nobody_waits_for_servers_that_are_given_up() -> None:
    async def main() -> None:
        async with Client(f"127.0.0.1:{free_port()},1", max_conn_attempts=0) as client, asyncio.timeout(10):
            for _ in range(2):
                with pytest.raises(RpcConnectionError, match="Connection refused"):
                    await client.connected(60)
            with pytest.raises(RpcConnectionError, match="Connection refused"):
                await client.call("m", timeout=60)

    run(main())


def test_a_client_in_another_loop_or_thread_says_so() -> None:
    async def use(client: Client) -> None:
        batch = client.batch([("get", None)])
        for wrong in (client.call("get"), client.notify("get"), client.connected(1), batch.send()):
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await wrong
        assert client.pending == 0

    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            await client.connected(1)
            await asyncio.to_thread(asyncio.run, use(client))

    run(main())


def test_a_client_whose_loop_has_ended_says_so() -> None:
    client = Client("127.0.0.1:1,1")

    async def main() -> None:
        client.start()
        with pytest.raises(RpcConnectionError):
            await client.call("get", timeout=0.01)

    async def later() -> None:
        for wrong in (client.call("get"), client.notify("get")):
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await wrong

    run(main())
    run(later())


def test_without_logging_a_client_writes_nothing_to_stderr() -> None:
    program = """if True:
        import asyncio
        from sipwright.jsonrpc import Client, RpcConnectionError, Server

        async def main():
            server = Server()
            @server.method
            def broken():
                raise KeyError("a fault of the service")
            await server.start()
            async with Client(f"127.0.0.1:{server.port},1") as client:
                print(await client.batch([("broken", None)]))
                await server.close()
                try:
                    await client.call("get", timeout=0.1)
                except RpcConnectionError as error:
                    print(error)

        asyncio.run(main())
        """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "RpcAnswerError(-32603, 'Internal error', None)" in done.stdout
    assert "'get': " in done.stdout
    # Faults of the service's functions are shown, the state of connections is not.
    assert "a fault of the service" in done.stderr
    assert "next attempt" not in done.stderr


def test_ten_thousand_calls_leave_nothing_behind() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("ok", result(1))
            rpc.on("bad", error(1, "m", [1]))
            rpc.on("never", never())

            async def end(method: str, timeout: float = 5) -> None:
                with contextlib.suppress(RpcAnswerError, RpcTimeoutError):
                    await client.call(method, timeout=timeout)

            async def give_up() -> None:
                task = asyncio.create_task(client.call("never"))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])

            gc.collect()
            gc.disable()
            try:
                for _ in range(10):
                    await asyncio.gather(*(end("ok") for _ in range(500)), *(end("bad") for _ in range(300)))
                    await asyncio.gather(*(end("never", 0.01) for _ in range(100)), *(give_up() for _ in range(50)))
                    await asyncio.gather(*(client.batch([("ok", None)] * 5) for _ in range(10)))
                assert gc.collect() < 500
            finally:
                gc.enable()
            assert len(client._deadlines) == 0
            assert settled(client)

    run(main())


def test_a_call_without_a_time_limit_has_an_infinite_one() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1", timeout=float("inf")) as client:
            rpc.on("get", after(0.02, result(1)))
            assert await client.call("get", retry=1, idempotent=True) == 1
            assert await client.batch([("get", None)]) == [1]
            await client.notify("get")

    run(main())


def test_a_client_whose_closing_is_cancelled_is_closed_all_the_same() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            client = Client(rpc.address + ",1", **QUICK)
            client.start()
            call = asyncio.create_task(client.call("get"))
            await rpc.wait_for_calls(1)
            closing = asyncio.create_task(client.close(30))
            await asyncio.sleep(0.03)
            closing.cancel()
            with pytest.raises(RpcClosedError):
                await call
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert settled(client)

    run(main())
