"""All examples of the JSON-RPC 2.0 specification (section 7), in both roles, over real sockets.

The server has to answer each as it stands there; our errors have a further member `data`, which section 5.1 leaves to
the server. So does a client whose methods are called over its connection. The client has to send what the examples
send, its ids aside, and to take the answers that they show.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sipwright.errors import RpcAnswerError, RpcTimeoutError
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.server import Server
from tests.jsonrpc.bytewire import Wire, connected, listening


class Example(NamedTuple):
    """What is sent and what is answered, as they are written; None for no answer."""

    title: str
    request: str
    answer: str | None


def read_examples() -> list[Example]:
    examples, title = [], ""
    text = (Path(__file__).parent / "vectors" / "specification.txt").read_text()
    for part in text.split("\n\n"):
        lines = part.splitlines()
        while lines and lines[0].startswith("#"):
            title = lines.pop(0).removeprefix("#").strip()
        if lines:
            request, _, answer = "\n".join(lines).partition("\n<-- ")
            examples.append(Example(title, request.removeprefix("--> "), answer or None))
    return examples


EXAMPLES = read_examples()


def name_of(example: Example) -> str:
    return f"{example.title}: {example.request.partition(chr(10))[0]}"


def test_all_examples_are_there() -> None:
    assert len(EXAMPLES) == 15
    assert len({example.title for example in EXAMPLES}) == 12


# The server


METHODS: dict[str, Callable[..., Any]] = {
    "subtract": lambda minuend, subtrahend: minuend - subtrahend,
    "sum": lambda *numbers: sum(numbers),
    "update": lambda *numbers: "updated",
    "notify_sum": lambda *numbers: "not to be sent",
    "notify_hello": lambda number: "not to be sent",
    "get_data": lambda: ["hello", 5],
    "ping": lambda: "pong",
}


def as_shown(answer: Any) -> Any:
    """Return an answer without the texts that our errors have in `data`."""
    if isinstance(answer, list):
        return [as_shown(one) for one in answer]
    if "error" in answer:
        assert isinstance(answer["error"].pop("data", ""), str)
    return answer


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_the_server_answers_as_the_example_shows(example: Example) -> None:
    async def main() -> None:
        server = Server()
        for name, function in METHODS.items():
            server.add_method(name, function)
        async with server, connected(server.port) as wire:
            await check_answer(wire, example.request, json.loads(example.answer or "null"))

    asyncio.run(main())


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_a_client_whose_methods_are_called_answers_the_calls_of_the_example(example: Example) -> None:
    """What is no call may be a bad answer, to a client: it is counted, and not answered."""
    content = json.loads(example.answer or "[]")
    answers = content if isinstance(content, list) else [content]
    expected = [answer for answer in answers if answer["id"] is not None]

    async def main() -> None:
        async with listening() as (port, accepted):
            client = Client(f"127.0.0.1:{port},1")
            for name, function in METHODS.items():
                client.method(name)(function)
            async with client:
                answer = (expected if isinstance(content, list) else expected[0]) if expected else None
                await check_answer(await accepted(), example.request, answer)
                assert client.counters()["malformed"] == len(answers) - len(expected)

    asyncio.run(main())


async def check_answer(wire: Wire, request: str, answer: Any) -> None:
    wire.send(request.encode())
    wire.send(b'{"jsonrpc":"2.0","method":"ping","id":"last"}')
    if answer is not None:
        assert as_shown(json.loads(await wire.receive())) == answer
    # Nothing else was sent.
    assert json.loads(await wire.receive())["id"] == "last"


# The client


def is_request(message: Any) -> bool:
    return isinstance(message, dict) and message.get("jsonrpc") == "2.0" and isinstance(message.get("method"), str)


def decoded(text: str | None) -> Any:
    """Return an example's payload, None when it is not JSON."""
    try:
        return json.loads(text or "null")
    except ValueError:
        return None


def requests_of(example: Example) -> list[dict[str, Any]]:
    """Return what a client could have sent of an example: its valid requests and notifications."""
    content = decoded(example.request)
    return [message for message in (content if isinstance(content, list) else [content]) if is_request(message)]


def is_batch(example: Example) -> bool:
    return example.request.startswith("[")


SENDABLE = [example for example in EXAMPLES if requests_of(example)]
UNSENDABLE = [example for example in EXAMPLES if example not in SENDABLE]


class Served:
    """A server that answers one payload with the answer of an example, under the ids that the client gave."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.sent: Any = None

    async def serve(self, wire: Wire) -> None:
        self.sent = json.loads(await wire.receive())
        if self.example.answer is None:
            return
        shown = [message.get("id") for message in requests_of(self.example)]
        given = [message.get("id") for message in (self.sent if isinstance(self.sent, list) else [self.sent])]
        ids = dict(zip(shown, given, strict=True))
        content = json.loads(self.example.answer)
        for answer in content if isinstance(content, list) else [content]:
            answer["id"] = ids.get(answer["id"])
        wire.send(json.dumps(content).encode())


async def send_with_client(client: Client, example: Example) -> list[Any]:
    """Send what a client can send of an example; return the results and errors of its calls, in their order."""
    messages = requests_of(example)
    if is_batch(example):
        batch = client.batch()
        for message in messages:
            (batch.call if "id" in message else batch.notify)(message["method"], message.get("params"))
        return await batch
    (message,) = messages
    if "id" not in message:
        await client.notify(message["method"], message.get("params"))
        return []
    return list(await asyncio.gather(client.call(message["method"], message.get("params")), return_exceptions=True))


def without_ids(messages: Any) -> Any:
    if isinstance(messages, list):
        return [without_ids(message) for message in messages]
    return {key: value if key != "id" else "an id" for key, value in messages.items()}


@pytest.mark.parametrize("example", SENDABLE, ids=name_of)
def test_the_client_sends_what_the_example_shows_and_takes_its_answer(example: Example) -> None:
    async def main() -> None:
        async with listening() as (port, accepted), Client(f"127.0.0.1:{port},1", timeout=2) as client:
            served = Served(example)
            task = asyncio.create_task(served.serve(await accepted()))
            outcomes = await send_with_client(client, example)
            await task

            messages = requests_of(example)
            assert without_ids(served.sent) == without_ids(messages if is_batch(example) else messages[0])
            sent = served.sent if is_batch(example) else [served.sent]
            ids = [message["id"] for message in sent if "id" in message]
            assert all(type(number) is int for number in ids)
            assert len(set(ids)) == len(ids)

            content = decoded(example.answer) or []
            answers = {answer["id"]: answer for answer in (content if isinstance(content, list) else [content])}
            expected = [answers[message["id"]] for message in messages if "id" in message]
            assert len(outcomes) == len(expected)
            for outcome, answer in zip(outcomes, expected, strict=True):
                if "error" in answer:
                    assert isinstance(outcome, RpcAnswerError)
                    assert {"code": outcome.code, "message": outcome.message} == answer["error"]
                else:
                    assert outcome == answer["result"]
            assert client.pending == 0
            # The answer to what no client can send has no id, and is counted.
            assert client.counters()["unknown"] == (1 if None in answers else 0)

    asyncio.run(main())


@pytest.mark.parametrize("example", UNSENDABLE, ids=name_of)
def test_an_answer_without_an_id_ends_no_call_of_the_client(example: Example) -> None:
    async def main() -> None:
        async with listening() as (port, accepted), Client(f"127.0.0.1:{port},1") as client:
            wire = await accepted()
            call = asyncio.create_task(client.call("subtract", [42, 23], timeout=2))
            number = json.loads(await wire.receive())["id"]
            assert example.answer is not None
            wire.send(example.answer.encode())
            wire.send(b'{"jsonrpc": "2.0", "result": 19, "id": %d}' % number)
            assert await call == 19
            content = json.loads(example.answer)
            assert client.counters()["unknown"] == (len(content) if isinstance(content, list) else 1)

    asyncio.run(main())


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_what_is_no_answer_ends_no_call_of_the_client(example: Example) -> None:
    """The requests of the examples, right and wrong ones, come to a client that waits for an answer."""

    async def main() -> None:
        async with listening() as (port, accepted), Client(f"127.0.0.1:{port},1") as client:
            wire = await accepted()
            call = asyncio.create_task(client.call("subtract", [42, 23], timeout=0.05))
            await wire.receive()
            wire.send(example.request.encode())
            with pytest.raises(RpcTimeoutError):
                await call
            assert (client.pending, client.connections) == (0, {f"127.0.0.1:{port}": 0})

    asyncio.run(main())
