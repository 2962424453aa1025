"""The JSON-RPC client for `async` code (L2): the face of `caller` with Python objects, `await` and exceptions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from threading import get_ident
from typing import Any, TypeVar, overload

from sipwright.errors import RpcConnectionError
from sipwright.jsonrpc.awaiting import CallFuture, Waker
from sipwright.jsonrpc.batch import Batch
from sipwright.jsonrpc.caller import Caller
from sipwright.jsonrpc.calls import PendingCall
from sipwright.jsonrpc.connection import CALLBACK_FAULTS
from sipwright.jsonrpc.messages import encode_params
from sipwright.jsonrpc.typed import decoder_for

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class ClientEvent:
    """Something that happened in a client, at `time` (of the loop, in seconds).

    `kind` is "request" (sent to `server` with `id`; further tries too), "ok", "error", "timeout", "failure" or
    "cancelled" (a call has ended), "late", "doubled" or "unknown" (an answer that nobody waits for), "connected",
    "disconnected", "out" or "back" (a server). `call` has the rest: `tries`, and at the end `status`, `error` or
    `reason`; None where there is no call.
    """

    kind: str
    time: float
    server: str
    id: int | None = None
    call: PendingCall | None = None

    @property
    def method(self) -> str:
        """The method of the call; empty where there is none."""
        return "" if self.call is None else self.call.method

    @property
    def ms(self) -> int | None:
        """Milliseconds that the call took; None where it has not ended, and where there is none."""
        return None if self.call is None or self.kind == "request" or self.call.status is None else self.call.ms


class Client(Caller):
    """A JSON-RPC client of one event loop.

        async with Client("localhost:9999,2 backup.example.org:9999,1", timeout=0.5) as client:
            user = await client.call("get_user", {"id": 1234})
            await client.notify("log", {"text": "seen"})

    The arguments are those of `Caller`: `servers` is `"host:port,priority host:port,priority"` or a list of ServerSpec,
    `groups` further ones by name, `timeout` and `reconnect_interval` are in seconds. The servers of the highest
    priority that are connected get the calls, by turns; connections are made and made again in the background.
    """

    _thread: int | None = None
    _hooks: tuple[Callable[[ClientEvent], object], ...] = ()

    def add_hook(self, hook: Callable[[ClientEvent], object]) -> None:
        """Have a function told of each ClientEvent: for tracing, metrics. What it raises goes to the loop's handler."""
        if not self._hooks:
            self.watch = lambda kind, call, server, number: self._tell_hooks(kind, server, number, call)
            self.watch_servers = self._tell_hooks
        self._hooks = (*self._hooks, hook)

    def _tell_hooks(self, kind: str, server: str, number: int | None = None, call: PendingCall | None = None) -> None:
        event = ClientEvent(kind, self._clock(), server, number, call)
        for hook in self._hooks:
            try:
                hook(event)
            except CALLBACK_FAULTS as error:  # the boundary to the hook
                self._loop.call_exception_handler({"message": "error in a hook of the client", "exception": error})

    @overload
    def method(self, function: F, /) -> F: ...
    @overload
    def method(self, name: str, /) -> Callable[[F], F]: ...
    def method(self, function_or_name: F | str, /) -> F | Callable[[F], F]:
        """Register the decorated function, under its own name or the given one, for servers to call.

        To be done before the client is started. Raises ArgumentError when the name is taken.
        """
        if not isinstance(function_or_name, str):
            self.dispatcher.add(function_or_name.__name__, function_or_name)
            return function_or_name
        name = function_or_name

        def register(function: F) -> F:
            self.dispatcher.add(name, function)
            return function

        return register

    def start(self) -> None:
        """Begin to connect, in the running event loop. Returns at once; servers that are down are asked again."""
        super().start()
        self._waker = waker = Waker(self._loop)
        self._wake = waker.wake
        self._thread = get_ident()

    @overload
    async def call(
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
    async def call(
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
    async def call(
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

        `params` is anything that msgspec encodes to a JSON array or object: a list, a dict, a dataclass, a Struct; None
        sends no params. `result` is any type that msgspec decodes. `timeout` (seconds) covers everything, also waiting
        for a connection. `retry`, `idempotent`, `hedge` and `retry_codes` are explained in `tries`. Cancelling the
        awaiting task gives the call up.

        Raises RpcAnswerError (the server's error: code, message, data), RpcTimeoutError, RpcConnectionError,
        RpcClosedError, RpcResultError (a result that is not of the type); TypeError for params that cannot be encoded
        and for a type that cannot be decoded; ArgumentError for an unknown group; RuntimeError when the client was not
        started in this event loop.
        """
        # A call from another thread would harm the calls of this one before anything fails. Not by the running loop,
        # which costs 200 ns where this costs 40.
        if get_ident() != self._thread:
            self._check_loop()
        future = CallFuture(self._loop, None if result is None else decoder_for(result))
        future.call = call = PendingCall(method, encode_params(params), self._wake, future)
        try:
            self._begin(call, timeout, retry, idempotent, group, True, hedge, retry_codes)
        except RuntimeError:
            self._check_loop()
            raise
        return await future

    async def notify(
        self, method: str, params: Any = None, *, timeout: float | None = None, group: str | None = None
    ) -> None:
        """Send a notification, once a server can take it. It is not known whether the server received it.

        Raises RpcConnectionError when no server could take it within `timeout` seconds; TypeError and ArgumentError as
        `call` does.
        """
        self._check_loop()
        payload = encode_params(params)
        if not self.submit_notification(method, payload, group=group):
            await self.connected(self.timeout if timeout is None else timeout, group=group)
            # Between the connection and now, other tasks may have filled it or it may be lost again.
            if not self.submit_notification(method, payload, group=group):
                raise RpcConnectionError(f"no server can take the notification {method!r}")

    def batch(
        self,
        calls: Sequence[tuple[str, Any]] = (),
        *,
        timeout: float | None = None,
        group: str | None = None,
    ) -> Batch:
        """Return a batch to fill and send, or to await at once: `await client.batch([("add", [1, 2])])`."""
        batch = Batch(self, self.timeout if timeout is None else timeout, group)
        for method, params in calls:
            batch.call(method, params)
        return batch
