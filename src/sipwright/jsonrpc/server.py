"""The JSON-RPC server (L2): what it is told to serve, where it listens, and how it ends.

The functions' table is `dispatch`, connections are `session`, what is asked on them is `serving`, listening sockets are
`listeners`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from msgspec import Raw

from sipwright.errors import ArgumentError, RpcAnswerError, StartError
from sipwright.jsonrpc import openrpc
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.auth import Auth, make_check
from sipwright.jsonrpc.dispatch import Dispatcher, Method, is_async
from sipwright.jsonrpc.executor import Executor, Hook
from sipwright.jsonrpc.framing import Framing, find_framing
from sipwright.jsonrpc.limits import Limits
from sipwright.jsonrpc.listeners import Listener, listen, parse_listen
from sipwright.jsonrpc.messages import MAX_BATCH, encode_json
from sipwright.jsonrpc.middleware import Middleware
from sipwright.jsonrpc.rpc_connection import RemoteDeadlines, RpcConnection
from sipwright.jsonrpc.session import Session, SessionOptions
from sipwright.jsonrpc.tls import Tls, check_tls

logger = logging.getLogger("sipwright.jsonrpc.server")

MAX_KEEPALIVE = 32767
"""Seconds: what TCP has room for (tcp(7), TCP_KEEPIDLE)."""

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M", bound=Middleware)
H = TypeVar("H", bound=Hook)
E = TypeVar("E", bound=BaseException)


class Server:
    """A JSON-RPC server.

        server = Server()

        @server.method
        def add(a: int, b: int) -> int:
            return a + b

        @server.method("user.get", timeout=1.0)
        async def get_user(id: int) -> dict[str, str]:
            ...

        await server.listen("tcp:127.0.0.1:9999")
        await server.serve_forever()

    Parameters come by position or by name and are converted to the annotated types; those that do not fit the signature
    are answered with -32602. A function answers with an error by raising RpcAnswerError; any other exception is logged
    with its traceback and answered with -32603 without saying more. Results are what msgspec can encode.

    What runs: `max_concurrent` is how many async functions and threads run at a time, over all clients. `concurrency`,
    `rate`, `timeout` and `threads` are what methods get that do not say otherwise (see `method`); there are
    `max_threads` threads.

    Who may connect: `max_connections` is how many clients may be connected; one more is disconnected at once, and
    counted in `refused`. `tls` is for listening on `tls:`. With `auth`, a client has to call `rpc.auth` with
    `{"token": ...}` first, within `auth_timeout` seconds, unless its certificate says who it is: `auth` is the token, a
    dict of tokens with whom they belong to, or a function, plain or async, that is given the token and returns who has
    it (`RpcConnection.identity`), None for nobody. `idle_timeout` disconnects clients that ask nothing for so many
    seconds, at the latest for twice as many. After `keepalive` seconds TCP begins to look whether a silent client is
    still there, with None never.

    Sizes: `max_size` is the largest request in bytes: a larger one ends its connection. A larger answer than
    `max_response` bytes becomes an error; a batch of more than `max_batch` messages (at most 10000) is refused.

    On the wire: `framing` is the name of a framing, or a Framing. With `cancel_method`, clients cancel calls by a
    notification of that name, with `{"id": ID}`. `rpc.ping` answers "pong"; `rpc.discover`, unless `discover` is False,
    the OpenRPC document of the methods, with this `title` and `version`.

    Raises ArgumentError for a value that cannot be.
    """

    def __init__(
        self,
        *,
        max_concurrent: int = 1000,
        max_connections: int = 1000,
        max_size: int = 1 << 20,
        max_response: int | None = None,
        max_batch: int = MAX_BATCH,
        framing: str | Framing = "netstring",
        tls: Tls | None = None,
        threads: bool = False,
        max_threads: int = 32,
        concurrency: float | None = None,
        rate: float | None = None,
        timeout: float | None = None,
        auth: Auth | None = None,
        auth_timeout: float = 10.0,
        cancel_method: str | None = None,
        idle_timeout: float | None = None,
        keepalive: float | None = 60.0,
        discover: bool = True,
        title: str = "JSON-RPC service",
        version: str = "1.0.0",
    ) -> None:
        for name, value, most in (
            ("max_concurrent", max_concurrent, math.inf),
            ("max_connections", max_connections, math.inf),
            ("max_size", max_size, math.inf),
            ("max_response", max_response, math.inf),
            ("max_threads", max_threads, math.inf),
            ("auth_timeout", auth_timeout, math.inf),
            ("idle_timeout", idle_timeout, math.inf),
            ("keepalive", keepalive, MAX_KEEPALIVE),
        ):
            if value is not None and not 0 < value <= most:
                bound = "" if most == math.inf else f" and up to {most}"
                raise ArgumentError(f"{name} is a number above 0{bound}, not {value!r}")
        check_tls(tls)
        self.dispatcher = Dispatcher(RpcConnection)
        self.executor = Executor(
            max_concurrent=max_concurrent,
            max_threads=max_threads,
            max_response=max_response,
            max_batch=max_batch,
            cancel_method=cancel_method,
        )
        self.refused = 0
        self.session_options = SessionOptions(
            max_size, None if auth is None else make_check(auth), auth_timeout, idle_timeout, keepalive
        )
        if auth is not None:
            self.executor.is_plain = False
        self._max_connections = max_connections
        self._framing = find_framing(framing)
        self._tls = tls
        self._defaults = Limits(threads, concurrency, rate, timeout)
        self._title, self._version = title, version
        self._sessions: dict[Session, None] = {}
        self._is_full_told = False
        self._is_started = False
        self.deadlines = RemoteDeadlines()
        # The methods that `rpc.discover` described last, and what it said.
        self._described: tuple[list[Method], Raw] = ([], Raw())
        self._listeners: list[Listener] = []
        self._closed = asyncio.Event()
        self.dispatcher.add("rpc.ping", _pong, is_builtin=True)
        if discover:
            self.dispatcher.add(openrpc.DISCOVER, self._discover, is_builtin=True)

    # What is served

    @overload
    def method(self, function: F, /) -> F: ...
    @overload
    def method(
        self,
        name: str | None = None,
        /,
        *,
        thread: bool | None = None,
        concurrency: float | None = None,
        rate: float | None = None,
        timeout: float | None = None,
    ) -> Callable[[F], F]: ...
    def method(
        self,
        function_or_name: F | str | None = None,
        /,
        *,
        thread: bool | None = None,
        concurrency: float | None = None,
        rate: float | None = None,
        timeout: float | None = None,
    ) -> F | Callable[[F], F]:
        """Register the decorated function under its own name or the given one.

        `thread`: a plain function is called in a thread, and may block there. `concurrency` is how many calls of it run
        at a time: up to 1000 more wait, one more is answered -32003. `rate` is how many begin in a second; beyond it
        they are answered -32002, with the seconds to wait in `data`. After `timeout` seconds (from when the request was
        taken up) a call is cancelled and answered -32004; a thread goes on, and its result is dropped. What is None is
        as the server has it; infinity is no limit.

        A parameter with the annotation RpcConnection gets the client's connection and is no part of the params.

        Raises ArgumentError when the name is taken, or JSON cannot be converted to the type of a parameter.
        """
        return self.dispatcher.decorate(function_or_name, self._limits(thread, concurrency, rate, timeout))

    def add_method(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        thread: bool | None = None,
        concurrency: float | None = None,
        rate: float | None = None,
        timeout: float | None = None,
    ) -> None:
        """Register a function. Raises ArgumentError as `method` does, TypeError for what cannot be called."""
        self.dispatcher.add(name, function, self._limits(thread, concurrency, rate, timeout))

    def add_service(
        self,
        service: object,
        prefix: str = "",
        *,
        thread: bool | None = None,
        concurrency: float | None = None,
        rate: float | None = None,
        timeout: float | None = None,
    ) -> None:
        """Register the public methods of an object, each under `prefix` and its name; the limits are of each of them.

        Raises ArgumentError as `method` does, and when there is none.
        """
        self.dispatcher.add_service(service, prefix, self._limits(thread, concurrency, rate, timeout))

    def middleware(self, function: M) -> M:
        """Put an async function around every call, inside of those that were registered before.

        It is called with an RpcRequest and `call_next`, and what it returns is the result: that of
        `await call_next(request)`, or another. Raises ArgumentError for a function that is not async.
        """
        if not is_async(function):
            raise ArgumentError(f"a middleware is an async function, which {function!r} is not")
        self.executor.add_middleware(function)
        return function

    def error(
        self, *classes: type[BaseException], code: int, message: str | None = None
    ) -> Callable[[Callable[[E], Any]], Callable[[E], Any]]:
        """Answer exceptions of these classes with the error `code`, and `message` or else the text of the exception.

        As a decorator, `@server.error(KeyError, code=404)`, of a function that is given the exception and returns the
        error's `data`.
        """

        def register(describe: Callable[[E], Any] | None) -> None:
            def make(error: E) -> RpcAnswerError:
                text = (str(error) or type(error).__name__) if message is None else message
                return RpcAnswerError(code, text, None if describe is None else describe(error))

            for kind in classes:
                self.executor.add_error(kind, make)

        def decorate(describe: Callable[[E], Any]) -> Callable[[E], Any]:
            register(describe)
            return describe

        register(None)
        return decorate

    def hook(self, function: H) -> H:
        """Have a function told of each ServerEvent: connections that come and go, calls that start and end."""
        self.executor.add_hook(function)
        return function

    def discover(self) -> dict[str, Any]:
        """Return the OpenRPC document of the methods (what `rpc.discover` answers)."""
        return openrpc.document(self.dispatcher.methods(), self._title, self._version)

    def _discover(self) -> Raw:
        methods = self.dispatcher.methods()
        if methods != self._described[0] or not methods:
            self._described = methods, Raw(encode_json(self.discover()))
        return self._described[1]

    def _limits(
        self, thread: bool | None, concurrency: float | None, rate: float | None, timeout: float | None
    ) -> Limits:
        return self._defaults.changed(thread, concurrency, rate, timeout)

    # Life of the server

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on a host and a port, with TLS where the server has `tls`; once. Raises as `listen` does."""
        if self._is_started:
            raise StartError("the server was started already")
        await self.listen(ServerAddress(host, port, "tcp" if self._tls is None else "tls"))
        self._is_started = True

    async def listen(
        self,
        address: str | ServerAddress | socket.socket,
        *,
        framing: str | Framing | None = None,
        tls: Tls | None = None,
        mode: int = 0o600,
    ) -> ServerAddress:
        """Begin to listen on one more address, and return it: with port 0, it is the one that was free.

        `address` is `"tcp:host:port"`, `"tls:host:port"` or `"unix:/path"`, an IPv6 address in brackets, or a socket
        that is bound. `framing` and `tls` are as for the server, for those who connect there; a socket has TLS where
        `tls` is given. `mode` are the permissions of the file of a Unix socket.

        Raises ArgumentError for an address that is none, StartError when it cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        if isinstance(address, str):
            address = parse_listen(address)
        frames = self._framing if framing is None else find_framing(framing)
        context = None
        if isinstance(address, socket.socket):
            context = None if tls is None else tls.server_context()
        elif address.kind == "tls":
            tls = tls or self._tls
            if tls is None:
                raise ArgumentError(f"to listen on {address}, the server needs tls=Tls(...)")
            context = tls.server_context()
        listener = await listen(address, lambda: Session(self, loop, frames).connection, context, mode)
        self._listeners.append(listener)
        return listener.addresses[0]

    @property
    def addresses(self) -> list[ServerAddress]:
        """Where is listened, in the order in which that began; a name that has several addresses is several of them."""
        return [address for listener in self._listeners for address in listener.addresses]

    @property
    def port(self) -> int:
        """The port that is listened on. With several addresses, that of the first."""
        ports = [address.port for address in self.addresses if address.kind != "unix"]
        if not ports:
            raise RuntimeError("the server does not listen")
        return ports[0]

    async def serve_forever(self) -> None:
        """Wait until the server is closed. When the waiting task is cancelled, close the server.

        Raises RuntimeError when it was not started.
        """
        if not self._listeners and not self._closed.is_set():
            raise RuntimeError("the server was not started: call start() first")
        try:
            await self._closed.wait()
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self, timeout: float = 5.0) -> None:
        """Listen and read no more, give running functions `timeout` seconds to end, answer, and disconnect.

        Functions that take longer are cancelled and not answered; one in a thread goes on by itself.
        """
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for session in self._sessions:
            session.serving.stop_reading()
        now = asyncio.get_running_loop().time
        deadline = now() + timeout
        while any(session.connection.is_behind for session in self._sessions) and now() < deadline:
            # Requests that were read, but so many at once that they are taken by turns.
            await asyncio.sleep(0)
        await self.executor.finish(deadline)
        for session in list(self._sessions):
            session.connection.close()
        # A connection closes once its client has read the answers; it gets what is left of the time for that.
        await asyncio.sleep(0)
        while self._sessions and now() < deadline:
            await asyncio.sleep(0.01)
        for session in list(self._sessions):
            session.connection.abort("the server was closed")
        self.deadlines.stop()
        self._closed.set()

    async def __aenter__(self) -> Self:
        if not self._listeners:
            await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Connections

    @property
    def connections(self) -> list[RpcConnection]:
        """The clients that are connected."""
        return [session.remote for session in self._sessions]

    def counters(self) -> dict[str, int]:
        """Return what happened since the start.

        `requests`, batches one by one and notifications too, is the sum of `results`, `errors`, `notifications`,
        `cancelled` and `running`. Errors are also answers to what was no request. `connections` are there now,
        `refused` were too many.
        """
        return {**self.executor.counters(), "connections": len(self._sessions), "refused": self.refused}

    def session_began(self, session: Session) -> bool:
        """Take note of a connection. False: it is one too many."""
        if len(self._sessions) >= self._max_connections:
            self.refused += 1
            if not self._is_full_told:
                self._is_full_told = True
                logger.warning("%d JSON-RPC clients are connected: no more are let in", len(self._sessions))
            return False
        self._sessions[session] = None
        return True

    def session_ended(self, session: Session) -> None:
        """Forget a connection."""
        self._sessions.pop(session, None)
        # Told again when they were fewer meanwhile by a tenth, and not for each one that goes and comes.
        if self._is_full_told and len(self._sessions) <= self._max_connections * 9 // 10:
            self._is_full_told = False


def _pong() -> str:
    return "pong"
