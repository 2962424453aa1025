from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from sipwright.cli.rpc.recording import Recorded, Side
from sipwright.cli.rpc.replay import Answer, Replay, match_answers
from sipwright.jsonrpc.framing import NETSTRING
from tests.jsonrpc.bytewire import Wire, connected


def line(time: float, side: Side, text: str, connection: int = 1) -> Recorded:
    return Recorded(time, connection, side, text.encode())


def members(answer: Answer) -> dict[str, Any] | None:
    return None if answer.members is None else {name: json.loads(bytes(raw)) for name, raw in answer.members.items()}


RECORDED = [
    line(1.0, "client", '{"id":1,"jsonrpc":"2.0","method":"get","params":{"id": 7, "deep": true}}'),
    line(1.0, "client", '{"id":1,"jsonrpc":"2.0","method":"get","params":[7]}', connection=2),
    line(1.1, "client", '{"jsonrpc":"2.0","method":"note"}'),
    line(1.2, "client", '{"id":2,"jsonrpc":"2.0","method":"get","params":{"deep":true,"id":7}}'),
    line(1.25, "server", '{"jsonrpc":"2.0","error":{"code":1,"message":"no","extra":[1.50]},"id":1}', connection=2),
    line(1.3, "server", '{"jsonrpc":"2.0","result":"second","id":"2"}'),
    line(1.5, "server", '{"jsonrpc":"2.0","result":1.10,"id":1,"by":"a"}'),
    line(1.5, "server", '{"jsonrpc":"2.0","result":"nobody asked","id":99}'),
    line(1.6, "server", '{"jsonrpc":"2.0","method":"tell","params":[1]}'),
    line(2.0, "client", '[{"id":3,"jsonrpc":"2.0","method":"a"},{"id":4,"jsonrpc":"2.0","method":"b"},5]'),
    line(2.2, "server", '[{"jsonrpc":"2.0","result":"of a","id":3}]'),
]


def test_answers_are_matched_by_connection_and_id_and_calls_by_method_and_params() -> None:
    answers = match_answers(RECORDED)
    assert [(key, [members(answer) for answer in own]) for key, own in answers.items()] == [
        (
            ("get", '{"deep": true, "id": 7}'),
            [{"jsonrpc": "2.0", "result": 1.1, "by": "a"}, {"jsonrpc": "2.0", "result": "second"}],
        ),
        (("get", "[7]"), [{"jsonrpc": "2.0", "error": {"code": 1, "message": "no", "extra": [1.5]}}]),
        (("a", ""), [{"jsonrpc": "2.0", "result": "of a"}]),
        (("b", ""), [None]),
    ]
    assert [round(answer.seconds, 3) for answer in answers["get", '{"deep": true, "id": 7}']] == [0.5, 0.1]


def replay(test: Callable[[Wire, Replay], Awaitable[None]], with_delays: bool = False) -> Replay:
    service = Replay(RECORDED, NETSTRING, with_delays)

    async def main() -> None:
        server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
        async with connected(server.sockets[0].getsockname()[1]) as wire:
            await test(wire, service)
        server.close()

    asyncio.run(main())
    return service


def call(number: object, method: str, params: str = "") -> bytes:
    tail = f',"params":{params}' if params else ""
    return f'{{"jsonrpc":"2.0","id":{json.dumps(number)},"method":"{method}"{tail}}}'.encode()


def test_a_call_gets_the_recorded_answers_in_turn_and_the_last_one_for_ever() -> None:
    async def test(wire: Wire, _: Replay) -> None:
        for number, result in ((50, b'"result":1.10'), (51, b'"result":"second"'), ("x", b'"result":"second"')):
            wire.send(call(number, "get", '{ "deep":true, "id":7 }'))
            answer = await wire.receive()
            assert result in answer
            assert json.loads(answer)["id"] == number
        wire.send(call(1, "get", "[7]"))
        assert b'"error":{"code":1,"message":"no","extra":[1.50]}' in await wire.receive()

    service = replay(test)
    assert service.report() == "answered 4 calls, took 0 notifications"


def test_what_is_not_recorded_gets_an_error_and_is_told_at_the_end() -> None:
    async def test(wire: Wire, _: Replay) -> None:
        for _attempt in range(2):
            wire.send(call(1, "get", "[8]"), call(2, "unknown"), b'{"jsonrpc":"2.0","method":"note"}')
            assert json.loads(await wire.receive())["error"]["code"] == -32602
            assert json.loads(await wire.receive())["error"]["code"] == -32601
        wire.send(call(3, "unknown", "[1]"))
        await wire.receive()

    service = replay(test)
    assert service.unmatched.total() == 5
    assert service.report() == (
        "answered 0 calls, took 2 notifications\n"
        "5 calls were not in the recording:\n"
        "  2 x get [8]\n"
        "  2 x unknown \n"
        "  1 x unknown [1]"
    )


def test_batches_are_answered_together_and_what_was_not_answered_is_not() -> None:
    async def test(wire: Wire, _: Replay) -> None:
        wire.send(call(1, "b"))
        wire.send(b"[%b,%b,%b]" % (call(2, "a"), call(3, "b"), call(4, "get", "[7]")))
        assert [answer["id"] for answer in json.loads(await wire.receive())] == [2, 4]

    replay(test)


def test_answers_take_as_long_as_they_took_when_that_is_wanted() -> None:
    async def test(wire: Wire, _: Replay) -> None:
        began = asyncio.get_running_loop().time()
        wire.send(call(1, "get", '{"id":7,"deep":true}'), call(2, "get", '{"id":7,"deep":true}'))
        # The first took half a second, the second a tenth.
        assert json.loads(await wire.receive())["id"] == 2
        assert 0.09 <= asyncio.get_running_loop().time() - began < 0.4
        assert json.loads(await wire.receive())["id"] == 1
        assert 0.49 <= asyncio.get_running_loop().time() - began < 1.0

    replay(test, with_delays=True)


def test_what_is_no_request_is_answered_as_a_service_does() -> None:
    async def test(wire: Wire, _: Replay) -> None:
        wire.send(b"{", b'{"method":"a","id":1}')
        assert json.loads(await wire.receive())["error"]["code"] == -32700
        assert json.loads(await wire.receive())["error"]["code"] == -32600
        wire.send(call(2, "a"))
        wire.write(b"05:hello,")
        assert json.loads(await wire.receive())["id"] == 2
        assert await wire.rest() == []

    replay(test)


def test_a_client_that_asks_no_more_still_gets_its_answers() -> None:
    async def test(wire: Wire, _: Replay) -> None:
        wire.send(call(1, "get", '{"id":7,"deep":true}'))
        wire.transport.write_eof()
        assert len(await wire.rest()) == 1

    replay(test, with_delays=True)
