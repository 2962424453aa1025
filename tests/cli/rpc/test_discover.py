from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sipwright.testing.fakerpc import FakeRpcServer, error, result
from tests.cli.rpc.test_openrpctext import DOCUMENT, TEXT

Command = Callable[..., Any]


def test_discover_lists_what_a_service_offers(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("rpc.discover", result(DOCUMENT))
    assert command("rpc", "discover", rpc.address) == (0, TEXT + "\n", "")


def test_discover_prints_the_document_itself_as_json(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("rpc.discover", result(DOCUMENT))
    output = command("rpc", "discover", rpc.address, "--json")
    assert (output.status, json.loads(output.out)) == (0, DOCUMENT)


def test_discover_shows_the_functions_of_a_served_file(
    command: Command, start: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "functions.py"
    path.write_text(
        "__version__ = '2.1'\n"
        "def add(a: int, b: int = 1) -> int:\n    '''Add two numbers.'''\n    return a + b\n"
        "async def names(prefix: str) -> list[str]: return []\n"
    )
    process = start("rpc", "serve", str(path), "--listen", "127.0.0.1:0")
    address = process.wait_for(r"ready on (\S+):")[1]
    text = command("rpc", "discover", address).out
    assert text.startswith("functions 2.1\n\n")
    assert "add(a: integer, b: integer = 1) -> integer\n    Add two numbers.\n" in text
    assert "names(prefix: string) -> array of string\n" in text


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (error(-32601, "Method not found"), "does not describe itself: it has no method rpc.discover"),
        (error(1, "go away"), "go away"),
        (result(5), "answers rpc.discover with something else than an OpenRPC document"),
        (result({"methods": 1}), "answers rpc.discover with something else than an OpenRPC document"),
    ],
)
def test_discover_explains_what_is_wrong(command: Command, rpc: FakeRpcServer, answer: Any, message: str) -> None:
    rpc.on("rpc.discover", answer)
    output = command("rpc", "discover", rpc.address)
    assert output.status == 1
    assert message in output.err
    assert output.out == ""
