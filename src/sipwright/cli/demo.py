"""`sipwright demo`: the main job, for real and in one terminal.

Two services in processes of their own, a server with the script of the jsonrpc module's manual, and SIP requests over
UDP; what the SIP client, the server and the services saw of each request is drawn as a ladder. Nothing is played back:
a drawing shows what has just happened, with its times.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sipwright.cli.ladder import ASCII, Arrow, Colour, Line, Note, Style, draw
from sipwright.cli.sipclient import Outgoing, SipClient
from sipwright.engine.listen import open_sockets
from sipwright.engine.worker import Worker
from sipwright.errors import CommandError
from sipwright.script.loader import load_script
from sipwright.script.settings import ListenAddress

SCRIPT = Path(__file__).parent / "manual.cfg"

# The parties of a ladder; the second service is only drawn where it has a part.
CLIENT, SIPWRIGHT, SERVICE, SECOND = range(4)
PARTIES = ("SIP client", "sipwright", "service", "second service")

START_TIMEOUT = 5.0
REPLY_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Act:
    """One request of the demonstration: what the first service does with it, and how it has to end."""

    title: str
    method: str
    behaviour: str
    status: int
    is_killed: bool = False


ACTS = (
    Act("The service answers.", "OPTIONS", "answer", 200),
    Act("The service answers with an error: the script goes on in its error route.", "MESSAGE", "error", 404),
    Act("The service does not answer: after 500 ms the script goes on without it.", "INVITE", "silent", 504),
    Act("The service is killed while it is being asked: the second one is asked.", "REGISTER", "silent", 200, True),
)


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Declare nothing: it runs as it is."""


def main(_options: argparse.Namespace) -> int:
    """Show everything; 0 when each request ended as it has to."""
    try:
        return asyncio.run(_show(_style()))
    except TimeoutError:
        raise CommandError("the demonstration gave up: its services did not answer for seconds") from None


def _style() -> Style:
    try:
        "│┆─▶◀┼…".encode(sys.stdout.encoding or "ascii")
        style = Style()
    except UnicodeEncodeError:
        style = ASCII
    columns = shutil.get_terminal_size((97, 24)).columns
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return dataclasses.replace(style, width=max(80, min(100, columns - 1)), colours=colours)


async def _show(style: Style) -> int:
    recording = Recording()
    async with AsyncExitStack() as stack:
        services = [Service(party, recording) for party in (SERVICE, SECOND)]
        for service in services:
            stack.callback(service.kill)
        await asyncio.gather(*(service.start() for service in services))
        worker = _worker(services, recording)
        stack.push_async_callback(worker.stop, 0.0)
        async with asyncio.timeout(START_TIMEOUT):
            for _ in services:
                await recording.connections.acquire()
        port = worker.sockets[0].address[1]
        client = SipClient(("127.0.0.1", port), timeout=REPLY_TIMEOUT, watch=recording.watch)
        stack.callback(client.close)
        _print_introduction(services, port)
        good = True
        for number, act in enumerate(ACTS, 1):
            print(f"\n{number}. {act.title}\n", flush=True)
            status = await _play(act, services, client, port, recording)
            good = good and status == act.status
            parties = PARTIES if act.is_killed else PARTIES[:SECOND]
            print("\n".join(draw(parties, recording.take(), style)), flush=True)
        _print_end(worker.services.statistics())
    return 0 if good else 1


async def _play(act: Act, services: list[Service], client: SipClient, port: int, recording: Recording) -> int:
    await services[0].behave(act.behaviour)
    recording.when_asked = services[0].kill if act.is_killed else None
    uri = f"sip:1234@127.0.0.1:{port}"
    contact = [f"Contact: <sip:demo@{client.sent_by}>"]
    outgoing = Outgoing(act.method, uri, f"<sip:demo@{client.sent_by}>;tag=demo", f"<{uri}>", contact)
    final = await client.exchange(outgoing, lambda _reply: None)
    for service in services:
        # It obeys after what it has reported before.
        await service.behave("answer")
    return final.status


def _worker(services: list[Service], recording: Recording) -> Worker:
    servers = f"127.0.0.1:{services[0].port},2 127.0.0.1:{services[1].port},1"
    script = load_script(SCRIPT, {"SERVERS": f'"{servers}"'})
    log = logging.getLogger("sipwright")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(recording)
    listen = [ListenAddress("udp", "127.0.0.1", 0)]
    (sockets,) = open_sockets(listen)
    worker = Worker(script, listen, sockets, trace=recording.trace)
    worker.start()
    worker.read()
    return worker


class Recording(logging.Handler):
    """What the parties saw, in their own words; `take()` gives it as the steps of a ladder."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[Arrow | Note] = []
        # One for each service that sipwright has connected to.
        self.connections = asyncio.Semaphore(0)
        # Called when a service was asked for a user.
        self.when_asked: Callable[[], object] | None = None

    def take(self) -> list[Arrow | Note]:
        """Return the steps since the last time, in order, in milliseconds from the first."""
        steps, self._steps = sorted(self._steps, key=lambda step: step.ms), []
        begin = steps[0].ms if steps else 0.0
        for step in steps:
            step.ms -= begin
        return steps

    def arrow(self, source: int, target: int, text: str, colour: Colour, at: float | None = None) -> None:
        """Take a message, sent now or at a time in seconds."""
        self._steps.append(Arrow(1000 * (time.monotonic() if at is None else at), source, target, text, colour))

    def note(self, party: int, text: str, line: Line | None = None, colour: Colour = "note") -> None:
        """Take what happened at a party now."""
        self._steps.append(Note(1000 * time.monotonic(), party, text, line, colour))

    def watch(self, direction: str, data: bytes) -> None:
        """Take a datagram of the SIP client."""
        line = data.partition(b"\r\n")[0].decode()
        if direction == "send":
            self.arrow(CLIENT, SIPWRIGHT, line.partition(" ")[0], "sip")
        else:
            self.arrow(SIPWRIGHT, CLIENT, line.removeprefix("SIP/2.0 "), "sip")

    def trace(self, event: str, _context: object, detail: dict[str, Any]) -> None:
        """Take a trace event of the server."""
        if event == "receive" and detail["request"].method != "ACK":
            self.note(SIPWRIGHT, "runs request_route")
        elif event == "suspend":
            self.note(SIPWRIGHT, "suspended: the script has ended", "dashed")
        elif event == "resume":
            self.note(SIPWRIGHT, f"resumed in route[{detail['where']}]", "solid")

    def emit(self, record: logging.LogRecord) -> None:
        """Take a log line; those of the script are shown."""
        message = record.getMessage()
        if message.startswith("<script>: "):
            self.note(SIPWRIGHT, f"xlog {message.removeprefix('<script>: ')}", colour="plain")
        elif message.startswith("connected to JSON-RPC server"):
            self.connections.release()

    def report(self, party: int, at: float, event: str, detail: str) -> None:
        """Take what a service reports."""
        if event == "answer":
            self.arrow(party, SIPWRIGHT, detail, "rpc", at)
            return
        self.arrow(SIPWRIGHT, party, detail, "rpc", at)
        if detail.startswith("get_user") and self.when_asked is not None:
            self.when_asked()
            self.when_asked = None
            self.note(party, "killed (SIGKILL)", "gone", "bad")


class Service:
    """A service as a process of its own, which reports to the recording."""

    def __init__(self, party: int, recording: Recording) -> None:
        self._party = party
        self._recording = recording
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._obeys = asyncio.Event()
        self.port = 0

    async def start(self) -> None:
        """Start it and wait until it listens."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sipwright.cli.demo_service", stdin=pipe, stdout=pipe
        )
        try:
            async with asyncio.timeout(START_TIMEOUT):
                _, _, detail = await self._read()
        except (TimeoutError, msgspec.DecodeError):
            raise CommandError("the service of the demonstration did not start") from None
        self.port = int(detail)
        self._reader = asyncio.get_running_loop().create_task(self._follow())

    async def behave(self, behaviour: str) -> None:
        """Tell it what to do with calls from now on, and wait until it obeys; nothing when it has ended."""
        assert self._process is not None
        assert self._process.stdin is not None
        if self._reader is None or self._reader.done():
            return
        self._obeys.clear()
        self._process.stdin.write(f"{behaviour}\n".encode())
        async with asyncio.timeout(START_TIMEOUT):
            await self._obeys.wait()

    def kill(self) -> None:
        """Kill it, as the system does: it has no time for anything."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _follow(self) -> None:
        try:
            while True:
                at, event, detail = await self._read()
                if event == "obey":
                    self._obeys.set()
                else:
                    self._recording.report(self._party, at, event, detail)
        except msgspec.DecodeError:
            # An empty or half a line: the process has ended.
            self._obeys.set()

    async def _read(self) -> tuple[float, str, str]:
        assert self._process is not None
        assert self._process.stdout is not None
        at, event, detail = msgspec.json.decode(await self._process.stdout.readline())
        return at, event, detail


def _print_introduction(services: list[Service], port: int) -> None:
    first, second = services
    print(
        f"sipwright listens on udp:127.0.0.1:{port} and runs the script below. Its JSON-RPC services, each a process,\n"
        f"listen on 127.0.0.1:{first.port} and, for when the first one is gone, 127.0.0.1:{second.port}.\n"
    )
    for number, line in enumerate(SCRIPT.read_text().splitlines(), 1):
        print(f"{number:4}  {line}".rstrip())


def _print_end(statistics: dict[str, int]) -> None:
    suspended, resumed = statistics["tm:suspended_total"], statistics["tm:resumed_total"]
    example = Path("examples/manual.cfg")
    script = example if example.exists() else SCRIPT
    print(
        f"\n{suspended} transactions were suspended and {resumed} resumed, {statistics['tm:suspended']} still wait. "
        "While one waits, nothing is held\nfor it but a table entry: the server goes on with other requests.\n\n"
        "Next, in three terminals (the service answers each question with the question's own parameters):\n\n"
        "  sipwright rpc serve --echo --listen 127.0.0.1:9999\n"
        f"  sipwright run -f {script} -A 'SERVERS=\"127.0.0.1:9999,1\"' -l udp:127.0.0.1:5060\n"
        "  sipwright send OPTIONS sip:1234@127.0.0.1:5060\n"
    )
