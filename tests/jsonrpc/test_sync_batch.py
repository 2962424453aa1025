"""Batches of the client without asyncio."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sipwright.errors import RpcAnswerError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc import Server
from sipwright.jsonrpc.messages import MAX_BATCH
from sipwright.jsonrpc.sync import SyncClient
from sipwright.testing import FakeRpcServer
from sipwright.testing.fakerpc import after, hang_up, never, result
from tests.jsonrpc.in_thread import InThread, balanced, run_threads, took


@pytest.fixture
def rpc() -> Iterator[FakeRpcServer]:
    with FakeRpcServer() as server:
        server.on("echo", result(lambda params: params))
        yield server


@pytest.fixture
def client(rpc: FakeRpcServer) -> Iterator[SyncClient]:
    with SyncClient(f"{rpc.address},1", timeout=2) as one:
        yield one


def test_results_and_errors_come_in_the_order_of_the_calls(client: SyncClient, rpc: FakeRpcServer) -> None:
    rpc.hold = 3
    first, unknown, third = client.batch([("echo", [1]), ("other", None), ("echo", [3])]).send()
    assert (first, third) == ([1], [3])
    assert isinstance(unknown, RpcAnswerError)
    assert len({call.payload for call in rpc.calls}) == 1
    assert client.counters()["results"] == 2


def test_a_batch_is_filled_in_with_and_asked_by_index(client: SyncClient, rpc: FakeRpcServer) -> None:
    with client.batch() as batch:
        first = batch.call("echo", [1])
        batch.notify("log", ["x"])
        second = batch.call("echo", [2])
        with pytest.raises(RuntimeError, match="the batch was not sent"):
            batch.result(first)
    assert (batch.result(first), batch.result(second)) == ([1], [2])
    assert [call.is_notification for call in rpc.calls] == [False, True, False]
    assert client.counters()["notifications"] == 1
    with pytest.raises(RuntimeError, match="the batch was sent before"):
        batch.call("echo")
    with pytest.raises(RuntimeError, match="the batch was sent before"):
        batch.send()


def test_a_batch_of_notifications_waits_for_nothing(client: SyncClient, rpc: FakeRpcServer) -> None:
    batch = client.batch()
    batch.notify("log", [1])
    batch.notify("log", [2])
    assert batch.send() == []
    rpc.wait_for_calls_in_thread(2)
    assert client.batch().send() == []


def test_a_call_of_a_batch_that_is_not_answered_is_a_timeout_and_the_others_count(
    client: SyncClient, rpc: FakeRpcServer
) -> None:
    rpc.on("never", never())
    with took(0.1, 0.4):
        good, late = client.batch([("echo", [1]), ("never", None)], timeout=0.1).send()
    assert good == [1]
    assert isinstance(late, RpcTimeoutError)
    assert balanced(client.counters())


def test_a_lost_connection_ends_what_is_left_of_a_batch_at_once(client: SyncClient, rpc: FakeRpcServer) -> None:
    rpc.on("cut", after(0.05, hang_up()))
    with took(0.0, 1.0):
        good, lost = client.batch([("echo", [1]), ("cut", None)]).send()
    assert good == [1]
    assert isinstance(lost, RpcConnectionError)
    assert client.pending == 0


def test_a_batch_that_is_too_long_is_refused(client: SyncClient) -> None:
    batch = client.batch()
    for _ in range(MAX_BATCH):
        batch.notify("log")
    with pytest.raises(ValueError, match="a batch has at most 10000 messages"):
        batch.call("echo")
    with pytest.raises(TypeError):
        client.batch([("echo", "text")])


def test_batches_of_many_threads_and_a_server_of_ours() -> None:
    server = Server()
    server.add_method("add", lambda a, b: a + b)
    with InThread(server) as there, SyncClient(f"{there.address},1") as client:

        def work(index: int) -> None:
            for _ in range(5):
                calls = [("add", [number, index]) for number in range(200)]
                assert client.batch(calls).send() == [number + index for number in range(200)]

        run_threads(4, work)
        assert client.counters()["results"] == 4000


def test_a_batch_goes_over_a_new_connection_when_the_old_one_was_closed(client: SyncClient, rpc: FakeRpcServer) -> None:
    assert client.call("echo", [0]) == [0]
    connection = next(iter(client._pool.lane().connections.values()))
    connection.sock.shutdown(1)  # writing fails from now on
    assert client.batch([("echo", [1]), ("echo", [2])]).send() == [[1], [2]]
    assert client.counters()["reconnects"] == 1
    assert len(rpc.calls) == 3
