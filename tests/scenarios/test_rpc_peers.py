"""Other programs in Python, and plain sockets, speak to our server and to our client over netstrings.

Twisted's NetstringReceiver with JSON of its own, and aiorpcX with a netstring framer, each in both roles and in a
process of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from sipwright.errors import RpcAnswerError, RpcConnectionError
from sipwright.jsonrpc import Client, Server
from sipwright.jsonrpc.rpc_connection import RpcConnection
from tests.scenarios.processes import PythonProcess, require_package

pytestmark = pytest.mark.scenario

HERE = Path(__file__).parent
PEERS = {"twisted": HERE / "twisted_peer.py", "aiorpcx": HERE / "aiorpcx_peer.py"}


# Our client asks them


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    require_package(request.param)
    with PythonProcess(PEERS[request.param], ["serve"], tmp_path / "peer.log", "listening ") as process:
        port = re.search(r"listening (\d+)", process.log)
        assert port is not None
        yield f"127.0.0.1:{port[1]}"


def test_our_client_calls_a_foreign_server(peer: str) -> None:
    async def main() -> None:
        async with Client(f"{peer},1", timeout=5) as client:
            assert await client.call("add", [1, 2]) == 3
            assert await client.call("echo", ["é", 1.5, None, {"a": []}]) == ["é", 1.5, None, {"a": []}]
            with pytest.raises(RpcAnswerError) as fault:
                await client.call("refuse", [1])
            assert (fault.value.code, fault.value.message) == (7, "refused")
            await client.notify("note", [1])
            sums = await asyncio.gather(*(client.call("add", [n, n]) for n in range(200)))
            assert sums == [2 * n for n in range(200)]
            three, refused = await client.batch([("add", [1, 2]), ("refuse", [2])])
            assert three == 3
            assert isinstance(refused, RpcAnswerError)
            counters = client.counters()
            assert (counters["unknown"], counters["malformed"], counters["pending"]) == (0, 0, 0)

    asyncio.run(main())


def test_a_foreign_server_calls_our_client_on_the_same_connection(peer: str) -> None:
    async def main() -> None:
        client = Client(f"{peer},1", timeout=5)

        @client.method
        async def name() -> str:
            await asyncio.sleep(0)
            return "sipwright"

        async with client:
            assert await asyncio.gather(*(client.call("ask_back") for _ in range(10))) == ["hello sipwright"] * 10

    asyncio.run(main())


# They ask our server


class Running:
    """Our server in a thread, with what it was told in `notes`."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = Server()
        server.add_method("add", lambda *numbers: sum(numbers))
        server.add_method("echo", lambda a: {"a": a})
        server.add_method("note", self.notes.append)

        @server.method
        def refuse() -> None:
            raise RpcAnswerError(7, "refused")

        @server.method
        async def ask_back(connection: RpcConnection) -> str:
            return f"hello {await connection.call('name')}"

        self._stopped = asyncio.Event()
        async with server:
            self.port = server.port
            self._ready.set()
            await self._stopped.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()


def said(program: str, *arguments: str) -> list[Any]:
    """Run a program to its end and return the lines that it prints, parsed."""
    require_package(program)
    words = [sys.executable, str(PEERS[program]), *arguments]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_twisted_calls_our_server() -> None:
    payloads = [
        '{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]}',
        '{"jsonrpc": "2.0", "method": "note", "params": ["seen"]}',
        '{"jsonrpc": "2.0", "id": "x", "method": "echo", "params": {"a": "é"}}',
        '{"jsonrpc": "2.0", "id": 2, "method": "refuse"}',
        '[{"jsonrpc": "2.0", "id": 3, "method": "add", "params": [3, 4]}, {"jsonrpc": "2.0", "id": 4, "method": "no"}]',
    ]
    with Running() as server:
        answers = said("twisted", "call", str(server.port), json.dumps(payloads))
        assert server.notes == ["seen"]
    assert answers == [
        {"jsonrpc": "2.0", "result": 3, "id": 1},
        {"jsonrpc": "2.0", "result": {"a": "é"}, "id": "x"},
        {"jsonrpc": "2.0", "error": {"code": 7, "message": "refused"}, "id": 2},
        [
            {"jsonrpc": "2.0", "result": 7, "id": 3},
            {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": 4},
        ],
    ]


def test_aiorpcx_calls_our_server_and_is_called_back() -> None:
    with Running() as server:
        answers = said("aiorpcx", "call", str(server.port))
        assert server.notes == ["seen", "in a batch"]
    assert answers[:3] == [3, {"a": [1.5, None, "é"]}, [7, "refused"]]
    assert answers[3][0] == "7"
    assert "refused" in answers[3][1]
    assert answers[4] == "hello aiorpcX"


def test_a_plain_socket_calls_our_server() -> None:
    with Running() as server, socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain:
        plain.sendall(b'62:{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]},')
        assert plain.recv(100) == b'35:{"jsonrpc":"2.0","result":3,"id":1},'


def test_our_client_calls_a_plain_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                request = b""
                while not request.endswith(b","):
                    request += connection.recv(1000)
                assert json.loads(request.partition(b":")[2][:-1])["params"] == [1, 2]
                for piece in (b'41:{ "id": 1, "js', b'onrpc": "2.0","result": 3 }', b","):
                    connection.sendall(piece)
                connection.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()

        async def main() -> None:
            async with Client(f"127.0.0.1:{listener.getsockname()[1]},1", timeout=5) as client:
                assert await client.call("add", [1, 2]) == 3
                # It reads the next call and hangs up.
                with pytest.raises(RpcConnectionError):
                    await client.call("add", [3, 4])

        asyncio.run(main())
        thread.join()
