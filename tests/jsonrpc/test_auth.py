"""Who a client is: tokens, certificates, and what is refused before that is known."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

import pytest

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.auth import Auth, make_check, same_token
from sipwright.jsonrpc.limits import UNAUTHENTICATED
from sipwright.jsonrpc.rpc_connection import RpcConnection
from sipwright.jsonrpc.server import Server
from sipwright.jsonrpc.tls import Tls
from tests.jsonrpc.certificates import Certificates
from tests.jsonrpc.wire import Wire, connect, serve


def make_server(auth: Auth, **options: Any) -> Server:
    server = Server(auth=auth, **options)

    @server.method
    def whoami(client: RpcConnection) -> Any:
        return client.identity

    return server


async def check_later(token: str) -> str | None:
    await asyncio.sleep(0.02)
    return "alice" if token == "right" else None


@pytest.mark.parametrize(
    ("auth", "identity"),
    [
        ("right", True),
        ({"other": "bob", "right": "alice"}, "alice"),
        (lambda token: "alice" if same_token(token, "right") else None, "alice"),
        (check_later, "alice"),
    ],
)
def test_a_client_says_its_token_first_and_is_known_from_then_on(auth: Auth, identity: Any) -> None:
    async def test(wire: Wire) -> None:
        for method in ("whoami", "nothing", "rpc.discover", "rpc.ping"):
            assert (await wire.ask(method))["error"] == {
                "code": UNAUTHENTICATED,
                "message": "Not authenticated",
                "data": "call rpc.auth first",
            }
        # What is sent at once behind it waits for what comes of it.
        wire.send('{"jsonrpc":"2.0","method":"rpc.auth","params":{"token":"right"},"id":1}')
        assert (await wire.ask("whoami", request_id=2)) == {"jsonrpc": "2.0", "result": True, "id": 1}
        assert (await wire.receive())["result"] == identity
        assert (await wire.ask("nothing"))["error"]["code"] == -32601

    serve(make_server(auth), test)


@pytest.mark.parametrize("auth", ["right", {"right": "alice"}, check_later])
@pytest.mark.parametrize("params", [{"token": "wrong"}, ["rightt"], [""], ["rïght"]])
def test_a_wrong_token_is_answered_and_ends_the_connection(auth: Auth, params: Any) -> None:
    server = make_server(auth)

    async def test(wire: Wire) -> None:
        assert (await wire.ask("rpc.auth", params))["error"] == {
            "code": UNAUTHENTICATED,
            "message": "Not authenticated",
            "data": "wrong token",
        }
        assert await wire.is_closed()
        assert server.counters()["errors"] == 1

    serve(server, test)


def test_nonsense_instead_of_a_token_is_refused_as_parameters_are() -> None:
    async def test(wire: Wire) -> None:
        assert (await wire.ask("rpc.auth", {"token": 5}))["error"]["data"] == "'token': Expected `str`, got `int`"
        assert await wire.is_closed()

    serve(make_server("right"), test)


def test_a_check_may_refuse_with_an_error_of_its_own_and_a_broken_one_lets_nobody_in() -> None:
    def check(token: str) -> Any:
        if token == "old":
            raise RpcAnswerError(401, "expired", "yesterday")
        raise RuntimeError("no database")

    server = make_server(check)

    async def test(wire: Wire) -> None:
        assert (await wire.ask("rpc.auth", ["old"]))["error"]["code"] == 401
        assert await wire.is_closed()
        other = await connect(server.addresses[0])
        assert (await other.ask("rpc.auth", ["x"]))["error"] == {"code": -32603, "message": "Internal error"}
        assert await other.is_closed()
        other.writer.close()

    serve(server, test)


def test_notifications_before_are_dropped_without_a_word() -> None:
    server = make_server("right")
    heard: list[str] = []
    server.add_method("hear", heard.append)

    async def test(wire: Wire) -> None:
        wire.tell("hear", ["early"])
        wire.tell("rpc.auth", {"token": "right"})
        wire.tell("hear", ["now"])
        assert (await wire.ask("whoami"))["result"] is True
        assert heard == ["now"]

    serve(server, test)


def test_whoever_does_not_say_it_in_time_is_disconnected() -> None:
    server = make_server("right", auth_timeout=0.05)

    async def test(wire: Wire) -> None:
        other = await connect(server.addresses[0])
        assert (await other.ask("rpc.auth", ["right"]))["result"] is True
        start = time.perf_counter()
        assert await wire.is_closed()
        assert time.perf_counter() - start < 1
        await asyncio.sleep(0.06)
        assert (await other.ask("whoami"))["result"] is True
        other.writer.close()

    serve(server, test)


def test_in_a_batch_each_call_is_looked_at() -> None:
    async def test(wire: Wire) -> None:
        call = '{"jsonrpc":"2.0","method":"%s","params":%s,"id":%d}'
        calls = [call % ("whoami", "[]", 1), call % ("rpc.auth", '["right"]', 2), call % ("whoami", "[]", 3)]
        wire.send(f"[{','.join(calls)}]")
        first, second, third = await wire.receive()
        assert first["error"]["code"] == UNAUTHENTICATED
        assert (second["result"], third["result"]) == (True, True)

    serve(make_server("right"), test)


def test_without_auth_there_is_no_such_method_and_nobody_has_a_name() -> None:
    server = Server()

    @server.method
    def whoami(client: RpcConnection) -> Any:
        return client.identity

    async def test(wire: Wire) -> None:
        assert (await wire.ask("rpc.auth", ["x"]))["error"]["code"] == -32601
        assert (await wire.ask("whoami"))["result"] is None

    serve(server, test)


def test_a_client_with_a_certificate_needs_no_token(certificates: Certificates) -> None:
    server = make_server(
        "right",
        tls=Tls(
            certfile=certificates.server.certfile,
            keyfile=certificates.server.keyfile,
            cafile=certificates.ca,
            verify="optional",
        ),
    )

    def context(**options: Any) -> ssl.SSLContext:
        return Tls(cafile=certificates.ca, **options).client_context()

    async def main() -> None:
        async with server:
            address = server.addresses[0]
            assert address.kind == "tls"
            alice = await connect(
                address, context=context(certfile=certificates.client.certfile, keyfile=certificates.client.keyfile)
            )
            assert (await alice.ask("whoami"))["result"] == "alice"
            nobody = await connect(address, context=context())
            assert (await nobody.ask("whoami"))["error"]["code"] == UNAUTHENTICATED
            assert (await nobody.ask("rpc.auth", ["right"]))["result"] is True
            for wire in (alice, nobody):
                wire.writer.close()
                await wire.writer.wait_closed()

    asyncio.run(asyncio.wait_for(main(), 10))


def test_tokens_are_compared_whole_and_as_unicode() -> None:
    assert same_token("ä\ud800", "ä\ud800")
    assert not same_token("a", "ab")
    check = make_check({"a": 1, "b": 2})
    assert [check("a"), check("b"), check("c")] == [1, 2, None]


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ("", "auth has a token that is empty, or no text: anybody would be let in"),
        ({"right": "alice", "": "bob"}, "auth has a token that is empty, or no text: anybody would be let in"),
        ({1: "alice"}, "auth has a token that is empty, or no text: anybody would be let in"),
        (3, "auth is a token, a dict of tokens or a function, not 3"),
    ],
)
def test_a_token_that_is_not_there_lets_nobody_in(auth: Any, said: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Server(auth=auth)
    assert str(caught.value) == said
