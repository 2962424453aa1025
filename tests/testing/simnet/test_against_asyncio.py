"""What protocols and streams see in the simulation is what they see on real sockets: each program runs on both."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from sipwright.testing.simnet import SimNetwork

Program = Callable[[], Coroutine[Any, Any, Any]]


def both(program: Program) -> Any:
    """Run a program on both networks, and return what it returned on both, which is the same."""
    real = asyncio.run(program())
    with SimNetwork(seed=3) as net:
        simulated = net.run(program())
        assert net.loop.errors == []
        # What closes takes its way.
        net.advance(1.0)
        assert net.connections == []
    assert simulated == real
    return simulated


class Recorder(asyncio.Protocol):
    """Writes down what it is told, and ends with its connection."""

    def __init__(self, keeps_open: bool = False) -> None:
        self.told: list[Any] = []
        self.data = b""
        self.keeps_open = keeps_open
        self.transport: asyncio.Transport
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        if not self.data:
            self.told.append("data")
        self.data += data

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(f"lost {type(exc).__name__}")
        self.ended.set_result(None)


async def pair(
    client: Callable[[], Recorder] = Recorder, server: Callable[[], Recorder] = Recorder
) -> tuple[Recorder, Recorder, Any]:
    loop = asyncio.get_running_loop()
    accepted: list[Recorder] = []

    def accept() -> Recorder:
        accepted.append(server())
        return accepted[-1]

    listener = await loop.create_server(accept, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    _, protocol = await loop.create_connection(client, "127.0.0.1", port)
    while not accepted or not accepted[0].told:
        await asyncio.sleep(0.001)
    return protocol, accepted[0], listener


async def ended(*recorders: Recorder) -> list[list[Any]]:
    await asyncio.wait_for(asyncio.gather(*(recorder.ended for recorder in recorders)), 5)
    return [recorder.told for recorder in recorders]


def test_bytes_and_the_end_arrive() -> None:
    async def program() -> Any:
        client, server, listener = await pair()
        client.transport.write(b"hello")
        client.transport.writelines([b" ", b"world"])
        client.transport.close()
        client.transport.write(b"lost")
        told = await ended(client, server)
        listener.close()
        return told, client.data, server.data, client.transport.is_closing()

    assert both(program) == (
        [["made", "lost NoneType"], ["made", "data", "eof", "lost NoneType"]],
        b"",
        b"hello world",
        True,
    )


def test_one_direction_is_closed_before_the_other() -> None:
    async def program() -> Any:
        client, server, listener = await pair(server=lambda: Recorder(keeps_open=True))
        client.transport.write(b"question")
        client.transport.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            client.transport.write(b"more")
        while "eof" not in server.told:
            await asyncio.sleep(0.001)
        server.transport.write(b"answer")
        server.transport.close()
        told = await ended(client, server)
        listener.close()
        return told, client.data, server.data, client.transport.can_write_eof()

    assert both(program) == (
        [["made", "data", "eof", "lost NoneType"], ["made", "data", "eof", "lost NoneType"]],
        b"answer",
        b"question",
        True,
    )


def test_a_connection_that_is_aborted_drops_what_is_not_sent() -> None:
    async def program() -> Any:
        client, server, listener = await pair()
        server.transport.pause_reading()
        client.transport.write(b"x" * 30_000_000)
        assert client.transport.get_write_buffer_size() > 0
        client.transport.abort()
        client.transport.abort()
        await ended(client)
        server.transport.resume_reading()
        await ended(server)
        listener.close()
        return client.told, server.told[-1], 0 < len(server.data) < 30_000_000

    assert both(program) == (["made", "pause", "lost NoneType"], "lost NoneType", True)


def test_writing_is_paused_while_the_other_end_does_not_read() -> None:
    async def program() -> Any:
        client, server, listener = await pair()
        client.transport.set_write_buffer_limits(high=1000, low=100)
        limits = client.transport.get_write_buffer_limits()
        server.transport.pause_reading()
        is_reading = server.transport.is_reading()
        client.transport.write(b"x" * 30_000_000)
        await asyncio.sleep(0.05)
        before = list(client.told), server.data
        server.transport.resume_reading()
        while "resume" not in client.told:
            await asyncio.sleep(0.001)
        client.transport.close()
        told = await ended(client, server)
        listener.close()
        return limits, is_reading, before, told, len(server.data)

    assert both(program) == (
        (100, 1000),
        False,
        (["made", "pause"], b""),
        [["made", "pause", "resume", "lost NoneType"], ["made", "data", "eof", "lost NoneType"]],
        30_000_000,
    )


def test_what_was_written_leaves_before_the_connection_closes() -> None:
    async def program() -> Any:
        client, server, listener = await pair()
        client.transport.write(b"x" * 10_000_000)
        client.transport.close()
        told = await ended(client, server)
        listener.close()
        return told, len(server.data)

    told, size = both(program)
    assert size == 10_000_000
    assert told[1] == ["made", "data", "eof", "lost NoneType"]


def test_who_writes_to_a_closed_end_is_reset() -> None:
    async def program() -> Any:
        client, server, listener = await pair(client=lambda: Recorder(keeps_open=True))
        server.transport.close()
        while "eof" not in client.told:
            await asyncio.sleep(0.001)
        for _ in range(2):
            client.transport.write(b"is anybody there?")
            await asyncio.sleep(0.05)
        told = await ended(client)
        listener.close()
        # Which of the two depends on what Linux finds out first.
        return [
            "lost reset" if entry in ("lost ConnectionResetError", "lost BrokenPipeError") else entry
            for entry in told[0]
        ]

    assert both(program) == ["made", "eof", "lost reset"]


def test_what_was_not_read_resets_the_other_end() -> None:
    async def program() -> Any:
        client, server, listener = await pair()
        server.transport.pause_reading()
        client.transport.write(b"never read")
        await asyncio.sleep(0.05)
        server.transport.close()
        told = await ended(client, server)
        listener.close()
        return told

    assert both(program) == [["made", "lost ConnectionResetError"], ["made", "lost NoneType"]]


def test_nobody_listens() -> None:
    async def program() -> Any:
        client, server, listener = await pair()
        port = listener.sockets[0].getsockname()[1]
        listener.close()
        listener.close()
        client.transport.close()
        await ended(client, server)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.get_running_loop().create_connection(Recorder, "127.0.0.1", port)
        return listener.sockets, listener.is_serving()

    assert both(program) == ((), False)


def test_a_port_is_taken() -> None:
    async def program() -> Any:
        client, server, listener = await pair()
        host, port = listener.sockets[0].getsockname()
        with pytest.raises(OSError, match="in use"):
            await asyncio.get_running_loop().create_server(Recorder, host, port)
        listener.close()
        client.transport.close()
        await ended(client, server)
        again = await asyncio.get_running_loop().create_server(Recorder, host, port)
        again.close()

    both(program)


def test_addresses_are_told() -> None:
    async def program() -> Any:
        client, server, listener = await pair()
        ask = client.transport.get_extra_info
        answer = server.transport.get_extra_info
        assert ask("sockname") == answer("peername")
        assert ask("peername") == answer("sockname") == listener.sockets[0].getsockname()
        client.transport.close()
        await ended(client, server)
        listener.close()
        return ask("sockname")[0], ask("nothing", 7)

    assert both(program) == ("127.0.0.1", 7)


def test_streams_and_a_server_that_is_awaited() -> None:
    async def program() -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            forever = asyncio.create_task(server.serve_forever())
            await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"one\ntwo\n")
            lines = [await reader.readline(), await reader.readline()]
            writer.write_eof()
            rest = await reader.read()
            writer.close()
            await writer.wait_closed()
            forever.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await forever
        return lines, rest, server.is_serving()

    assert both(program) == ([b"ONE\n", b"TWO\n"], b"", False)


def test_a_fault_of_a_protocol_ends_its_connection() -> None:
    class Faulty(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ValueError(data)

    async def program() -> Any:
        faults: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(str(context["exception"])))
        client, server, listener = await pair(server=Faulty)
        client.transport.write(b"rubbish")
        told = await ended(client, server)
        listener.close()
        return told, faults

    real = asyncio.run(program())
    with SimNetwork() as net:
        assert net.run(program()) == real
        assert len(net.loop.errors) == 1
    assert real == ([["made", "eof", "lost NoneType"], ["made", "lost ValueError"]], ["b'rubbish'"])


def test_unix_sockets(tmp_path: Path) -> None:
    async def program() -> Any:
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "socket")
        server = await loop.create_unix_server(lambda: Recorder(keeps_open=False), path)
        name = server.sockets[0].getsockname() == path
        _, client = await loop.create_unix_connection(Recorder, path)
        client.transport.write(b"hello")
        client.transport.close()
        told = await ended(client)
        server.close()
        await asyncio.sleep(0.01)
        return name, told, client.transport.get_extra_info("peername") == path

    assert both(program) == (True, [["made", "lost NoneType"]], True)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {path} -out {path}.crt -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost"
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.mark.parametrize("how", ["at once", "later"])
def test_tls(certificate: Path, how: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def program() -> Any:
        loop = asyncio.get_running_loop()
        accepted: list[Recorder] = []

        def accept() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        listener = await loop.create_server(accept, "127.0.0.1", 0, ssl=context)
        port = listener.sockets[0].getsockname()[1]
        transport: Any
        if how == "at once":
            transport, client = await loop.create_connection(
                Recorder, "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
            )
        else:
            plain, client = await loop.create_connection(Recorder, "127.0.0.1", port)
            transport = await loop.start_tls(plain, client, trusting, server_hostname="localhost")
        transport.write(b"secret")
        while not (accepted and accepted[0].data):
            await asyncio.sleep(0.001)
        name = transport.get_extra_info("peercert")["subject"]
        transport.close()
        await ended(client, accepted[0])
        listener.close()
        # A hostname that is not in the certificate.
        untrusted = await loop.create_server(accept, "127.0.0.1", 0, ssl=context)
        address = untrusted.sockets[0].getsockname()
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(Recorder, *address, ssl=trusting, server_hostname="example.org")
        untrusted.close()
        await asyncio.sleep(0.05)
        return name, accepted[0].data, client.told

    real = asyncio.run(program())
    with SimNetwork() as net:
        assert net.run(program()) == real
    assert real[1] == b"secret"
