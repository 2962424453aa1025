"""The way of the workers to a service that has dialled in: real sockets, both ends played by the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.framing import NETSTRING
from sipwright.jsonrpc.messages import Message
from sipwright.jsonrpc.peer import Peer
from sipwright.modules.jsonrpc.relay import Relay, Relayed
from sipwright.netstring import Decoder, encode


class End:
    """One end of a stream, as a person speaks it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._decoder = Decoder()
        self._heard: list[Any] = []

    def say(self, text: bytes) -> None:
        self.writer.write(encode(text))

    async def hear(self) -> Any:
        while not self._heard:
            data = await asyncio.wait_for(self._reader.read(1 << 16), 5)
            if not data:
                return None
            self._heard += map(json.loads, self._decoder.feed(data))
        return self._heard.pop(0)


class Owner:
    """Stands for the owner of the service's connection."""

    def __init__(self, relay: Callable[[], Relay]) -> None:
        self._relay = relay

    def connection_ready(self, _connection: Connection, /) -> None:
        """Nothing to do."""

    def connection_blocked(self, _connection: Connection, /) -> None:
        """Nothing to do."""

    def connection_ended(self, _connection: Connection, reason: str, /) -> None:
        self._relay().close(reason)

    def stream_ended(self, _connection: Connection, /) -> bool:
        return False


Talk = Callable[[Relay, End, Callable[[], Awaitable[End]]], Awaitable[None]]


def run(tmp_path: Path, talk: Talk, limit: int = 100) -> None:
    """Connect a service and a relay, and let the test talk: with the relay, the service, and workers that it makes."""

    def answered(call: Relayed, message: Message) -> None:
        call.answered(message)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        opened: list[End] = []
        came: asyncio.Future[End] = loop.create_future()
        listener = await asyncio.start_unix_server(lambda *ends: came.set_result(End(*ends)), str(tmp_path / "s"))
        peer: Peer[Relayed] = Peer(answered, None)
        service = Connection(loop, Owner(lambda: relay), peer, "service")
        relay = Relay(
            loop,
            str(tmp_path / "relay"),
            service,
            limit=limit,
            max_size=1 << 20,
            framing=NETSTRING,
            cancel_method="rpc.cancel",
            changed=lambda: None,
        )
        await loop.create_unix_connection(lambda: service, str(tmp_path / "s"))
        await relay.open()

        async def worker() -> End:
            opened.append(End(*await asyncio.open_unix_connection(relay.path)))
            return opened[-1]

        try:
            opened.append(await came)
            await talk(relay, opened[0], worker)
        finally:
            relay.close("the end")
            service.abort("the end")
            for end in opened:
                end.writer.close()
            listener.close()
            await asyncio.sleep(0.02)

    asyncio.run(main())


def test_questions_get_ids_of_the_service_and_answers_those_of_whoever_asked(tmp_path: Path) -> None:
    async def talk(relay: Relay, service: End, worker: Callable[[], Awaitable[End]]) -> None:
        one, two = await worker(), await worker()
        one.say(b'{"id":1,"jsonrpc":"2.0","method":"a","params":[1]}')
        first = await service.hear()
        two.say(b'{"id":1,"jsonrpc":"2.0","method":"b"}')
        second = await service.hear()
        assert (first["method"], first["params"], second["method"]) == ("a", [1], "b")
        assert first["id"] != second["id"]
        assert "params" not in second
        service.say(b'{"id":%d,"error":{"code":7,"message":"no","data":[1.50]}}' % second["id"])
        service.say(b'{"id":%d,"result":{"x":1.10}}' % first["id"])
        assert await one.hear() == {"jsonrpc": "2.0", "result": {"x": 1.1}, "id": 1}
        assert await two.hear() == {"jsonrpc": "2.0", "error": {"code": 7, "message": "no", "data": [1.5]}, "id": 1}
        assert relay.service.pending == {}
        assert relay.calls == 2

    run(tmp_path, talk)


def test_notifications_pass_and_a_cancellation_has_the_id_that_the_service_knows(tmp_path: Path) -> None:
    async def talk(relay: Relay, service: End, worker: Callable[[], Awaitable[End]]) -> None:
        one, two = await worker(), await worker()
        one.say(b'{"id":1,"jsonrpc":"2.0","method":"a"}')
        await service.hear()
        two.say(b'{"id":1,"jsonrpc":"2.0","method":"a"}')
        second = (await service.hear())["id"]
        two.say(b'{"jsonrpc":"2.0","method":"rpc.cancel","params":{"id":1}}')
        assert await service.hear() == {"jsonrpc": "2.0", "method": "rpc.cancel", "params": {"id": second}}
        assert second not in relay.service.pending
        two.say(b'{"jsonrpc":"2.0","method":"seen","params":{"id":1}}')
        assert await service.hear() == {"jsonrpc": "2.0", "method": "seen", "params": {"id": 1}}
        # The late answer harms nothing.
        service.say(b'{"id":%d,"result":1}' % second)
        two.say(b'{"id":2,"jsonrpc":"2.0","method":"b"}')
        third = (await service.hear())["id"]
        service.say(b'{"id":%d,"result":2}' % third)
        assert await two.hear() == {"jsonrpc": "2.0", "result": 2, "id": 2}

    run(tmp_path, talk)


def test_when_the_service_is_gone_so_are_the_connections_to_it(tmp_path: Path) -> None:
    async def talk(relay: Relay, service: End, worker: Callable[[], Awaitable[End]]) -> None:
        one = await worker()
        one.say(b'{"id":1,"jsonrpc":"2.0","method":"a"}')
        await service.hear()
        service.writer.close()
        assert await one.hear() is None
        assert relay.is_idle

    run(tmp_path, talk)
    assert not (tmp_path / "relay").exists()


def test_what_a_worker_that_is_gone_had_asked_is_forgotten(tmp_path: Path) -> None:
    async def talk(relay: Relay, service: End, worker: Callable[[], Awaitable[End]]) -> None:
        one = await worker()
        one.say(b'{"id":1,"jsonrpc":"2.0","method":"a"}')
        number = (await service.hear())["id"]
        one.writer.close()
        while not relay.is_idle:
            await asyncio.sleep(0.005)
        assert relay.service.pending == {}
        service.say(b'{"id":%d,"result":1}' % number)
        await asyncio.sleep(0.02)
        assert relay.service.peer.late == 1

    run(tmp_path, talk)


def test_calls_that_are_never_answered_do_not_fill_the_memory(tmp_path: Path) -> None:
    async def talk(relay: Relay, service: End, worker: Callable[[], Awaitable[End]]) -> None:
        one = await worker()
        for number in range(1, 51):
            one.say(b'{"id":%d,"jsonrpc":"2.0","method":"a"}' % number)
        for _ in range(50):
            last = await service.hear()
        assert len(relay.service.pending) == 10
        [asker] = relay.askers
        assert len(asker.calls) == 10
        service.say(b'{"id":%d,"result":1}' % last["id"])
        assert (await one.hear())["id"] == 50

    run(tmp_path, talk, limit=10)
