"""`sipwright rpc bench`: calls one method of a service over and over, and tells how many calls and how long they took.

Without `--rate`, each call that ends is followed by the next one, so a slow service is asked less (a closed loop). With
it, calls are due at fixed times, and a call counts from the time when it was due, also when it could only be made
later: what a service held up is not hidden by calls that were not made.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import Counter
from typing import Any, TextIO

from sipwright.cli.rpc.call import add_call_arguments, add_timeout_argument, read_timeout
from sipwright.cli.rpc.latencies import Latencies
from sipwright.cli.rpc.options import add_client_arguments, connected_client, read_method, read_params
from sipwright.errors import CommandError
from sipwright.jsonrpc.calls import PendingCall
from sipwright.jsonrpc.client import Client

SECONDS = 5.0
OUTSTANDING = 64
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
# A call that fails at once shall not be followed by the next at once: nobody is there.
PAUSE = 0.05
MAX_FAULTS = 10
REFRESH = 0.2
BAR = 30


def add_arguments(actions: Any) -> None:
    """Declare the arguments of `rpc bench`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "bench",
        help="call a method over and over, and show calls per second and how long they took",
        description="Call a method over and over, and show calls per second and how long they took. "
        "Exit status 0 when all calls had results.",
    )
    add_call_arguments(parser)
    parser.add_argument("--connections", type=int, default=1, metavar="N", help="connections (default: 1)")
    parser.add_argument(
        "--outstanding",
        type=int,
        default=OUTSTANDING,
        metavar="N",
        help=f"calls in flight on each connection, at most (default: {OUTSTANDING})",
    )
    parser.add_argument("--seconds", type=float, metavar="S", help=f"how long to call (default: {SECONDS:g})")
    parser.add_argument("--calls", type=int, metavar="N", help="how many calls to make")
    parser.add_argument("--rate", type=float, metavar="R", help="calls per second (default: as many as can be)")
    parser.add_argument("--json", action="store_true", help="print the figures as a JSON object")
    add_timeout_argument(parser)
    add_client_arguments(parser)
    parser.set_defaults(action=bench)


async def bench(options: argparse.Namespace) -> int:
    """Run the load and print its figures."""
    method, params, timeout = read_method(options.method), read_params(options.params), read_timeout(options)
    for name in ("connections", "outstanding", "seconds", "calls", "rate"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise CommandError(f"--{name} is a number above 0")
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(options.connections):
            client = connected_client(options, timeout, max_pending=options.outstanding)
            clients.append(await stack.enter_async_context(client))
        seconds = SECONDS if options.seconds is None and options.calls is None else options.seconds
        load = Load(clients, method, params, options.outstanding, seconds, options.calls, options.rate)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, load.stop)
        with progress_bar(load, sys.stderr):
            await load.run()
    figures = {"server": options.server, "method": method, "connections": options.connections, **load.figures()}
    print(json.dumps(figures) if options.json else report(figures))
    return 0 if 0 < load.ended == load.statuses["ok"] else 1


class Load:
    """Calls one method; `seconds`, `calls` and `rate` are None for no limit. `statuses` are those of `PendingCall`."""

    def __init__(
        self,
        clients: list[Client],
        method: str,
        params: bytes | None,
        outstanding: int,
        seconds: float | None,
        calls: int | None,
        rate: float | None,
    ) -> None:
        self.statuses: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.latencies = Latencies()
        self.made = 0
        self.ended = 0
        self.elapsed = 0.0
        self._cpu = 0.0
        self._clients = clients
        self._method = method
        self._params = params
        self._outstanding = outstanding
        self._seconds = float("inf") if seconds is None else seconds
        self._calls = float("inf") if calls is None else calls
        self._rate = rate
        self._began = 0.0
        self._is_stopped = False
        self._all_ended = asyncio.Event()
        self._has_room = asyncio.Event()

    async def run(self) -> None:
        """Make calls until the time is over or all were made; return when each has ended."""
        self._began, cpu = time.perf_counter(), time.process_time()
        loop = asyncio.get_running_loop()
        timer = None if self._seconds == float("inf") else loop.call_later(self._seconds, self.stop)
        if self._rate is None:
            for client in self._clients * self._outstanding:
                self._make(client)
        else:
            await self._make_at(self._rate)
        await self._all_ended.wait()
        self.elapsed, self._cpu = time.perf_counter() - self._began, time.process_time() - cpu
        if timer is not None:
            timer.cancel()

    def stop(self) -> None:
        """Make no more calls; those that were made still end."""
        self._is_stopped = True
        self._has_room.set()
        if self.made == self.ended:
            self._all_ended.set()

    @property
    def progress(self) -> float:
        """How much is done, 0 to 1."""
        return min(1.0, max((time.perf_counter() - self._began) / self._seconds, self.ended / self._calls))

    # A closed loop: each connection has as many calls in flight as it may have.

    def _make(self, client: Client) -> None:
        if self._is_stopped or self.made >= self._calls:
            return
        self.made += 1
        client.submit(self._method, self._params, self._ended, (client, time.perf_counter()))

    def _ended(self, argument: tuple[Client, float], call: PendingCall) -> None:
        client, began = argument
        self._count(call, time.perf_counter() - began)
        if call.status == "failure":
            asyncio.get_running_loop().call_later(PAUSE, self._make, client)
        else:
            self._make(client)
        self._look_for_end()

    # An open loop: calls are due at fixed times.

    async def _make_at(self, rate: float) -> None:
        while not self._is_stopped and self.made < self._calls:
            due = self._began + self.made / rate
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(min(wait, REFRESH))
                continue
            client = self._clients[self.made % len(self._clients)]
            if client.pending >= self._outstanding:
                self._has_room.clear()
                # Woken by each call that ends, and by stop().
                await self._has_room.wait()
                continue
            self.made += 1
            client.submit(self._method, self._params, self._due_ended, due)

    def _due_ended(self, due: float, call: PendingCall) -> None:
        self._count(call, time.perf_counter() - due)
        self._has_room.set()
        self._look_for_end()

    # Both

    def _count(self, call: PendingCall, seconds: float) -> None:
        self.ended += 1
        self.statuses[call.status or ""] += 1
        if call.status == "ok":
            self.latencies.add(seconds)
            return
        fault = call.error.text.decode("utf-8", "replace") if call.error is not None else call.reason or "timeout"
        self.faults[fault if fault in self.faults or len(self.faults) < MAX_FAULTS else "others"] += 1

    def _look_for_end(self) -> None:
        if self.made == self.ended and (self._is_stopped or self.made >= self._calls):
            self._all_ended.set()

    def figures(self) -> dict[str, Any]:
        """Return what is told of the run: times of calls in milliseconds, all others in seconds."""
        times = self.latencies
        return {
            "outstanding": self._outstanding,
            "rate": self._rate,
            "seconds": round(self.elapsed, 3),
            "cpu_seconds": round(self._cpu, 3),
            "calls": self.ended,
            "calls_per_second": round(self.ended / self.elapsed, 1) if self.elapsed else 0.0,
            "results": self.statuses["ok"],
            "errors": self.statuses["error"],
            "timeouts": self.statuses["timeout"],
            "failures": self.statuses["failure"],
            "faults": dict(self.faults.most_common()),
            "latency_ms": {
                "min": _ms(times.lowest if times.count else 0.0),
                "mean": _ms(times.mean),
                **{f"p{percent:g}": _ms(times.percentile(percent)) for percent in PERCENTILES},
                "max": _ms(times.highest),
            },
        }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def report(figures: dict[str, Any]) -> str:
    """Return the figures as a person reads them."""
    rate = f", {figures['rate']:,g} calls a second due" if figures["rate"] else ""
    connections = "1 connection" if figures["connections"] == 1 else f"{figures['connections']} connections"
    lines = [
        f"{figures['method']} at {figures['server']}: {connections}, {figures['outstanding']} calls in flight{rate}",
        "",
        f"  {figures['calls']:,} calls in {figures['seconds']:.2f} s: {figures['calls_per_second']:,.0f} a second",
        f"  {figures['cpu_seconds']:.2f} s CPU of this client",
        "  " + ", ".join(f"{figures[name]:,} {name}" for name in ("results", "errors", "timeouts", "failures")),
    ]
    if figures["results"]:
        lines += ["", "  latency of results", *_table(figures["latency_ms"])]
    if figures["faults"]:
        lines += ["", "  what went wrong", *(f"    {count:>9,}  {text}" for text, count in figures["faults"].items())]
    return "\n".join(lines)


def _table(times: dict[str, float]) -> list[str]:
    return [f"    {name:<6}{value:>10.3f} ms" for name, value in times.items()]


@contextlib.contextmanager
def progress_bar(load: Load, output: TextIO) -> Any:
    """Draw how far the load is, several times a second, if the output is a terminal; leave nothing behind."""
    if not output.isatty():
        yield
        return
    loop = asyncio.get_running_loop()
    timer: asyncio.Handle

    def draw() -> None:
        nonlocal timer
        done = round(load.progress * BAR)
        output.write(f"\r[{'#' * done}{'.' * (BAR - done)}] {load.progress:4.0%}  {load.ended:,} calls\033[K")
        output.flush()
        timer = loop.call_later(REFRESH, draw)

    timer = loop.call_soon(draw)
    try:
        yield
    finally:
        timer.cancel()
        output.write("\r\033[K")
        output.flush()
