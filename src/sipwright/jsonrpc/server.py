"""The JSON-RPC server (L2): listens, calls the functions, answers; the functions' table is `dispatch`.

A plain function is called and answered in the same turn of the loop, without a task; an `async` one runs as a task.
At most `max_concurrent` of those run at a time: beyond that, requests wait in their order and their connections are
not read from, so that the other ends feel it. A client that does not read its answers is not read from either, and what
it has asked waits. Beyond `max_connections` clients, further ones are turned away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from sipwright.errors import StartError
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.dispatch import Dispatcher
from sipwright.jsonrpc.executor import Executor
from sipwright.jsonrpc.messages import Message
from sipwright.jsonrpc.peer import Peer
from sipwright.jsonrpc.serving import Serving

logger = logging.getLogger("sipwright.jsonrpc.server")

F = TypeVar("F", bound=Callable[..., Any])


class Server:
    """A JSON-RPC server over TCP with netstrings.

        server = Server()

        @server.method
        def add(a: int, b: int) -> int:
            return a + b

        @server.method("user.get")
        async def get_user(id: int) -> dict[str, str]:
            ...

        await server.start("127.0.0.1", 9999)
        await server.serve_forever()

    Parameters come by position or by name; those that do not fit the signature are answered with -32602. A function
    answers with an error by raising RpcAnswerError; any other exception is logged with its traceback and answered
    with -32603 without saying more. Results are what msgspec can encode. `max_concurrent` is how many async functions
    run at a time, `max_size` the largest request in bytes: a larger one ends its connection. `max_connections` is how
    many clients may be connected; one more is disconnected at once, and counted in `refused`.
    """

    def __init__(self, *, max_concurrent: int = 1000, max_connections: int = 1000, max_size: int = 1 << 20) -> None:
        self.dispatcher = Dispatcher()
        self.executor = Executor(max_concurrent=max_concurrent)
        self.refused = 0
        self._max_connections = max_connections
        self._max_size = max_size
        self._sessions: set[_Session] = set()
        self._is_full_told = False
        self._listener: asyncio.Server | None = None
        self._closed: asyncio.Event = asyncio.Event()

    @overload
    def method(self, function: F, /) -> F: ...
    @overload
    def method(self, name: str, /) -> Callable[[F], F]: ...
    def method(self, function_or_name: F | str, /) -> F | Callable[[F], F]:
        """Register the decorated function under its own name or the given one.

        Raises ArgumentError when the name is taken.
        """
        if not isinstance(function_or_name, str):
            self.dispatcher.add(function_or_name.__name__, function_or_name)
            return function_or_name
        name = function_or_name

        def register(function: F) -> F:
            self.dispatcher.add(name, function)
            return function

        return register

    def add_method(self, name: str, function: Callable[..., Any]) -> None:
        """Register a function. Raises ArgumentError when the name is taken, TypeError when it cannot be called."""
        self.dispatcher.add(name, function)

    # Life of the server

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Begin to listen; port 0 takes a free one (see `port`). Raises StartError when that cannot be done."""
        if self._listener is not None:
            raise StartError("the server was started already")
        if not 0 <= port <= 65535:
            raise StartError(f"cannot listen on {host}:{port}: the port is out of range, 0 to 65535")
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(lambda: _Session(self, loop).connection, host, port)
        except (OSError, UnicodeError) as error:
            raise StartError(f"cannot listen on {host}:{port}: {_reason(error)}") from error

    @property
    def port(self) -> int:
        """The port that is listened on. With several addresses, that of the first."""
        if self._listener is None or not self._listener.sockets:
            raise RuntimeError("the server does not listen")
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def serve_forever(self) -> None:
        """Wait until the server is closed. When the waiting task is cancelled, close the server.

        Raises RuntimeError when it was not started.
        """
        if self._listener is None and not self._closed.is_set():
            raise RuntimeError("the server was not started: call start() first")
        try:
            await self._closed.wait()
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self, timeout: float = 5.0) -> None:
        """Listen and read no more, give running functions `timeout` seconds to end, answer, and disconnect.

        Functions that take longer are cancelled and not answered.
        """
        if self._listener is not None:
            self._listener.close()
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
        self._closed.set()

    async def __aenter__(self) -> Self:
        if self._listener is None:
            await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def session_began(self, session: _Session) -> bool:
        """Take note of a connection. False: it is one too many."""
        if len(self._sessions) >= self._max_connections:
            self.refused += 1
            if not self._is_full_told:
                self._is_full_told = True
                logger.warning("%d JSON-RPC clients are connected: no more are let in", len(self._sessions))
            return False
        self._sessions.add(session)
        return True

    def session_ended(self, session: _Session) -> None:
        """Forget a connection."""
        self._sessions.discard(session)
        # Told again when they were fewer meanwhile by a tenth, and not for each one that goes and comes.
        if self._is_full_told and len(self._sessions) <= self._max_connections * 9 // 10:
            self._is_full_told = False


class _Session:
    """One client's connection, and the requests on it."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._is_connected = False
        self.serving = Serving(server.dispatcher, server.executor)
        peer: Peer[Any] = Peer(_ignore_answer, self.serving.requested)
        self.connection = Connection(loop, self, peer, "client", server._max_size)  # noqa: SLF001  same file
        self.serving.attach(self.connection)

    def connection_ready(self, connection: Connection, /) -> None:
        if self._is_connected:
            # It was blocked.
            self.serving.go_on()
        elif self._server.session_began(self):
            self._is_connected = True
        else:
            connection.abort("too many connections")

    def connection_blocked(self, _connection: Connection, /) -> None:
        self.serving.choose_reading()

    def connection_ended(self, _connection: Connection, reason: str, /) -> None:
        logger.debug("JSON-RPC client is gone: %s", reason)
        self.serving.connection_ended()
        self._server.session_ended(self)

    def stream_ended(self, connection: Connection, /) -> bool:
        # A client may say that it asks no more and still wait for answers.
        self.serving.when_done = connection.close
        if not self.serving.undone:
            connection.close()
        return True


def _ignore_answer(_call: Any, _message: Message) -> None:
    """Take the answer to a call; a server makes none."""


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
