from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sipwright.testing.fakerpc import FakeRpcServer, error, never, payload, result

Command = Callable[..., Any]


@pytest.fixture
def rpc() -> Iterator[FakeRpcServer]:
    with FakeRpcServer() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The command puts the file's folder on the path and the module among the others.
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path / "functions.py"


# rpc call


def test_call_prints_the_result_as_the_server_wrote_it(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("get", payload('{"jsonrpc":"2.0","id":%d,"result":{"rate": 1.10}}'))
    assert command("rpc", "call", rpc.address, "get") == (0, '{"rate": 1.10}\n', "")
    assert rpc.calls[0].params is None


def test_call_reads_params_as_scripts_write_them(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("get", result(None))
    assert command("rpc", "call", rpc.address, "get", "{'id': 1234, /* why */ 'name': 'Petros',}").out == "null\n"
    assert rpc.calls[0].params == {"id": 1234, "name": "Petros"}


def test_call_prints_an_error_answer_on_stderr_with_status_1(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("get", error(404, "no such user"))
    assert command("rpc", "call", rpc.address, "get") == (1, "", '{"code":404,"message":"no such user"}\n')


def test_call_that_is_not_answered_says_so(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("get", never())
    output = command("rpc", "call", rpc.address, "get", "--timeout", "50")
    assert output.status == 1
    assert f"no answer to 'get' from {rpc.address} within" in output.err


def test_notify_waits_for_no_answer(command: Command, rpc: FakeRpcServer) -> None:
    assert command("rpc", "call", rpc.address, "note", "[1]", "--notify") == (0, "", "")
    rpc.wait_for_calls_in_thread(1)
    assert rpc.calls[0].is_notification
    assert rpc.calls[0].params == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["127.0.0.1", "get"], "is not HOST:PORT: '127.0.0.1' has no port"),
        (["127.0.0.1:70000", "get"], "port 70000 is out of range"),
        ([":1", "get"], "has no host"),
        (["127.0.0.1:1", "get", "{'id': "], "PARAMS is not JSON"),
        (["127.0.0.1:1", "get", "12"], "PARAMS has to be an array or an object"),
        (["127.0.0.1:1", "get", "--timeout", "0"], "--timeout is a number of milliseconds"),
        (["127.0.0.1:1", "get\udc80"], "METHOD is not a text"),
        (["127.0.0.1:1", "get"], "127.0.0.1:1: cannot connect"),
        (["127.0.0.1:1", "get", "--notify", "--timeout", "50"], "127.0.0.1:1: cannot connect"),
        (["host.invalid:1", "get"], "host.invalid:1: cannot connect"),
    ],
)
def test_call_explains_a_mistake(command: Command, arguments: list[str], message: str) -> None:
    output = command("rpc", "call", *arguments)
    assert output.status == 1
    assert message in output.err
    assert output.err.count("\n") == 1


# rpc serve


def test_serve_serves_the_public_functions_of_a_file(
    command: Command, start: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "functions.py"
    path.write_text(
        "from os.path import join\n"
        "def add(a: int, b: int = 1) -> int: return a + b\n"
        "async def get_user(id): return {'id': id}\n"
        "def _hidden(): return 1\n"
    )
    process = start("rpc", "serve", str(path), "--listen", "127.0.0.1:0")
    address = process.wait_for(r"ready on (\S+): add, get_user\n")[1]
    assert command("rpc", "call", address, "add", "[1, 2]").out == "3\n"
    assert command("rpc", "call", address, "get_user", "{'id': 7}").out == '{"id":7}\n'
    assert '"code":-32602' in command("rpc", "call", address, "add", "[1, 2, 3]").err
    for name in ("_hidden", "join"):
        assert '"code":-32601' in command("rpc", "call", address, name).err
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_serve_echo_answers_with_the_params(command: Command, start: Callable[..., Any]) -> None:
    process = start("rpc", "serve", "--echo", "--listen", "127.0.0.1:0")
    address = process.wait_for(r"ready on (\S+):")[1]
    assert command("rpc", "call", address, "anything", '{"a": 1.10}').out == '{"a":1.10}\n'
    assert command("rpc", "call", address, "anything").out == "null\n"
    process.signal(signal.SIGINT)
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get(:\n", "functions.py:1: "),
        ("\nraise ValueError('odd')\n", "functions.py:2: ValueError: odd"),
        ("import nothing_of_the_kind\n", "functions.py:1: ModuleNotFoundError"),
        ("open('/nowhere')\n", "functions.py:1: FileNotFoundError"),
        ("x = 1\n", "has no public functions"),
    ],
)
def test_serve_explains_what_is_wrong_with_the_file(command: Command, file: Path, text: str, message: str) -> None:
    file.write_text(text)
    output = command("rpc", "serve", str(file), "--listen", "127.0.0.1:0")
    assert output.status == 1
    assert message in output.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name either a FILE.py with functions to serve, or --echo"),
        (["x.py", "--echo"], "name either a FILE.py with functions to serve, or --echo"),
        (["/nowhere/x.py"], "cannot read /nowhere/x.py: No such file or directory"),
        (["/"], "/ is not a Python file"),
        (["/etc/passwd"], "/etc/passwd is not a Python file"),
        (["--echo", "--listen", "x"], "'x' is not HOST:PORT"),
        (["--echo", "--listen", "host.invalid:1"], "cannot listen on host.invalid:1"),
    ],
)
def test_serve_explains_a_mistake(command: Command, file: Path, arguments: list[str], message: str) -> None:
    output = command("rpc", "serve", *arguments)
    assert output.status == 1
    assert message in output.err


def test_serve_says_that_a_port_is_busy(command: Command, rpc: FakeRpcServer) -> None:
    output = command("rpc", "serve", "--echo", "--listen", rpc.address)
    assert output.status == 1
    assert f"cannot listen on {rpc.address}" in output.err
