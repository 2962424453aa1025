"""Where a server listens: TCP, TLS, Unix sockets and their files, several at once."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from sipwright.errors import ArgumentError, StartError
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.framing import CONTENT_LENGTH, NEWLINE, Framing
from sipwright.jsonrpc.listeners import address_of, parse_listen
from sipwright.jsonrpc.rpc_connection import RpcConnection
from sipwright.jsonrpc.server import Server
from sipwright.jsonrpc.tls import Tls
from tests.jsonrpc.certificates import Certificates
from tests.jsonrpc.wire import connect


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", ServerAddress("127.0.0.1", 0)),
        ("tcp:0.0.0.0:9999", ServerAddress("0.0.0.0", 9999)),
        ("tls:[::1]:0", ServerAddress("::1", 0, "tls")),
        ("unix:/run/x:0", ServerAddress("/run/x:0", 0, "unix")),
    ],
)
def test_addresses_to_listen_on_are_those_of_servers_and_may_have_port_0(text: str, address: ServerAddress) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["", "tcp:", "127.0.0.1", "srv:_a._tcp.example.org", "unix:relative", "tcp::0"])
def test_what_is_no_such_address_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError):
        parse_listen(text)


def test_one_server_listens_on_many_addresses(tmp_path: Path, certificates: Certificates) -> None:
    server = Server(tls=Tls(certfile=certificates.server.certfile, keyfile=certificates.server.keyfile))

    @server.method
    def kind(client: RpcConnection) -> str:
        return client.peer_address.kind

    async def main() -> None:
        places = ["tcp:127.0.0.1:0", "tls:127.0.0.1:0", f"unix:{tmp_path}/s", f"unix:@sipwright-test-{os.getpid()}"]
        if socket.has_ipv6:
            places.append("tcp:[::1]:0")
        addresses = [await server.listen(place) for place in places]
        assert server.addresses == addresses
        assert server.port == addresses[0].port
        client = Tls(cafile=certificates.ca).client_context()
        for address in addresses:
            wire = await connect(address, context=client if address.kind == "tls" else None)
            assert (await wire.ask("kind"))["result"] == address.kind
            wire.writer.close()
            await wire.writer.wait_closed()
        await server.close()
        assert server.addresses == []
        for address in addresses:
            with pytest.raises(OSError, match=r"refused|failed|No such file"):
                await connect(address)

    run(main)


def test_start_listens_with_tls_where_the_server_has_it(certificates: Certificates) -> None:
    async def main() -> None:
        tls = Tls(certfile=certificates.server.certfile, keyfile=certificates.server.keyfile)
        async with Server(tls=tls) as server:
            context = Tls(cafile=certificates.ca).client_context()
            wire = await connect(server.addresses[0], context=context, host="localhost")
            assert (await wire.ask("rpc.ping"))["result"] == "pong"
            wire.writer.close()
            await wire.writer.wait_closed()
        with pytest.raises(ArgumentError, match=r"to listen on tls:127.0.0.1:0, the server needs tls"):
            await Server().listen("tls:127.0.0.1:0")
        with pytest.raises(ArgumentError, match="needs a certfile"):
            await Server(tls=Tls()).listen("tls:127.0.0.1:0")

    run(main)


def test_the_file_of_a_unix_socket_has_the_mode_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        server = Server()
        await server.listen(f"unix:{path}")
        assert mode_of(path) == 0o600
        await server.listen(f"unix:{path}2", mode=0o666)
        assert mode_of(Path(f"{path}2")) == 0o666
        await server.close()
        assert os.listdir(tmp_path) == []

    run(main)


def test_a_stale_socket_is_put_away_and_one_that_is_listened_on_is_not(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        first, second = Server(), Server()
        await first.listen(f"unix:{path}")
        with pytest.raises(StartError, match=f"cannot listen on unix:{path}: another server listens there"):
            await second.listen(f"unix:{path}")
        wire = await connect(ServerAddress(str(path), 0, "unix"))
        assert (await wire.ask("rpc.ping"))["result"] == "pong"
        wire.writer.close()
        # Whoever has taken the name meanwhile keeps it.
        path.unlink()
        await second.listen(f"unix:{path}")
        await first.close()
        assert path.exists()
        await second.close()
        assert not path.exists()
        path.write_text("precious")
        with pytest.raises(StartError, match="no socket"):
            await second.listen(f"unix:{path}")
        assert path.read_text() == "precious"
        with pytest.raises(StartError, match="No such file"):
            await second.listen(f"unix:{tmp_path}/none/socket")

    run(main)


def test_a_socket_with_a_full_backlog_is_somebodys(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
            busy.bind(str(path))
            busy.listen(0)
            client.connect(str(path))
            with pytest.raises(StartError, match="another server"):
                await Server().listen(f"unix:{path}")

    run(main)


def test_a_bound_socket_may_be_given(tmp_path: Path) -> None:
    async def main() -> None:
        async with Server() as server:
            tcp, unix = socket.socket(), socket.socket(socket.AF_UNIX)
            tcp.bind(("127.0.0.1", 0))
            unix.bind(str(tmp_path / "socket"))
            for bound in (tcp, unix):
                wire = await connect(await server.listen(bound))
                assert (await wire.ask("rpc.ping"))["result"] == "pong"
                wire.writer.close()

    run(main)


def test_each_listener_may_have_a_framing_of_its_own() -> None:
    shouting = Framing("shouting", lambda payload: payload + b"!", lambda _max_size: _Shouting())

    async def main() -> None:
        server = Server(framing="newline")
        for wanted, framing in (
            (None, NEWLINE),
            ("content-length", CONTENT_LENGTH),
            (shouting, shouting),
        ):
            wire = await connect(await server.listen("tcp:127.0.0.1:0", framing=wanted), framing)
            assert (await wire.ask("rpc.ping"))["result"] == "pong"
            wire.writer.close()
        await server.close()
        with pytest.raises(ArgumentError, match="no framing is named 'xml'"):
            Server(framing="xml")
        with pytest.raises(ArgumentError, match="no framing is named 'xml'"):
            await server.listen("tcp:127.0.0.1:0", framing="xml")

    run(main)


class _Shouting:
    """Payloads that end with an exclamation mark."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes, /) -> list[bytes]:
        *payloads, self._rest = (self._rest + data).split(b"!")
        return payloads


def test_connections_of_a_server_are_kept_alive_unless_it_is_told_otherwise() -> None:
    async def main() -> None:
        for options, expected in (({}, 1), ({"keepalive": None}, 0)):
            async with Server(**options) as server:  # type: ignore[arg-type]
                wire = await connect(server.addresses[0])
                await wire.ask("rpc.ping")
                transport = next(iter(server._sessions)).connection.transport
                assert transport is not None
                end = transport.get_extra_info("socket")
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == expected
                wire.writer.close()

    run(main)


def test_names_of_sockets_are_addresses() -> None:
    assert address_of(("::1", 5, 0, 0), "tls") == ServerAddress("::1", 5, "tls")
    assert address_of(b"\0name", "tcp") == ServerAddress("@name", 0, "unix")
    assert address_of("/path", "unix") == ServerAddress("/path", 0, "unix")
