"""The callback core of the JSON-RPC client (L2): calls with deadlines and retries over groups of servers.

`submit` and `submit_notification` take and give JSON bytes and call back: nothing is awaited, no task or future is
made; the SIP router uses them. `client` puts the face for `async` code on top. The servers are `pool`, choosing and
reconnecting `groups`, ids `peer`, bytes `connection`, timeouts `deadlines`.

A call ends exactly once: by its answer, its deadline, the loss of its connection, or `cancel()`. Retries are made
within the deadline, each on a server that was not asked for this call yet:

- after a lost connection, at once, for every call with `retry` > 0 left;
- after a timeout, only for calls marked `idempotent`: such a call's time is divided into retry + 1 equal parts, and
  when one is over without an answer, the next server is asked and the former one's answer no longer counts.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from msgspec import UNSET

from sipwright.errors import JsonRpcParseError
from sipwright.jsonrpc.calls import CLOSED, ERROR, FAILURE, OK, TIMEOUT, PendingCall, Plan, Status
from sipwright.jsonrpc.connection import CALLBACK_FAULTS, Connection
from sipwright.jsonrpc.deadlines import Deadlines
from sipwright.jsonrpc.groups import Endpoint, Group
from sipwright.jsonrpc.messages import (
    METHOD_NOT_FOUND,
    Message,
    answer_error,
    encode_batch,
    encode_error,
    encode_notification,
    request_head,
)
from sipwright.jsonrpc.peer import Peer
from sipwright.jsonrpc.pool import Pool, Servers, why_not

NOT_STARTED = "the client was not started: use 'async with', or call start()"
OTHER_LOOP = "the client belongs to another event loop: the one that ran when it was started"

Done = Callable[[Any, PendingCall], object]
# Told what a client does: the event, the call (None: nobody waits for that answer), the server "host:port" (empty: none
# was asked) and the id that the request had on its connection (None: none was sent).
Watch = Callable[[str, PendingCall | None, str, int | None], object]


class Caller:
    """A JSON-RPC client of one event loop, for code with callbacks; `Client` is this and more.

    `servers` is `"host:port,priority host:port,priority"` or a list of ServerSpec; `groups` are further ones by name,
    for calls with `group=`. `timeout` (seconds, of a call with all its tries; infinity for no limit) and `retry` are
    what calls get that do not say otherwise. `max_pending` is per server: beyond it the server takes no new calls.
    `reconnect_interval` (seconds), `max_conn_attempts` and `random` are as in `groups.Endpoint`. `max_size` is the
    largest answer in bytes.

    `watch`, once set, is told each `request` that is sent, further tries too; how each call ends (`ok`, `error`,
    `timeout` or `failure`, before `done` is called); and each answer that is `late`, `doubled` or `unknown`.

    Use it in `async with`, or call `start()` in the running loop and `close()` at the end. Raises ArgumentError for a
    malformed server list.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        timeout: float = 5.0,
        retry: int = 0,
        groups: Mapping[str, Servers] | None = None,
        max_pending: int = 10_000,
        reconnect_interval: float = 3.0,
        max_conn_attempts: int = -1,
        max_size: int = 1 << 20,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self.timeout = timeout
        self.retry = retry
        self.calls = self.results = self.errors = self.timeouts = self.failures = self.retries = 0
        self.notifications = self.malformed = 0
        self.watch: Watch | None = None
        self._max_pending = max_pending
        self._max_size = max_size
        self._pool = Pool(
            {"": servers, **(groups or {})},
            self._group_changed,
            max_pending=max_pending,
            reconnect_interval=reconnect_interval,
            max_conn_attempts=max_conn_attempts,
            random=random,
        )
        self._default = Group("", [], max_pending, _ignore)
        # Calls that no server has been found for yet, in their order.
        self._waiting: dict[PendingCall, tuple[Group, bool]] = {}
        self._lost_peers = [0, 0, 0]
        self._is_closed = False
        self._started_in: asyncio.AbstractEventLoop | None = None
        self._armed: asyncio.TimerHandle | None = None
        self._start_deadline: Callable[[float, PendingCall], float] = _not_started

    # Life of the client

    def start(self) -> None:
        """Begin to connect, in the running event loop. Returns at once; servers that are down are asked again."""
        if self._started_in is not None:
            raise RuntimeError("the client was started before")
        self._loop = self._started_in = loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._deadlines: Deadlines[PendingCall] = Deadlines(loop.time, self._arm, self._time_over)
        self._start_deadline = self._deadlines.start
        self._default = self._pool.start(loop, self._make_connection, self._connection_lost)

    async def close(self, timeout: float = 0.0) -> None:
        """Wait up to `timeout` seconds for the answers to pending calls, end the rest as failures, and disconnect."""
        if self._started_in is None:
            return
        deadline = self._clock() + timeout
        while self.pending and self._clock() < deadline:
            # New calls may be made meanwhile; they have no more time than the others.
            await asyncio.sleep(min(0.02, timeout))
        self._is_closed = True
        self._pool.stop()
        for connection in self._pool.connections():
            for call in connection.peer.take_all():
                self._end(call, FAILURE, CLOSED)
        for call in list(self._waiting):
            self._end(call, FAILURE, CLOSED)
        if self._armed is not None:
            self._armed.cancel()
        await self._pool.disconnected(self._clock)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connected(self, timeout: float | None = None, *, group: str | None = None) -> None:
        """Wait until a server of the group is connected and takes calls; with None without limit.

        Raises RpcConnectionError, which says what was wrong with each server, after `timeout` seconds, or at once when
        no server will be asked again (`max_conn_attempts`); RpcClosedError when the client is closed; ArgumentError for
        an unknown group.
        """
        self._check_loop()
        await self._pool.connected(self._group(group), timeout)

    def _check_loop(self) -> None:
        if self._started_in is None:
            raise RuntimeError(NOT_STARTED)
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(OTHER_LOOP)

    # Calls and notifications

    def submit(
        self,
        method: str,
        params: bytes | None,
        done: Done,
        argument: Any = None,
        *,
        timeout: float | None = None,
        retry: int | None = None,
        idempotent: bool = False,
        group: str | None = None,
        wait: bool = False,
    ) -> PendingCall:
        """Make a call, and have `done(argument, call)` called exactly once, when it has ended; never from in here.

        `params` is JSON (an array or an object; not checked), None for no params member; `timeout` is in seconds. The
        outcome is the returned object itself. When no server can take the call it ends as a failure in the next turn
        of the loop; but a call made while the first attempt to connect is still under way waits for it, and one with
        `wait` for any connection, both within the deadline. After `cancel()` of the returned object, `done` is not
        called.

        Raises ArgumentError for an unknown group, ValueError for a method that is no Unicode text.
        """
        call = PendingCall(method, params, done, argument)
        self._begin(call, timeout, retry, idempotent, group, wait)
        return call

    def _begin(
        self,
        call: PendingCall,
        timeout: float | None,
        retry: int | None,
        idempotent: bool,
        group: str | None,
        wait: bool,
    ) -> None:
        head = request_head(call.method)
        chosen = self._default if group is None else self._group(group)  # 50 ns for the call
        if timeout is None:
            timeout = self.timeout
        if retry is None:
            retry = self.retry
        if retry > 0:
            slices = retry + 1 if idempotent else 1
            timeout /= slices
            call.plan = Plan(chosen, retry, slices, timeout)
        call.started = self._start_deadline(timeout, call)
        self.calls += 1
        connection = chosen.pick()
        if connection is None:
            self._wait_or_fail(call, chosen, wait)
        else:
            call.connection = connection
            connection.write(connection.request(call, head, call.params))
            if self.watch is not None:
                self.watch("request", call, connection.server, call.id)

    def submit_notification(self, method: str, params: bytes | None, *, group: str | None = None) -> bool:
        """Send a notification. True once it is queued on a live connection, False when no server can take it.

        Raises ArgumentError for an unknown group, ValueError for a method that is no Unicode text.
        """
        payload = encode_notification(method, params)
        connection = self._group(group).pick()
        if connection is None:
            return False
        connection.write(payload)
        self.notifications += 1
        return True

    def submit_batch(
        self,
        requests: Sequence[tuple[str, bytes | None, Done | None, Any]],
        *,
        timeout: float | None = None,
        group: str | None = None,
    ) -> list[PendingCall] | None:
        """Send calls and notifications as one JSON-RPC batch; None when no server can take it.

        A request is method, params (as for `submit`), `done` and its argument; with None for `done` it is a
        notification. Returns the calls, in order. Each call ends on its own; none is tried again.

        Raises ArgumentError and ValueError as `submit` does.
        """
        connection = self._group(group).pick()
        if connection is None:
            return None
        # Encoded before anything is entered: a wrong method name shall not leave half a batch behind.
        heads = [request_head(method) for method, *_ in requests]
        payloads: list[bytes] = []
        calls: list[PendingCall] = []
        for head, (method, params, done, argument) in zip(heads, requests, strict=True):
            if done is None:
                payloads.append(encode_notification(method, params))
                self.notifications += 1
                continue
            call = PendingCall(method, params, done, argument)
            call.connection = connection
            call.started = self._start_deadline(self.timeout if timeout is None else timeout, call)
            payloads.append(connection.request(call, head, params))
            if self.watch is not None:
                self.watch("request", call, connection.server, call.id)
            calls.append(call)
            self.calls += 1
        if payloads:
            connection.write(encode_batch(payloads))
        return calls

    # What is known

    @property
    def pending(self) -> int:
        """How many calls have not ended."""
        return len(self._waiting) + sum(len(connection.pending) for connection in self._pool.connections())

    @property
    def connections(self) -> dict[str, int | None]:
        """The servers ("host:port") with the number of their pending calls, None for one that is not connected."""
        return {e.name: None if e.connection is None else len(e.connection.pending) for e in self._pool.endpoints}

    def counters(self) -> dict[str, int]:
        """Return what happened since the start.

        `calls` is the sum of results, errors, timeouts, failures, cancelled and pending. Answers that nobody waited
        for are `late`, `doubled` or `unknown`; `malformed` are payloads that were not JSON-RPC; `reconnects` are
        connections beyond the first one of each server, `blocked` how often one of them did not read what it was sent.
        """
        late, doubled, unknown = self._lost_peers
        for connection in self._pool.connections():
            peer = connection.peer
            late, doubled, unknown = late + peer.late, doubled + peer.doubled, unknown + peer.unknown
        ended = self.results + self.errors + self.timeouts + self.failures
        pending = self.pending
        return {
            "calls": self.calls,
            "results": self.results,
            "errors": self.errors,
            "timeouts": self.timeouts,
            "failures": self.failures,
            "cancelled": self.calls - ended - pending,
            "pending": pending,
            "retries": self.retries,
            "notifications": self.notifications,
            "late": late,
            "doubled": doubled,
            "unknown": unknown,
            "malformed": self.malformed,
            "reconnects": sum(max(endpoint.connects - 1, 0) for endpoint in self._pool.endpoints),
            "blocked": sum(endpoint.blocked for endpoint in self._pool.endpoints),
        }

    # How a call ends

    def _answered(self, call: PendingCall, message: Message) -> None:
        call.ended = self._clock()
        del call.table[call]
        result = message.result
        if message.error is UNSET and result is not UNSET:
            call.status = OK
            call.result = bytes(result)
            self.results += 1
        else:
            self._take_error(call, message)
        if self.watch is not None:
            self._tell_end(call)
        argument, call.argument = call.argument, None
        try:
            call.done(argument, call)
        except CALLBACK_FAULTS as error:  # the boundary to the caller's code
            self._report(call, error)

    def _take_error(self, call: PendingCall, message: Message) -> None:
        error = answer_error(message)
        if error is not None:
            call.status = ERROR
            call.error = error
            self.errors += 1
        else:
            call.status = OK
            call.result = b"null" if message.result is UNSET else bytes(message.result)
            self.results += 1

    def _end(self, call: PendingCall, status: Status, reason: str) -> None:
        """End a call without an answer."""
        if call.status is not None:
            return
        if call.queue is not None:
            call.queue.pop(call, None)
            call.queue = None
        call.ended = self._clock()
        call.table.pop(call, None)
        call.status = status
        call.reason = reason
        if status is TIMEOUT:
            self.timeouts += 1
        else:
            self.failures += 1
        if self.watch is not None:
            self._tell_end(call)
        argument, call.argument = call.argument, None
        try:
            call.done(argument, call)
        except CALLBACK_FAULTS as error:  # the boundary to the caller's code
            self._report(call, error)

    def _tell_end(self, call: PendingCall) -> None:
        assert self.watch is not None
        assert call.status is not None
        self.watch(call.status, call, call.server, None if call.connection is None else call.id)

    def _report(self, call: PendingCall, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": f"error in the callback of JSON-RPC call {call.method!r}", "exception": error}
        )

    def _time_over(self, call: PendingCall) -> None:
        plan = call.plan
        if plan is not None and plan.slices_left > 1:
            plan.slices_left -= 1
            self._start_deadline(plan.slice, call)
            if call.connection is not None and plan.tries_left:
                self._try_other(call, plan)
        elif call.queue is not None:
            self._end(call, FAILURE, why_not(call.queue[call][0]))
        elif call.connection is not None:
            call.connection.peer.abandon(call)
            self._end(call, TIMEOUT, "")

    def _connection_lost(self, connection: Connection, reason: str) -> None:
        peer = connection.peer
        for index, count in enumerate((peer.late, peer.doubled, peer.unknown)):
            self._lost_peers[index] += count
        for call in peer.take_all():
            if call.status is not None:
                # The end of another one of them has cancelled it.
                continue
            plan = call.plan
            if plan is None or not plan.tries_left or not self._try_other(call, plan):
                self._end(call, FAILURE, CLOSED if self._is_closed else f"{connection.server}: {reason}")

    def _try_other(self, call: PendingCall, plan: Plan) -> bool:
        """Send the call to a server that was not asked for it yet. False when there is none; then nothing changes."""
        plan.asked.append(call.server)
        other = plan.group.pick_other(plan.asked)
        if other is None:
            return False
        if call.connection is not None:
            call.connection.peer.abandon(call)
        plan.tries_left -= 1
        self.retries += 1
        self._send(call, other)
        return True

    def _send(self, call: PendingCall, connection: Connection) -> None:
        call.connection = connection
        connection.write(connection.request(call, request_head(call.method), call.params))
        if self.watch is not None:
            self.watch("request", call, connection.server, call.id)

    # What the groups and connections tell

    def _wait_or_fail(self, call: PendingCall, group: Group, is_patient: bool) -> None:
        self._waiting[call] = group, is_patient
        call.queue = self._waiting
        if self._is_closed:
            self._loop.call_soon(self._fail_unsent, call, CLOSED)
        elif (
            group.is_ready
            or group.is_given_up
            or not (is_patient or group.is_starting)
            or len(self._waiting) > self._max_pending
        ):
            self._loop.call_soon(self._fail_unsent, call, why_not(group))

    def _fail_unsent(self, call: PendingCall, reason: str) -> None:
        if call.queue is not None:
            self._end(call, FAILURE, reason)

    def _group_changed(self, group: Group) -> None:
        if not self._waiting or self._is_closed:
            return
        waiting = [(call, is_patient) for call, (waited, is_patient) in self._waiting.items() if waited is group]
        if group.is_ready:
            for call, _ in waiting:
                if call.queue is None:
                    # The end of another one has ended it.
                    continue
                connection = group.pick()
                if connection is None:
                    self._end(call, FAILURE, why_not(group))
                else:
                    del self._waiting[call]
                    call.queue = None
                    self._send(call, connection)
        elif not group.is_starting:
            is_given_up = group.is_given_up
            for call, is_patient in waiting:
                if is_given_up or not is_patient:
                    self._end(call, FAILURE, why_not(group))

    def _group(self, name: str | None) -> Group:
        return self._default if name is None else self._pool.group(name)

    def _make_connection(self, endpoint: Endpoint) -> Connection:
        def stray(what: str, number: int | None) -> None:
            if self.watch is not None:
                self.watch(what, None, endpoint.name, number)

        peer: Peer[PendingCall] = Peer(
            self._answered, lambda messages, _is_batch: self._refuse(connection, messages), stray
        )
        connection = Connection(self._loop, endpoint, peer, endpoint.name, self._max_size)
        return connection

    def _refuse(self, connection: Connection, messages: list[Message | JsonRpcParseError]) -> None:
        """Answer that a client has no methods; what is no request is counted and not answered.

        A server that does not read gets no answers: they would fill the memory.
        """
        for message in messages:
            if isinstance(message, JsonRpcParseError) or message.method is None:
                self.malformed += 1
            elif message.id is not UNSET and not connection.is_blocked:
                connection.write(encode_error(message.id, METHOD_NOT_FOUND, "Method not found"))

    # The timer

    def _arm(self, when: float) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed = self._loop.call_at(when, self._deadlines.expire)


def _ignore(_group: Group) -> None:
    pass


def _not_started(_timeout: float, _call: PendingCall) -> float:
    raise RuntimeError(NOT_STARTED)
