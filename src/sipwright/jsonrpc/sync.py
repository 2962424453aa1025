"""The JSON-RPC client for code without asyncio (L2): the names of `client`, for any number of threads.

Nothing here or below it imports asyncio, starts a thread or keeps one.
"""

from __future__ import annotations

import random as random_module
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from sipwright.errors import RpcClosedError, RpcConnectionError
from sipwright.jsonrpc.arguments import check_rules, read_codes, read_methods
from sipwright.jsonrpc.framing import Framing, find_framing
from sipwright.jsonrpc.messages import encode_notification, encode_params
from sipwright.jsonrpc.outcome import CLOSED
from sipwright.jsonrpc.resolve import DnsResolver
from sipwright.jsonrpc.sync_batch import SyncBatch
from sipwright.jsonrpc.sync_caller import SyncCaller, Tries
from sipwright.jsonrpc.sync_calls import SyncCall, Waiter
from sipwright.jsonrpc.sync_connection import SyncConnection
from sipwright.jsonrpc.sync_pool import Servers, Settings, SyncResolver
from sipwright.jsonrpc.sync_servers import Rules, SyncGroup
from sipwright.jsonrpc.tls import Tls, check_tls
from sipwright.jsonrpc.turns import Policy
from sipwright.jsonrpc.typed import decoder_for

T = TypeVar("T")


class SyncClient:
    """A JSON-RPC client for threads.

        with SyncClient("localhost:9999,2 backup.example.org:9999,1", timeout=0.5) as client:
            user = client.call("get_user", {"id": 1234})
            client.notify("log", {"text": "seen"})

    The arguments are those of `Client` (`Caller` explains them), and so is what they mean, as far as it can be without
    anything that goes on beside the calls: a server is connected to when a call wants it, and asked again, after a
    failure or after it was left out, by a call that comes when the time for it has come. While other servers can take
    a call that is after `reconnect_interval` (seconds, doubled for each failure in a row up to 30 s); a call that
    nobody else can take asks at once. `resolver` has a `resolve_srv_now(name, timeout)`.

    Any number of threads may use it at a time; they share one connection to each server, with all calls in flight at
    once, but for the main thread, which has connections of its own (see `sync_lane`). A process that was forked begins
    with connections and counts of its own. Raises ArgumentError for a malformed server list, and for an argument that
    is none of its values.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        timeout: float = 5.0,
        retry: int = 0,
        groups: Mapping[str, Servers] | None = None,
        policy: Policy = "round_robin",
        policies: Mapping[str, Policy] | None = None,
        max_pending: int = 10_000,
        when_full: Literal["refuse", "wait"] = "refuse",
        max_waiting: int = 10_000,
        reconnect_interval: float = 3.0,
        max_conn_attempts: int = -1,
        max_size: int = 1 << 20,
        framing: str | Framing = "netstring",
        tls: Tls | None = None,
        resolver: SyncResolver | None = None,
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
        random: Callable[[], float] = random_module.random,
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
        self.timeout = timeout
        self.retry = retry
        self._idempotent_methods = read_methods(idempotent_methods)
        self._retry_codes = read_codes(retry_codes)
        self._retry_lost = retry_lost
        self._retry_delay = retry_delay
        self._hedge = hedge
        rules = Rules(max_pending, reconnect_interval, max_conn_attempts, max_failures, probe_interval, random)
        settings = Settings(
            policy=policy,
            policies=policies or {},
            when_full=when_full,
            max_waiting=max_waiting,
            max_size=max_size,
            framing=find_framing(framing),
            tls=tls,
            resolver=resolver or DnsResolver(),
            min_srv_ttl=min_srv_ttl,
            probe_method=probe_method,
        )
        self._caller = SyncCaller({"": servers, **(groups or {})}, rules, settings, cancel_method)
        self._pool = self._caller.pool

    # Life of the client

    def close(self, timeout: float = 0.0) -> None:
        """Wait up to `timeout` seconds for the answers to pending calls, end the rest as failures, and disconnect.

        In a signal handler that has interrupted a call, the call ends as a failure when the handler has ended.
        """
        if self._caller.is_reentered:
            self._caller.close_from_handler()
            return
        deadline = time.monotonic() + timeout
        while self.pending and time.monotonic() < deadline:
            # New calls may be made meanwhile; they have no more time than the others.
            time.sleep(min(0.01, timeout))
        self._caller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connected(self, timeout: float | None = None, *, group: str | None = None) -> None:
        """Connect to a server of the group, unless one is connected that takes calls; with None without limit.

        Raises RpcConnectionError, which says what was wrong with each server, after `timeout` seconds, or at once when
        no server will be asked again (`max_conn_attempts`); RpcClosedError when the client is closed; ArgumentError for
        an unknown group.
        """
        until = float("inf") if timeout is None else timeout
        self._have(self._pool.group(group), until, lambda _connection: True, "")

    # Calls

    @overload
    def call(
        self,
        method: str,
        params: Any = None,
        *,
        result: type[T],
        timeout: float | None = None,
        retry: int | None = None,
        idempotent: bool = False,
        group: str | None = None,
        hedge: float | None = None,
        retry_codes: Collection[int | range] | None = None,
    ) -> T: ...
    @overload
    def call(
        self,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        timeout: float | None = None,
        retry: int | None = None,
        idempotent: bool = False,
        group: str | None = None,
        hedge: float | None = None,
        retry_codes: Collection[int | range] | None = None,
    ) -> Any: ...
    def call(
        self,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        timeout: float | None = None,
        retry: int | None = None,
        idempotent: bool = False,
        group: str | None = None,
        hedge: float | None = None,
        retry_codes: Collection[int | range] | None = None,
    ) -> Any:
        """Call a method and return its result as Python objects, or as an object of the type `result`.

        The arguments are those of `Client.call`. `timeout` (seconds) covers everything, also waiting for a connection;
        only how long the system takes to resolve a name is beyond it. An exception that a signal handler raises
        (KeyboardInterrupt) gives the call up.

        Raises RpcAnswerError (the server's error: code, message, data), RpcTimeoutError, RpcConnectionError,
        RpcClosedError, RpcResultError (a result that is not of the type); TypeError for params that cannot be encoded
        and for a type that cannot be decoded; ArgumentError for an unknown group; RuntimeError in a signal handler that
        has interrupted a call.
        """
        decode = None if result is None else decoder_for(result)
        call = SyncCall(method, encode_params(params), Waiter())
        chosen = self._pool.group(group)
        tries = Tries(self.timeout if timeout is None else timeout)
        if retry is None:
            retry = self.retry
        if retry > 0 or hedge is not None or self._hedge is not None:
            self._plan(call, tries, retry, idempotent, self._hedge if hedge is None else hedge, retry_codes)
        self._caller.use(self._caller.run, call, chosen, tries)
        return call.value(decode)

    def _plan(
        self,
        call: SyncCall,
        tries: Tries,
        retry: int,
        idempotent: bool,
        hedge: float | None,
        codes: Collection[int | range] | None,
    ) -> None:
        """Plan the further tries of a call, as `Caller` does."""
        idempotent = idempotent or call.method in self._idempotent_methods
        if idempotent and hedge is not None:
            retry = max(retry, 1)
            tries.hedge = hedge
        elif idempotent:
            tries.slices = retry + 1
        call.tries_left = max(retry, 0)
        call.may_repeat = idempotent or self._retry_lost
        call.codes = self._retry_codes if codes is None else codes
        tries.delay = self._retry_delay

    def notify(
        self, method: str, params: Any = None, *, timeout: float | None = None, group: str | None = None
    ) -> None:
        """Send a notification, once a server can take it. It is not known whether the server received it.

        Raises RpcConnectionError when no server could take it within `timeout` seconds; TypeError and ArgumentError as
        `call` does.
        """
        payload = encode_notification(method, encode_params(params))
        sent: list[SyncConnection] = []

        def send(connection: SyncConnection) -> bool:
            before = connection.sent
            connection.write(payload)
            if connection.is_lost and connection.sent == before:
                return False
            self._caller.counts["notifications"] += 1
            sent.append(connection)
            return True

        until = self.timeout if timeout is None else timeout
        self._have(self._pool.group(group), until, send, f"the notification {method!r}: ")
        if sent[0].unsent:
            self._caller.use(self._let_leave, sent[0], time.monotonic() + until)

    def _let_leave(self, connection: SyncConnection, until: float) -> None:
        """Wait until a connection has sent what it was given: there may be no further call that would do it."""
        waiter = Waiter()
        while connection.unsent and not connection.is_lost and (now := time.monotonic()) < until:
            connection.lane.wait(waiter, min(until, now + 0.02))

    def _have(self, group: SyncGroup, timeout: float, send: Callable[[SyncConnection], bool], what: str) -> None:
        why_not = self._caller.use(self._pool.find, group, Waiter(), time.monotonic() + timeout, send)
        if why_not == CLOSED:
            raise RpcClosedError(CLOSED)
        if why_not:
            raise RpcConnectionError(f"{what}{why_not}")

    def batch(
        self,
        calls: Sequence[tuple[str, Any]] = (),
        *,
        timeout: float | None = None,
        group: str | None = None,
    ) -> SyncBatch:
        """Return a batch to fill and send, or to send at once: `client.batch([("add", [1, 2])]).send()`."""
        batch = SyncBatch(self._caller, self.timeout if timeout is None else timeout, self._pool.group(group))
        for method, params in calls:
            batch.call(method, params)
        return batch

    # What is known

    @property
    def pending(self) -> int:
        """How many calls have not ended."""
        return len(self._caller.in_flight)

    @property
    def connections(self) -> dict[str, int | None]:
        """The servers ("host:port") with the number of their requests in flight, None for one that is not connected."""
        with self._pool.lock:
            return {s.name: s.pending if s.connections else None for s in self._pool.servers.values()}

    def counters(self) -> dict[str, int]:
        """Return what happened since the start, as `Client.counters` does.

        `reconnects` are connections beyond the first one of each server, the main thread's counted by themselves.
        """
        return self._caller.counters()
