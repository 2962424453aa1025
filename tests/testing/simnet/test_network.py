"""Hosts, links and faults of the simulated network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sipwright.testing.simnet import SimHost, SimNetwork


class Backend:
    """A host with a program that repeats each line it is sent, and writes down what it gets."""

    def __init__(self, net: SimNetwork, name: str = "backend") -> None:
        self.host = net.add_host(name)
        self.lines: list[bytes] = []
        self.ends: list[str] = []

    async def start(self, address: Any = None) -> None:
        with self.host:
            await asyncio.start_server(self._serve, address, 7)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.lines.append(line)
                writer.write(line)
            self.ends.append("eof")
        except OSError as error:
            self.ends.append(type(error).__name__)
        finally:
            writer.close()


def run(test: Callable[[SimNetwork, Backend], Awaitable[object]], **options: Any) -> SimNetwork:
    with SimNetwork(seed=5, **options) as net:
        backend = Backend(net)

        async def main() -> None:
            await backend.start()
            await test(net, backend)

        net.run(main())
        assert net.loop.errors == []
        return net


@contextlib.asynccontextmanager
async def connected(host: str = "backend") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, 7)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes = b"hello\n") -> float:
    """Return how long the answer took."""
    before = asyncio.get_running_loop().time()
    writer.write(text)
    assert await reader.readline() == text
    return asyncio.get_running_loop().time() - before


# Hosts and names


def test_a_host_is_found_by_its_name_and_its_addresses() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        infos = await net.loop.getaddrinfo("backend", 7)
        assert [info[4][0] for info in infos] == backend.host.addresses == ["10.0.0.2", "fd00::2"]
        for address in ("backend", "BACKEND.", *backend.host.addresses):
            async with connected(address) as streams:
                await echo(*streams)
        (only,) = await net.loop.getaddrinfo("backend", 7, family=socket.AF_INET6)
        assert only[4] == ("fd00::2", 7, 0, 0)
        net.names["alias"] = ["10.0.0.2"]
        async with connected("alias") as streams:
            await echo(*streams)

    run(test)


def test_what_does_not_exist_is_not_found() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        with pytest.raises(socket.gaierror, match="not known"):
            await asyncio.open_connection("nowhere", 7)
        with pytest.raises(OSError, match="No route"):
            await asyncio.open_connection("10.9.9.9", 7)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("backend", 8)
        with pytest.raises(ConnectionRefusedError):
            # Its own loopback is each host's own.
            await asyncio.open_connection("127.0.0.1", 7)
        with pytest.raises(OSError, match="Cannot assign"):
            await asyncio.start_server(print, "10.0.0.2", 7)
        with pytest.raises(ValueError, match="backend"):
            net.add_host("backend")
        with pytest.raises(ValueError, match="other"):
            net.add_host("other", "10.0.0.2")

    run(test)


def test_programs_run_on_their_hosts() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        other = Backend(net, "other")
        await other.start("127.0.0.1")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("other", 7)
        with other.host:
            async with connected("127.0.0.1") as streams:
                await echo(*streams)
            async with connected("backend") as (reader, writer):
                await echo(reader, writer)
                assert writer.get_extra_info("sockname")[0] in other.host.addresses
                assert [c.client.partition(":")[0] for c in net.connections if c.server == "backend:7"] == ["other"]
        assert (len(other.lines), len(backend.lines)) == (1, 1)

    run(test)


def test_several_addresses_are_tried_in_their_order() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        net.names["service"] = ["10.9.9.9", "10.0.0.2"]
        async with connected("service") as (reader, writer):
            await echo(reader, writer)
            assert writer.get_extra_info("peername") == ("10.0.0.2", 7)

    run(test)


# The way


def test_bytes_take_their_time() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        net.link(net.local, backend.host).latency = (0.1, 0.1)
        net.link(backend.host, net.local).latency = (0.3, 0.3)
        async with connected() as streams:
            assert await echo(*streams) == pytest.approx(0.4)

    run(test)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_bytes_come_in_pieces(size: int) -> None:
    pieces: list[bytes] = []

    class Receiver(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            pieces.append(data)

    async def test(net: SimNetwork, backend: Backend) -> None:
        net.link(backend.host, net.local).segments = (1, size)
        transport, _ = await net.loop.create_connection(Receiver, "backend", 7)
        transport.write(b"a line of thirty bytes, in all\n")
        await asyncio.sleep(1.0)
        assert b"".join(pieces) == b"a line of thirty bytes, in all\n"
        assert max(len(piece) for piece in pieces) <= size
        transport.close()

    run(test)


def test_the_window_holds_up_who_writes_more_than_is_read() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        backend.host.stall()
        async with connected() as (_, writer):
            writer.write(b"x" * 9_000)
            await asyncio.sleep(1.0)
            assert writer.transport.get_write_buffer_size() == 8_000
            backend.host.resume()
            await asyncio.sleep(1.0)
            assert writer.transport.get_write_buffer_size() == 0

    run(test, window=1_000)


# Faults


def test_over_a_cut_link_bytes_wait_and_arrive_in_their_order() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        async with connected() as (reader, writer):
            await echo(reader, writer)
            net.cut(net.local, backend.host)
            writer.write(b"one\n")
            await asyncio.sleep(100.0)
            writer.write(b"two\n")
            await asyncio.sleep(100.0)
            assert backend.lines == [b"hello\n"]
            net.heal()
            assert [await reader.readline(), await reader.readline()] == [b"one\n", b"two\n"]

    run(test)


def test_who_gets_no_acknowledgement_gives_up_and_the_other_end_is_none_the_wiser() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        async with connected() as (reader, writer):
            await echo(reader, writer)
            net.cut(net.local, backend.host)
            writer.write(b"one\n")
            with pytest.raises(TimeoutError):
                await reader.readline()
            assert net.loop.time() == pytest.approx(900.0, abs=0.1)
            assert backend.ends == []
            (connection,) = net.connections
            net.heal()
            await asyncio.sleep(1.0)
            # What was under way arrives; the answer comes to nobody, and is refused.
            assert backend.lines == [b"hello\n", b"one\n"]
            assert backend.ends == ["ConnectionResetError"]
            assert net.connections == []
            assert connection.client.startswith("localhost:")

    run(test)


def test_one_direction_is_cut() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        async with connected() as (reader, writer):
            await echo(reader, writer)
            net.cut(backend.host, net.local, one_way=True)
            writer.write(b"one\n")
            await asyncio.sleep(1.0)
            assert backend.lines == [b"hello\n", b"one\n"]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readline(), 10.0)
            net.heal()
            assert await reader.readline() == b"one\n"

    run(test)


def test_bytes_that_are_not_acknowledged_count_though_they_arrived() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        async with connected() as (reader, writer):
            net.cut(backend.host, net.local, one_way=True)
            writer.write(b"one\n")
            await asyncio.sleep(800.0)
            assert backend.lines == [b"one\n"]
            with pytest.raises(TimeoutError, match="timed out"):
                await reader.readline()

    run(test)


def test_connecting_over_a_cut_link_takes_minutes_or_succeeds_when_it_is_mended() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        net.cut(net.local, backend.host)
        with pytest.raises(TimeoutError):
            await asyncio.open_connection("10.0.0.2", 7)
        assert net.loop.time() == pytest.approx(127.0)
        net.loop.call_later(5.0, net.heal)
        async with connected("10.0.0.2") as streams:
            await echo(*streams)
        assert net.loop.time() == pytest.approx(127.0 + 7.0, abs=0.1)

    run(test)


def test_a_socket_says_how_patient_it_is() -> None:
    async def connect(net: SimNetwork, idle: int | None, timeout: int) -> tuple[asyncio.StreamReader, Any]:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout)
        if idle is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        await net.loop.sock_connect(sock, ("10.0.0.2", 7))
        return await asyncio.open_connection(sock=sock)

    async def test(net: SimNetwork, backend: Backend) -> None:
        writing = await connect(net, None, 20_000)
        idle = await connect(net, 10, 20_000)
        net.cut(net.local, backend.host)
        before = net.loop.time()
        writing[1].write(b"one\n")
        for (reader, writer), patience in ((writing, 20.0), (idle, 85.0)):
            with pytest.raises(TimeoutError):
                await reader.readline()
            assert net.loop.time() - before == pytest.approx(patience)
            writer.close()
        assert writing[1].get_extra_info("socket").fileno() == -1

    run(test)


def test_a_socket_of_the_simulation_keeps_its_options() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        async with connected() as (reader, writer):
            sock = writer.get_extra_info("socket")
            assert sock.getsockname() == writer.get_extra_info("sockname")
            assert sock.getpeername() == ("10.0.0.2", 7)
            assert (sock.family, sock.proto, sock.fileno()) == (socket.AF_INET, socket.IPPROTO_TCP, -1)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7200
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3)):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            net.cut(net.local, backend.host)
            before = net.loop.time()
            with pytest.raises(TimeoutError):
                await reader.readline()
            assert net.loop.time() - before == pytest.approx(120.0)

    run(test)


def test_services_have_records_that_change() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        with pytest.raises(OSError, match="does not exist"):
            await net.resolve_srv("_rpc._tcp.example.org")
        net.add_srv("_RPC._tcp.example.org", (10, 5, 7, "backend"), (20, 0, 7, "other"), ttl=7)
        records, ttl = await net.resolve_srv("_rpc._tcp.example.org")
        assert ([record.target for record in records], ttl) == (["backend", "other"], 7)
        net.add_srv("_rpc._tcp.example.org")
        assert await net.resolve_srv("_rpc._tcp.example.org") == ([], 60.0)
        net.remove_srv("_rpc._tcp.example.org")
        with pytest.raises(OSError, match="does not exist"):
            await net.resolve_srv("_rpc._tcp.example.org")

    run(test)


def test_a_socket_that_is_dropped_after_connecting_is_closed() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        sock = socket.socket()
        await net.loop.sock_connect(sock, ("10.0.0.2", 7))
        sock.close()
        del sock
        await asyncio.sleep(1.0)
        assert backend.ends == ["eof"]
        sock = socket.socket()
        attempt = asyncio.create_task(net.loop.sock_connect(sock, ("10.0.0.2", 7)))
        while not net.connections:
            await asyncio.sleep(0.0001)
        attempt.cancel()
        await asyncio.sleep(1.0)
        sock.close()
        assert backend.ends == ["eof", "eof"]
        assert net.connections == []

    run(test)


def test_a_connection_is_reset() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        async with connected() as (reader, writer):
            await echo(reader, writer)
            net.connections[0].reset()
            with pytest.raises(ConnectionResetError):
                await reader.readline()
            await asyncio.sleep(1.0)
        assert backend.ends == ["ConnectionResetError"]

    run(test)


@pytest.mark.parametrize("count", range(7))
def test_a_connection_breaks_at_any_byte(count: int) -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        async with connected() as (reader, writer):
            net.connections[0].reset_after(to_client=count)
            writer.write(b"hello\n")
            with contextlib.suppress(ConnectionResetError):
                assert await reader.readexactly(count) == b"hello\n"[:count]
            with pytest.raises(ConnectionResetError):
                await reader.readline()
        assert backend.lines == [b"hello\n"]

    async def to_server(net: SimNetwork, backend: Backend) -> None:
        async with connected() as (reader, writer):
            net.connections[0].reset_after(to_server=count)
            writer.write(b"hello\n")
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.readexactly(7), 10.0)
        assert backend.lines == ([b"hello\n"] if count == 6 else [])

    run(test)
    run(to_server)


def test_pieces_are_lost_with_their_probability() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        net.link(net.local, backend.host).loss = 0.1
        lost = 0
        for _ in range(500):
            async with connected() as (reader, writer):
                try:
                    await echo(reader, writer)
                except (ConnectionResetError, AssertionError):
                    lost += 1
        assert 20 < lost < 90

    run(test)


def test_a_host_is_killed_and_comes_back() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        async with connected() as (reader, writer):
            await echo(reader, writer)
            backend.host.kill()
            assert await reader.readline() == b""
        assert backend.ends == ["ConnectionAbortedError"]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("backend", 7)
        await backend.start()
        async with connected() as streams:
            await echo(*streams)

    run(test)


def test_a_host_without_power_is_silent_until_it_is_back() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        async with connected() as (reader, writer):
            await echo(reader, writer)
            backend.host.power_off()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readline(), 100.0)
            backend.host.power_on()
            writer.write(b"do you know me?\n")
            with pytest.raises(ConnectionResetError):
                await reader.readline()
        await backend.start()
        async with connected() as streams:
            await echo(*streams)

    run(test)


def test_a_host_that_stalls_accepts_and_answers_later() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        async with connected() as (reader, writer):
            await echo(reader, writer)
            backend.host.stall()
            writer.write(b"one\n")
            async with connected() as (other, other_writer):
                other_writer.write(b"two\n")
                await asyncio.sleep(10.0)
                assert backend.lines == [b"hello\n"]
                backend.host.resume()
                assert await reader.readline() == b"one\n"
                assert await other.readline() == b"two\n"
            backend.host.stall()
            async with connected() as (other, _):
                backend.host.kill()
                assert await other.read() == b""

    run(test)


# The run


def test_a_seed_makes_the_same_run_again() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        net.link(net.local, backend.host).segments = (1, 3)
        net.link(net.local, backend.host).loss = 0.02
        for _ in range(20):
            async with connected() as streams:
                with contextlib.suppress(OSError, AssertionError):
                    await echo(*streams)

    def story(seed: int) -> str:
        with SimNetwork(seed) as net:
            backend = Backend(net)

            async def main() -> None:
                await backend.start()
                await test(net, backend)

            net.run(main())
            return net.story()

    assert story(1) == story(1)
    assert story(1) != story(2)


def test_a_run_that_fails_says_what_happened() -> None:
    async def test(net: SimNetwork, backend: Backend) -> None:
        async with connected() as streams:
            await echo(*streams)
            raise ValueError("the test fails")

    with pytest.raises(ValueError, match="the test fails") as caught:
        run(test)
    head, story = caught.value.__notes__
    assert "seed 5" in head
    assert "localhost:40001 > backend:7  sent 6 bytes b'hello\\n'" in story
    assert "backend:7 > localhost:40001  arrived 6 bytes b'hello\\n'" in story


def test_what_runs_goes_on_while_time_is_let_pass() -> None:
    with SimNetwork() as net:
        backend = Backend(net)
        net.run(backend.start())

        async def say() -> None:
            async with connected() as streams:
                await asyncio.sleep(5.0)
                await echo(*streams)

        net.loop.create_task(say())
        net.advance(4.0)
        assert backend.lines == []
        net.advance(2.0)
        assert backend.lines == [b"hello\n"]
        assert isinstance(backend.host, SimHost)
