"""Threads that share connections: who reads for whom, times, interruptions, forks."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from sipwright.errors import RpcClosedError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc import Server
from sipwright.jsonrpc.sync import SyncClient
from sipwright.testing import FakeRpcServer
from sipwright.testing.fakerpc import after, never, result
from tests.jsonrpc.in_thread import InThread, balanced, run_threads, took, wait_until


@pytest.fixture
def rpc() -> Iterator[FakeRpcServer]:
    with FakeRpcServer() as server:
        server.on("echo", result(lambda params: params))
        server.on("never", never())
        yield server


@pytest.fixture
def client(rpc: FakeRpcServer) -> Iterator[SyncClient]:
    with SyncClient(f"{rpc.address},1", timeout=5) as one:
        yield one


@contextmanager
def adding() -> Iterator[str]:
    server = Server()
    server.add_method("add", lambda a, b: a + b)
    with InThread(server) as there:
        yield there.address


def test_sixteen_threads_with_a_thousand_calls_each_get_their_own_answers() -> None:
    with adding() as address, SyncClient(f"{address},1", timeout=20) as client:

        def work(index: int) -> None:
            for number in range(1000):
                assert client.call("add", [number, 10_000 * index]) == number + 10_000 * index

        run_threads(16, work, timeout=60)
        counters = client.counters()
        assert (counters["calls"], counters["results"], counters["pending"]) == (16_000, 16_000, 0)
        assert [counters[name] for name in ("late", "doubled", "unknown", "reconnects")] == [0, 0, 0, 0]
        assert client.connections == {address: 0}


def test_calls_of_all_threads_are_in_flight_at_once_on_one_connection(client: SyncClient, rpc: FakeRpcServer) -> None:
    rpc.hold = 8  # nothing is answered before all have asked
    run_threads(8, lambda index: client.call("echo", [index]))
    assert rpc.connections_made == 1
    assert client.counters()["results"] == 8


def test_the_main_thread_has_a_connection_of_its_own(client: SyncClient, rpc: FakeRpcServer) -> None:
    client.call("echo")
    run_threads(2, lambda _index: client.call("echo"))
    assert rpc.connections_made == 2
    assert client.counters()["reconnects"] == 0


@pytest.mark.parametrize("first", [0.05, 0.3])
def test_whoever_reads_for_all_goes_when_its_own_answer_is_there(
    client: SyncClient, rpc: FakeRpcServer, first: float
) -> None:
    """Also when the quick one reads for the slow one, and the other way round."""
    for name, seconds in (("a", first), ("b", 0.35 - first), ("c", 0.2)):
        rpc.on(name, after(seconds, result(name)))
    ends: dict[str, float] = {}
    start = time.monotonic()

    def work(index: int) -> None:
        name = "abc"[index]
        time.sleep(0.01 * index)
        assert client.call(name) == name
        ends[name] = time.monotonic() - start

    run_threads(3, work)
    assert abs(ends["a"] - first) < 0.08
    assert abs(ends["b"] - (0.36 - first)) < 0.08
    assert abs(ends["c"] - 0.22) < 0.08


def test_each_thread_ends_at_its_own_deadline(client: SyncClient, rpc: FakeRpcServer) -> None:
    rounds: list[float] = []
    for _ in range(5):  # on a busy machine one of them may be late
        late: list[float] = []

        def work(index: int, late: list[float] = late) -> None:
            seconds = 0.05 + 0.02 * ((index * 5) % 8)
            start = time.monotonic()
            with pytest.raises(RpcTimeoutError):
                client.call("never", timeout=seconds)
            late.append(time.monotonic() - start - seconds)

        run_threads(8, work)
        assert min(late) >= 0
        rounds.append(sorted(late)[4])
        if rounds[-1] < 0.004:
            break
    assert min(rounds) < 0.004, rounds
    assert client.counters()["timeouts"] == 8 * len(rounds)


def test_a_server_that_is_killed_in_the_middle_ends_all_calls_at_once(client: SyncClient, rpc: FakeRpcServer) -> None:
    def work(index: int) -> None:
        with pytest.raises(RpcConnectionError):
            client.call("never", [index])

    killer = threading.Timer(0.1, lambda: rpc._own_loop and rpc._own_loop.call_soon_threadsafe(rpc.hang_up))
    killer.start()
    with took(0.05, 1.0):
        run_threads(8, work)
    killer.join()
    assert client.counters()["failures"] == 8


def test_a_server_that_comes_and_goes_under_load_loses_no_call_without_a_word(
    client: SyncClient, rpc: FakeRpcServer
) -> None:
    stop = time.monotonic() + 1.0
    wrong: list[Any] = []

    def work(index: int) -> None:
        number = 0
        while time.monotonic() < stop:
            number += 1
            try:
                answer = client.call("echo", [index, number], timeout=2)
            except RpcConnectionError:
                continue
            if answer != [index, number]:
                wrong.append(answer)

    def cut() -> None:
        while time.monotonic() < stop:
            time.sleep(0.05)
            assert rpc._own_loop is not None
            rpc._own_loop.call_soon_threadsafe(rpc.hang_up)

    cutter = threading.Thread(target=cut, daemon=True)
    cutter.start()
    run_threads(6, work)
    cutter.join(5)
    counters = client.counters()
    assert not wrong
    assert balanced(counters)
    assert counters["pending"] == counters["timeouts"] == 0
    assert counters["reconnects"] > 3
    # At most once: what was answered or failed was seen by the server no more than that.
    seen = [tuple(call.params) for call in rpc.calls]
    assert len(seen) == len(set(seen))


class Interrupt(BaseException):
    """What the signal handlers of these tests raise."""


@contextmanager
def interrupts(delay: float, handler: Any = None) -> Iterator[None]:
    """Have SIGALRM come after a delay; it raises Interrupt in the main thread unless there is another handler."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupt

    former = signal.signal(signal.SIGALRM, handler or interrupt)
    signal.setitimer(signal.ITIMER_REAL, delay)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def test_an_exception_of_a_signal_handler_gives_the_call_up_at_once(client: SyncClient, rpc: FakeRpcServer) -> None:
    rpc.on("slow", after(0.15, result(1)))
    with took(0.05, 0.14), pytest.raises(Interrupt), interrupts(0.06):
        client.call("slow")
    assert (client.counters()["cancelled"], client.pending) == (1, 0)
    time.sleep(0.15)
    assert client.call("echo", [2]) == [2]
    assert client.counters()["late"] == 1
    assert client.counters()["reconnects"] == 0
    assert balanced(client.counters())


# A socket that was made, and not yet given a name when the signal came, is closed by the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", range(3))
def test_interruptions_at_any_point_harm_neither_other_threads_nor_the_client(seed: int) -> None:
    chance = random.Random(seed)
    with adding() as address, SyncClient(f"{address},1", timeout=10) as client:
        stop = threading.Event()
        faults: list[BaseException] = []
        made = [0] * 4

        def work(index: int) -> None:
            try:
                while not stop.is_set():
                    made[index] += 1
                    assert client.call("add", [made[index], index]) == made[index] + index
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(4)]
        for thread in threads:
            thread.start()
        interrupted = 0
        for number in range(150):
            try:
                with interrupts(chance.uniform(0.00002, 0.003)):
                    while True:
                        assert client.call("add", [number, 1]) == number + 1
            except Interrupt:
                interrupted += 1
        stop.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert not faults
        assert interrupted == 150
        assert client.call("add", [1, 1]) == 2
        counters = client.counters()
        assert balanced(counters)
        assert (counters["pending"], counters["timeouts"], counters["failures"]) == (0, 0, 0)


def test_a_call_in_a_signal_handler_that_interrupts_another_is_refused(client: SyncClient, rpc: FakeRpcServer) -> None:
    rpc.on("slow", after(0.1, result(1)))
    refused: list[str] = []

    def handler(_number: int, _frame: FrameType | None) -> None:
        try:
            client.call("echo")
        except RuntimeError as error:
            refused.append(str(error))

    with interrupts(0.03, handler):
        assert client.call("slow") == 1
    assert refused == ["the client is in use by the main thread, which this signal handler has interrupted"]
    assert client.call("echo", [1]) == [1]


def test_a_signal_handler_may_close_the_client(client: SyncClient) -> None:
    with (
        took(0.04, 1.0),
        interrupts(0.05, lambda _number, _frame: client.close()),
        pytest.raises(RpcClosedError),
    ):
        client.call("never")


def test_a_process_that_was_forked_has_connections_and_counts_of_its_own(
    client: SyncClient, rpc: FakeRpcServer
) -> None:
    assert client.call("echo", [1]) == [1]
    holders = [threading.Thread(target=lambda: client.call("echo", [3]), daemon=True) for _ in range(3)]
    for holder in holders:
        holder.start()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = client.call("echo", [2], timeout=3)
            os.write(write_end, f"{answer} {client.counters()['calls']}".encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        assert pipe.read() == "[2] 1"
    os.waitpid(child, 0)
    for holder in holders:
        holder.join(5)
    assert client.call("echo", [4]) == [4]
    assert client.counters()["reconnects"] == 0
    assert client.counters()["calls"] == 5


def test_a_closed_connection_is_noticed_while_nobody_calls(client: SyncClient, rpc: FakeRpcServer) -> None:
    for number in range(5):
        assert client.call("echo", [number]) == [number]
        run_threads(1, lambda _index: client.call("echo"))
        assert rpc._own_loop is not None
        rpc._own_loop.call_soon_threadsafe(rpc.hang_up)
        wait_until(lambda: not rpc.connections)
    counters = client.counters()
    assert (counters["results"], counters["failures"], counters["reconnects"]) == (10, 0, 8)
