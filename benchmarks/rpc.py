"""Calls per CPU second of JSON-RPC clients: sipwright beside aiorpcX and pjrpc.

Each client runs in a process of its own, with the same number of calls outstanding, against the same echo service in
another process, which speaks the framing that the client speaks: netstrings for sipwright, lines for aiorpcX,
HTTP/1.1 with keep-alive for pjrpc (its aiohttp client; it has no client over plain TCP). Counted is the CPU time of
the client's process, user and system, so a slow service does not count against a client.

    python benchmarks/rpc.py [--seconds 4] [--outstanding 64]

Needs the extra `bench`. Exit status 1 when sipwright does not make five times the calls per CPU second of both.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from sipwright import netstring
from sipwright.jsonrpc import Client, PendingCall

GOAL = 5.0
ROUNDS = 8
WARM_UP = 0.3
PARAMS = {"id": 1234, "name": "Petros"}
CLIENTS = {
    "sipwright": ("netstring", "sipwright: await client.call()"),
    "sipwright-submit": ("netstring", "sipwright: callbacks (as the SIP router calls)"),
    "aiorpcX": ("line", "aiorpcX over TCP, lines"),
    "pjrpc": ("http", "pjrpc over HTTP, aiohttp"),
}

# The service


class Request(msgspec.Struct):
    """What the service reads of a request."""

    id: msgspec.Raw
    params: msgspec.Raw


decode_request = msgspec.json.Decoder(Request).decode


def answer(payload: bytes) -> bytes:
    """Return the response whose result is the request's params."""
    request = decode_request(payload)
    return b'{"jsonrpc":"2.0","result":%b,"id":%b}' % (bytes(request.params), bytes(request.id))


class Echo(asyncio.Protocol):
    """A connection of the service."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""
        self.decoder = netstring.Decoder()


class NetstringEcho(Echo):
    """Framed by netstrings."""

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self.transport.write(b"".join(netstring.encode(answer(one)) for one in self.decoder.feed(data)))


class LineEcho(Echo):
    """One message per line."""

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        self.transport.write(b"".join(answer(line) + b"\n" for line in lines))


class HttpEcho(Echo):
    """HTTP/1.1, one request at a time on each connection."""

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self.buffer = body[length:]
            text = answer(body[:length])
            fields = b"Content-Type: application/json\r\nContent-Length: %d" % len(text)
            self.transport.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (fields, text))


SERVICES: dict[str, type[Echo]] = {"netstring": NetstringEcho, "line": LineEcho, "http": HttpEcho}


async def run_service(framing: str) -> None:
    """Serve until killed, after printing the port."""
    server = await asyncio.get_running_loop().create_server(SERVICES[framing], "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# The clients


class Meter:
    """Counts calls, and measures the CPU time of this process after a warm-up."""

    def __init__(self, seconds: float) -> None:
        self.calls = 0
        self.warm = time.monotonic() + WARM_UP
        self.end = self.warm + seconds
        self.started: tuple[int, float] | None = None

    def count(self) -> bool:
        """Count one call; False when the time is over."""
        self.calls += 1
        if self.calls & 63:
            return True
        now = time.monotonic()
        if self.started is None and now >= self.warm:
            self.started = self.calls, cpu_seconds()
        return now < self.end

    def print(self) -> None:
        """Print the numbers for the parent process."""
        assert self.started is not None, "the client was too slow to be measured"
        calls, cpu = self.calls - self.started[0], cpu_seconds() - self.started[1]
        print(json.dumps({"calls": calls, "cpu": cpu}))


def cpu_seconds() -> float:
    """Return the CPU time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def keep_calling(meter: Meter, outstanding: int, call: Callable[[], Awaitable[Any]]) -> None:
    """Keep so many tasks calling until the time is over."""

    async def one_after_another() -> None:
        while meter.count():
            assert await call() == PARAMS

    await asyncio.gather(*(one_after_another() for _ in range(outstanding)))


async def call_sipwright(port: int, outstanding: int, meter: Meter) -> None:
    """Run `await Client.call`."""
    async with Client(f"127.0.0.1:{port},1") as client:
        await keep_calling(meter, outstanding, lambda: client.call("echo", PARAMS))


async def submit_sipwright(port: int, outstanding: int, meter: Meter) -> None:
    """Run `Client.submit`."""
    params = msgspec.json.encode(PARAMS)
    over = asyncio.Event()

    def done(_argument: None, call: PendingCall) -> None:
        if over.is_set():
            return
        assert call.result == params
        if meter.count():
            client.submit("echo", params, done, timeout=0.5)
        else:
            over.set()

    async with Client(f"127.0.0.1:{port},1") as client:
        await client.connected(2)
        for _ in range(outstanding):
            client.submit("echo", params, done, timeout=0.5)
        await over.wait()


async def call_aiorpcx(port: int, outstanding: int, meter: Meter) -> None:
    """Run aiorpcX's session."""
    aiorpcx: Any = importlib.import_module("aiorpcx")
    async with aiorpcx.connect_rs("127.0.0.1", port) as session:
        await keep_calling(meter, outstanding, lambda: session.send_request("echo", PARAMS))


async def call_pjrpc(port: int, outstanding: int, meter: Meter) -> None:
    """Run pjrpc's aiohttp client."""
    backend: Any = importlib.import_module("pjrpc.client.backend.aiohttp")
    async with backend.Client(f"http://127.0.0.1:{port}/") as client:
        await keep_calling(meter, outstanding, lambda: client("echo", **PARAMS))


RUNS: dict[str, Callable[[int, int, Meter], Awaitable[None]]] = {
    "sipwright": call_sipwright,
    "sipwright-submit": submit_sipwright,
    "aiorpcX": call_aiorpcx,
    "pjrpc": call_pjrpc,
}


async def run_client(name: str, port: int, outstanding: int, seconds: float) -> None:
    """Run one client in this process and print its numbers."""
    meter = Meter(seconds)
    gc.freeze()
    await RUNS[name](port, outstanding, meter)
    meter.print()


# The comparison


def measure(name: str, outstanding: int, seconds: float) -> tuple[int, float]:
    """Return the calls that a client made and the CPU seconds that its process took."""
    program = [sys.executable, __file__]
    with subprocess.Popen([*program, "--service", CLIENTS[name][0]], stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            port = service.stdout.readline().strip()
            options = ["--client", name, "--port", port, "--outstanding", str(outstanding), "--seconds", str(seconds)]
            output = subprocess.run([*program, *options], stdout=subprocess.PIPE, text=True, check=True).stdout
        finally:
            service.terminate()
    result = json.loads(output)
    return result["calls"], result["cpu"]


def compare(outstanding: int, seconds: float) -> bool:
    """Measure all clients by turns, print the table, and return whether the goal is met."""
    print(f"{outstanding} calls outstanding; CPU time of the client's process; one echo service in another process;")
    print(f"each client {ROUNDS} times {seconds / ROUNDS:g} s, by turns; its best time counts, machines are shared\n")
    rates: dict[str, list[float]] = {name: [] for name in CLIENTS}
    for _ in range(ROUNDS):
        for name, rounds in rates.items():
            calls, cpu = measure(name, outstanding, seconds / ROUNDS)
            rounds.append(calls / cpu)
    print(f"{'client':<48}{'µs CPU/call':>12}{'(median)':>10}{'calls/CPU s':>13}{'sipwright is':>14}")
    ours = max(rates["sipwright"])
    is_met = True
    for name, rounds in rates.items():
        best, median = max(rounds), statistics.median(rounds)
        ratio = f"{ours / best:.1f}x" if not name.startswith("sipwright") else ""
        is_met = is_met and (not ratio or ours / best >= GOAL)
        print(f"{CLIENTS[name][1]:<48}{1e6 / best:>12.1f}{1e6 / median:>10.1f}{best:>13,.0f}{ratio:>14}")
    print(f"\ngoal, at least {GOAL:g}x both with await client.call(): {'met' if is_met else 'MISSED'}")
    return is_met


def main() -> int:
    """Run the comparison, or one of its processes; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each client is measured")
    parser.add_argument("--outstanding", type=int, default=64, help="calls in flight")
    parser.add_argument("--service", choices=SERVICES, help=argparse.SUPPRESS)
    parser.add_argument("--client", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.service:
        asyncio.run(run_service(options.service))
    elif options.client:
        asyncio.run(run_client(options.client, options.port, options.outstanding, options.seconds))
    else:
        return 0 if compare(options.outstanding, options.seconds) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
