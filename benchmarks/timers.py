"""What a timer costs: TimerQueue against the event loop's call_later, and a whole server transaction with its Timer J.

Run: `python benchmarks/timers.py`. Each line is the best of several runs, in CPU microseconds per timer or transaction.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from sipwright.sip.message import Request
from sipwright.timerqueue import TimerQueue
from sipwright.transaction.noninvite_server import NonInviteServerTransaction
from sipwright.transaction.table import TransactionTable
from sipwright.transaction.timers import TimerSettings

ROUNDS = 7
NUMBER = 50_000


def main() -> None:
    """Print all measurements."""
    gc.disable()
    show("TimerQueue: start and end", started_and_ended)
    show("TimerQueue: start and cancel", started_and_cancelled)
    show("loop.call_later: start and end", loop_started_and_ended)
    show("loop.call_later: start and cancel", loop_started_and_cancelled)
    show("non-INVITE server transaction: match, create, respond 200, Timer J, end", transactions)
    show("INVITE server transaction: match, create, respond 486, ACK, Timer I, end", invite_transactions)
    print(
        f"{completed_size():8.0f} bytes  a completed non-INVITE transaction with its timer and its place in the table"
    )


def show(what: str, run: Callable[[], float]) -> None:
    """Print the best of several runs of one measurement."""
    best = min(run() for _ in range(ROUNDS))
    print(f"{best / NUMBER * 1e6:8.2f} us     {what}")


class Clock:
    """A time that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        """Return the time."""
        return self.now


class BenchHost:
    """A host that does as little as a host can."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.queue = TimerQueue(self.clock.time, lambda _when: None)
        self.timers = TimerSettings()
        self.start_timer = self.queue.start
        self.table = TransactionTable()

    def send(self, transaction: Any, data: bytes, /) -> None:
        """Send nothing."""

    def trying(self, _transaction: Any, /) -> bytes:
        """Return a 100 Trying."""
        return b"SIP/2.0 100 Trying\r\n\r\n"

    def timeout(self, _transaction: Any, /) -> None:
        """Do nothing."""

    def transport_error(self, _transaction: Any, /) -> None:
        """Do nothing."""

    def ended(self, transaction: Any, /) -> None:
        """Take the transaction out of the table."""
        self.table.remove(transaction)


def nothing(_argument: Any) -> None:
    """Be the callback of a timer."""


def started_and_ended() -> float:
    """Start timers of 32 seconds and end them."""
    clock = Clock()
    queue = TimerQueue(clock.time, nothing)
    start = time.process_time()
    for _ in range(NUMBER):
        queue.start(32.0, nothing)
    clock.now = 33.0
    queue.expire()
    return time.process_time() - start


def started_and_cancelled() -> float:
    """Start timers of half a second and cancel each at once."""
    clock = Clock()
    queue = TimerQueue(clock.time, nothing)
    start = time.process_time()
    for _ in range(NUMBER):
        queue.start(0.5, nothing).cancel()
    clock.now = 1.0
    queue.expire()
    return time.process_time() - start


def loop_started_and_ended() -> float:
    """Start timers with call_later, spread over 10 milliseconds, and let the loop end them."""

    async def run() -> float:
        loop = asyncio.get_running_loop()
        start = time.process_time()
        for index in range(NUMBER):
            loop.call_later(0.01 * index / NUMBER, nothing, None)
        await asyncio.sleep(0.3)
        return time.process_time() - start

    return asyncio.run(run())


def loop_started_and_cancelled() -> float:
    """Start timers with call_later and cancel each at once."""

    async def run() -> float:
        loop = asyncio.get_running_loop()
        start = time.process_time()
        for _ in range(NUMBER):
            loop.call_later(0.5, nothing, None).cancel()
        await asyncio.sleep(0)
        return time.process_time() - start

    return asyncio.run(run())


def transactions() -> float:
    """Run transactions as the engine does: not found, created, answered, ended 32 seconds later."""
    host = BenchHost()
    table = host.table
    requests = [request("OPTIONS", index) for index in range(NUMBER)]
    start = time.process_time()
    for each in requests:
        if not table.receive(each):
            transaction = table.create(host, each, None)
            assert transaction is not None
            transaction.respond(200, b"SIP/2.0 200 OK\r\n\r\n")
    host.clock.now = 33.0
    host.queue.expire()
    spent = time.process_time() - start
    assert table.live == 0
    return spent


def invite_transactions() -> float:
    """Run INVITE transactions that are refused and acknowledged."""
    host = BenchHost()
    table = host.table
    pairs = [(request("INVITE", index), request("ACK", index)) for index in range(NUMBER)]
    start = time.process_time()
    for invite, ack in pairs:
        if not table.receive(invite):
            transaction = table.create(host, invite, None)
            assert transaction is not None
            transaction.respond(486, b"SIP/2.0 486 Busy Here\r\n\r\n")
        table.receive(ack)
    host.clock.now = 33.0
    host.queue.expire()
    spent = time.process_time() - start
    assert table.live == 0
    return spent


def completed_size() -> float:
    """Return the bytes that a completed transaction holds, without those of its key, response and peer."""
    host = BenchHost()
    response = b"SIP/2.0 200 OK\r\n\r\n"
    keys = [b"z9hG4bK-%d 192.0.2.1:5060 OPTIONS" % index for index in range(NUMBER)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for key in keys:
        host.clock.now += 0.0001
        # What `create` does, with a key that is already there, so that it does not count.
        transaction = NonInviteServerTransaction(host, key, request("OPTIONS", 0), None)
        host.table._transactions[key] = transaction  # noqa: SLF001
        transaction.respond(200, response)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / NUMBER


def request(method: str, index: int) -> Request:
    """Return a request with nothing but what transaction matching looks at."""
    made = Request()
    made.method = made.cseq_method = method
    made.branch = b"z9hG4bK-524287-1---%016x" % index
    made.sent_by = b"192.0.2.1:5060"
    made.to_tag = None
    return made


if __name__ == "__main__":
    main()
