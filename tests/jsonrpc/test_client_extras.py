"""The client beyond calls: hooks, typed results, methods that servers call, TLS, framings."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from sipwright.errors import RpcAnswerError, RpcConnectionError, RpcResultError
from sipwright.jsonrpc.client import Client, ClientEvent
from sipwright.jsonrpc.framing import FRAMINGS, Framing, LineDecoder
from sipwright.jsonrpc.server import Server
from sipwright.jsonrpc.tls import Tls
from sipwright.testing.fakerpc import FakeRpcServer, never, raw, result
from tests.jsonrpc.certificates import Certificates
from tests.jsonrpc.test_client import QUICK, settled
from tests.jsonrpc.test_tries import ready

# Hooks


def test_hooks_are_told_what_happens_and_their_faults_harm_nobody() -> None:
    async def main() -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context["exception"]))
        async with FakeRpcServer() as rpc:
            rpc.on("get", result(1))
            rpc.on("wait", never())
            client = Client(f"{rpc.address},1", **QUICK)
            events: list[ClientEvent] = []

            def broken(_event: ClientEvent) -> None:
                raise ZeroDivisionError

            client.add_hook(broken)
            client.add_hook(events.append)
            async with client:
                await client.call("get", [1])
                waiting = asyncio.create_task(client.call("wait"))
                await rpc.wait_for_calls(2)
                waiting.cancel()
                await asyncio.sleep(0)
            assert [(event.kind, event.server, event.id) for event in events] == [
                ("connected", rpc.address, None),
                ("request", rpc.address, 1),
                ("ok", rpc.address, 1),
                ("request", rpc.address, 2),
                ("cancelled", rpc.address, 2),
                ("disconnected", rpc.address, None),
            ]
            assert events[2].call is not None
            assert (events[2].call.method, events[2].call.result) == ("get", b"1")
            assert [event.method for event in events] == ["", "get", "get", "wait", "wait", ""]
            assert [event.ms is None for event in events] == [True, True, False, True, False, True]
            assert events[2].time >= events[1].time > 0
            assert [type(fault) for fault in faults] == [ZeroDivisionError] * len(events)

    asyncio.run(main())


# Typed results


@dataclass
class User:
    id: int
    name: str


def test_a_result_comes_as_the_type_that_is_asked_for() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get_user", result({"id": 1, "name": "Petros"}), result({"id": "x", "name": "Petros"}))
            assert await client.call("get_user", {"id": 1}, result=User) == User(1, "Petros")
            with pytest.raises(RpcResultError, match=r"get_user.*\$\.id"):
                await client.call("get_user", {"id": 1}, result=User)
            assert client.counters()["results"] == 2
            with pytest.raises(TypeError):
                await client.call("get_user", result=Client)
            assert settled(client)

    asyncio.run(main())


# Calls in the other direction


def test_a_server_calls_methods_of_the_client_on_the_same_connection() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            client = Client(f"{rpc.address},1", **QUICK)

            @client.method
            def add(a: int, b: int) -> int:
                return a + b

            @client.method("slow.echo")
            async def echo(text: str) -> str:
                await asyncio.sleep(0)
                return text

            def ask(body: str) -> Any:
                text = body.encode()
                return raw(b"%d:%b," % (len(text), text))

            rpc.on("one", ask('{"jsonrpc":"2.0","id":"a","method":"add","params":[1,2]}'))
            rpc.on("two", ask('{"jsonrpc":"2.0","id":"b","method":"slow.echo","params":{"text":"x"}}'))
            rpc.on("three", ask('{"jsonrpc":"2.0","id":"c","method":"none"}'))
            answers = asyncio.Queue[dict[str, Any]]()
            async with client:
                await ready(client, 1)
                listen_for_answers(rpc, answers)
                for method in ("one", "two", "three"):
                    client.submit(method, None, lambda *_: None)
                got = [await asyncio.wait_for(answers.get(), 2) for _ in range(3)]
                by_id = {answer["id"]: answer for answer in got}
                assert by_id["a"]["result"] == 3
                assert by_id["b"]["result"] == "x"
                assert by_id["c"]["error"]["code"] == -32601

    asyncio.run(main())


def listen_for_answers(rpc: FakeRpcServer, answers: asyncio.Queue[dict[str, Any]]) -> None:
    """Have what the client sends without a method, which the fake server ignores, put into a queue."""
    [connection] = rpc.connections
    feed = connection._decoder.feed

    def listen(data: bytes) -> list[bytes]:
        payloads = feed(data)
        for payload in payloads:
            message = json.loads(payload)
            if "method" not in message:
                answers.put_nowait(message)
        return payloads

    connection._decoder = type("Listening", (), {"feed": staticmethod(listen)})()


def test_a_method_that_runs_when_the_client_closes_is_cancelled() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc:
            client = Client(f"{rpc.address},1", **QUICK)
            ends: list[str] = []

            @client.method
            async def wait() -> None:
                try:
                    ends.append("begun")
                    await asyncio.sleep(100)
                finally:
                    ends.append("ended")

            text = b'{"jsonrpc":"2.0","id":1,"method":"wait"}'
            rpc.on("go", raw(b"%d:%b," % (len(text), text)))
            async with client:
                client.submit("go", None, lambda *_: None)
                async with asyncio.timeout(2):
                    while not ends:
                        await asyncio.sleep(0.001)
            assert ends == ["begun", "ended"]

    asyncio.run(main())


# Framings


@pytest.mark.parametrize(
    "framing", [*FRAMINGS, Framing("nul", lambda payload: payload + b"\0\n", LineDecoder)], ids=str
)
def test_client_and_server_speak_any_framing(framing: str | Framing) -> None:
    if isinstance(framing, Framing):

        class NulDecoder:
            def __init__(self, max_size: int) -> None:
                self._inner = LineDecoder(max_size)

            def feed(self, data: bytes) -> list[bytes]:
                return [line.rstrip(b"\0") for line in self._inner.feed(data)]

        framing = Framing("nul", framing.encode, NulDecoder)

    async def main() -> None:
        server = Server(framing=framing)
        server.add_method("echo", lambda text: text)
        await server.start()
        async with Client(f"127.0.0.1:{server.port},1", framing=framing) as client:
            for text in ("a", "b" * 100_000, "line\nfeed", "ü"):
                assert await client.call("echo", [text]) == text
        await server.close()

    asyncio.run(main())


# TLS


def serve(certificates: Certificates, **options: Any) -> Server:
    server = Server(tls=Tls(certfile=certificates.server.certfile, keyfile=certificates.server.keyfile, **options))
    server.add_method("echo", lambda text: text)
    return server


def test_a_tls_server_is_verified_by_its_name(certificates: Certificates) -> None:
    async def main() -> None:
        server = serve(certificates)
        await server.listen("tls:127.0.0.1:0")
        [address] = server.addresses
        async with Client(f"tls:localhost:{address.port},1", tls=Tls(cafile=certificates.ca)) as client:
            assert await client.call("echo", ["x" * 300_000], timeout=3) == "x" * 300_000
        named = Tls(cafile=certificates.ca, server_name="other.example")
        for tls, said in ((named, "not valid for 'other.example'"), (Tls(), "self-signed|unable to get")):
            async with Client(f"tls:127.0.0.1:{address.port},1", tls=tls) as client:
                with pytest.raises(RpcConnectionError, match=f"its certificate is not accepted: .*({said})"):
                    await client.call("echo", ["x"], timeout=0.5)
        await server.close()

    asyncio.run(main())


def test_a_client_shows_its_certificate(certificates: Certificates) -> None:
    async def main() -> None:
        server = serve(certificates, cafile=certificates.ca, verify=True)
        await server.listen("tls:127.0.0.1:0")
        [address] = server.addresses
        own = Tls(cafile=certificates.ca, certfile=certificates.client.certfile, keyfile=certificates.client.keyfile)
        async with Client(f"tls:127.0.0.1:{address.port},1", tls=own) as client:
            assert await client.call("echo", ["x"], timeout=3) == "x"
        async with Client(f"tls:127.0.0.1:{address.port},1", tls=Tls(cafile=certificates.ca)) as client:
            with pytest.raises((RpcConnectionError, RpcAnswerError, TimeoutError)):
                await client.call("echo", ["x"], timeout=0.5)
        await server.close()

    asyncio.run(main())
