"""The tries of calls without asyncio: what is sent again, when, and how often the servers see it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sipwright.errors import RpcAnswerError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc.sync import SyncClient
from sipwright.testing import FakeRpcServer
from sipwright.testing.fakerpc import after, error, hang_up, never, result
from tests.jsonrpc.in_thread import balanced, run_threads, took


@pytest.fixture
def a() -> Iterator[FakeRpcServer]:
    with FakeRpcServer() as server:
        yield server


@pytest.fixture
def b() -> Iterator[FakeRpcServer]:
    with FakeRpcServer() as server:
        server.on("m", result("b"))
        yield server


def both_of(a: FakeRpcServer, b: FakeRpcServer) -> str:
    return f"{a.address},2 {b.address},1"


def test_a_call_that_may_have_been_carried_out_is_not_sent_again(a: FakeRpcServer, b: FakeRpcServer) -> None:
    a.on("m", hang_up())
    with SyncClient(both_of(a, b), timeout=2) as client:
        with pytest.raises(RpcConnectionError):
            client.call("m", retry=3)
        assert (len(a.calls), len(b.calls)) == (1, 0)
        assert client.counters()["retries"] == 0


@pytest.mark.parametrize("how", ["of the call", "listed", "retry_lost"])
def test_an_idempotent_call_is_sent_to_another_server_after_a_loss(
    a: FakeRpcServer, b: FakeRpcServer, how: str
) -> None:
    a.on("m", hang_up())
    options = {"listed": {"idempotent_methods": ["m"]}, "retry_lost": {"retry_lost": True}}.get(how, {})
    with SyncClient(both_of(a, b), timeout=2, **options) as client:  # type: ignore[arg-type]
        assert client.call("m", retry=1, idempotent=how == "of the call") == "b"
        assert client.counters()["retries"] == 1
        assert balanced(client.counters())


def test_a_call_that_never_left_goes_over_a_new_connection_without_a_retry(a: FakeRpcServer) -> None:
    """The server closes, and the request meets the closed socket: no byte of it has left."""
    a.on("m", result(1))
    with SyncClient(f"{a.address},1", timeout=2) as client:
        assert client.call("m") == 1
        lane = client._pool.lane()
        connection = next(iter(lane.connections.values()))
        connection.sock.shutdown(1)  # writing fails from now on
        assert client.call("m") == 1
        assert (len(a.calls), client.counters()["retries"], client.counters()["reconnects"]) == (2, 0, 1)


def test_after_a_part_of_its_time_an_idempotent_call_is_sent_to_another_server(
    a: FakeRpcServer, b: FakeRpcServer
) -> None:
    a.on("m", after(0.25, result("a")))
    with SyncClient(both_of(a, b), timeout=0.4) as client:
        with took(0.18, 0.3):
            assert client.call("m", retry=1, idempotent=True) == "b"
        with pytest.raises(RpcTimeoutError):
            client.call("m", timeout=0.1, retry=1)
        time.sleep(0.3)
        client.call("m", timeout=1)
        assert client.counters()["late"] == 2


def test_the_deadline_holds_over_all_tries(a: FakeRpcServer, b: FakeRpcServer) -> None:
    a.on("m", never())
    b.on("m", never())
    with SyncClient(both_of(a, b)) as client:
        with took(0.29, 0.4), pytest.raises(RpcTimeoutError):
            client.call("m", timeout=0.3, retry=5, idempotent=True)
        assert (len(a.calls), len(b.calls)) == (1, 1)


def test_a_code_leads_to_the_next_server_and_its_answer_counts_if_there_is_none(
    a: FakeRpcServer, b: FakeRpcServer
) -> None:
    a.on("m", error(-32001, "busy"))
    with SyncClient(both_of(a, b), retry=2, retry_codes=[range(-32005, -32000)]) as client:
        assert client.call("m") == "b"
        b.on("m", error(-32002, "busy, too"))
        with pytest.raises(RpcAnswerError, match="busy, too"):
            client.call("m")
        with pytest.raises(RpcAnswerError, match=r"busy \(-32001\)"):
            client.call("m", retry_codes=[5])
        assert balanced(client.counters())


def test_with_a_delay_all_are_asked_again_and_longer_apart_each_time(a: FakeRpcServer) -> None:
    a.on("m", error(5, "no"), error(5, "no"), error(5, "no"), result("at last"))
    with SyncClient(f"{a.address},1", retry=5, retry_codes=[5], retry_delay=0.05, random=lambda: 0.5) as client:
        with took(0.05 + 0.1 + 0.2, 0.8):
            assert client.call("m") == "at last"
        a.on("m", error(5, "no"))
        with took(0.15, 0.4), pytest.raises(RpcAnswerError, match="no"):
            client.call("m", timeout=0.2)
        assert balanced(client.counters())


def test_a_hedged_call_asks_a_second_server_and_takes_the_first_answer(a: FakeRpcServer, b: FakeRpcServer) -> None:
    a.on("m", after(0.3, result("a")))
    with SyncClient(both_of(a, b), timeout=2, hedge=0.05, idempotent_methods=["m"]) as client:
        with took(0.04, 0.25):
            assert client.call("m") == "b"
        b.on("m", after(0.5, result("b")))
        with took(0.25, 0.45):
            assert client.call("m") == "a"
        a.on("m", result("a"))
        assert client.call("m") == "a"
        assert client.counters()["hedges"] == 2
        assert (len(a.calls), len(b.calls)) == (3, 2)
        assert balanced(client.counters())


def test_a_call_that_is_not_idempotent_is_not_hedged(a: FakeRpcServer, b: FakeRpcServer) -> None:
    a.on("m", after(0.1, result("a")))
    with SyncClient(both_of(a, b), timeout=2, hedge=0.02) as client:
        assert client.call("m") == "a"
        assert not b.calls


def test_a_hedged_call_goes_on_when_one_of_its_servers_is_lost(a: FakeRpcServer, b: FakeRpcServer) -> None:
    a.on("m", after(0.1, hang_up()))
    b.on("m", after(0.15, result("b")))
    with SyncClient(both_of(a, b), timeout=2, idempotent_methods=["m"]) as client:
        assert client.call("m", hedge=0.02) == "b"


def test_a_server_is_told_of_a_call_that_is_given_up(a: FakeRpcServer, b: FakeRpcServer) -> None:
    a.on("m", never())
    with SyncClient(both_of(a, b), cancel_method="rpc.cancel") as client:
        with pytest.raises(RpcTimeoutError):
            client.call("m", timeout=0.05)
        a.wait_for_calls_in_thread(2)
        assert (a.calls[1].method, a.calls[1].params) == ("rpc.cancel", {"id": a.calls[0].id})
        client.call("m", hedge=0.02, idempotent=True)
        a.wait_for_calls_in_thread(4)
        assert [call.method for call in a.calls[2:]] == ["m", "rpc.cancel"]


def test_calls_of_many_threads_survive_servers_that_are_cut_if_they_may(a: FakeRpcServer, b: FakeRpcServer) -> None:
    a.on("echo", result(lambda params: params))
    b.on("echo", result(lambda params: params))
    stop = threading.Event()

    def cut() -> None:
        while not stop.is_set():
            time.sleep(0.03)
            for rpc in (a, b):
                assert rpc._own_loop is not None
                rpc._own_loop.call_soon_threadsafe(rpc.hang_up)
                time.sleep(0.02)

    cutter = threading.Thread(target=cut, daemon=True)
    cutter.start()
    servers = f"{a.address},1 {b.address},1"
    with SyncClient(servers, timeout=10, retry=20, retry_delay=0.005, idempotent_methods=["echo"]) as client:

        def work(index: int) -> None:
            for number in range(150):
                assert client.call("echo", [index, number]) == [index, number]

        run_threads(6, work)
        stop.set()
        cutter.join(2)
        counters = client.counters()
        assert (counters["results"], counters["calls"]) == (900, 900)
        assert balanced(counters)
