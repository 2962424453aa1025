"""A server whose services are reached over TLS and Unix sockets, and several asked at once: all real processes."""

from __future__ import annotations

import socket
import sys
import textwrap
from pathlib import Path

import pytest

from tests.jsonrpc.certificates import Certificates
from tests.scenarios.processes import RunningProcess, SipwrightProcess, free_port
from tests.scenarios.sip_client import SipClient

pytestmark = pytest.mark.scenario

MODULES = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "kex.so"
loadmodule "jsonrpc.so"
route[READY] { if ($rU == "ready") { sl_send_reply("200", "Ready"); exit; } }
"""


class Service(RunningProcess):
    """`sipwright rpc serve` with two functions: `name` says which service it is, `slow` does so after some time."""

    def __init__(self, directory: Path, name: str, *arguments: str) -> None:
        file = directory / f"{name}.py"
        file.write_text(
            textwrap.dedent(
                f"""
                import asyncio

                async def slow(seconds):
                    await asyncio.sleep(seconds)
                    return "{name}, late"

                def name():
                    return "{name}"
                """
            )
        )
        command = [sys.executable, "-m", "sipwright", "rpc", "serve", str(file), *arguments]
        super().__init__(command, directory / f"{name}.log")

    def is_ready(self) -> bool:
        return "ready on " in self.log


def ask(server: SipwrightProcess, user: str) -> str:
    with SipClient(server.address) as client:
        return client.ask("OPTIONS", 5.0, user=user).reason


def test_a_script_asks_a_tls_service_and_falls_back_to_a_unix_socket(
    tmp_path: Path, certificates: Certificates
) -> None:
    port = free_port(socket.SOCK_STREAM)
    path = tmp_path / "rpc.sock"
    own = certificates.server
    tls = Service(
        tmp_path, "tls", "--listen", f"tls:127.0.0.1:{port}", "--cert", str(own.certfile), "--key", str(own.keyfile)
    )
    script = f"""{MODULES}
    modparam("jsonrpc", "servers", "tls:localhost:{port},2 unix:{path},1")
    modparam("jsonrpc", "tls_ca_list", "{certificates.ca}")
    request_route {{ route(READY); jsonrpc_request("name", "", "OK", "ERROR", "$var(result)"); }}
    route[OK] {{ t_reply("200", "$var(result) of $jsonrpc(server)"); }}
    route[ERROR] {{ t_reply("500", "$jsonrpc(message)"); }}
    """
    unix = Service(tmp_path, "unix", "--listen", f"unix:{path}")
    with unix, tls, SipwrightProcess(script, tmp_path, ["-n", "2"]) as server:
        server.wait_for_log(f"connected to JSON-RPC server tls:localhost:{port}", 2)
        assert ask(server, "x") == f"tls of tls:localhost:{port}"
        tls.kill()
        server.wait_for_log(f"JSON-RPC server tls:localhost:{port}: ", 2)
        assert ask(server, "x") == f"unix of unix:{path}"


def test_a_certificate_that_is_not_trusted_is_told_and_nobody_is_asked(
    tmp_path: Path, certificates: Certificates
) -> None:
    port = free_port(socket.SOCK_STREAM)
    own = certificates.foreign
    script = f"""{MODULES}
    modparam("jsonrpc", "servers", "tls:localhost:{port},1")
    modparam("jsonrpc", "tls_ca_list", "{certificates.ca}")
    request_route {{ route(READY); jsonrpc_request("name", "", "OK", "OK", "$var(result)"); }}
    route[OK] {{ t_reply("503", "$jsonrpc(status): $jsonrpc(message)"); }}
    """
    service = Service(
        tmp_path, "tls", "--listen", f"tls:127.0.0.1:{port}", "--cert", str(own.certfile), "--key", str(own.keyfile)
    )
    with service, SipwrightProcess(script, tmp_path, ["-n", "1"]) as server:
        server.wait_for_log("cannot connect: its certificate is not accepted")
        reason = ask(server, "x")
        assert reason.startswith("failure: no server is connected (tls:localhost:")
        assert "its certificate is not accepted: self-signed certificate" in reason


def test_several_services_are_asked_at_once(tmp_path: Path) -> None:
    one, two = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
    script = f"""{MODULES}
    modparam("jsonrpc", "servers", "127.0.0.1:{one},1")
    modparam("jsonrpc", "group", "two=>127.0.0.1:{two},1")
    modparam("jsonrpc", "timeout", 2000)
    modparam("jsonrpc", "cancel_method", "rpc.cancel")
    request_route {{
        route(READY);
        if ($rU == "quick") jsonrpc_parallel("OK", "ERROR", "a=slow:[0.3]", "b=slow;group=two:[0.3]");
        if ($rU == "optional") jsonrpc_parallel("OK", "ERROR", "a=name", "b=slow;group=two;optional;timeout=50:[1]");
        jsonrpc_parallel("OK", "ERROR", "a=slow:[1]", "b=unknown;group=two:[]");
    }}
    route[OK] {{ t_reply("200", "$jsonrpc(a.result) $jsonrpc(b.status) $jsonrpc(b.result) $jsonrpc(a.ms)"); }}
    route[ERROR] {{ t_reply("500", "$jsonrpc(failed) $jsonrpc(code) $jsonrpc(a.status) $stat(jsonrpc:cancelled)"); }}
    """
    with (
        Service(tmp_path, "one", "--listen", f"127.0.0.1:{one}"),
        Service(tmp_path, "two", "--listen", f"127.0.0.1:{two}"),
        SipwrightProcess(script, tmp_path, ["-n", "1"]) as server,
    ):
        server.wait_for_log("connected to JSON-RPC server", 2)
        *words, ms = ask(server, "quick").split()
        assert " ".join(words) == "one, late ok two, late"
        # One after the other they would take 600.
        assert 300 <= int(ms) < 600
        assert ask(server, "optional").startswith("one timeout <null> ")
        assert ask(server, "fails") == "b -32601 cancelled 1"
