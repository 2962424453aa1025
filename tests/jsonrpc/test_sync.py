"""The client without asyncio: calls, notifications, errors, typed results, its life, what it imports."""

from __future__ import annotations

import inspect
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from sipwright import netstring
from sipwright.errors import (
    ArgumentError,
    RpcAnswerError,
    RpcClosedError,
    RpcConnectionError,
    RpcResultError,
    RpcTimeoutError,
)
from sipwright.jsonrpc import Client, Server
from sipwright.jsonrpc.service import Service, remote
from sipwright.jsonrpc.sync import SyncClient
from sipwright.testing import FakeRpcServer
from sipwright.testing.fakerpc import (
    FakeConnection,
    RecordedCall,
    after,
    both,
    error,
    hang_up,
    never,
    payload,
    raw,
    result,
)
from tests.jsonrpc.in_thread import InThread, balanced, run_threads, took, wait_until


@pytest.fixture
def rpc() -> Iterator[FakeRpcServer]:
    with FakeRpcServer() as server:
        server.on("echo", result(lambda params: params))
        server.on("never", never())
        yield server


@pytest.fixture
def client(rpc: FakeRpcServer) -> Iterator[SyncClient]:
    with SyncClient(f"{rpc.address},1", timeout=2) as one:
        yield one


class User(msgspec.Struct):
    id: int
    name: str = ""


def test_a_call_returns_the_result(client: SyncClient, rpc: FakeRpcServer) -> None:
    assert client.call("echo", {"a": [1, "ž", None]}) == {"a": [1, "ž", None]}
    assert client.call("echo") is None
    assert [call.id for call in rpc.calls] == [1, 2]


def test_an_error_is_raised_with_code_message_and_data(client: SyncClient, rpc: FakeRpcServer) -> None:
    rpc.on("bad", error(404, "no user", {"id": 7}))
    with pytest.raises(RpcAnswerError) as caught:
        client.call("bad")
    assert (caught.value.code, caught.value.message, caught.value.data) == (404, "no user", {"id": 7})


def test_no_answer_is_a_timeout_when_the_time_is_over(client: SyncClient) -> None:
    said = r"no answer to 'never' from 127\.0\.0\.1:\d+ within 10\d ms"
    with took(0.1, 0.2), pytest.raises(RpcTimeoutError, match=said):
        client.call("never", timeout=0.1)


def test_a_lost_connection_is_a_failure_at_once(client: SyncClient, rpc: FakeRpcServer) -> None:
    rpc.on("cut", hang_up())
    with took(0.0, 0.5), pytest.raises(RpcConnectionError, match=r"'cut': 127\.0\.0\.1:"):
        client.call("cut")
    assert client.call("echo", [1]) == [1]
    assert client.counters()["reconnects"] == 1


@pytest.mark.parametrize("rubbish", [b"x", b"01:1,", b"5:{}{}{}", b"9999999:"])
def test_a_bad_frame_ends_the_connection_at_once(client: SyncClient, rpc: FakeRpcServer, rubbish: bytes) -> None:
    rpc.on("bad", raw(rubbish))
    with took(0.0, 0.5), pytest.raises(RpcConnectionError, match="bad netstring"):
        client.call("bad")
    assert client.call("echo", [1]) == [1]


def test_an_answer_before_a_bad_frame_counts(client: SyncClient, rpc: FakeRpcServer) -> None:
    rpc.on("half", both(result(7), raw(b"x")))
    assert client.call("half") == 7
    # The bad frame may come a moment later, and would end a call that is under way by then.
    time.sleep(0.1)
    assert client.call("echo", [1]) == [1]


def test_answers_that_come_byte_by_byte_are_put_together() -> None:
    with FakeRpcServer(byte_by_byte=True) as rpc, SyncClient(f"{rpc.address},1") as client:
        rpc.on("echo", result(lambda params: params))
        assert client.call("echo", ["x" * 100]) == ["x" * 100]


def test_late_doubled_and_unknown_answers_are_counted_and_harm_nothing(client: SyncClient, rpc: FakeRpcServer) -> None:
    rpc.on("late", after(0.1, result(1)))
    rpc.on("twice", both(result(2), result(2)))
    rpc.on("other", both(payload('{"id":99,"result":0}'), payload("17"), result(3)))
    with pytest.raises(RpcTimeoutError):
        client.call("late", timeout=0.03)
    time.sleep(0.12)
    assert [client.call("twice"), client.call("other"), client.call("echo", [4])] == [2, 3, [4]]
    counters = client.counters()
    assert [counters[name] for name in ("late", "doubled", "unknown", "malformed")] == [1, 1, 1, 1]
    assert balanced(counters)


def test_a_result_of_a_type_is_decoded_and_another_shape_told(client: SyncClient, rpc: FakeRpcServer) -> None:
    rpc.on("get", result({"id": 7, "name": "Petros"}))
    assert client.call("get", result=User) == User(7, "Petros")
    with pytest.raises(RpcResultError, match="the result of 'get' is not what was expected"):
        client.call("get", result=list[User])
    with pytest.raises(TypeError, match="no type that JSON can be decoded to"):
        client.call("get", result=SyncClient)
    assert client.counters()["results"] == 2


def test_structs_are_params(client: SyncClient, rpc: FakeRpcServer) -> None:
    assert client.call("echo", User(7, "P")) == {"id": 7, "name": "P"}
    with pytest.raises(TypeError, match="params must be an array or an object"):
        client.call("echo", "text")
    with pytest.raises(ArgumentError, match="no group of servers is named 'x'"):
        client.call("echo", group="x")
    assert client.counters()["calls"] == 1


def test_a_service_is_called_as_its_methods() -> None:
    class Users(Service, prefix="users."):
        def get_user(self, id: int) -> User:  # noqa: A002
            raise NotImplementedError

        @remote(notify=True)
        def seen(self, id: int) -> None: ...  # noqa: A002

    seen: list[int] = []
    server = Server()
    server.add_method("users.get_user", lambda id: {"id": id, "name": "Petros"})  # noqa: A006
    server.add_method("users.seen", lambda id: seen.append(id))  # noqa: A006
    with InThread(server) as there, SyncClient(f"{there.address},1") as client:
        users = Users(client)
        users.seen(1)
        assert users.get_user(7) == User(7, "Petros")
        assert seen == [1]


def test_a_notification_is_sent_and_not_answered(client: SyncClient, rpc: FakeRpcServer) -> None:
    client.notify("log", ["hello"])
    rpc.wait_for_calls_in_thread(1)
    assert (rpc.calls[0].method, rpc.calls[0].params, rpc.calls[0].is_notification) == ("log", ["hello"], True)
    assert client.counters()["notifications"] == 1


def test_a_large_notification_leaves_although_no_call_follows() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    place = f"127.0.0.1:{listener.getsockname()[1]}"
    got: list[int] = []

    def read() -> None:
        peer, _ = listener.accept()
        with peer:
            time.sleep(0.05)
            count = 0
            while count < 8_000_000 and (data := peer.recv(1 << 16)):
                count += len(data)
            got.append(count)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with listener, SyncClient(f"{place},1", timeout=5) as client:
        client.notify("log", ["x" * 8_000_000])
        reader.join(5)
        assert got[0] >= 8_000_000


def test_a_server_that_does_not_read_is_left_out_and_holds_nobody_up() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    deaf = f"127.0.0.1:{listener.getsockname()[1]}"
    with listener, FakeRpcServer() as rpc, SyncClient(f"{deaf},2 {rpc.address},1", timeout=0.2) as client:
        rpc.on("echo", result(lambda params: params))
        with pytest.raises(RpcTimeoutError):
            client.call("echo", ["x" * 20_000_000])
        # More than a megabyte waits for the first one.
        assert client.call("echo", [1]) == [1]
        assert client.counters()["blocked"] == 1
        client.close()


def test_a_request_of_the_server_is_refused(client: SyncClient, rpc: FakeRpcServer) -> None:
    came: list[bytes] = []

    def listen_in(connection: FakeConnection, _call: RecordedCall) -> None:
        take = connection.data_received

        def data_received(data: bytes) -> None:
            came.append(data)
            take(data)

        connection.data_received = data_received  # type: ignore[method-assign]

    rpc.on("ask", both(listen_in, payload('{"jsonrpc":"2.0","id":"q","method":"m"}'), after(0.05, result(1))))
    assert client.call("ask") == 1
    refusal = b'{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":"q"}'
    assert came == [netstring.encode(refusal)]


# Life


def test_a_client_that_is_closed_refuses_calls(client: SyncClient) -> None:
    client.call("echo")
    client.close()
    client.close()
    with pytest.raises(RpcClosedError):
        client.call("echo")
    with pytest.raises(RpcClosedError):
        client.notify("echo")
    with pytest.raises(RpcClosedError):
        client.batch([("echo", None)]).send()
    assert balanced(client.counters())


def test_close_ends_the_calls_of_all_threads(client: SyncClient) -> None:
    ends: list[str] = []

    def call(_index: int) -> None:
        with pytest.raises(RpcClosedError):
            client.call("never", timeout=10)
        ends.append("closed")

    closer = threading.Timer(0.1, client.close)
    closer.start()
    with took(0.05, 2):
        run_threads(4, call)
    closer.join()
    assert len(ends) == 4
    assert client.counters()["failures"] == 4


def test_close_waits_for_answers_if_it_is_told_to(client: SyncClient, rpc: FakeRpcServer) -> None:
    rpc.on("slow", after(0.2, result(1)))
    got: list[Any] = []
    caller = threading.Thread(target=lambda: got.append(client.call("slow")), daemon=True)
    caller.start()
    rpc.wait_for_calls_in_thread(1)
    client.close(timeout=2)
    caller.join(2)
    assert got == [1]


def test_connected_waits_for_a_server_and_says_what_is_wrong_without(client: SyncClient) -> None:
    client.connected(1)
    assert list(client.connections.values()) == [0]
    with SyncClient("127.0.0.1:1,1 127.0.0.1:2,1") as nobody:
        with took(0.15, 0.5), pytest.raises(RpcConnectionError) as caught:
            nobody.connected(0.2)
        refused = "cannot connect: Connection refused"
        assert str(caught.value) == f"no server is connected (127.0.0.1:1: {refused}; 127.0.0.1:2: {refused})"
        assert nobody.connections == {"127.0.0.1:1": None, "127.0.0.1:2": None}
    with SyncClient("") as none, pytest.raises(RpcConnectionError, match="there are no servers"):
        none.call("echo")


def test_a_malformed_argument_is_told_when_the_client_is_made() -> None:
    with pytest.raises(ArgumentError, match="has no priority"):
        SyncClient("127.0.0.1:1")
    with pytest.raises(ArgumentError, match="no policy is named 'best'"):
        SyncClient("", policy="best")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="when_full is"):
        SyncClient("", when_full="drop")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="no framing is named 'x'"):
        SyncClient("", framing="x")


def test_names_and_counts_are_those_of_the_asyncio_client() -> None:
    assert list(SyncClient("").counters()) == list(Client("").counters())

    def arguments(function: Any) -> dict[str, object]:
        return {name: p.default for name, p in inspect.signature(function).parameters.items()}

    for name in ("call", "notify", "batch", "connected", "close"):
        assert arguments(getattr(SyncClient, name)) == arguments(getattr(Client, name))
    theirs, ours = arguments(Client), arguments(SyncClient)
    assert set(theirs) - set(ours) == {"connect", "max_concurrent"}  # it serves no calls
    assert all(theirs[name] == default for name, default in ours.items() if name != "servers")


def test_it_starts_no_thread_and_leaves_no_file_open(rpc: FakeRpcServer) -> None:
    threads = threading.active_count()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with SyncClient(f"{rpc.address},1") as client:
        client.call("echo")
        run_threads(2, lambda _index: client.call("echo"))
        assert threading.active_count() == threads
    wait_until(lambda: not rpc.connections)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_neither_asyncio_nor_a_resolver_is_imported_for_it() -> None:
    program = (
        "import sys; from sipwright.jsonrpc.sync import SyncClient; SyncClient('127.0.0.1:1,1').close();"
        "print(sorted({'asyncio', 'dns', 'concurrent'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
