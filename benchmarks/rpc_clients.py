"""The Python clients of `rpc.py`, each in a process of its own: how each calls, and what is measured of it.

First its calls are counted, and the CPU time of the process, with nothing else done; then, in a second run of the same
kind, how long each call took.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec

import procfs
from sipwright.jsonrpc import Client, PendingCall

HOST = "127.0.0.1"
PARAMS = {"id": 1234, "name": "Petros"}
ENCODED = msgspec.json.encode(PARAMS)
WARM_UP = 0.3
# What a peer needs for its answers when all of them are held back at first.
TIMEOUT = 100.0

Call = Callable[[], Awaitable[Any]]


class Meter:
    """Counts calls until a time is over, with the CPU time after a warm-up, or with how long each took."""

    def __init__(self, seconds: float, warm_up: float = WARM_UP) -> None:
        self.calls = 0
        self.times: list[float] = []
        self.warm = time.monotonic() + warm_up
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

    def result(self) -> dict[str, float]:
        """Return calls and CPU time since the warm-up."""
        assert self.started is not None, "the client was too slow to be measured"
        return {"calls": self.calls - self.started[0], "cpu": cpu_seconds() - self.started[1]}


def percentiles(times: list[float]) -> dict[str, float]:
    """Return the times (seconds) within which so many percent of the calls ended."""
    times.sort()
    return {f"p{percent:g}": times[int(len(times) * percent / 100)] for percent in (50, 99, 99.9)}


def cpu_seconds() -> float:
    """Return the CPU time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# How each client calls


@contextlib.asynccontextmanager
async def sipwright(port: int, in_flight: int) -> AsyncIterator[Call]:
    """`await client.call()`."""
    async with Client(f"{HOST}:{port},1", max_pending=in_flight, timeout=TIMEOUT) as client:
        await client.connected(2)
        yield lambda: client.call("echo", PARAMS)


@contextlib.asynccontextmanager
async def aiorpcx(port: int, _in_flight: int) -> AsyncIterator[Call]:
    """The session of aiorpcX, whose default framing is lines."""
    module: Any = importlib.import_module("aiorpcx")
    async with module.connect_rs(HOST, port) as session:
        yield lambda: session.send_request("echo", PARAMS)


@contextlib.asynccontextmanager
async def pjrpc(port: int, _in_flight: int) -> AsyncIterator[Call]:
    """The aiohttp client of pjrpc; it has none over plain TCP."""
    backend: Any = importlib.import_module("pjrpc.client.backend.aiohttp")
    async with backend.Client(f"http://{HOST}:{port}/") as client:
        yield lambda: client("echo", **PARAMS)


@contextlib.contextmanager
def sipwright_sync(port: int) -> Iterator[Callable[[], Any]]:
    """Our client without asyncio, in one thread."""
    module: Any = importlib.import_module("sipwright.jsonrpc")
    with module.SyncClient(f"{HOST}:{port},1") as client:
        yield lambda: client.call("echo", PARAMS)


@contextlib.contextmanager
def pelix(port: int) -> Iterator[Callable[[], Any]]:
    """The server proxy of jsonrpclib-pelix, over HTTP with keep-alive, in one thread."""
    module: Any = importlib.import_module("jsonrpclib")
    proxy = module.ServerProxy(f"http://{HOST}:{port}/")
    yield lambda: proxy.echo(**PARAMS)
    proxy("close")()


ASYNC: dict[str, Callable[[int, int], contextlib.AbstractAsyncContextManager[Call]]] = {
    "sipwright": sipwright,
    "aiorpcX": aiorpcx,
    "pjrpc": pjrpc,
}
SYNC: dict[str, Callable[[int], contextlib.AbstractContextManager[Callable[[], Any]]]] = {
    "sipwright-sync": sipwright_sync,
    "jsonrpclib-pelix": pelix,
}
SUBMIT = "sipwright-submit"


# Load


def run_load(name: str, port: int, outstanding: int, seconds: float, latency_seconds: float) -> dict[str, float]:
    """Run one client and return its numbers."""
    gc.freeze()
    if name in SYNC:
        with SYNC[name](port) as call:
            return _one_at_a_time(call, seconds, latency_seconds)
    if name == SUBMIT:
        return asyncio.run(_submit(port, outstanding, seconds, latency_seconds))
    return asyncio.run(_await(ASYNC[name], port, outstanding, seconds, latency_seconds))


async def _await(client: Any, port: int, outstanding: int, seconds: float, latency_seconds: float) -> dict[str, float]:
    async with client(port, 10_000) as call:

        async def counted() -> None:
            while meter.count():
                assert await call() == PARAMS

        async def timed() -> None:
            while meter.count():
                began = time.perf_counter()
                await call()
                meter.times.append(time.perf_counter() - began)

        meter = Meter(seconds)
        await asyncio.gather(*(counted() for _ in range(outstanding)))
        result = meter.result()
        meter = Meter(latency_seconds, 0.0)
        await asyncio.gather(*(timed() for _ in range(outstanding)))
        return {**result, **percentiles(meter.times)}


async def _submit(port: int, outstanding: int, seconds: float, latency_seconds: float) -> dict[str, float]:
    """Call with callbacks, as the SIP router does."""
    async with Client(f"{HOST}:{port},1", timeout=TIMEOUT) as client:
        await client.connected(2)
        left = outstanding
        over = asyncio.Event()

        def counted(_argument: None, call: PendingCall) -> None:
            nonlocal left
            assert call.result == ENCODED
            if meter.count():
                client.submit("echo", ENCODED, counted)
            else:
                left -= 1
                if not left:
                    over.set()

        def timed(began: float, _call: PendingCall) -> None:
            now = time.perf_counter()
            meter.times.append(now - began)
            if meter.count():
                client.submit("echo", ENCODED, timed, now)
            else:
                over.set()

        meter = Meter(seconds)
        for _ in range(outstanding):
            client.submit("echo", ENCODED, counted)
        await over.wait()
        result = meter.result()
        over.clear()
        meter = Meter(latency_seconds, 0.0)
        for _ in range(outstanding):
            client.submit("echo", ENCODED, timed, time.perf_counter())
        await over.wait()
        return {**result, **percentiles(meter.times)}


def _one_at_a_time(call: Callable[[], Any], seconds: float, latency_seconds: float) -> dict[str, float]:
    meter = Meter(seconds)
    while meter.count():
        assert call() == PARAMS
    result = meter.result()
    meter = Meter(latency_seconds, 0.0)
    while meter.count():
        began = time.perf_counter()
        call()
        meter.times.append(time.perf_counter() - began)
    return {**result, **percentiles(meter.times)}


# Many calls in flight


def run_in_flight(name: str, port: int, count: int) -> dict[str, float]:
    """Make so many calls at once, of which none is answered before all have come; return what each takes of memory."""
    gc.freeze()
    return asyncio.run(_submit_all(port, count) if name == SUBMIT else _await_all(ASYNC[name], port, count))


class InFlight:
    """What is measured while all calls are pending: when the first answer comes."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.answered = 0
        self.most = 0
        self.before = procfs.memory(os.getpid()).pss
        self.cpu = cpu_seconds()
        self.began = time.monotonic()

    def answer(self) -> None:
        """Count one answer."""
        if not self.answered:
            self.most = procfs.memory(os.getpid()).pss
        self.answered += 1

    def result(self) -> dict[str, float]:
        """Return the numbers."""
        return {
            "answered": self.answered,
            "bytes": (self.most - self.before) * 1024 / self.count,
            "seconds": time.monotonic() - self.began,
            "cpu": cpu_seconds() - self.cpu,
        }


async def _await_all(client: Any, port: int, count: int) -> dict[str, float]:
    async with client(port, count) as call:

        async def one() -> None:
            assert await call() == PARAMS
            in_flight.answer()

        in_flight = InFlight(count)
        tasks = [asyncio.create_task(one()) for _ in range(count)]
        await asyncio.wait(tasks, timeout=TIMEOUT)
        return in_flight.result()


async def _submit_all(port: int, count: int) -> dict[str, float]:
    async with Client(f"{HOST}:{port},1", max_pending=count, timeout=TIMEOUT) as client:
        await client.connected(2)
        over = asyncio.Event()

        def done(_argument: None, call: PendingCall) -> None:
            if call.result == ENCODED:
                in_flight.answer()
            if not client.pending:
                over.set()

        in_flight = InFlight(count)
        for _ in range(count):
            client.submit("echo", ENCODED, done)
        await over.wait()
        return in_flight.result()


def print_result(result: dict[str, float]) -> None:
    """Print the numbers for the parent process."""
    print(json.dumps(result))
