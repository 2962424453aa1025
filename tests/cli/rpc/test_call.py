from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sipwright.testing.fakerpc import FakeRpcServer, error, never, payload, result

Command = Callable[..., Any]


def test_call_prints_the_result_as_json(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("get", payload('{"jsonrpc":"2.0","result":{"price": 1.10, "name":"Pétros"},"id":%d}'))
    assert command("rpc", "call", rpc.address, "get", "[1]") == (0, '{"price": 1.10, "name":"Pétros"}\n', "")
    assert rpc.calls[0].params == [1]


def test_params_are_written_as_scripts_write_them(command: Command, rpc: FakeRpcServer) -> None:
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
        (["127.0.0.1", "get"], "'127.0.0.1' is no address of a service (HOST:PORT"),
        (["127.0.0.1", "get"], "has no port"),
        (["127.0.0.1:70000", "get"], "port 70000 is out of range"),
        ([":1", "get"], "has no host"),
        (["unix:x", "get"], "expected the path of a socket"),
        (["srv:x", "get"], "is not the name of SRV records"),
        (["127.0.0.1:1", "get", "{'id': "], "PARAMS is not JSON"),
        (["127.0.0.1:1", "get", "12"], "PARAMS has to be an array or an object"),
        (["127.0.0.1:1", "get", "--timeout", "0"], "--timeout is a number of milliseconds"),
        (["127.0.0.1:1", "get\udc80"], "METHOD is not a text"),
        (["127.0.0.1:1", "get"], "127.0.0.1:1: cannot connect"),
        (["127.0.0.1:1", "get", "--notify", "--timeout", "50"], "127.0.0.1:1: cannot connect"),
        (["host.invalid:1", "get"], "host.invalid:1: cannot connect"),
        (["unix:/nowhere/socket", "get"], "unix:/nowhere/socket: cannot connect: No such file or directory"),
        (["127.0.0.1:1", "get", "--cafile", "/etc/passwd"], "TLS: /etc/passwd: "),
        (["tls:127.0.0.1:1", "get", "--key", "/nowhere"], "a keyfile without a certfile"),
        (["tls:127.0.0.1:1", "get", "--cafile", "/nowhere/ca"], "TLS: /nowhere/ca: No such file or directory"),
        (["127.0.0.1:1", "get", "--insecure"], "options of TLS are for an address like tls:127.0.0.1:1"),
    ],
)
def test_call_explains_a_mistake(command: Command, arguments: list[str], message: str) -> None:
    output = command("rpc", "call", *arguments)
    assert output.status == 1
    assert message in output.err
    assert output.err.count("\n") == 1
