"""What tests of code without an event loop need: servers of ours in threads, and bounds on what may take how long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from sipwright.jsonrpc import Server


class InThread:
    """A `Server` that listens on some addresses, in an event loop in a thread of its own."""

    def __init__(self, server: Server, *addresses: str) -> None:
        self.server = server
        self._addresses = addresses or ("tcp:127.0.0.1:0",)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        for address in self._addresses:
            self.run(self.server.listen(address))
        return self

    def __exit__(self, *_error: object) -> None:
        self.run(self.server.close(0.1))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def address(self) -> str:
        return str(self.server.addresses[0])

    def run(self, awaitable: Awaitable[Any], timeout: float = 5.0) -> Any:
        async def wait() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result(timeout)


def run_threads(count: int, work: Callable[[int], object], timeout: float = 30.0) -> None:
    """Run `work(index)` in so many threads; raise what one of them raises, or AssertionError when they take longer."""
    faults: list[BaseException] = []

    def run(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if faults:
        raise faults[0]
    assert not any(thread.is_alive() for thread in threads), "threads hang"


@contextmanager
def took(at_least: float, at_most: float) -> Iterator[None]:
    """Hold a block to a time in seconds."""
    start = time.monotonic()
    yield
    seconds = time.monotonic() - start
    assert at_least <= seconds <= at_most, f"took {seconds:.3f} s"


def wait_until(condition: Callable[[], object], timeout: float = 5.0) -> None:
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "it does not come true"
        time.sleep(0.005)


def balanced(counters: dict[str, int]) -> bool:
    ends = ("results", "errors", "timeouts", "failures", "cancelled", "pending")
    return counters["calls"] == sum(counters[name] for name in ends)
