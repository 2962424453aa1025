"""The callback core of the JSON-RPC client (L2): calls with deadlines and retries over groups of servers.

`submit` and `submit_notification` take and give JSON bytes and call back: nothing is awaited, no task or future is
made; the SIP router uses them. `client` puts the face for `async` code on top. The servers are `pool`, each of them
`endpoint`, the choice among them `groups`, ids `peer`, bytes `connection`, timeouts `deadlines`.

What becomes of a call is `ledger`.
"""

from __future__ import annotations

import asyncio
import math
import random as random_module
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from msgspec import UNSET

from sipwright.errors import JsonRpcParseError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec
from sipwright.jsonrpc.arguments import check_rules, read_codes, read_methods
from sipwright.jsonrpc.calls import PendingCall, Plan
from sipwright.jsonrpc.connecting import Connect, connect
from sipwright.jsonrpc.connection import Connection, Wakes
from sipwright.jsonrpc.dispatch import Dispatcher
from sipwright.jsonrpc.endpoint import Endpoint
from sipwright.jsonrpc.executor import Executor
from sipwright.jsonrpc.framing import Framing, find_framing
from sipwright.jsonrpc.groups import Group
from sipwright.jsonrpc.health import Health
from sipwright.jsonrpc.ledger import Ledger
from sipwright.jsonrpc.messages import (
    METHOD_NOT_FOUND,
    Message,
    encode_batch,
    encode_error,
    encode_notification,
    request_head,
)
from sipwright.jsonrpc.outcome import CLOSED, FAILURE
from sipwright.jsonrpc.peer import Peer
from sipwright.jsonrpc.pool import Pool, Servers
from sipwright.jsonrpc.resolve import DnsResolver, Resolver
from sipwright.jsonrpc.serving import Serving
from sipwright.jsonrpc.tls import Tls, check_tls
from sipwright.jsonrpc.tries import Tries
from sipwright.jsonrpc.turns import Policy

NOT_STARTED = "the client was not started: use 'async with', or call start()"
OTHER_LOOP = "the client belongs to another event loop: the one that ran when it was started"

Done = Callable[[Any, PendingCall], object]
WhenFull = Literal["refuse", "wait"]


class Caller(Ledger):
    """A JSON-RPC client of one event loop, for code with callbacks; `Client` is this and more.

    `servers` is `"host:port,priority host:port,priority"` or a list of ServerSpec; `groups` are further ones by name,
    for calls with `group=`. `timeout` (seconds, of a call with all its tries; infinity for no limit) and `retry` are
    what calls get that do not say otherwise. `max_size` is the largest answer in bytes.

    Servers: `policy` is how one of those with the highest priority is chosen, `round_robin` or `least_pending`;
    `policies` are those of groups that have another one, by name.
    `tls` is for `tls:` servers; without it the system's authorities vouch for them. `framing` is the same for all.
    `reconnect_interval` (seconds), `max_conn_attempts` and `random` are as in `OutgoingEndpoint`. The records of `srv:`
    names are asked of `resolver` again when they expire, but not before `min_srv_ttl` seconds.

    Bounds: `max_pending` is per server: beyond it the server takes no new calls. When none can take a call it fails,
    or with `when_full="wait"` waits its turn, as do calls for a first connection; at most `max_waiting` of each group.

    Further tries: `retry_codes` are codes of error answers after which another server is asked, numbers or ranges;
    `idempotent_methods` are those whose calls are idempotent without saying so; `retry_lost` lets all calls be sent
    again after a lost connection, which may carry them out twice. `retry_delay` and `hedge` (seconds) are explained in
    `tries`. `max_failures`, `probe_interval` and `probe_method` are those of `Health`.

    `cancel_method` names a notification `{"id": ...}` to send for a request in flight that is given up: by `cancel()`,
    by its deadline, or because another server's answer came first.

    Servers may call back on our connections: the methods of `dispatcher`, at most `max_concurrent` at a time. They have
    to be there before the connections are made.

    `watch`, once set, is told each `request` that is sent, further tries too; how each call ends (`ok`, `error`,
    `timeout` or `failure`, before `done` is called; `cancelled`); and each answer that is `late`, `doubled` or
    `unknown`. `watch_servers` is told which servers are `connected`, `disconnected`, `out` and `back`, by their names.

    Use it in `async with`, or call `start()` in the running loop and `close()` at the end. Raises ArgumentError for a
    malformed server list, and for an argument that is none of its values.
    """

    def __init__(
        self,
        servers: Servers = (),
        *,
        timeout: float = 5.0,
        retry: int = 0,
        groups: Mapping[str, Servers] | None = None,
        policy: Policy = "round_robin",
        policies: Mapping[str, Policy] | None = None,
        max_pending: int = 10_000,
        when_full: WhenFull = "refuse",
        max_waiting: int = 10_000,
        reconnect_interval: float = 3.0,
        max_conn_attempts: int = -1,
        max_size: int = 1 << 20,
        framing: str | Framing = "netstring",
        tls: Tls | None = None,
        resolver: Resolver | None = None,
        min_srv_ttl: float = 5.0,
        idempotent_methods: Collection[str] = (),
        retry_codes: Collection[int | range] = (),
        retry_lost: bool = False,
        retry_delay: float = 0.0,
        hedge: float | None = None,
        max_failures: int = 0,
        probe_interval: float = 1.0,
        probe_method: str = "rpc.ping",
        cancel_method: str | None = None,
        max_concurrent: int = 1000,
        random: Callable[[], float] = random_module.random,
        connect: Connect = connect,
    ) -> None:
        check_rules(
            timeout=timeout,
            retry=retry,
            max_pending=max_pending,
            max_waiting=max_waiting,
            reconnect_interval=reconnect_interval,
            max_size=max_size,
            min_srv_ttl=min_srv_ttl,
            retry_delay=retry_delay,
            hedge=hedge,
            max_failures=max_failures,
            probe_interval=probe_interval,
            when_full=when_full,
        )
        check_tls(tls)
        super().__init__(cancel_method=cancel_method, max_waiting=max_waiting, waits_when_full=when_full == "wait")
        self.timeout = timeout
        self.retry = retry
        self.notifications = self.malformed = 0
        self._max_size = max_size
        self._framing = find_framing(framing)
        self._idempotent_methods = read_methods(idempotent_methods)
        self._retry_codes = read_codes(retry_codes)
        self._retry_lost = retry_lost
        self._retry_delay = retry_delay
        self._hedge = hedge
        self._max_failures = max_failures
        self._probe_interval = probe_interval
        self._probe_method = probe_method
        self._random = random
        self.dispatcher = Dispatcher()
        self.executor = Executor(max_concurrent=max_concurrent)
        self._pool = Pool(
            {"": servers, **(groups or {})},
            self,
            policy=policy,
            policies=policies or {},
            max_pending=max_pending,
            reconnect_interval=reconnect_interval,
            max_conn_attempts=max_conn_attempts,
            random=random,
            connect=connect,
            tls=tls,
            resolver=resolver or DnsResolver(),
            min_srv_ttl=min_srv_ttl,
        )
        self._default = Group("", _ignore)
        self._lost_peers = [0, 0, 0]
        # Set by `Client`, which has tasks that wait.
        self._waker: Wakes | None = None
        self._started_in: asyncio.AbstractEventLoop | None = None
        self._start_deadline: Callable[[float, Any], float] = _not_started

    # Life of the client

    def start(self) -> None:
        """Begin to connect, in the running event loop. Returns at once; servers that are down are asked again."""
        if self._started_in is not None:
            raise RuntimeError("the client was started before")
        self._started_in = loop = asyncio.get_running_loop()
        self._open(
            loop,
            Tries(loop, self, self._retry_delay, self._random),
            partial(
                Health,
                loop,
                max_failures=self._max_failures,
                interval=self._probe_interval,
                method=self._probe_method,
                timeout=min(self.timeout, 5.0),
            ),
        )
        self._default = self._pool.start(loop)

    async def close(self, timeout: float = 0.0) -> None:
        """Wait up to `timeout` seconds for the answers to pending calls, end the rest as failures, and disconnect.

        Cancelled, it waits no longer, and closes all the same.
        """
        if self._started_in is None:
            return
        deadline = self._clock() + timeout
        try:
            while self.pending and self._clock() < deadline:
                # New calls may be made meanwhile; they have no more time than the others.
                await asyncio.sleep(min(0.02, timeout))
        finally:
            self._stop()
        await self.executor.finish(self._clock())
        await self._pool.disconnected(self._clock)

    def _stop(self) -> None:
        self._is_closed = True
        self._pool.stop()
        for connection in self._pool.connections():
            self._take_calls(connection, CLOSED)
        for call in self._deadlines.calls():
            # Those that wait for a server, or for their next try.
            if isinstance(call, PendingCall):
                self._end(call, FAILURE, CLOSED)
        if self._armed is not None:
            self._armed.cancel()

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
        hedge: float | None = None,
        retry_codes: Collection[int | range] | None = None,
        avoid: Collection[str] = (),
    ) -> PendingCall:
        """Make a call, and have `done(argument, call)` called exactly once, when it has ended; never from in here.

        `params` is JSON (an array or an object; not checked), None for no params member; `timeout` is in seconds. With
        `hedge` and no `retry` there is one further try, with infinity for `hedge` no second server is asked beside the
        first; what is not given is as the client has it. The outcome is the
        returned object itself. When no server can take the call it ends as a failure in the next turn
        of the loop; but a call made while the first attempt to connect is still under way waits for it, and one with
        `wait` for any connection, both within the deadline. The servers in `avoid` (names, as `PendingCall.server`) are
        asked first only where no other can be. After `cancel()` of the returned object, `done` is not called.

        Raises ArgumentError for an unknown group, ValueError for a method that is no Unicode text.
        """
        call = PendingCall(method, params, done, argument)
        self._begin(call, timeout, retry, idempotent, group, wait, hedge, retry_codes, avoid)
        return call

    def _begin(
        self,
        call: PendingCall,
        timeout: float | None,
        retry: int | None,
        idempotent: bool,
        group: str | None,
        wait: bool,
        hedge: float | None = None,
        codes: Collection[int | range] | None = None,
        avoid: Collection[str] = (),
    ) -> None:
        head = request_head(call.method)
        chosen = self._default if group is None else self._group(group)  # 50 ns for the call
        if timeout is None:
            timeout = self.timeout
        if retry is None:
            retry = self.retry
        call.owner = self
        if retry > 0 or hedge is not None or self._hedge is not None:
            timeout = self._plan(call, chosen, timeout, retry, idempotent, hedge, codes)
        call.started = self._start_deadline(timeout, call)
        self.calls += 1
        connection = chosen.pick() if not avoid else chosen.pick_other(avoid) or chosen.pick()
        if connection is None:
            self._waiting.add(call, chosen, wait, CLOSED if self._is_closed else "")
        elif call.plan is None:
            call.connection = connection
            connection.ask(call, head)
            if self.watch is not None:
                self.watch("request", call, connection.server, call.id)
        else:
            self.send(call, connection)

    def _plan(
        self,
        call: PendingCall,
        group: Group,
        timeout: float,
        retry: int,
        idempotent: bool,
        hedge: float | None,
        codes: Collection[int | range] | None,
    ) -> float:
        """Plan the tries of a call; return the time that its first part has."""
        idempotent = idempotent or call.method in self._idempotent_methods
        if hedge is None:
            hedge = self._hedge
        if not idempotent or hedge == math.inf:
            hedge = None
        elif hedge is not None:
            retry = max(retry, 1)
        if retry <= 0:
            return timeout
        slices = retry + 1 if idempotent and hedge is None else 1
        call.plan = Plan(
            group,
            retry,
            may_repeat=idempotent or self._retry_lost,
            codes=self._retry_codes if codes is None else codes,
            slices=slices,
            slice_=timeout / slices,
            hedge=hedge,
        )
        return timeout / slices

    def submit_notification(self, method: str, params: bytes | None, *, group: str | None = None) -> bool:
        """Send a notification. True once it is queued on a live connection, False when no server can take it.

        Raises ArgumentError for an unknown group, ValueError for a method that is no Unicode text.
        """
        payload = encode_notification(method, params)
        chosen = self._group(group)
        connection = chosen.pick() or chosen.pick_any()
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

        A batch waits for no server that is full, and may be more calls than a server is to have.
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
            call.owner = self
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

    # Servers at run time

    def add_group(self, name: str) -> None:
        """Add a group without servers; nothing when there is one of that name."""
        self._pool.add_group(name)

    def add_server(self, spec: ServerSpec, group: str = "") -> None:
        """Add a server to a group.

        One that is there gets its priority and weight anew, is not drained any longer, and is asked again if it was
        given up.

        Raises ArgumentError for an unknown group.
        """
        self._pool.add_server(spec, group)

    def drain_server(self, address: ServerAddress, group: str | None = None) -> int:
        """Let a server have no new calls, in one group or (None) in all; return how many are in flight there.

        Raises ArgumentError when there is no such server.
        """
        return self._pool.drain_server(address, group)

    def remove_server(self, address: ServerAddress, group: str | None = None) -> None:
        """Take a server out of one group or (None) of all. Calls in flight go on; then its connection is closed.

        One of those that an srv name stands for is asked again once the records of the name change and still have it.

        Raises ArgumentError when there is no such server.
        """
        self._pool.remove_server(address, group)

    def servers(self) -> list[dict[str, Any]]:
        """Return what is known of each server in each group.

        Members: group, address, priority, weight, state (connected, connecting, blocked, out, drained, draining,
        given_up), pending, calls (requests sent), failures (calls without an answer), reason (of the last failure).
        """
        return self._pool.describe()

    # What is known

    @property
    def pending(self) -> int:
        """How many calls have not ended."""
        return 0 if self._started_in is None else len(self._deadlines) - self._health.pending

    @property
    def connections(self) -> dict[str, int | None]:
        """The servers ("host:port") with the number of their requests in flight, None for one that is not connected."""
        return {e.name: None if e.connection is None else len(e.connection.pending) for e in self._pool.endpoints}

    def counters(self) -> dict[str, int]:
        """Return what happened since the start.

        `calls` is the sum of results, errors, timeouts, failures, cancelled and pending. `retries` and `hedges` are
        further requests for them. Answers that nobody waited for are `late`, `doubled` or `unknown`; `malformed` are
        payloads that were not JSON-RPC; `reconnects` are connections beyond the first one of each server, `blocked` how
        often one of them did not read what it was sent; `waiting` are the pending calls that no server has taken yet,
        `out` the servers that are left out.
        """
        late, doubled, unknown = self._lost_peers
        for connection in self._pool.connections():
            peer = connection.peer
            late, doubled, unknown = late + peer.late, doubled + peer.doubled, unknown + peer.unknown
        is_started = self._started_in is not None
        return {
            "calls": self.calls,
            "results": self.results,
            "errors": self.errors,
            "timeouts": self.timeouts,
            "failures": self.failures,
            "cancelled": self.cancelled,
            "pending": self.pending,
            "waiting": len(self._waiting),
            "retries": self._tries.retries if is_started else 0,
            "hedges": self._tries.hedges if is_started else 0,
            "notifications": self.notifications,
            "late": late,
            "doubled": doubled,
            "unknown": unknown,
            "malformed": self.malformed,
            "reconnects": self._pool.reconnects,
            "blocked": self._pool.blocked,
            "out": sum(endpoint.is_out for endpoint in self._pool.endpoints),
        }

    # What the pool tells

    def group_changed(self, group: Group) -> None:
        """Send or end the calls that wait for a server of a group (called by the pool)."""
        if self._queues and not self._is_closed:
            self._waiting.group_changed(group)

    def endpoint_connected(self, endpoint: Endpoint) -> None:
        """Take note of a connection (called by the pool)."""
        self._health.connected(endpoint)
        self._tell_server("connected", endpoint)

    def endpoint_lost(self, connection: Connection, reason: str) -> None:
        """Take the calls of a connection that is gone (called by the pool)."""
        peer = connection.peer
        for index, count in enumerate((peer.late, peer.doubled, peer.unknown)):
            self._lost_peers[index] += count
        self._health.lost(connection)
        if self.watch_servers is not None:
            self.watch_servers("disconnected", connection.server)
        self._take_calls(connection, reason)

    def _group(self, name: str | None) -> Group:
        return self._default if name is None else self._pool.group(name)

    def make_connection(self, endpoint: Endpoint) -> Connection:
        """Return a connection for a server (called by the pool)."""
        connection = self._connection(
            endpoint, lambda messages, is_batch: self._requested(endpoint, messages, is_batch)
        )
        if self.dispatcher.methods():
            endpoint.serving = Serving(self.dispatcher, self.executor)
            endpoint.serving.attach(connection)
        return connection

    def _connection(
        self, endpoint: Endpoint, requested: Callable[[list[Message | JsonRpcParseError], bool], object]
    ) -> Connection:
        def stray(what: str, number: int | None) -> None:
            if self.watch is not None:
                self.watch(what, None, endpoint.name, number)

        def answered(call: PendingCall, message: Message) -> None:
            endpoint.failures = 0
            self._answered(call, message)

        peer: Peer[Any] = Peer(answered if self._max_failures else self._answered, requested, stray)
        connection = Connection(self._loop, endpoint, peer, endpoint.name, self._max_size, self._framing)
        connection.limit = endpoint.max_pending
        connection.waker = self._waker
        return connection

    def _requested(self, endpoint: Endpoint, messages: list[Message | JsonRpcParseError], is_batch: bool) -> None:
        """Take what a server asks. What is no request is counted and not answered: it may be an answer gone wrong."""
        requests: list[Message | JsonRpcParseError] = [
            message for message in messages if isinstance(message, Message) and message.method is not None
        ]
        self.malformed += len(messages) - len(requests)
        if not requests:
            return
        if endpoint.serving is not None:
            endpoint.serving.requested(requests, is_batch)
        elif endpoint.connection is not None:
            _refuse(endpoint.connection, requests)


def _refuse(connection: Connection, requests: list[Message | JsonRpcParseError]) -> None:
    """Answer that there are no methods.

    A server that does not read gets no answers: they would fill the memory.
    """
    for request in requests:
        assert isinstance(request, Message)
        if request.id is not UNSET and not connection.is_blocked:
            connection.write(encode_error(request.id, METHOD_NOT_FOUND, "Method not found"))


def _ignore(_group: Group) -> None:
    pass


def _not_started(_timeout: float, _call: PendingCall) -> float:
    raise RuntimeError(NOT_STARTED)
