"""Servers that come and go at run time, and SRV names whose records change, over real sockets and real DNS."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from sipwright.errors import ArgumentError, RpcConnectionError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, parse_address
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.resolve import DnsResolver, SrvRecord
from sipwright.testing.fakedns import FakeDnsServer
from sipwright.testing.fakerpc import FakeRpcServer, after, never, result
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
