"""`sipwright rpc proxy`: stands between clients and a service and records what they say, or plays the service.

Bytes are passed on as they come, also those that are no messages; what is recorded is a copy that is taken apart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import sys
from pathlib import Path
from typing import Any

from sipwright.cli.rpc.options import (
    add_client_tls_arguments,
    add_framing_argument,
    client_tls,
    read_address,
    read_listen_address,
)
from sipwright.cli.rpc.recording import Recorder, Side, Tap, read_recording
from sipwright.cli.rpc.replay import Replay
from sipwright.cli.rpc.streams import listening, open_stream, stop_signals
from sipwright.errors import ArgumentError, CommandError
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.framing import find_framing
from sipwright.jsonrpc.sockets import reason
from sipwright.jsonrpc.tls import Tls

READ_SIZE = 1 << 16
LOST = (OSError, ssl.SSLError, EOFError)


def add_arguments(actions: Any) -> None:
    """Declare the arguments of `rpc proxy`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "proxy",
        help="record what clients and a service say, or answer from such a recording",
        description="Stand between clients and a service, pass on what they say and record it to a file; or answer "
        "clients from such a file, as the service did. Runs until SIGINT or SIGTERM.",
    )
    parser.add_argument(
        "--listen", required=True, metavar="ADDRESS", help="where clients connect to; port 0: a free one"
    )
    parser.add_argument("--to", metavar="ADDRESS", help="the service")
    parser.add_argument("--record", metavar="FILE", help="write what is said to this file")
    parser.add_argument("--replay", metavar="FILE", help="answer from this file, in the service's place")
    parser.add_argument("--delays", action="store_true", help="with --replay: answer as late as the service did")
    add_framing_argument(parser, default=None)
    listen = parser.add_argument_group("TLS of --listen")
    listen.add_argument("--listen-cert", metavar="FILE", help="the certificate")
    listen.add_argument("--listen-key", metavar="FILE", help="its key, if it is not in the same file")
    listen.add_argument("--listen-cafile", metavar="FILE", help="whose signature certificates of clients have to have")
    add_client_tls_arguments(parser)
    parser.set_defaults(action=proxy)


async def proxy(options: argparse.Namespace) -> int:
    """Record or replay until a signal comes."""
    listen = read_listen_address(options.listen)
    if options.replay is not None:
        if options.to is not None or options.record is not None:
            raise CommandError("--replay plays the service itself: it has no --to and no --record")
        return await _replay(options, listen)
    if options.to is None or options.record is None:
        raise CommandError("name either --to ADDRESS and --record FILE, or --replay FILE")
    if options.delays:
        raise CommandError("--delays is for --replay")
    return await _record(options, listen)


async def _replay(options: argparse.Namespace, listen: ServerAddress) -> int:
    framing, recorded = read_recording(Path(options.replay))
    replay = Replay(recorded, framing if options.framing is None else find_framing(options.framing), options.delays)
    if not replay.calls:
        raise CommandError(f"{options.replay} has no calls in it")
    with stop_signals() as stopped:
        async with listening(listen, _listen_tls(options), replay.serve) as addresses:
            calls = f"{replay.calls} recorded calls of {', '.join(replay.methods)}"
            print(f"ready on {_list(addresses)}: {calls}", file=sys.stderr, flush=True)
            await stopped.wait()
    print(replay.report(), file=sys.stderr)
    return 1 if replay.unmatched else 0


async def _record(options: argparse.Namespace, listen: ServerAddress) -> int:
    to = read_address(options.to)
    if to.kind == "srv":
        raise CommandError(f"'{to}' is a name of DNS: --to needs one service")
    tls, listen_tls = client_tls(options), _listen_tls(options)
    try:
        file = Path(options.record).open("wb", buffering=0)  # noqa: ASYNC230, SIM115  before anything runs; see below
    except OSError as error:
        raise CommandError(f"cannot write {options.record}: {error.strerror}") from None
    with file, stop_signals() as stopped:
        recorder = Recorder(file, find_framing(options.framing or "netstring"), str(to))
        middle = Middle(to, tls, recorder)
        async with listening(listen, listen_tls, middle.serve) as addresses:
            print(f"ready on {_list(addresses)}: to {to}, recorded to {options.record}", file=sys.stderr, flush=True)
            await stopped.wait()
    wrong = f", {recorder.faults} of them wrong" if recorder.faults else ""
    print(f"recorded {recorder.messages} messages of {middle.connections} connections{wrong}", file=sys.stderr)
    return 0


def _listen_tls(options: argparse.Namespace) -> Tls | None:
    if not (options.listen_cert or options.listen_key or options.listen_cafile):
        return None
    try:
        return Tls(certfile=options.listen_cert, keyfile=options.listen_key, cafile=options.listen_cafile)
    except ArgumentError as error:
        raise CommandError(f"TLS: {error.message}") from None


class Middle:
    """Passes on what clients and the service say. `connections` counts the clients."""

    def __init__(self, to: ServerAddress, tls: Tls | None, recorder: Recorder) -> None:
        self.connections = 0
        self._to = to
        self._tls = tls
        self._recorder = recorder

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client to its end."""
        self.connections += 1
        number, recorder = self.connections, self._recorder
        recorder.event(number, "opened", peer=_peer(writer))
        try:
            service_reader, service_writer = await open_stream(self._to, self._tls)
        except LOST as error:
            print(f"cannot connect to {self._to}: {reason(error)}", file=sys.stderr, flush=True)
            recorder.event(number, "failed", reason=reason(error))
            writer.transport.abort()
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        try:
            await asyncio.gather(
                self._pass_on(number, "client", reader, service_writer),
                self._pass_on(number, "server", service_reader, writer),
            )
        finally:
            # Both have ended, or one is lost and with it the other, or the proxy stops.
            for one in (writer, service_writer):
                with contextlib.suppress(*LOST):
                    one.close()

    async def _pass_on(
        self, number: int, side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        tap = Tap(self._recorder, number, side)
        try:
            while data := await reader.read(READ_SIZE):
                tap.feed(data)
                writer.write(data)
                # The other end reads slowly: so do we.
                await writer.drain()
        except LOST as error:
            tap.end()
            self._recorder.event(number, "closed", by=side, reason=reason(error))
            writer.transport.abort()
            return
        tap.end()
        self._recorder.event(number, "closed", by=side)
        # What the other side still has to say is passed on; TLS cannot be closed in one direction only.
        if writer.can_write_eof():
            with contextlib.suppress(*LOST):
                writer.write_eof()
        else:
            writer.close()


def _list(addresses: list[ServerAddress]) -> str:
    return ", ".join(map(str, addresses))


def _peer(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    if isinstance(name, tuple):
        return str(ServerAddress(name[0], name[1]))
    return "a Unix socket"
