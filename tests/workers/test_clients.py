"""Clients of the control interface over real sockets, in a selector's loop and in asyncio's."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sipwright.netstring import encode
from sipwright.workers import clients as clients_module
from sipwright.workers.clients import AsyncClients, Clients
from sipwright.workers.rounds import Outcome, result

Done = Callable[[Outcome], object]
PING = encode(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
PONG = encode(b'{"jsonrpc":"2.0","result":"pong","id":1}')
BIG = encode(b'{"jsonrpc":"2.0","id":1,"method":"big"}')


def ask(method: str, _params: bytes | None, done: Done) -> None:
    done(result("pong" if method == "ping" else "x" * 1_000_000))


class SelectorServer:
    """Serves in a thread, as the supervisor does, until it is closed."""

    def __init__(self, listener: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        self._clients = Clients(self._selector, ask)
        self._clients.listen(listener)
        self._end, self._ended = socket.socketpair()
        self._selector.register(self._ended, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            for key, events in self._selector.select():
                if key.data is None:
                    self._clients.close()
                    assert len(self._selector.get_map()) == 1, "a client was left"
                    return
                key.data(events)

    def close(self) -> None:
        self._end.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._ended.close()
        self._selector.close()


class AsyncServer:
    """Serves in a thread, as a server with -D does, until it is closed."""

    def __init__(self, listener: socket.socket) -> None:
        self._loop = asyncio.new_event_loop()
        self._clients = AsyncClients(self._loop, ask)
        self._loop.run_until_complete(self._clients.listen(listener))
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._clients.close)
        self._loop.call_soon_threadsafe(self._loop.call_later, 0.05, self._loop.stop)
        self._thread.join(10)
        self._loop.close()


Connect = Callable[[], socket.socket]


@pytest.fixture(params=[SelectorServer, AsyncServer])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "c.sock"))
    listener.listen()
    server = request.param(listener)
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(10)
        client.connect(str(tmp_path / "c.sock"))
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()
    server.close()


def read_to_the_end(client: socket.socket) -> bytes:
    received = bytearray()
    while data := client.recv(1 << 16):
        received += data
    return bytes(received)


def test_clients_are_served_beside_one_another_and_in_pieces(connect: Connect) -> None:
    first, second = connect(), connect()
    first.sendall(PING[:10])
    second.sendall(PING)
    assert second.recv(1000) == PONG
    first.sendall(PING[10:])
    assert first.recv(1000) == PONG


def test_one_that_sends_no_more_still_gets_its_answers(connect: Connect) -> None:
    client = connect()
    client.sendall(PING + BIG + PING)
    client.shutdown(socket.SHUT_WR)
    received = read_to_the_end(client)
    assert received.startswith(PONG)
    assert received.endswith(PONG)
    assert len(received) > 1_000_000


def test_one_that_sends_rubbish_is_disconnected(connect: Connect) -> None:
    client = connect()
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1000) == b""


def test_one_that_does_not_read_is_disconnected_and_the_others_are_served(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients_module, "MAX_WAITING", 3 << 20)
    deaf, other = connect(), connect()
    deaf.sendall(BIG * 6)
    other.sendall(PING)
    assert other.recv(1000) == PONG
    with contextlib.suppress(ConnectionResetError):
        assert len(read_to_the_end(deaf)) < 5_000_000


def test_one_too_many_is_turned_away(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients_module, "MAX_CLIENTS", 2)
    served = [connect(), connect()]
    for client in served:
        client.sendall(PING)
        assert client.recv(1000) == PONG
    third = connect()
    with contextlib.suppress(ConnectionResetError):
        assert third.recv(1000) == b""
    served[0].sendall(PING)
    assert served[0].recv(1000) == PONG
