"""The callback core of the JSON-RPC client (L2): calls with deadlines and retries over groups of servers.

`submit` and `submit_notification` take and give JSON bytes and call back: nothing is awaited, no task or future is
made; the SIP router uses them. `client` puts the face for `async` code on top. Choosing and reconnecting are `groups`,
ids are `peer`, bytes are `connection`, timeouts are `deadlines`.

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

from sipwright.errors import ArgumentError, JsonRpcParseError, RpcClosedError, RpcConnectionError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, parse_servers
from sipwright.jsonrpc.calls import CLOSED, ERROR, FAILURE, OK, TIMEOUT, PendingCall, Plan, Status
from sipwright.jsonrpc.connection import Connection
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

NOT_STARTED = "the client was not started: use 'async with', or call start()"

Done = Callable[[Any, PendingCall], object]
Servers = str | Sequence[ServerSpec]


class Caller:
    """A JSON-RPC client of one event loop, for code with callbacks; `Client` is this and more.

    `servers` is `"host:port,priority host:port,priority"` or a list of ServerSpec; `groups` are further ones by name,
    for calls with `group=`. `timeout` (seconds, of a call with all its tries) and `retry` are what calls get that do
    not say otherwise. `max_pending` is per server: beyond it the server takes no new calls. `reconnect_interval`
    (seconds), `max_conn_attempts` and `random` are as in `groups.Endpoint`. `max_size` is the largest answer in bytes.

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
        self._specs = {name: _specs(value) for name, value in {"": servers, **(groups or {})}.items()}
        self._max_pending = max_pending
        self._max_size = max_size
        self._reconnect_interval = reconnect_interval
        self._max_conn_attempts = max_conn_attempts
        self._random = random
        self._endpoints: dict[ServerAddress, Endpoint] = {}
        self._groups: dict[str, Group] = {}
        self._default = Group("", [], max_pending, _ignore)
        # Calls that no server has been found for yet, in their order.
        self._waiting: dict[PendingCall, tuple[Group, bool]] = {}
        self._watchers: list[tuple[Group, asyncio.Future[None]]] = []
        self._lost_peers = [0, 0, 0]
        self._is_closed = False
        self._armed: asyncio.TimerHandle | None = None
        self._start_deadline: Callable[[float, PendingCall], float] = _not_started

    # Life of the client

    def start(self) -> None:
        """Begin to connect, in the running event loop. Returns at once; servers that are down are asked again."""
        if self._groups:
            raise RuntimeError("the client was started before")
        self._loop = loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._deadlines: Deadlines[PendingCall] = Deadlines(loop.time, self._arm, self._time_over)
        self._start_deadline = self._deadlines.start
        for name, specs in self._specs.items():
            members = [(spec.priority, self._endpoint(spec.address)) for spec in specs]
            self._groups[name] = Group(name, members, self._max_pending, self._group_changed)
        self._default = self._groups[""]
        for endpoint in self._endpoints.values():
            endpoint.start()

    async def close(self, timeout: float = 0.0) -> None:
        """Wait up to `timeout` seconds for the answers to pending calls, end the rest as failures, and disconnect."""
        if not self._groups:
            return
        deadline = self._clock() + timeout
        while self.pending and self._clock() < deadline:
            # New calls may be made meanwhile; they have no more time than the others.
            await asyncio.sleep(min(0.02, timeout))
        self._is_closed = True
        for endpoint in self._endpoints.values():
            connection = endpoint.connection
            endpoint.stop()
            if connection is not None:
                for call in connection.peer.take_all():
                    self._end(call, FAILURE, CLOSED)
        for call in list(self._waiting):
            self._end(call, FAILURE, CLOSED)
        for _, watcher in self._watchers:
            if not watcher.done():
                watcher.set_exception(RpcClosedError(CLOSED))
        if self._armed is not None:
            self._armed.cancel()
        await self._wait_until_disconnected()

    async def _wait_until_disconnected(self) -> None:
        # A connection closes once the other end has read what was written before; it gets a second for that.
        deadline = self._clock() + 1.0
        while connections := [e.connection for e in self._endpoints.values() if e.connection is not None]:
            if self._clock() >= deadline:
                for connection in connections:
                    connection.abort(CLOSED)
            await asyncio.sleep(0 if self._clock() < deadline - 0.9 else 0.01)

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
        no server will be asked again (`max_conn_attempts`).
        """
        if not self._groups:
            raise RuntimeError(NOT_STARTED)
        chosen = self._group(group)
        if chosen.is_ready:
            return
        if self._is_closed:
            raise RpcClosedError(CLOSED)
        if chosen.is_given_up:
            raise RpcConnectionError(_why_not(chosen))
        watcher: asyncio.Future[None] = self._loop.create_future()
        entry = (chosen, watcher)
        self._watchers.append(entry)
        try:
            async with asyncio.timeout(timeout):
                await watcher
        except TimeoutError:
            raise RpcConnectionError(_why_not(chosen)) from None
        finally:
            self._watchers.remove(entry)

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
        chosen = self._default if group is None else self._group(group)
        if timeout is None:
            timeout = self.timeout
        if retry is None:
            retry = self.retry
        if retry:
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

    def submit_notification(self, method: str, params: bytes | None, *, group: str | None = None) -> bool:
        """Send a notification. True once it is queued on a live connection, False when no server can take it.

        Raises ArgumentError for an unknown group, ValueError for a method that is no Unicode text.
        """
        payload = encode_notification(method, params)
        connection = (self._default if group is None else self._group(group)).pick()
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
        """
        connection = self._group(group).pick()
        if connection is None:
            return None
        payloads: list[bytes] = []
        calls: list[PendingCall] = []
        for method, params, done, argument in requests:
            if done is None:
                payloads.append(encode_notification(method, params))
                self.notifications += 1
                continue
            head = request_head(method)
            call = PendingCall(method, params, done, argument)
            call.connection = connection
            call.started = self._start_deadline(self.timeout if timeout is None else timeout, call)
            payloads.append(connection.request(call, head, params))
            calls.append(call)
            self.calls += 1
        if payloads:
            connection.write(encode_batch(payloads))
        return calls

    # What is known

    @property
    def pending(self) -> int:
        """How many calls have not ended."""
        connections = [e.connection for e in self._endpoints.values() if e.connection is not None]
        return len(self._waiting) + sum(len(connection.pending) for connection in connections)

    @property
    def connections(self) -> dict[str, int | None]:
        """The servers ("host:port") with the number of their pending calls, None for one that is not connected."""
        return {e.name: None if e.connection is None else len(e.connection.pending) for e in self._endpoints.values()}

    def counters(self) -> dict[str, int]:
        """Return what happened since the start.

        `calls` is the sum of results, errors, timeouts, failures, cancelled and pending. Answers that nobody waited
        for are `late`, `doubled` or `unknown`; `malformed` are payloads that were not JSON-RPC; `reconnects` are
        connections beyond the first one of each server.
        """
        late, doubled, unknown = self._lost_peers
        for endpoint in self._endpoints.values():
            if endpoint.connection is not None:
                peer = endpoint.connection.peer
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
            "reconnects": sum(max(endpoint.connects - 1, 0) for endpoint in self._endpoints.values()),
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
        argument, call.argument = call.argument, None
        try:
            call.done(argument, call)
        except Exception as error:  # the boundary to the caller's code
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
        argument, call.argument = call.argument, None
        try:
            call.done(argument, call)
        except Exception as error:  # the boundary to the caller's code
            self._report(call, error)

    def _report(self, call: PendingCall, error: Exception) -> None:
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
            self._end(call, FAILURE, _why_not(call.queue[call][0]))
        elif call.connection is not None:
            call.connection.peer.abandon(call)
            self._end(call, TIMEOUT, "")

    def _connection_lost(self, connection: Connection, reason: str) -> None:
        peer = connection.peer
        for index, count in enumerate((peer.late, peer.doubled, peer.unknown)):
            self._lost_peers[index] += count
        for call in peer.take_all():
            plan = call.plan
            if plan is None or not plan.tries_left or not self._try_other(call, plan):
                self._end(call, FAILURE, f"{connection.server}: {reason}")

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
            self._loop.call_soon(self._fail_unsent, call, _why_not(group))

    def _fail_unsent(self, call: PendingCall, reason: str) -> None:
        if call.queue is not None:
            self._end(call, FAILURE, reason)

    def _group_changed(self, group: Group) -> None:
        if group.is_ready:
            for watched, watcher in self._watchers:
                if watched is group and not watcher.done():
                    watcher.set_result(None)
            for call in [call for call, (waited, _) in self._waiting.items() if waited is group]:
                connection = group.pick()
                if connection is None:
                    return
                del self._waiting[call]
                call.queue = None
                self._send(call, connection)
            return
        is_given_up = group.is_given_up
        if is_given_up:
            for watched, watcher in self._watchers:
                if watched is group and not watcher.done():
                    watcher.set_exception(RpcConnectionError(_why_not(group)))
        if self._waiting and not group.is_starting:
            hopeless = [
                call
                for call, (waited, patient) in self._waiting.items()
                if waited is group and (is_given_up or not patient)
            ]
            for call in hopeless:
                self._end(call, FAILURE, _why_not(group))

    def _group(self, name: str | None) -> Group:
        if name is None:
            return self._default
        try:
            return self._groups[name]
        except KeyError:
            raise ArgumentError(f"no group of servers is named {name!r}") from None

    def _endpoint(self, address: ServerAddress) -> Endpoint:
        if address not in self._endpoints:
            self._endpoints[address] = Endpoint(
                self._loop,
                address,
                self._make_connection,
                self._connection_lost,
                reconnect_interval=self._reconnect_interval,
                max_attempts=self._max_conn_attempts,
                random=self._random,
            )
        return self._endpoints[address]

    def _make_connection(self, endpoint: Endpoint) -> Connection:
        peer: Peer[PendingCall] = Peer(self._answered, lambda messages, _is_batch: self._refuse(connection, messages))
        connection = Connection(self._loop, endpoint, peer, endpoint.name, self._max_size)
        return connection

    def _refuse(self, connection: Connection, messages: list[Message | JsonRpcParseError]) -> None:
        """Answer that a client has no methods; what is no message is counted and not answered."""
        for message in messages:
            if isinstance(message, JsonRpcParseError):
                self.malformed += 1
            elif message.id is not UNSET:
                connection.write(encode_error(message.id, METHOD_NOT_FOUND, "Method not found"))

    # Timers

    def _arm(self, when: float) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed = self._loop.call_at(when, self._deadlines.expire)


def _specs(servers: Servers) -> list[ServerSpec]:
    return parse_servers(servers) if isinstance(servers, str) else list(servers)


def _why_not(group: Group) -> str:
    """Return why no server of the group takes calls, for a person."""
    if not group.endpoints:
        return "there are no servers"
    if group.is_ready:
        return "every connected server has as many calls pending as it may have"
    states = [f"{e.name}: {_state(e)}" for e in dict.fromkeys(group.endpoints)]
    return f"no server is connected ({'; '.join(states)})"


def _state(endpoint: Endpoint) -> str:
    if endpoint.connection is not None:
        return "does not read what it is sent"
    return endpoint.last_failure or "connecting"


def _ignore(_group: Group) -> None:
    pass


def _not_started(_timeout: float, _call: PendingCall) -> float:
    raise RuntimeError(NOT_STARTED)
