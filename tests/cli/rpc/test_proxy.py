"""A client and a service with the proxy between them, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sipwright.netstring import Decoder, encode
from sipwright.testing.fakerpc import FakeRpcServer, after, error, hang_up, payload, result
from tests.jsonrpc.certificates import Certificates

Command = Callable[..., Any]
Start = Callable[..., Any]


class Recording:
    """A proxy between clients and a fake service, and what it has recorded."""

    def __init__(self, start: Start, service: str, path: Path, *arguments: str, listen: str = "127.0.0.1:0") -> None:
        self.path = path
        arguments = ("--listen", listen, "--to", service, "--record", str(path), *arguments)
        self.process = start("rpc", "proxy", *arguments)
        self.address = self.process.wait_for(r"ready on (\S+): to")[1]

    def connect(self) -> socket.socket:
        host, _, port = self.address.rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def stop(self) -> str:
        """End the proxy; return what it said."""
        self.process.signal(signal.SIGTERM)
        assert self.process.wait() == 0
        return str(self.process.log)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def said(self, connection: int) -> list[tuple[str, Any]]:
        """Return who said what on a connection: messages without their jsonrpc member, or the line's other members."""
        said = []
        for line in self.lines()[1:]:
            if line["connection"] == connection and "from" in line:
                content = line.get(
                    "message", {k: v for k, v in line.items() if k not in ("time", "connection", "from")}
                )
                if isinstance(content, dict):
                    content.pop("jsonrpc", None)
                said.append((line["from"], content))
        return said


def receive(connection: socket.socket, count: int) -> list[bytes]:
    decoder, payloads = Decoder(), list[bytes]()
    while len(payloads) < count:
        data = connection.recv(65536)
        assert data, f"closed after {payloads}"
        payloads += decoder.feed(data)
    return payloads


def test_calls_answers_errors_and_notifications_of_several_clients_are_recorded(
    command: Command, start: Start, rpc: FakeRpcServer, tmp_path: Path
) -> None:
    rpc.on("get", after(0.05, payload('{"jsonrpc":"2.0","result":{"price": 1.10},"id":%d}')), error(404, "no"))
    recording = Recording(start, rpc.address, tmp_path / "file")
    assert command("rpc", "call", recording.address, "get", "[1]").out == '{"price": 1.10}\n'
    assert '"code":404' in command("rpc", "call", recording.address, "get", "{'id': 2}").err
    assert command("rpc", "call", recording.address, "note", "[3]", "--notify").status == 0
    rpc.wait_for_calls_in_thread(3)
    assert recording.stop().endswith("recorded 5 messages of 3 connections\n")

    head, *lines = recording.lines()
    assert head["recording"] == "json-rpc"
    assert (head["framing"], head["to"]) == ("netstring", rpc.address)
    assert recording.said(1) == [
        ("client", {"id": 1, "method": "get", "params": [1]}),
        ("server", {"result": {"price": 1.1}, "id": 1}),
    ]
    assert recording.said(2) == [
        ("client", {"id": 1, "method": "get", "params": {"id": 2}}),
        ("server", {"error": {"code": 404, "message": "no"}, "id": 1}),
    ]
    assert recording.said(3) == [("client", {"method": "note", "params": [3]})]
    assert '"price": 1.10' in recording.path.read_text()
    asked, answered = (
        next(line["time"] for line in lines if line.get("from") == side) for side in ("client", "server")
    )
    assert 0.05 <= answered - asked < 1
    events = [(line["connection"], line["event"], line.get("by")) for line in lines if "event" in line]
    for number in (1, 2, 3):
        assert (number, "opened", None) in events
        assert (number, "closed", "client") in events
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def test_batches_and_odd_spelling_pass_byte_for_byte(start: Start, tmp_path: Path) -> None:
    """What either side sends comes out at the other as it was, also what is no JSON and no netstring."""
    said_by_client = [
        encode(b' [{"id" : 1,\n"method":"a"}, 5 ] '),
        encode(b"{no json"),
        b"05:broken,",
        b"\x00\xff rest",
    ]
    said_by_server = [encode(b'{"id":1,"result":"\\u00e9\xc3\xa9"}'), b"999999999999"]
    with socket.create_server(("127.0.0.1", 0)) as service:
        recording = Recording(start, f"127.0.0.1:{service.getsockname()[1]}", tmp_path / "file")
        with recording.connect() as client:
            accepted, _ = service.accept()
            with accepted:
                for pieces, one, other in ((said_by_client, client, accepted), (said_by_server, accepted, client)):
                    for piece in pieces:
                        one.sendall(piece)
                        assert other.recv(len(piece), socket.MSG_WAITALL) == piece
        log = recording.stop()
    assert "recorded 3 messages of 1 connections, 3 of them wrong" in log
    client_lines = [content for side, content in recording.said(1) if side == "client"]
    assert client_lines[:2] == [[{"id": 1, "method": "a"}, 5], {"payload": "{no json"}]
    assert "leading zero" in client_lines[2]["fault"]
    assert [sorted(content) for content in client_lines[2:]] == [["base64", "fault"], ["base64"]]
    server_lines = [content for side, content in recording.said(1) if side == "server"]
    assert server_lines[0] == {"id": 1, "result": "éé"}
    assert "more than 9 digits" in server_lines[1]["fault"]


def test_the_end_of_one_direction_is_passed_on_and_answers_still_come(
    start: Start, rpc: FakeRpcServer, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        recording = Recording(start, f"127.0.0.1:{service.getsockname()[1]}", tmp_path / "file")
        with recording.connect() as client:
            accepted, _ = service.accept()
            with accepted:
                client.sendall(encode(b"1"))
                client.shutdown(socket.SHUT_WR)
                accepted.settimeout(5)
                assert accepted.recv(4, socket.MSG_WAITALL) == b"1:1,"
                assert accepted.recv(1) == b""
                accepted.sendall(encode(b"2"))
            assert client.recv(4, socket.MSG_WAITALL) == b"1:2,"
            assert client.recv(1) == b""
        recording.stop()
    assert recording.said(1) == [("client", 1), ("server", 2)]


def test_a_connection_that_one_side_cuts_is_cut_on_the_other(
    start: Start, command: Command, rpc: FakeRpcServer, tmp_path: Path
) -> None:
    rpc.on("get", hang_up())
    recording = Recording(start, rpc.address, tmp_path / "file")
    assert command("rpc", "call", recording.address, "get").status == 1
    recording.stop()
    closed = [line for line in recording.lines() if line.get("event") == "closed"]
    assert closed[0]["by"] == "server"


def test_a_service_that_cannot_be_reached_is_told_and_recorded(command: Command, start: Start, tmp_path: Path) -> None:
    recording = Recording(start, "127.0.0.1:1", tmp_path / "file")
    output = command("rpc", "call", recording.address, "get")
    assert output.status == 1
    assert "cannot connect to 127.0.0.1:1: Connection refused" in recording.stop()
    assert [line["event"] for line in recording.lines()[1:]] == ["opened", "failed"]


def test_a_megabyte_passes_in_both_directions(
    command: Command, start: Start, rpc: FakeRpcServer, tmp_path: Path
) -> None:
    rpc.on("get", result("x" * 1_000_000))
    recording = Recording(start, rpc.address, tmp_path / "file")
    with recording.connect() as client:
        request = b'{"jsonrpc":"2.0","id":1,"method":"get","params":["%b"]}' % (b"y" * 1_000_000)
        client.sendall(encode(request))
        assert len(receive(client, 1)[0]) > 1_000_000
    recording.stop()
    assert [side for side, _ in recording.said(1)] == ["client", "server"]
    assert rpc.calls[0].payload == request


def test_a_recording_is_replayed_in_the_place_of_the_service(
    command: Command, start: Start, rpc: FakeRpcServer, tmp_path: Path
) -> None:
    rpc.on("get", result({"name": "Petros"}), result({"name": "Maria"}))
    rpc.on("odd", payload('{"jsonrpc":"2.0","result":1.10,"id":%d}'))
    recording = Recording(start, rpc.address, tmp_path / "file")
    for _ in range(2):
        command("rpc", "call", recording.address, "get", "{'id': 1}")
    command("rpc", "call", recording.address, "odd")
    recording.stop()

    played = start("rpc", "proxy", "--replay", str(recording.path), "--listen", "127.0.0.1:0")
    address = played.wait_for(r"ready on (\S+): 3 recorded calls of get, odd\n")[1]
    assert command("rpc", "call", address, "get", '{"id": 1}').out == '{"name":"Petros"}\n'
    assert command("rpc", "call", address, "get", '{"id": 1}').out == '{"name":"Maria"}\n'
    assert command("rpc", "call", address, "odd").out == "1.10\n"
    output = command("rpc", "call", address, "get", '{"id": 2}')
    assert '"the recording has no call with these params"' in output.err
    played.signal(signal.SIGTERM)
    assert played.wait() == 1
    assert played.log.endswith(
        'answered 3 calls, took 0 notifications\n1 calls were not in the recording:\n  1 x get {"id": 2}\n'
    )


def test_a_replay_in_which_all_was_recorded_ends_with_status_0(
    command: Command, start: Start, rpc: FakeRpcServer, tmp_path: Path
) -> None:
    rpc.on("get", result(1))
    recording = Recording(start, rpc.address, tmp_path / "file")
    command("rpc", "call", recording.address, "get")
    recording.stop()
    played = start("rpc", "proxy", "--replay", str(recording.path), "--listen", f"unix:{tmp_path}/socket", "--delays")
    assert command("rpc", "call", f"unix:{tmp_path}/socket", "get").out == "1\n"
    played.signal(signal.SIGINT)
    assert played.wait() == 0
    assert not os.path.exists(tmp_path / "socket")


def test_unix_sockets_tls_and_other_framings_pass_through_too(
    command: Command, start: Start, certificates: Certificates, tmp_path: Path
) -> None:
    """A client by TLS to a proxy, by a Unix socket to another one, by TLS to the service; in lines."""
    server, ca = certificates.server, str(certificates.ca)
    own = ["--cert", str(server.certfile), "--key", str(server.keyfile)]
    listen_own = ["--listen-cert", str(server.certfile), "--listen-key", str(server.keyfile)]
    lines = ["--framing", "newline"]
    service = start("rpc", "serve", "--echo", "--listen", "tls:127.0.0.1:0", *own, *lines)
    address = service.wait_for(r"ready on (\S+):")[1]
    unix = f"unix:{tmp_path}/socket"
    inner = Recording(start, address, tmp_path / "inner", "--cafile", ca, *lines, listen=unix)
    outer = Recording(start, unix, tmp_path / "outer", *listen_own, *lines, listen="tls:127.0.0.1:0")
    output = command("rpc", "call", outer.address, "echo", "[1, 2]", "--cafile", ca, *lines)
    assert (output.out, output.err) == ("[1,2]\n", "")
    for recording in (outer, inner):
        recording.stop()
        assert recording.said(1) == [
            ("client", {"id": 1, "method": "echo", "params": [1, 2]}),
            ("server", {"result": [1, 2], "id": 1}),
        ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "127.0.0.1:0"], "name either --to ADDRESS and --record FILE, or --replay FILE"),
        (["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1"], "name either --to ADDRESS and --record FILE"),
        (["--listen", "x", "--to", "127.0.0.1:1", "--record", "f"], "'x' is no address to listen on"),
        (["--listen", "srv:_a._tcp.b", "--to", "127.0.0.1:1", "--record", "f"], "nobody listens on srv records"),
        (["--listen", "127.0.0.1:0", "--to", "x", "--record", "f"], "'x' is no address of a service"),
        (["--listen", "127.0.0.1:0", "--to", "srv:_a._tcp.b", "--record", "f"], "--to needs one service"),
        (
            ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--record", "/nowhere/f"],
            "cannot write /nowhere/f: No such",
        ),
        (["--listen", "127.0.0.1:0", "--replay", "/nowhere/f"], "cannot read /nowhere/f: No such file"),
        (["--listen", "127.0.0.1:0", "--replay", "/etc/passwd"], "/etc/passwd:1: this is no recording"),
        (["--listen", "127.0.0.1:0", "--replay", "f", "--record", "f"], "it has no --to and no --record"),
        (["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--record", "f", "--delays"], "--delays is for --replay"),
        (["--listen", "tls:127.0.0.1:0", "--to", "127.0.0.1:1", "--record", "f"], "a certificate is needed"),
        (
            ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--record", "f", "--listen-cert", "/nowhere"],
            "TLS: /nowhere: No such file",
        ),
        (["--listen", "host.invalid:1", "--to", "127.0.0.1:1", "--record", "f"], "cannot listen on host.invalid:1"),
    ],
)
def test_proxy_explains_a_mistake(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    output = command("rpc", "proxy", *arguments)
    assert output.status == 1
    assert message in output.err
    assert output.err.count("\n") == 1
