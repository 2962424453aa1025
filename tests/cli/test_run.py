from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sipwright.cli.run import listen_addresses
from sipwright.errors import CommandError
from sipwright.script.settings import Settings, parse_listen
from sipwright.testing.fakerpc import FakeRpcServer, never

Command = Callable[..., Any]

ANSWER = 'loadmodule "sl.so"\nloadmodule "pv.so"\nloadmodule "xlog.so"\nchildren=4\n'
ANSWER += 'request_route { xlog("L_INFO", "asked for $rU"); sl_send_reply("200", "OK"); }\n'

ASK = """
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "jsonrpc.so"
modparam("jsonrpc", "servers", SERVERS)
modparam("jsonrpc", "timeout", 60000)
drain_timeout=10000
request_route { jsonrpc_request("ask", "[]", "GO_ON", "GO_ON", "$var(r)"); }
route[GO_ON] { t_reply("200", "$var(r)"); }
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "route.cfg"
    path.write_text(ANSWER)
    return path


@pytest.fixture
def rpc() -> Iterator[FakeRpcServer]:
    with FakeRpcServer() as server:
        yield server


@pytest.mark.parametrize(
    ("options", "workers"),
    [((), "4 workers"), (("-n", "2", "-DD"), "2 workers"), (("-n", "1"), "1 worker"), (("-D",), "1 worker")],
)
def test_it_says_ready_answers_and_ends_on_sigterm(
    command: Command, start: Callable[..., Any], script: Path, free_port: int, options: Sequence[str], workers: str
) -> None:
    process = start("run", "-f", str(script), *options, "-E", "-l", f"udp:127.0.0.1:{free_port}")
    assert f"is ready on udp:127.0.0.1:{free_port} ({workers})\n" in process.log
    assert command("send", "OPTIONS", f"sip:alice@127.0.0.1:{free_port}").status == 0
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert re.search(r"INFO \[w[0-3] \S+ z9hG4bK\S+\] <script>: asked for alice", process.log)


@pytest.mark.parametrize("option", [("-P", "pid"), ("-u", "nobody"), ("-g", "nogroup")])
def test_one_process_refuses_what_only_a_supervisor_knows(
    command: Command, script: Path, option: tuple[str, str]
) -> None:
    done = command("run", "-D", "-f", str(script), *option)
    assert done.status == 1
    assert f"-D is one process without a supervisor: it does not know {option[0]}" in done.err


def test_one_process_says_that_it_does_not_reload_and_goes_on(
    command: Command, start: Callable[..., Any], script: Path, free_port: int
) -> None:
    process = start("run", "-D", "-f", str(script), "-E", "-l", f"udp:127.0.0.1:{free_port}")
    process.signal(signal.SIGHUP)
    process.wait_for("with -D the script is not read again")
    assert command("send", "OPTIONS", f"sip:alice@127.0.0.1:{free_port}").status == 0


def test_the_receive_buffer_of_the_command_line_goes_before_that_of_the_script(
    command: Command, start: Callable[..., Any], script: Path, free_port: int
) -> None:
    script.write_text("maxbuffer=65536\n" + script.read_text())
    process = start("run", "-f", str(script), "-E", "-b", "2000000000", "-l", f"udp:127.0.0.1:{free_port}")
    process.wait_for("bytes instead of 2000000000; to allow more: sysctl -w net.core.rmem_max=2000000000")
    assert "ready" in process.log
    refused = command("run", "-f", str(script), "-b", "many")
    assert refused.status == 2
    assert "'many' is no number of bytes, 1 to 2147483647" in refused.err


def test_a_second_signal_does_not_wait_for_what_is_suspended(
    start: Callable[..., Any], tmp_path: Path, rpc: FakeRpcServer, free_port: int
) -> None:
    rpc.on("ask", never())
    path = tmp_path / "ask.cfg"
    path.write_text(ASK)
    process = start("run", "-f", str(path), "-A", f'SERVERS="{rpc.address},1"', "-l", f"127.0.0.1:{free_port}")
    process.wait_for("connected to JSON-RPC server")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(
            b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
            b"To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
            ("127.0.0.1", free_port),
        )
        rpc.wait_for_calls_in_thread(1)
    process.signal(signal.SIGTERM)
    process.wait_for("stopping")
    process.signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("udp:127.0.0.1:70000", "-l udp:127.0.0.1:70000: port 70000 is out of range"),
        ("udp:127.0.0.1:sip", "'sip' is no port number"),
        ("xyz:127.0.0.1:5060", "unknown protocol 'xyz'"),
        ("udp:192.0.2.1:5060", "cannot listen on udp:192.0.2.1:5060: this machine has no such address"),
        ("udp:host.invalid:5060", "unknown host 'host.invalid'"),
    ],
)
def test_a_bad_address_is_explained(command: Command, script: Path, listen: str, message: str) -> None:
    output = command("run", "-f", str(script), "-l", listen)
    assert output.status == 1
    assert message in output.err


def test_an_unknown_log_engine_is_explained(command: Command, script: Path) -> None:
    output = command("run", "-c", "-f", str(script), "--log-engine=xml")
    assert output.status == 1
    assert "--log-engine=xml: unknown log engine 'xml': there is 'json', and text without one" in output.err


def test_a_busy_port_is_explained(command: Command, script: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        output = command("run", "-f", str(script), "-l", f"127.0.0.1:{port}")
    assert output.status == 1
    assert f"cannot listen on udp:127.0.0.1:{port}: the address is already in use" in output.err


def test_addresses_of_the_command_line_are_beside_those_of_the_script() -> None:
    settings = Settings(listen=[parse_listen("udp:127.0.0.1:5060")])
    addresses = listen_addresses(["127.0.0.1:5062", "127.0.0.1:5060"], settings)
    assert [str(address) for address in addresses] == ["udp:127.0.0.1:5060", "udp:127.0.0.1:5062"]


def test_without_any_address_every_ipv4_address_is_listened_on() -> None:
    assert [str(address) for address in listen_addresses([], Settings(port=5070))] == ["udp:0.0.0.0:5070"]


def test_a_malformed_address_is_a_command_error() -> None:
    with pytest.raises(CommandError, match="missing host"):
        listen_addresses(["udp::5060"], Settings())
