"""A service that dials in, with a server of ours in the place of the router."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from sipwright.errors import ArgumentError, RpcAnswerError, RpcConnectionError
from sipwright.jsonrpc.dial import Dialer, serve_dialing
from sipwright.jsonrpc.rpc_connection import RpcConnection
from sipwright.jsonrpc.server import Server


class Router:
    """Takes services in, and asks them."""

    def __init__(self) -> None:
        self.server = Server()
        self.services: list[RpcConnection] = []
        self.drained: list[RpcConnection] = []
        self.served: list[tuple[str, str]] = []
        self.refused = 0
        self.open_call: asyncio.Future[Any] | None = None
        self.server.add_method("rpc.serve", self._serve)
        self.server.add_method("rpc.drain", self._drain)

    def _serve(self, connection: RpcConnection, group: str, token: str) -> bool:
        if token != "secret":
            self.refused += 1
            raise RpcAnswerError(-32001, "the group or its token is wrong")
        self.served.append((group, token))
        self.services.append(connection)
        return True

    async def _drain(self, connection: RpcConnection) -> bool:
        self.drained.append(connection)
        if self.open_call is not None:
            # Answered once what is open has ended.
            await self.open_call
        return True

    @property
    def address(self) -> str:
        return f"tcp:127.0.0.1:{self.server.port}"

    async def wait_for(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not is_so():
                await asyncio.sleep(0.005)


def service() -> Server:
    server = Server()

    @server.method
    async def double(number: int) -> int:
        await asyncio.sleep(0.01)
        return 2 * number

    return server


def run(test: Callable[[Router], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        router = Router()
        async with router.server:
            await test(router)

    asyncio.run(main())


def test_it_serves_on_as_many_connections_as_it_is_told() -> None:
    async def test(router: Router) -> None:
        async with Dialer(service(), router.address, group="users", token="secret", connections=3) as dialer:
            await dialer.connected(5)
            assert (dialer.connections, router.served) == (3, [("users", "secret")] * 3)
            answers = [connection.call("double", [number]) for number, connection in enumerate(router.services)]
            assert await asyncio.gather(*answers) == [0, 2, 4]
        assert len(router.drained) == 3
        await router.wait_for(lambda: not router.server.connections)

    run(test)


def test_a_lost_connection_is_made_again() -> None:
    async def test(router: Router) -> None:
        dialer = Dialer(service(), router.address, token="secret", reconnect_interval=0.02)
        async with dialer:
            for number in (1, 2, 3):
                await router.wait_for(lambda: len(router.services) == number)  # noqa: B023
                assert await router.services[-1].call("double", [number]) == 2 * number
                router.services[-1].close()
            await router.wait_for(lambda: len(router.services) == 4)

    run(test)


def test_a_connection_that_the_router_wants_to_close_is_replaced_before_it_is_drained() -> None:
    async def test(router: Router) -> None:
        async with Dialer(service(), router.address, token="secret") as dialer:
            await dialer.connected(5)
            [first] = router.services
            await first.notify("rpc.redial")
            # Until there is another one, it is asked as before.
            assert await first.call("double", [1]) == 2
            await router.wait_for(lambda: router.drained == [first] and not first.is_open)
            assert len(router.services) == 2
            assert await router.services[1].call("double", [2]) == 4
            assert dialer.connections == 1

    run(test)


def test_what_is_open_at_the_end_is_answered() -> None:
    async def test(router: Router) -> None:
        server = service()

        @server.method
        async def slow() -> str:
            await asyncio.sleep(0.2)
            return "done"

        dialer = Dialer(server, router.address, token="secret")
        dialer.start()
        await dialer.connected(5)
        router.open_call = asyncio.ensure_future(router.services[0].call("slow"))
        await asyncio.sleep(0.05)
        await dialer.close()
        assert await router.open_call == "done"

    run(test)


def test_a_refusal_and_a_router_that_is_away_are_tried_again_and_told() -> None:
    async def test(router: Router) -> None:
        wrong = Dialer(service(), router.address, token="wrong", reconnect_interval=0.02, random=lambda: 0.5)
        async with wrong:
            with pytest.raises(RpcConnectionError, match="refused: the group or its token is wrong"):
                await wrong.connected(0.2)
            # 20 ms, 40, 80 ...
            assert 2 <= router.refused <= 5
        away = Dialer(service(), "tcp:127.0.0.1:1", token="secret")
        async with away:
            with pytest.raises(RpcConnectionError, match=r"127\.0\.0\.1:1: Connection refused"):
                await away.connected(0.1)

    run(test)


def test_serve_dialing_serves_until_it_is_cancelled_and_then_drains() -> None:
    async def test(router: Router) -> None:
        task = asyncio.ensure_future(serve_dialing(service(), router.address, token="secret"))
        await router.wait_for(lambda: len(router.services) == 1)
        assert await router.services[0].call("double", {"number": 4}) == 8
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert len(router.drained) == 1

    run(test)


@pytest.mark.parametrize(
    ("address", "options", "said"),
    [
        ("tcp:127.0.0.1", {}, "has no port"),
        ("srv:_a._tcp.example.org", {}, "not srv:"),
        ("tls:127.0.0.1:1", {}, "needs TLS settings"),
        ("tcp:127.0.0.1:1", {"connections": 0}, "connections is at least 1"),
        ("tcp:127.0.0.1:1", {"framing": "x"}, "no framing is named 'x'"),
    ],
)
def test_what_cannot_be_is_an_error_at_once(address: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Dialer(service(), address, **options)
