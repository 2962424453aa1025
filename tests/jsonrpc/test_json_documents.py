"""Strict JSON: which documents are accepted, which refused, by the server, the client and strict script parameters.

The documents are those of nst/JSONTestSuite, in `vectors/json_documents.txt`. What is accepted must also be understood
as Python's own json module understands it.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import pytest

from sipwright.errors import JsonParseError, RpcAnswerError, RpcTimeoutError
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.lenient import to_json
from sipwright.jsonrpc.server import Server
from sipwright.jsonrpc.template import compile_template
from tests.jsonrpc.bytewire import Wire, connected, listening


class Document(NamedTuple):
    """A document, and who has to accept it."""

    name: str
    content: bytes
    server: bool
    script: bool

    @property
    def text(self) -> str:
        """The document as the text of a script."""
        return self.content.decode("utf-8", "surrogateescape")


def read_documents() -> list[Document]:
    documents = [
        Document("n_structure_100000_opening_arrays", b"[" * 100_000, False, False),
        Document("n_structure_open_array_object", b'[{"":' * 50_000, False, False),
        # Deviation: script parameters nest 32 deep, as those of Kamailio.
        Document("i_structure_500_nested_arrays", b"[" * 500 + b"]" * 500, True, False),
    ]
    for line in (Path(__file__).parent / "vectors" / "json_documents.txt").read_text().splitlines():
        name, _, content = line.partition(" ")
        if name.startswith("i_"):
            accepted, _, content = content.partition(" ")
            documents.append(Document(name, unquote_to_bytes(content), accepted[0] == "y", accepted[1] == "y"))
        elif name.startswith(("y_", "n_")):
            documents.append(Document(name, unquote_to_bytes(content), name[0] == "y", name[0] == "y"))
    return documents


DOCUMENTS = read_documents()
# No text at all is no document; for a script it means "no params".
NOTHING = {"n_single_space", "n_structure_no_data"}

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


def test_all_of_the_suite_is_there() -> None:
    names = [document.name for document in DOCUMENTS]
    assert len(names) == len(set(names))
    assert {kind: sum(name.startswith(kind) for name in names) for kind in ("y_", "n_", "i_")} == {
        "y_": 95,
        "n_": 189,
        "i_": 35,
    }


def written(value: Any) -> str:
    """Return a value as JSON, so that those of one kind and content are equal texts."""
    return json.dumps(value, sort_keys=True)


# The server


def ask_server(payloads: list[bytes]) -> list[Any]:
    """Send payloads that are answered each, all at once; return the answers."""

    async def main() -> list[Any]:
        server = Server()
        server.add_method("echo", lambda a: a)
        async with server, connected(server.port) as wire:
            wire.send(*payloads)
            return [json.loads(await wire.receive()) for _ in payloads]

    return asyncio.run(main())


@pytest.fixture(scope="module")
def echoed() -> dict[str, Any]:
    """What the server answers to a request with each document inside its params."""
    head = b'{"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":'
    answers = ask_server([head + document.content + b"}}" for document in DOCUMENTS])
    return {document.name: answer for document, answer in zip(DOCUMENTS, answers, strict=True)}


@every_document
def test_params_are_taken_by_the_server_when_they_are_json(echoed: dict[str, Any], document: Document) -> None:
    answer = echoed[document.name]
    if document.server:
        assert answer["id"] == 1
        assert written(answer["result"]) == written(json.loads(document.content))
    elif document.name.startswith("n_"):
        assert (answer["error"]["code"], answer["id"]) == (-32700, None)
    else:
        # What is well formed around bytes that are no UTF-8, or a number that no float can be, has an id to answer to.
        assert (answer["error"]["code"], answer["id"]) in ((-32602, 1), (-32700, None))


@pytest.fixture(scope="module")
def answered() -> dict[str, Any]:
    """What the server answers to each document as a whole payload; a batch has one answer with all."""
    answers = ask_server([document.content for document in DOCUMENTS])
    return {document.name: answer for document, answer in zip(DOCUMENTS, answers, strict=True)}


@every_document
def test_a_payload_is_a_parse_error_when_it_is_not_json(answered: dict[str, Any], document: Document) -> None:
    answer = answered[document.name]
    answers = answer if isinstance(answer, list) else [answer]
    codes = {one["error"]["code"] for one in answers}
    if document.name.startswith("i_"):
        assert codes <= {-32600, -32700}
    else:
        assert codes == {-32600 if document.server else -32700}


# The client


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """What the client makes of an answer whose result is each document."""

    async def answer(wire: Wire) -> None:
        for document in DOCUMENTS:
            number = json.loads(await wire.receive())["id"]
            wire.send(b'{"jsonrpc":"2.0","id":%d,"result":' % number + document.content + b"}")

    async def main() -> list[Any]:
        async with listening() as (port, accepted), Client(f"127.0.0.1:{port},1", timeout=0.5) as client:
            task = asyncio.create_task(answer(await accepted()))
            calls = [client.call("get") for _ in DOCUMENTS]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            await task
            assert client.pending == 0
            return outcomes

    return dict(zip([document.name for document in DOCUMENTS], asyncio.run(main()), strict=True))


@every_document
def test_a_result_is_taken_by_the_client_when_it_is_json(results: dict[str, Any], document: Document) -> None:
    result = results[document.name]
    if document.server:
        assert written(result) == written(json.loads(document.content))
    elif document.name.startswith("n_"):
        # It is not known whose answer it was.
        assert isinstance(result, RpcTimeoutError)
    else:
        assert isinstance(result, RpcTimeoutError | RpcAnswerError)


# Parameters of scripts in strict mode


def filled(document: Document) -> bytes:
    """Return what is sent for the document as a text of the script."""
    constant = compile_template([document.text], strict=True).constant
    assert constant is not None
    return constant


class Variable(NamedTuple):
    text: str = "$var(params)"


def filled_later(document: Document) -> bytes:
    """Return what is sent for a variable that has the document as its value."""
    return compile_template([Variable()], strict=True).fill([document.text])


@every_document
@pytest.mark.parametrize("send", [filled, filled_later, lambda document: to_json(document.text, strict=True)])
def test_strict_script_parameters_are_taken_when_they_are_json(send: Any, document: Document) -> None:
    if document.name in NOTHING:
        assert send(document) == b""
    elif document.script:
        sent = send(document)
        if document.server:
            assert written(json.loads(sent)) == written(json.loads(document.content))
        else:
            json.loads(sent.decode("utf-8"))
    else:
        with pytest.raises(JsonParseError):
            send(document)
