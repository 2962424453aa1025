"""Connections without asyncio: TLS, Unix sockets, framings, names with several addresses."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from sipwright.errors import RpcConnectionError
from sipwright.jsonrpc import Server, Tls
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.sync import SyncClient
from sipwright.jsonrpc.sync_connecting import connect
from tests.jsonrpc.certificates import Certificates
from tests.jsonrpc.in_thread import InThread, run_threads, took


def adding(**options: Any) -> Server:
    server = Server(**options)
    server.add_method("add", lambda a, b: a + b)
    server.add_method("length", len)
    return server


def server_tls(certificates: Certificates, **options: Any) -> Tls:
    return Tls(certfile=certificates.server.certfile, keyfile=certificates.server.keyfile, **options)


def test_calls_of_many_threads_over_tls(certificates: Certificates) -> None:
    with InThread(adding(tls=server_tls(certificates)), "tls:127.0.0.1:0") as there:
        port = there.server.addresses[0].port
        with SyncClient(f"tls:localhost:{port},1", tls=Tls(cafile=certificates.ca)) as client:

            def work(index: int) -> None:
                for number in range(100):
                    assert client.call("add", [number, index]) == number + index

            work(0)
            run_threads(8, work)
            # Many records, both ways.
            assert client.call("length", ["x" * 900_000]) == 900_000
            assert client.call("add", ["x" * 300_000, "y" * 300_000]) == "x" * 300_000 + "y" * 300_000
            assert client.counters()["reconnects"] == 0


def test_a_certificate_that_is_not_accepted_is_told(certificates: Certificates) -> None:
    with InThread(adding(tls=server_tls(certificates)), "tls:127.0.0.1:0") as there:
        port = there.server.addresses[0].port
        with (
            SyncClient(f"tls:127.0.0.1:{port},1", tls=Tls(cafile=certificates.foreign.certfile), timeout=0.3) as client,
            pytest.raises(RpcConnectionError, match="cannot connect: its certificate is not accepted: unable to get"),
        ):
            client.call("add", [1, 2])
        with (
            SyncClient(f"tls:127.0.0.1:{port},1", timeout=0.3) as client,
            pytest.raises(RpcConnectionError, match="cannot connect: its certificate is not accepted: unable to get"),
        ):
            client.call("add", [1, 2])
        with (
            SyncClient(
                f"tls:127.0.0.1:{port},1", tls=Tls(cafile=certificates.ca, server_name="other.example"), timeout=0.3
            ) as client,
            pytest.raises(RpcConnectionError, match="Hostname mismatch"),
        ):
            client.call("add", [1, 2])


def test_a_client_certificate_is_shown_to_a_server_that_wants_one(certificates: Certificates) -> None:
    with InThread(adding(tls=server_tls(certificates, cafile=certificates.ca)), "tls:127.0.0.1:0") as there:
        port = there.server.addresses[0].port
        mine = certificates.client
        tls = Tls(cafile=certificates.ca, certfile=mine.certfile, keyfile=mine.keyfile)
        with SyncClient(f"tls:localhost:{port},1", tls=tls) as client:
            assert client.call("add", [1, 2]) == 3
        with (
            SyncClient(f"tls:localhost:{port},1", tls=Tls(cafile=certificates.ca), timeout=0.3) as client,
            pytest.raises(RpcConnectionError),
        ):
            client.call("add", [1, 2])


def test_a_server_that_does_not_speak_tls_is_told_in_time(certificates: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"tls:127.0.0.1:{silent.getsockname()[1]}"
        with (
            SyncClient(f"{place},1", tls=Tls(cafile=certificates.ca), timeout=0.2) as client,
            took(0.15, 0.5),
            pytest.raises(RpcConnectionError, match="no answer to the handshake of TLS in time"),
        ):
            client.call("add", [1, 2])


@pytest.mark.parametrize("abstract", [False, True])
def test_a_unix_socket_is_a_server_like_any_other(tmp_path: Path, abstract: bool) -> None:
    place = f"unix:@{tmp_path.name}-sync" if abstract else f"unix:{tmp_path}/rpc.sock"
    with InThread(adding(), place), SyncClient(f"{place},1") as client:
        assert client.call("add", [1, 2]) == 3
        assert client.connections == {place: 0}


def test_a_unix_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with (
        SyncClient(f"unix:{tmp_path}/none,1", timeout=0.1) as client,
        pytest.raises(RpcConnectionError, match="cannot connect: No such file or directory"),
    ):
        client.call("add", [1, 2])


@pytest.mark.parametrize("framing", ["newline", "content-length"])
def test_both_ends_agree_on_another_framing(framing: str) -> None:
    with InThread(adding(framing=framing)) as there, SyncClient(f"{there.address},1", framing=framing) as client:
        assert client.call("add", ["a\n", "b"]) == "a\nb"
        run_threads(4, lambda index: client.call("add", [index, 1]))
        assert client.counters()["results"] == 5


def test_an_answer_over_the_limit_ends_the_connection() -> None:
    with InThread(adding()) as there, SyncClient(f"{there.address},1", max_size=1000) as client:
        with pytest.raises(RpcConnectionError, match="over the limit of 1000 bytes"):
            client.call("add", ["x" * 1000, ""])
        assert client.call("add", [1, 2]) == 3


def names(*places: tuple[str, int]) -> Any:
    def getaddrinfo(_host: str, _port: int, **_options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

    return getaddrinfo


def test_an_address_that_does_not_answer_holds_the_next_one_up_for_a_quarter_of_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        monkeypatch.setattr(socket, "getaddrinfo", names(full.getsockname(), listener.getsockname()))
        with took(0.2, 0.5):
            sock, _ = connect(ServerAddress("name", 1), None, time.monotonic() + 3)
        assert sock.getpeername() == listener.getsockname()
        sock.close()
        # One that refuses, not at all.
        monkeypatch.setattr(socket, "getaddrinfo", names(("127.0.0.1", 1), listener.getsockname()))
        with took(0.0, 0.1):
            sock, _ = connect(ServerAddress("name", 1), None, time.monotonic() + 3)
        sock.close()
        monkeypatch.setattr(socket, "getaddrinfo", names(full.getsockname()))
        with took(0.1, 0.3), pytest.raises(TimeoutError):
            connect(ServerAddress("name", 1), None, time.monotonic() + 0.15)
        for filler in fillers:
            filler.close()


def test_a_name_without_addresses_or_that_is_none_is_told() -> None:
    with SyncClient("no-such-host.invalid:1,1", timeout=1) as client, pytest.raises(RpcConnectionError) as caught:
        client.call("x", timeout=0.2)
    assert "no-such-host.invalid:1: cannot connect: " in str(caught.value)
