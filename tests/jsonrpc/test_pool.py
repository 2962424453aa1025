"""Servers that come and go at run time, and SRV names whose records change, over real sockets and real DNS."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from sipwright.errors import ArgumentError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, parse_address
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.resolve import DnsResolver, SrvRecord
from sipwright.testing.fakedns import FakeDnsServer
from sipwright.testing.fakerpc import FakeRpcServer, after, hang_up, never, result
from tests.jsonrpc.test_client import QUICK, Outcomes, free_port, settled
from tests.jsonrpc.test_tries import ready

NAME = "_rpc._tcp.example.org"


def spec(rpc: FakeRpcServer, priority: int = 1, weight: int = 1) -> ServerSpec:
    return ServerSpec(parse_address(rpc.address), priority, weight)


def states(client: Client) -> dict[str, str]:
    return {server["address"]: server["state"] for server in client.servers()}


async def until(condition: Any) -> None:
    async with asyncio.timeout(3):
        while not condition():
            await asyncio.sleep(0.002)


# Changes at run time


def test_a_server_is_added_and_used_and_removed_when_its_calls_have_ended() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", result("first"))
            second.on("get", result("second"), after(0.1, result("the last")))
            async with Client(f"{first.address},1", **QUICK) as client:
                assert await client.call("get") == "first"
                client.add_server(spec(second, 2))
                await ready(client, 2)
                assert await client.call("get") == "second"
                last = asyncio.create_task(client.call("get"))
                await second.wait_for_calls(2)
                client.remove_server(parse_address(second.address))
                assert await client.call("get") == "first"
                assert list(states(client)) == [first.address]
                assert await last == "the last"
                await until(lambda: not second.connections)
                assert client.connections == {first.address: 0}
                assert settled(client)

    asyncio.run(main())


def test_a_drained_server_keeps_its_connection_and_is_used_again_when_it_is_added_again() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", after(0.05, result("first")), result("first"))
            second.on("get", result("second"))
            async with Client(f"{first.address},2 {second.address},1", **QUICK) as client:
                await ready(client, 2)
                pending = asyncio.create_task(client.call("get"))
                await first.wait_for_calls(1)
                assert client.drain_server(parse_address(first.address)) == 1
                assert await client.call("get") == "second"
                assert states(client)[first.address] == "drained"
                assert await pending == "first"
                assert client.drain_server(parse_address(first.address)) == 0
                client.add_server(spec(first, 2))
                assert await client.call("get") == "first"
                assert first.connections_made == 1
                assert settled(client)

    asyncio.run(main())


def test_a_server_is_drained_in_one_group_and_not_in_another() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", result(1))
            async with Client(f"{rpc.address},1", groups={"other": f"{rpc.address},1"}, **QUICK) as client:
                await ready(client, 1)
                client.drain_server(parse_address(rpc.address), "other")
                assert await client.call("get") == 1
                with pytest.raises(RpcConnectionError, match="is being drained"):
                    await client.call("get", group="other", timeout=0.05)
                client.remove_server(parse_address(rpc.address), "other")
                with pytest.raises(RpcConnectionError, match="there are no servers"):
                    await client.call("get", group="other", timeout=0.05)
                assert await client.call("get") == 1
                assert rpc.connections_made == 1

    asyncio.run(main())


def test_a_group_is_added_and_filled_while_a_call_waits_for_it() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(**QUICK) as client:
            rpc.on("get", result(1))
            client.add_group("late")
            with pytest.raises(RpcConnectionError, match="there are no servers"):
                await client.call("get", group="late", timeout=5)
            client.add_server(ServerSpec(ServerAddress("127.0.0.1", free_port()), 1), "late")
            call = asyncio.create_task(client.call("get", group="late", timeout=5))
            await asyncio.sleep(0.01)
            client.add_server(spec(rpc), "late")
            assert await call == 1

    asyncio.run(main())


def test_priority_and_weight_are_changed_by_adding_again() -> None:
    async def main() -> None:
        async with FakeRpcServer() as first, FakeRpcServer() as second:
            first.on("get", result("first"))
            second.on("get", result("second"))
            async with Client(f"{first.address},1 {second.address},1", **QUICK) as client:
                await ready(client, 2)
                client.add_server(spec(first, 1, 3))
                numbers = Counter([await client.call("get") for _ in range(8)])
                assert numbers == {"first": 6, "second": 2}
                [described] = [server for server in client.servers() if server["address"] == first.address]
                assert described == {
                    "group": "",
                    "address": first.address,
                    "priority": 1,
                    "weight": 3,
                    "state": "connected",
                    "pending": 0,
                    "calls": 6,
                    "failures": 0,
                    "reason": "",
                }

    asyncio.run(main())


def test_a_server_that_is_removed_while_it_is_down_is_forgotten_at_once() -> None:
    async def main() -> None:
        address = ServerAddress("127.0.0.1", free_port())
        async with Client([ServerSpec(address, 1)], **QUICK) as client:
            await until(lambda: client.servers()[0]["reason"])
            client.remove_server(address)
            assert client.connections == {}

    asyncio.run(main())


def test_a_removed_server_is_not_connected_again_when_its_last_call_loses_the_connection() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", after(0.06, hang_up()))
            async with Client(f"{rpc.address},1", reconnect_interval=0.001, random=lambda: 0.5) as client:
                await ready(client, 1)
                call = asyncio.create_task(client.call("get"))
                await rpc.wait_for_calls(1)
                client.remove_server(parse_address(rpc.address))
                with pytest.raises(RpcConnectionError):
                    await call
                await asyncio.sleep(0.1)
                assert rpc.connections_made == 1
                assert client.connections == {}

    asyncio.run(main())


def test_what_was_counted_of_a_server_that_is_gone_stays_counted() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", hang_up(), result(1))
            async with Client(f"{rpc.address},1", **QUICK) as client:
                with pytest.raises(RpcConnectionError):
                    await client.call("get")
                assert await client.call("get") == 1
                assert client.counters()["reconnects"] == 1
                client.remove_server(parse_address(rpc.address))
                await until(lambda: not client.connections)
                assert client.counters()["reconnects"] == 1

    asyncio.run(main())


def test_a_removed_server_that_is_left_out_is_not_kept_for_its_probes() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never(), after(0.5, result("at last")))
            rpc.on("rpc.ping", never())
            settings = {**QUICK, "max_failures": 1, "probe_interval": 0.01}
            async with Client(f"{rpc.address},1", **settings) as client:
                await ready(client, 1)
                long = asyncio.create_task(client.call("get", timeout=5))
                await rpc.wait_for_calls(1)
                with pytest.raises(RpcTimeoutError):
                    await client.call("get", timeout=0.02)
                client.remove_server(parse_address(rpc.address))
                await asyncio.sleep(0.1)
                assert rpc.received("rpc.ping") == []
                long.cancel()

    asyncio.run(main())


def test_a_call_in_flight_at_a_server_of_two_groups_is_one() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            async with Client(f"{rpc.address},1", groups={"other": f"{rpc.address},1"}, **QUICK) as client:
                call = asyncio.create_task(client.call("get"))
                await rpc.wait_for_calls(1)
                assert client.drain_server(parse_address(rpc.address)) == 1
                call.cancel()

    asyncio.run(main())


def test_a_server_that_is_removed_and_added_again_is_shown_with_its_new_connection() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            rpc.on("get", never())
            async with Client(f"{rpc.address},1", **QUICK) as client:
                call = asyncio.create_task(client.call("get"))
                await rpc.wait_for_calls(1)
                client.remove_server(parse_address(rpc.address))
                client.add_server(spec(rpc))
                await client.connected(2)
                assert client.connections == {rpc.address: 0}
                assert client.pending == 1
                call.cancel()

    asyncio.run(main())


def test_a_server_that_was_given_up_is_asked_again_when_it_is_added_again() -> None:
    async def main() -> None:
        rpc = FakeRpcServer(port=free_port())
        rpc.on("get", result(1))
        async with Client(f"{rpc.address},1", max_conn_attempts=0, **QUICK) as client:
            await until(lambda: states(client) == {rpc.address: "given_up"})
            async with rpc:
                client.add_server(spec(rpc))
                assert await client.call("get") == 1

    asyncio.run(main())


def test_what_does_not_exist_is_refused() -> None:
    async def main() -> None:
        async with Client("127.0.0.1:1,1") as client:
            with pytest.raises(ArgumentError, match=r"there is no server 127\.0\.0\.1:2"):
                client.drain_server(ServerAddress("127.0.0.1", 2))
            with pytest.raises(ArgumentError, match="no group of servers is named 'x'"):
                client.add_server(ServerSpec(ServerAddress("a", 1), 1), "x")
            client.add_group("x")
            with pytest.raises(ArgumentError, match=r"there is no server 127\.0\.0\.1:1 in the group 'x'"):
                client.remove_server(ServerAddress("127.0.0.1", 1), "x")

    asyncio.run(main())


def test_a_group_may_have_a_policy_of_its_own() -> None:
    async def main() -> None:
        async with FakeRpcServer() as slow, FakeRpcServer() as quick:
            slow.on("get", after(0.2, result("slow")))
            quick.on("get", result("quick"))
            servers = f"{slow.address},1 {quick.address},1"
            groups = {"busy": servers}
            async with Client(servers, groups=groups, policies={"busy": "least_pending"}, **QUICK) as client:
                await ready(client, 2)
                waiting = asyncio.create_task(client.call("get"))
                await slow.wait_for_calls(1)
                # The slow one has a call: by turns it gets the next but one, by pending calls none.
                assert [await client.call("get", group="busy") for _ in range(3)] == ["quick"] * 3
                assert [await client.call("get") for _ in range(2)] == ["quick", "slow"]
                assert await waiting == "slow"

    asyncio.run(main())


# SRV


def test_an_srv_name_is_its_records_by_priority_and_weight() -> None:
    async def main() -> None:
        async with FakeDnsServer() as dns, FakeRpcServer() as a, FakeRpcServer() as b, FakeRpcServer() as c:
            for name, rpc in (("a", a), ("b", b), ("c", c)):
                rpc.on("get", result(name))
            local = "127.0.0.1"
            dns.srv(NAME, (10, 3, a.port, local), (10, 1, b.port, local), (20, 0, c.port, local))
            resolver = DnsResolver([dns.host], port=dns.port)
            async with Client(f"srv:{NAME},1", resolver=resolver, **QUICK) as client:
                # Made before the name is resolved.
                assert await client.call("get") in "ab"
                await ready(client, 3)
                assert Counter([await client.call("get") for _ in range(8)]) == {"a": 6, "b": 2}
                await a.stop()
                await b.stop()
                await until(lambda: client.connections[a.address] is None and client.connections[b.address] is None)
                assert await client.call("get") == "c"
                assert settled(client)

    asyncio.run(main())


def test_records_are_asked_for_again_when_they_expire_and_servers_come_and_go_with_them() -> None:
    async def main() -> None:
        async with FakeDnsServer() as dns, FakeRpcServer() as a, FakeRpcServer() as b:
            a.on("get", result("a"), after(0.3, result("the last of a")))
            b.on("get", result("b"))
            dns.srv(NAME, (10, 0, a.port, "127.0.0.1"), ttl=0)
            resolver = DnsResolver([dns.host], port=dns.port)
            async with Client(f"srv:{NAME},1", resolver=resolver, min_srv_ttl=0.05, **QUICK) as client:
                assert await client.call("get") == "a"
                last = asyncio.create_task(client.call("get"))
                await a.wait_for_calls(2)
                dns.srv(NAME, (10, 0, b.port, "127.0.0.1"), ttl=0)
                await until(lambda: list(states(client)) == [b.address])
                assert await client.call("get") == "b"
                assert await last == "the last of a"
                await until(lambda: not a.connections)
                # A question that fails changes nothing.
                dns.fail(NAME, "SERVFAIL")
                asked = dns.asked(NAME)
                await until(lambda: dns.asked(NAME) > asked + 1)
                assert await client.call("get") == "b"
                assert settled(client)

    asyncio.run(main())


def test_a_record_is_not_asked_for_again_before_the_least_time() -> None:
    async def main() -> None:
        async with FakeDnsServer() as dns, FakeRpcServer() as a:
            a.on("get", result("a"))
            dns.srv(NAME, (10, 0, a.port, "127.0.0.1"), ttl=0)
            resolver = DnsResolver([dns.host], port=dns.port)
            async with Client(f"srv:{NAME},1", resolver=resolver, min_srv_ttl=60, **QUICK) as client:
                assert await client.call("get") == "a"
                await asyncio.sleep(0.2)
                assert dns.asked(NAME) == 1

    asyncio.run(main())


def test_a_name_without_records_is_a_failure_that_says_so_until_it_has_some() -> None:
    async def main() -> None:
        async with FakeDnsServer() as dns, FakeRpcServer() as a:
            a.on("get", result("a"))
            resolver = DnsResolver([dns.host], port=dns.port)
            async with Client(f"srv:{NAME},1", resolver=resolver, min_srv_ttl=0.05, **QUICK) as client:
                outcomes = Outcomes()
                client.submit("get", None, outcomes.done)
                [call] = await outcomes.wait(1)
                assert call.status == "failure"
                assert f"no SRV records of {NAME}: " in call.reason
                dns.srv(NAME, (10, 0, a.port, "127.0.0.1"))
                assert await client.call("get", timeout=3) == "a"

    asyncio.run(main())


def test_an_srv_name_is_drained_and_removed_as_a_whole() -> None:
    class Resolver:
        async def resolve_srv(self, name: str) -> tuple[list[SrvRecord], float]:
            return [SrvRecord(1, 1, a.port, "127.0.0.1"), SrvRecord(1, 1, b.port, "127.0.0.1")], 60.0

    async def main() -> None:
        async with a, b, c:
            for rpc in (a, b):
                rpc.on("get", never())
            c.on("get", result("c"))
            async with Client(f"srv:{NAME},2 {c.address},1", resolver=Resolver(), **QUICK) as client:
                await ready(client, 3)
                client.drain_server(ServerAddress(NAME, 0, "srv"))
                assert await client.call("get") == "c"
                assert Counter(states(client).values()) == {"drained": 2, "connected": 1}
                client.remove_server(ServerAddress(NAME, 0, "srv"))
                assert list(states(client)) == [c.address]
                await until(lambda: not a.connections and not b.connections)
                assert await client.call("get") == "c"

    a, b, c = FakeRpcServer(), FakeRpcServer(), FakeRpcServer()
    asyncio.run(main())


class Records:
    """A resolver whose records the test changes."""

    def __init__(self, *records: SrvRecord) -> None:
        self.records = list(records)
        self.questions = 0

    async def resolve_srv(self, name: str) -> tuple[list[SrvRecord], float]:
        self.questions += 1
        return list(self.records), 0.0


def record(rpc: FakeRpcServer, priority: int = 1, weight: int = 1) -> SrvRecord:
    return SrvRecord(priority, weight, rpc.port, "127.0.0.1")


SRV = ServerAddress(NAME, 0, "srv")


def test_a_name_that_is_drained_stays_so_when_its_records_change() -> None:
    async def main() -> None:
        async with FakeRpcServer() as a, FakeRpcServer() as b:
            a.on("get", result("a"))
            b.on("get", result("b"))
            records = Records(record(a))
            settings = {**QUICK, "resolver": records, "min_srv_ttl": 0.02}
            async with Client(f"srv:{NAME},1", **settings) as client:
                # Before it is resolved.
                client.drain_server(SRV)
                await until(lambda: states(client) == {a.address: "drained"})
                records.records = [record(a, 2), record(b)]
                await until(lambda: states(client) == {a.address: "drained", b.address: "drained"})
                await ready(client, 2)
                client.add_server(ServerSpec(SRV, 1))
                assert await client.call("get") == "b"
                # One of its servers, whose priority then changes.
                client.drain_server(parse_address(b.address))
                assert await client.call("get") == "a"
                records.records = [record(a, 2), record(b, 0)]
                questions = records.questions
                await until(lambda: records.questions > questions + 1)
                assert states(client) == {a.address: "connected", b.address: "drained"}

    asyncio.run(main())


def test_a_server_of_a_name_that_is_removed_by_its_address_comes_back_when_the_records_change() -> None:
    async def main() -> None:
        async with FakeRpcServer() as a, FakeRpcServer() as b:
            a.on("get", result("a"))
            b.on("get", result("b"))
            records = Records(record(a), record(b, 2))
            settings = {**QUICK, "resolver": records, "min_srv_ttl": 0.02}
            async with Client(f"srv:{NAME},1", **settings) as client:
                await ready(client, 2)
                client.remove_server(parse_address(a.address))
                assert await client.call("get") == "b"
                assert list(states(client)) == [b.address]
                records.records = [record(a), record(b, 3)]
                await until(lambda: len(states(client)) == 2)
                await ready(client, 2)
                assert await client.call("get") == "a"

    asyncio.run(main())


def test_a_server_of_a_name_may_be_listed_by_its_address_too() -> None:
    async def main() -> None:
        async with FakeRpcServer() as a:
            a.on("get", result("a"))
            async with Client(f"srv:{NAME},2 {a.address},1", resolver=Records(record(a)), **QUICK) as client:
                await client.connected(2)
                assert [(one["priority"], one["weight"]) for one in client.servers()] == [(1, 1), (2, 1)]
                client.add_server(spec(a, 3, 5))
                assert [(one["priority"], one["weight"]) for one in client.servers()] == [(2, 1), (3, 5)]
                client.remove_server(SRV)
                assert [one["priority"] for one in client.servers()] == [3]
                assert await client.call("get") == "a"
                assert a.connections_made == 1

    asyncio.run(main())


def test_a_name_that_is_added_again_is_used_without_a_gap() -> None:
    async def main() -> None:
        async with FakeRpcServer() as a:
            a.on("get", result("a"))
            records = Records(record(a))
            async with Client(f"srv:{NAME},2", resolver=records, **QUICK) as client:
                await client.connected(2)
                for priority in range(5):
                    client.add_server(ServerSpec(SRV, priority))
                    assert client.submit_notification("seen", None)
                    assert [one["priority"] for one in client.servers()] == [priority]
                assert (records.questions, a.connections_made) == (1, 1)

    asyncio.run(main())


def test_a_resolver_that_breaks_is_asked_again_and_one_whose_records_do_not_hold_is_not_asked_all_the_time() -> None:
    class Breaks(Records):
        async def resolve_srv(self, name: str) -> tuple[list[SrvRecord], float]:
            records, ttl = await super().resolve_srv(name)
            if self.questions < 3:
                raise RuntimeError("no such thing")
            return records, ttl

    async def main() -> None:
        async with FakeRpcServer() as a:
            a.on("get", result("a"))
            records = Breaks(record(a))
            faults: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context["exception"]))
            async with Client(f"srv:{NAME},2", resolver=records, min_srv_ttl=0, **QUICK) as client:
                assert await client.call("get", timeout=3) == "a"
                await asyncio.sleep(0.1)
                assert records.questions < 30
            assert [str(fault) for fault in faults] == ["no such thing"] * 2

    asyncio.run(main())


# The end


def test_nothing_goes_on_after_the_client_is_closed() -> None:
    class Waits:
        async def resolve_srv(self, name: str) -> tuple[list[SrvRecord], float]:
            await asyncio.sleep(60)
            raise AssertionError

    async def hangs(*_arguments: Any) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        client = Client(f"127.0.0.1:1,1 srv:{NAME},1", connect=hangs, resolver=Waits())
        client.start()
        await asyncio.sleep(0.01)
        await client.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
