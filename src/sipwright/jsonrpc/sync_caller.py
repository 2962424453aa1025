"""The calls of a client without asyncio (L2): sending them, what ends them, and the counts.

Ids are `peer`, bytes `sync_connection`, finding a server `sync_pool`; what a call may do after its first request is
`run`. All state is changed under the pool's lock. A call ends exactly once: by its answer, its deadline, the loss of
its connection, the end of the client, or an exception in the thread that waits for it.

The tries are those of `tries`: a call is sent again only where that cannot carry it out twice, because no byte of it
had left, because it is idempotent, or because the client was told to; or because a server has answered with a code that
says so. One of which no byte had left is sent again without counting as a try.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Final, ParamSpec, TypeVar

from msgspec import UNSET

from sipwright.errors import JsonRpcParseError
from sipwright.jsonrpc.messages import METHOD_NOT_FOUND, Message, answer_error, encode_error, encode_notification
from sipwright.jsonrpc.outcome import CANCELLED, CLOSED, ERROR, FAILURE, OK, TIMEOUT, Status, has_code
from sipwright.jsonrpc.sync_calls import NEVER, SyncCall, SyncRequest
from sipwright.jsonrpc.sync_connection import SyncConnection
from sipwright.jsonrpc.sync_pool import Servers, Settings, SyncPool
from sipwright.jsonrpc.sync_servers import Rules, SyncGroup

P = ParamSpec("P")
T = TypeVar("T")
Send = Callable[[SyncConnection], bool]

MAX_DOUBLINGS: Final = 5
# Seconds that connections have to send what is left when the client is closed.
LINGER: Final = 1.0
REENTERED: Final = "the client is in use by the main thread, which this signal handler has interrupted"


@dataclass(slots=True)
class Tries:
    """How a call is tried: seconds, and the further tries; see `tries` for what they mean."""

    timeout: float
    retry: int = 0
    slices: int = 1
    hedge: float | None = None
    delay: float = 0.0


class SyncCaller:
    """The calls of one client. `cancel_method` is that of `SyncClient`, the other arguments are those of `SyncPool`."""

    def __init__(
        self, lists: Mapping[str, Servers], rules: Rules, settings: Settings, cancel_method: str | None
    ) -> None:
        self.pool = SyncPool(lists, self, rules, settings)
        self._cancel_method = cancel_method
        self.begin()
        _callers.add(self)

    def begin(self) -> None:
        """Begin without counts: now, and in a process that was forked."""
        self.counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self.in_flight: dict[SyncCall, None] = {}
        self._is_main_busy = False

    # Use by threads

    def use(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do something with the client in this thread, and mend what an exception in between may have left."""
        is_main = get_ident() == self.pool.main_thread
        if is_main and self._is_main_busy:
            raise RuntimeError(REENTERED)
        is_done = False
        try:
            if is_main:
                self._is_main_busy = True
            value = work(*args, **kwargs)
            is_done = True
            return value
        finally:
            # Before anything is called: signal handlers run between calls.
            if is_main:
                self._is_main_busy = False
            if not is_done:
                with self.pool.lock:
                    self.pool.mend(is_main)
            if self.pool.is_closed:
                self.close()

    @property
    def is_reentered(self) -> bool:
        """True in a signal handler that has interrupted the main thread in a call."""
        return self._is_main_busy and get_ident() == self.pool.main_thread

    # A call

    def run(self, call: SyncCall, group: SyncGroup, tries: Tries) -> None:
        """Make a call, and return when it has ended."""
        pool, waiter, clock = self.pool, call.waiter, self.pool.clock
        call.started = now = clock()
        deadline = now + tries.timeout
        part = tries.timeout / tries.slices
        part_until = now + part if tries.slices > 1 else NEVER
        self.in_flight[call] = None
        try:
            if not self._ask(call, group, deadline):
                return
            hedge_at = NEVER if tries.hedge is None else clock() + tries.hedge
            lane = pool.lane()
            while True:
                lane.wait(waiter, min(deadline, part_until, hedge_at))
                waiter.is_woken = False
                if pool.is_closed:
                    # By a signal handler, which could do no more than that.
                    self.close()
                if not waiter.left:
                    return
                now = clock()
                if now >= deadline:
                    self.no_answer(call)
                elif call.is_due:
                    self._try_again(call, group, deadline, tries.delay)
                elif now >= part_until:
                    part_until += part
                    self._part_over(call, group, deadline)
                elif now >= hedge_at:
                    assert tries.hedge is not None
                    self._hedge(call, group, min(deadline, now + tries.hedge))
                    hedge_at = clock() + tries.hedge if call.tries_left else NEVER
        finally:
            if call.status is None:
                self.cancel(call)

    def _ask(self, call: SyncCall, group: SyncGroup, until: float) -> bool:
        """Send a call for the first time. False: it has ended."""
        why_not = self.pool.find(group, call.waiter, until, partial(self._send, call))
        if why_not:
            with self.pool.lock:
                self.end(call, FAILURE, why_not)
        return not why_not

    def _send(self, call: SyncCall, connection: SyncConnection) -> bool:
        """Send a call on a connection, with the lock held. False: it has not left, since the connection is gone."""
        if call.status is not None:
            return True
        request = SyncRequest(call, connection)
        call.requests.append(request)
        call.asked.append(connection.server.name)
        call.server = connection.server.name
        call.tries += 1
        connection.ask(request, call.head, call.params)
        if connection.is_lost and call.is_due and not request.may_have_left:
            call.is_due = False
            return False
        return True

    def _again(self, call: SyncCall, group: SyncGroup, until: float, send: Send) -> str:
        """Ask a server that was not asked yet; return why there is none."""
        why_not = self.pool.find(group, call.waiter, until, send, call.asked)
        if not why_not:
            call.tries_left -= 1
        return why_not

    def _try_again(self, call: SyncCall, group: SyncGroup, deadline: float, delay: float) -> None:
        """Make the next try of a call that nothing is in flight for."""
        call.is_due = False
        if call.is_unsent:
            # It never left: whoever can have it now may have it, and it has been tried no time yet.
            call.is_unsent = False
            self._ask(call, group, deadline)
            return
        why_not = self._again(call, group, deadline, partial(self._send, call))
        if not why_not:
            self._count("retries")
        elif delay:
            pause = delay * 2.0 ** min(call.delays, MAX_DOUBLINGS) * (0.75 + self.pool.rules.random() / 2)
            call.delays += 1
            self.pool.lane().wait(call.waiter, min(deadline, self.pool.clock() + pause))
            call.asked.clear()
            call.is_due = call.waiter.is_woken = True
        else:
            with self.pool.lock:
                self._end_kept(call, f"{call.lost}; no other server can be asked: {why_not}")

    def _part_over(self, call: SyncCall, group: SyncGroup, deadline: float) -> None:
        """Ask the next server: a part of the time of an idempotent call is over. The former answer counts no more."""
        former = list(call.requests)
        if not call.tries_left or not former:
            return
        with self.pool.lock:
            for request in former:
                self.pool.blame(request.connection.server)

        def send(connection: SyncConnection) -> bool:
            is_sent = self._send(call, connection)
            if is_sent and call.status is None:
                for request in former:
                    self.give_up(request)
            return is_sent

        if not self._again(call, group, deadline, send):
            self._count("retries")

    def _hedge(self, call: SyncCall, group: SyncGroup, until: float) -> None:
        """Ask another server beside those that have not answered yet."""
        if call.tries_left and not self._again(call, group, until, partial(self._send, call)):
            self._count("hedges")

    # How a call ends

    def answered(self, request: SyncRequest, message: Message) -> None:
        """Take an answer (called by the peer)."""
        server = request.connection.server
        server.answered()
        call = request.call
        if call is None:
            self.pool.probe_answered(request)
            return
        call.requests.remove(request)
        if call.codes and call.tries_left and has_code(message, call.codes):
            call.kept = message
            if not call.requests:
                call.is_due = True
                call.waiter.wake()
        else:
            self._finish(call, message)
        self.pool.slot_freed(request.connection)

    def _finish(self, call: SyncCall, message: Message) -> None:
        """End a call with an answer."""
        error = None if message.error is UNSET and message.result is not UNSET else answer_error(message)
        if error is not None:
            call.error = error
            self.end(call, ERROR, "")
        else:
            call.result = b"null" if message.result is UNSET else bytes(message.result)
            self.end(call, OK, "")

    def _end_kept(self, call: SyncCall, why_not: str) -> None:
        """End a call with the answer that it has, after all, or without."""
        if call.status is None and call.kept is not None:
            self._finish(call, call.kept)
        else:
            self.end(call, FAILURE, why_not)

    def end(self, call: SyncCall, status: Status, why: str) -> None:
        """End a call (with the lock held); nothing when it has ended."""
        if call.status is not None:
            return
        self.in_flight.pop(call, None)
        call.status = status
        call.reason = why
        call.ended = self.pool.clock()
        self.counts[_COUNT_OF[status]] += 1
        for request in call.requests:
            self.give_up(request)
        call.requests.clear()
        waiter = call.waiter
        waiter.left -= 1
        if not waiter.left:
            waiter.wake()

    def no_answer(self, call: SyncCall) -> None:
        """End a call whose time is over."""
        with self.pool.lock:
            if call.status is None and not call.requests:
                self._end_kept(
                    call, f"{call.lost}; there was no time to ask again" if call.lost else "not sent in time"
                )
            elif call.status is None:
                for request in call.requests:
                    self.pool.blame(request.connection.server)
                self.end(call, TIMEOUT, "")

    def cancel(self, call: SyncCall) -> None:
        """End a call that nobody waits for any longer, because of an exception in its thread."""
        with self.pool.lock:
            self.end(call, CANCELLED, "the call was given up")

    def give_up(self, request: SyncRequest) -> None:
        """Forget a request whose answer nobody wants any more, and tell the server if it is to be told."""
        connection = request.connection
        if connection.peer.abandon(request):
            if self._cancel_method is not None and not connection.is_blocked:
                connection.write(encode_notification(self._cancel_method, b'{"id":%d}' % request.id))
            self.pool.slot_freed(connection)

    def connection_lost(self, connection: SyncConnection, why: str) -> None:
        """End the calls of a connection that is gone, or have them tried elsewhere (called by the pool)."""
        peer = connection.peer
        self.counts["late"] += peer.late
        self.counts["doubled"] += peer.doubled
        self.counts["unknown"] += peer.unknown
        for request in peer.take_all():
            call = request.call
            if call is None:
                continue
            call.requests.remove(request)
            if call.requests:
                continue  # another server may still answer
            call.lost = f"{connection.server.name}: {why}"
            if self.pool.is_closed:
                self.end(call, FAILURE, CLOSED)
            elif not request.may_have_left:
                call.asked.remove(connection.server.name)
                call.is_due = call.is_unsent = True
                call.waiter.wake()
            elif call.may_repeat and call.tries_left:
                call.is_due = True
                call.waiter.wake()
            else:
                self.end(call, FAILURE, call.lost)

    def requested(self, connection: SyncConnection, messages: list[Message | JsonRpcParseError]) -> None:
        """Answer that a client has no methods; what is no request is counted and not answered (called by the peer).

        A server that does not read gets no answers: they would fill the memory.
        """
        for message in messages:
            if isinstance(message, JsonRpcParseError) or message.method is None:
                self.counts["malformed"] += 1
            elif message.id is not UNSET and not connection.is_blocked:
                connection.write(encode_error(message.id, METHOD_NOT_FOUND, "Method not found"))

    def close(self) -> None:
        """End all calls and close the connections."""
        pool = self.pool
        with pool.lock:
            if pool.is_closed and not pool.lanes:
                return
        self._linger()
        with pool.lock:
            pool.close()
            for call in list(self.in_flight):
                # Those that wait for a server, or for their next try.
                self.end(call, FAILURE, CLOSED)

    def close_from_handler(self) -> None:
        """Have the call that a signal handler has interrupted close all; without the lock, which it may have."""
        self.pool.is_closed = True
        lane = self.pool.lanes.get(True)
        if lane is not None:
            lane.interrupt()

    def _linger(self) -> None:
        """Let what was written leave, where the other ends read it."""
        until = self.pool.clock() + LINGER
        while self.pool.clock() < until:
            with self.pool.lock:
                for connection in self.pool.connections():
                    if connection.unsent:
                        connection.flush()
                if not any(connection.unsent for connection in self.pool.connections()):
                    return
            time.sleep(0.005)

    # What is known

    def _count(self, what: str) -> None:
        with self.pool.lock:
            self.counts[what] += 1

    def counters(self) -> dict[str, int]:
        """Return what happened since the start, as `Client.counters` does."""
        with self.pool.lock:
            counts = dict(self.counts)
            for connection in self.pool.connections():
                peer = connection.peer
                counts["late"] += peer.late
                counts["doubled"] += peer.doubled
                counts["unknown"] += peer.unknown
            servers = self.pool.servers.values()
            counts["pending"] = len(self.in_flight)
            counts["calls"] = counts["pending"] + sum(counts[name] for name in _COUNT_OF.values())
            counts["waiting"] = sum(len(group.waiting) for group in self.pool.groups.values())
            counts["reconnects"] = sum(server.reconnects for server in servers)
            counts["blocked"] = sum(server.blocked for server in servers)
            counts["out"] = sum(server.is_out for server in servers)
            return counts


_COUNT_OF: Final[dict[Status, str]] = {
    OK: "results",
    ERROR: "errors",
    TIMEOUT: "timeouts",
    FAILURE: "failures",
    CANCELLED: "cancelled",
}
COUNTS: Final = (
    "calls",
    *_COUNT_OF.values(),
    "pending",
    "waiting",
    "retries",
    "hedges",
    "notifications",
    "late",
    "doubled",
    "unknown",
    "malformed",
    "reconnects",
    "blocked",
    "out",
)

# The clients of this process: one that was forked has the parent's sockets, and must not use them.
_callers: weakref.WeakSet[SyncCaller] = weakref.WeakSet()


def _after_fork() -> None:
    for caller in _callers:
        caller.pool.forget()
        caller.pool.begin()
        caller.begin()


os.register_at_fork(after_in_child=_after_fork)
