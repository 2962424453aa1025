from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sipwright.testing.fakerpc import FakeRpcServer
from tests.jsonrpc.certificates import Certificates

Command = Callable[..., Any]
Start = Callable[..., Any]


def test_serve_serves_the_public_functions_of_a_file(command: Command, start: Start, tmp_path: Path) -> None:
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


def test_serve_echo_answers_with_the_params(command: Command, start: Start) -> None:
    process = start("rpc", "serve", "--echo", "--listen", "127.0.0.1:0")
    address = process.wait_for(r"ready on (\S+):")[1]
    assert command("rpc", "call", address, "anything", '{"a": 1.10}').out == '{"a":1.10}\n'
    assert command("rpc", "call", address, "anything").out == "null\n"
    process.signal(signal.SIGINT)
    assert process.wait() == 0


def test_serve_listens_on_several_addresses_in_any_framing(
    command: Command, start: Start, certificates: Certificates, tmp_path: Path
) -> None:
    own = ["--cert", str(certificates.server.certfile), "--key", str(certificates.server.keyfile)]
    listen = ["--listen", "[::1]:0", "--listen", f"unix:{tmp_path}/socket", "--listen", "tls:127.0.0.1:0"]
    framed = ["--framing", "content-length"]
    process = start("rpc", "serve", "--echo", *listen, *own, *framed)
    tcp, unix, tls = process.wait_for(r"ready on (\S+), (\S+), (\S+): echo").groups()
    assert (tcp.startswith("[::1]:"), unix, tls.startswith("tls:")) == (True, f"unix:{tmp_path}/socket", True)
    for address in (tcp, unix):
        assert command("rpc", "call", address, "a", "[1]", *framed).out == "[1]\n"
    assert command("rpc", "call", tls, "a", "[1]", *framed, "--cafile", str(certificates.ca)).out == "[1]\n"
    assert command("rpc", "call", tls, "a", "[1]", *framed, "--insecure").out == "[1]\n"
    output = command("rpc", "call", tls, "a", "[1]", *framed)
    assert output.status == 1
    assert "certificate" in output.err
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert not (tmp_path / "socket").exists()


def test_serve_lets_in_only_those_with_the_token(command: Command, start: Start) -> None:
    process = start("rpc", "serve", "--echo", "--listen", "127.0.0.1:0", "--token", "secret")
    address = process.wait_for(r"ready on (\S+):")[1]
    call = ["rpc", "call", address, "a", "[1]"]
    assert command(*call, "--token", "secret").out == "[1]\n"
    assert f"{address} does not take the token" in command(*call, "--token", "wrong").err
    assert "Not authenticated" in command(*call).err
    bench = ["rpc", "bench", address, "a", "[1]", "--calls", "20", "--connections", "2"]
    assert command(*bench, "--token", "secret").status == 0
    assert command(*bench).status == 1


def test_a_token_that_a_service_does_not_ask_for_is_told(command: Command, rpc: FakeRpcServer) -> None:
    output = command("rpc", "call", rpc.address, "a", "--token", "secret")
    assert (output.status, output.out) == (1, "")
    assert f"{rpc.address} asks for no token: it has no method rpc.auth" in output.err


def test_serve_lets_in_only_those_with_a_certificate(
    command: Command, start: Start, certificates: Certificates
) -> None:
    server, client, ca = certificates.server, certificates.client, str(certificates.ca)
    own = ["--cert", str(server.certfile), "--key", str(server.keyfile), "--cafile", ca]
    process = start("rpc", "serve", "--echo", "--listen", "tls:127.0.0.1:0", *own)
    call = ["rpc", "call", process.wait_for(r"ready on (\S+):")[1], "a", "[1]", "--cafile", ca, "--timeout", "2000"]
    assert command(*call, "--cert", str(client.certfile), "--key", str(client.keyfile)).out == "[1]\n"
    assert command(*call).status == 1


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
        (["nowhere.py"], "cannot read nowhere.py: No such file or directory"),
        (["/"], "/ is not a Python file"),
        (["--echo", "--token", ""], "--token is empty: anybody would be let in"),
        (["/etc/passwd"], "/etc/passwd is not a Python file"),
        (["--echo", "--listen", "x"], "'x' is no address to listen on"),
        (["--echo", "--listen", "srv:_a._tcp.b"], "nobody listens on srv records"),
        (["--echo", "--listen", "host.invalid:1"], "cannot listen on host.invalid:1"),
        (["--echo", "--listen", "unix:/nowhere/socket"], "cannot listen on unix:/nowhere/socket"),
        (["--echo", "--listen", "tls:127.0.0.1:0"], "name a certificate: --cert FILE"),
        (["--echo", "--cert", "x"], "--cert, --key and --cafile are for --listen tls:HOST:PORT"),
        (["--echo", "--listen", "tls:127.0.0.1:0", "--cert", "/nowhere"], "TLS: /nowhere: No such file"),
    ],
)
def test_serve_explains_a_mistake(command: Command, file: Path, arguments: list[str], message: str) -> None:
    output = command("rpc", "serve", *arguments)
    assert output.status == 1
    assert message in output.err


def test_serve_says_that_a_port_is_busy(command: Command, rpc: FakeRpcServer) -> None:
    output = command("rpc", "serve", "--echo", "--listen", rpc.address)
    assert output.status == 1
    assert output.err == f"sipwright: cannot listen on {rpc.address}: Address already in use\n"
