"""Which server gets the calls of a client without asyncio: order, turns, failover, breakers, bounds, srv names."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sipwright.errors import RpcAnswerError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc import ServerSpec, parse_address
from sipwright.jsonrpc.resolve import DnsResolver, SrvRecord
from sipwright.jsonrpc.sync import SyncClient
from sipwright.testing import FakeRpcServer
from sipwright.testing.fakedns import FakeDnsServer
from sipwright.testing.fakerpc import after, error, never, result
from tests.jsonrpc.in_thread import balanced, run_threads, took, wait_until


def stop(rpc: FakeRpcServer) -> None:
    """Close listener and connections; `start` goes on at the same port."""
    assert rpc._own_loop is not None
    asyncio.run_coroutine_threadsafe(rpc.stop(), rpc._own_loop).result(5)


def start(rpc: FakeRpcServer) -> None:
    assert rpc._own_loop is not None
    asyncio.run_coroutine_threadsafe(rpc.start(), rpc._own_loop).result(5)


@pytest.fixture
def servers() -> Iterator[list[FakeRpcServer]]:
    with ExitStack() as stack:
        three = [stack.enter_context(FakeRpcServer()) for _ in range(3)]
        for index, rpc in enumerate(three):
            rpc.on("who", result(index))
            rpc.on("never", never())
        yield three


def counts(client: SyncClient, calls: int) -> dict[int, int]:
    return dict(Counter(client.call("who") for _ in range(calls)))


def test_the_highest_priority_gets_the_calls_by_turns(servers: list[FakeRpcServer]) -> None:
    a, b, c = servers
    with SyncClient(f"{a.address},2 {b.address},2 {c.address},1") as client:
        assert [client.call("who") for _ in range(6)] == [0, 1, 0, 1, 0, 1]
    assert c.connections_made == 0


def test_weights_are_kept_exactly(servers: list[FakeRpcServer]) -> None:
    a, b, c = servers
    with SyncClient(f"{a.address},1,3 {b.address},1,1 {c.address},1,2") as client:
        assert counts(client, 60) == {0: 30, 1: 10, 2: 20}


def test_with_least_pending_the_idle_one_is_asked(servers: list[FakeRpcServer]) -> None:
    a, b, _ = servers
    a.on("slow", after(0.5, result(0)))
    with SyncClient(f"{a.address},1 {b.address},1", policy="least_pending", timeout=3) as client:
        b.on("slow", after(0.5, result(1)))
        # Whoever of the two has the slow one, the other has all the rest.
        slow = threading.Thread(target=lambda: client.call("slow"), daemon=True)
        slow.start()
        wait_until(lambda: a.received("slow") or b.received("slow"))
        busy = 0 if a.received("slow") else 1
        found: list[dict[int, int]] = []
        run_threads(1, lambda _index: found.append(counts(client, 10)))
        assert found == [{1 - busy: 10}]
        slow.join(2)


def test_groups_are_apart(servers: list[FakeRpcServer]) -> None:
    a, b, _ = servers
    with SyncClient(f"{a.address},1", groups={"other": f"{b.address},1"}) as client:
        assert (client.call("who"), client.call("who", group="other")) == (0, 1)
        client.notify("log", group="other")
        assert client.batch([("who", None)], group="other").send() == [1]
        client.connected(1, group="other")


def test_a_server_that_is_down_is_passed_over_and_found_again(servers: list[FakeRpcServer]) -> None:
    a, b, _ = servers
    with SyncClient(f"{a.address},2 {b.address},1", reconnect_interval=0.1, timeout=2) as client:
        assert client.call("who") == 0
        stop(a)
        assert [client.call("who") for _ in range(3)] == [1, 1, 1]
        start(a)
        time.sleep(0.15)
        assert client.call("who") == 0
        assert client.counters()["failures"] == 0


def test_a_server_that_cannot_be_reached_takes_no_more_than_half_of_one_call(servers: list[FakeRpcServer]) -> None:
    """A listener whose queue is full drops what comes, as a machine does that is switched off."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, ExitStack() as stack:
        place = silent.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(place)
        with SyncClient(f"127.0.0.1:{place[1]},2 {servers[0].address},1", timeout=0.4) as client:
            with took(0.15, 0.35):
                assert client.call("who") == 0
            with took(0.0, 0.1):
                assert counts(client, 20) == {0: 20}


def test_a_call_waits_for_a_server_that_comes_in_time(servers: list[FakeRpcServer]) -> None:
    rpc = servers[0]
    stop(rpc)
    with SyncClient(f"{rpc.address},1", timeout=3) as client:
        starter = threading.Timer(0.3, lambda: start(rpc))
        starter.start()
        with took(0.25, 1.5):
            assert client.call("who") == 0
        starter.join()


def test_a_call_that_nobody_can_take_fails_when_its_time_is_over_and_says_why() -> None:
    with SyncClient("127.0.0.1:1,1", timeout=0.2) as client:
        with took(0.15, 0.5), pytest.raises(RpcConnectionError) as caught:
            client.call("who")
        assert str(caught.value) == ("'who': no server is connected (127.0.0.1:1: cannot connect: Connection refused)")
        with pytest.raises(RpcConnectionError, match="the notification 'log': no server is connected"):
            client.notify("log", timeout=0.05)
        with pytest.raises(RpcConnectionError, match="the batch: no server is connected"):
            client.batch([("who", None)], timeout=0.05).send()
        counters = client.counters()
        assert (counters["calls"], counters["failures"], counters["notifications"]) == (1, 1, 0)


def test_a_server_is_asked_no_more_than_max_conn_attempts_times_again() -> None:
    with SyncClient("127.0.0.1:1,1", max_conn_attempts=2, timeout=5) as client:
        with took(0.0, 1.0), pytest.raises(RpcConnectionError):
            client.call("who")
        with took(0.0, 0.05), pytest.raises(RpcConnectionError):
            client.call("who")


def test_all_threads_wait_for_the_first_connection_and_none_goes_to_the_backup(servers: list[FakeRpcServer]) -> None:
    a, b, _ = servers
    with SyncClient(f"{a.address},2 {b.address},1", timeout=5) as client:
        got: list[Any] = []
        run_threads(12, lambda _index: got.append(client.call("who")))
        assert got == [0] * 12
        assert (a.connections_made, b.connections_made) == (1, 0)


# Bounds


def test_a_full_server_refuses_and_the_next_one_is_asked(servers: list[FakeRpcServer]) -> None:
    a, b, _ = servers
    with SyncClient(f"{a.address},2 {b.address},1", max_pending=2, timeout=1) as client:
        ends: list[str] = []

        def work(_index: int) -> None:
            try:
                client.call("never")
            except RpcTimeoutError:
                ends.append("timeout")
            except RpcConnectionError as fault:
                ends.append(str(fault))

        run_threads(6, work)
        full = "'never': every connected server has as many calls pending as it may have"
        # Who comes while another thread still connects to the second server finds only the first one, which is full.
        counted = Counter(ends)
        assert counted["timeout"] + counted[full] == 6
        assert 3 <= counted["timeout"] <= 4
        assert (len(a.calls), len(b.calls)) == (2, counted["timeout"] - 2)


def test_calls_wait_their_turn_when_they_are_to(servers: list[FakeRpcServer]) -> None:
    rpc = servers[0]
    rpc.on("slow", after(0.05, result(1)))
    most = 0

    def watch() -> None:
        nonlocal most
        while not is_done.is_set():
            most = max(most, *(n or 0 for n in client.connections.values()))
            time.sleep(0.002)

    is_done = threading.Event()
    with SyncClient(f"{rpc.address},1", max_pending=2, when_full="wait", max_waiting=10, timeout=5) as client:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        with took(0.2, 2.0):
            run_threads(8, lambda _index: client.call("slow"))
        is_done.set()
        watcher.join(2)
        assert most == 2
        assert client.counters()["results"] == 8
        with pytest.raises(RpcConnectionError):
            run_threads(20, lambda _index: client.call("slow"))
        wait_until(lambda: not client.pending)
        assert client.counters()["waiting"] == 0
        assert balanced(client.counters())


# Servers that are left out


def test_a_server_without_answers_is_left_out_and_comes_back_when_a_probe_is_answered(
    servers: list[FakeRpcServer],
) -> None:
    a, b, _ = servers
    a.on("who", never(), never(), result(0))
    a.on("rpc.ping", never(), error(-32601, "Method not found"))
    with SyncClient(f"{a.address},2 {b.address},1", max_failures=2, probe_interval=0.1, timeout=0.05) as client:
        for _ in range(2):
            with pytest.raises(RpcTimeoutError):
                client.call("who")
        assert [client.call("who") for _ in range(3)] == [1, 1, 1]
        assert client.counters()["out"] == 1
        time.sleep(0.12)
        assert client.call("who") == 1  # asks with a probe that is not answered
        time.sleep(0.12)
        assert client.call("who") == 1  # and with another one
        wait_until(lambda: client.call("who") == 0, timeout=1)
        assert client.counters()["out"] == 0
        assert len(a.received("rpc.ping")) == 2
        assert balanced(client.counters())


def test_a_call_waits_for_the_probe_of_the_only_server(servers: list[FakeRpcServer]) -> None:
    rpc = servers[0]
    rpc.on("who", never(), result(0))
    with SyncClient(f"{rpc.address},1", max_failures=1, probe_interval=0.1) as client:
        with pytest.raises(RpcTimeoutError):
            client.call("who", timeout=0.05)
        with took(0.05, 0.5):
            assert client.call("who", timeout=2) == 0
        with pytest.raises(RpcTimeoutError):
            client.call("never", timeout=0.05)
        with pytest.raises(RpcConnectionError, match="is left out after 1 calls without an answer"):
            client.call("who", timeout=0.02)


# Names


class Records:
    """A resolver that says what it is told to."""

    def __init__(self, *records: SrvRecord, ttl: float = 0.05) -> None:
        self.records = list(records)
        self.ttl = ttl
        self.fault = ""
        self.asked: list[str] = []

    def resolve_srv_now(self, name: str, timeout: float) -> tuple[list[SrvRecord], float]:
        assert timeout > 0
        self.asked.append(name)
        if self.fault:
            raise OSError(self.fault)
        return list(self.records), self.ttl


def record(rpc: FakeRpcServer, priority: int = 1, weight: int = 1) -> SrvRecord:
    return SrvRecord(priority, weight, rpc.port, rpc.host)


def test_an_srv_name_stands_for_its_records_with_their_priorities_and_weights(servers: list[FakeRpcServer]) -> None:
    a, b, c = servers
    records = Records(record(a, 1, 3), record(b, 1, 1), record(c, 2), ttl=60)
    with SyncClient("srv:_rpc._tcp.example.org,1", resolver=records) as client:
        assert counts(client, 40) == {0: 30, 1: 10}
        assert records.asked == ["_rpc._tcp.example.org"]
        stop(a)
        stop(b)
        assert client.call("who", retry=1, idempotent=True) == 2


def test_records_are_asked_for_again_and_what_is_gone_is_let_go(servers: list[FakeRpcServer]) -> None:
    a, b, _ = servers
    records = Records(record(a))
    with SyncClient("srv:_rpc._tcp.example.org,1", resolver=records, min_srv_ttl=0.05) as client:
        assert client.call("who") == 0
        records.records = [record(b)]
        time.sleep(0.07)
        assert client.call("who") == 1
        wait_until(lambda: not a.connections)
        records.fault = "no SRV records: the server is away"
        time.sleep(0.07)
        assert client.call("who") == 1  # what was known holds
        assert list(client.connections) == [b.address]


def test_a_real_name_server_is_asked_when_no_resolver_is_given_that_does_it_otherwise(
    servers: list[FakeRpcServer],
) -> None:
    a, b, _ = servers
    name = "_rpc._tcp.example.org"
    with FakeDnsServer() as dns:
        dns.srv(name, (10, 3, a.port, "127.0.0.1"), (10, 1, b.port, "127.0.0.1"), ttl=1)
        resolver = DnsResolver([dns.host], port=dns.port)
        with SyncClient(f"srv:{name},1", resolver=resolver, min_srv_ttl=0.1) as client:
            assert counts(client, 8) == {0: 6, 1: 2}
            assert dns.asked(name) == 1
            dns.srv(name, (10, 0, b.port, "127.0.0.1"), ttl=1)
            wait_until(lambda: client.call("who") == 1 and client.call("who") == 1, timeout=3)
            dns.fail(name, "SERVFAIL")
            time.sleep(1.1)
            assert client.call("who") == 1
        with (
            SyncClient("srv:_no._tcp.example.org,1", resolver=resolver, timeout=0.2) as client,
            pytest.raises(RpcConnectionError, match=r"no SRV records of _no\._tcp\.example\.org: .*does not exist"),
        ):
            client.call("who")


def test_a_name_that_cannot_be_resolved_is_told() -> None:
    records = Records()
    records.fault = "no SRV records of _rpc._tcp.example.org: no such name"
    with (
        SyncClient("srv:_rpc._tcp.example.org,1", resolver=records, timeout=0.1) as client,
        pytest.raises(RpcConnectionError, match=r"'who': no SRV records of _rpc._tcp.example.org: no such name"),
    ):
        client.call("who")


def test_servers_may_be_given_as_specs(servers: list[FakeRpcServer]) -> None:
    specs = [ServerSpec(parse_address(rpc.address), 1, max_pending=1) for rpc in servers[:1]]
    with SyncClient(specs, timeout=0.3) as client:
        ends: list[str] = []

        def work(_index: int) -> None:
            with pytest.raises((RpcTimeoutError, RpcConnectionError)) as caught:
                client.call("never")
            ends.append(type(caught.value).__name__)

        run_threads(2, work)
        assert sorted(ends) == ["RpcConnectionError", "RpcTimeoutError"]


def test_an_error_answer_does_not_count_against_a_server(servers: list[FakeRpcServer]) -> None:
    servers[0].on("bad", error(1, "no"))
    with SyncClient(f"{servers[0].address},1", max_failures=1) as client:
        for _ in range(3):
            with pytest.raises(RpcAnswerError):
                client.call("bad")
        assert client.counters()["out"] == 0
