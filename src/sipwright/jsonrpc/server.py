"""The JSON-RPC server (L2): listens, calls the functions, answers; the functions' table is `dispatch`.

A plain function is called and answered in the same turn of the loop, without a task; an `async` one runs as a task.
At most `max_concurrent` of those run at a time: beyond that, requests wait in their order and their connections are
not read from, so that the other ends feel it. A client that does not read its answers is not read from either, and what
it has asked waits. Beyond `max_connections` clients, further ones are turned away.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from types import CoroutineType, TracebackType
from typing import Any, Self, TypeVar, overload

from msgspec import UNSET

from sipwright.errors import JsonRpcParseError, RpcAnswerError, StartError
from sipwright.jsonrpc.connection import CALLBACK_FAULTS, Connection
from sipwright.jsonrpc.dispatch import Dispatcher
from sipwright.jsonrpc.messages import (
    INTERNAL_ERROR,
    Id,
    Message,
    check_request,
    encode_batch,
    encode_error,
    encode_json,
    encode_result,
)
from sipwright.jsonrpc.peer import Peer

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
        self.refused = 0
        self._max_concurrent = max_concurrent
        self._max_connections = max_connections
        self._max_size = max_size
        self._sessions: set[_Session] = set()
        self._is_full_told = False
        self._tasks: set[asyncio.Task[None]] = set()
        # Sessions with requests that wait for a task to end, each once, in the order of their turn.
        self._queue: deque[_Session] = deque()
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
            session.stop_reading()
        now = asyncio.get_running_loop().time
        deadline = now() + timeout
        while any(session.connection.is_behind for session in self._sessions) and now() < deadline:
            # Requests that were read, but so many at once that they are taken by turns.
            await asyncio.sleep(0)
        # A task that ends may let a waiting request start another one.
        while self._tasks and (left := deadline - now()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        self._queue.clear()
        late = list(self._tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
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

    # Tasks

    @property
    def is_full(self) -> bool:
        """True while as many async functions run as may run."""
        return len(self._tasks) >= self._max_concurrent

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run an async function as a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def wait(self, session: _Session) -> None:
        """Have `session.go_on()` called once a task has ended."""
        if not session.is_queued:
            session.is_queued = True
            self._queue.append(session)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        while self._queue and not self.is_full:
            session = self._queue.popleft()
            session.is_queued = False
            session.go_on()

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


class _Batch:
    """Collects the answers of one batch until all of its requests are done."""

    __slots__ = ("answers", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.answers: list[bytes] = []


class _Session:
    """One client's connection: its requests that wait, and how many are not done."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._dispatcher = server.dispatcher
        self._waiting: deque[tuple[Message | JsonRpcParseError, _Batch | None]] = deque()
        self._undone = 0
        self.is_queued = False
        self._is_connected = False
        self._is_stopped = False
        self._is_at_end = False
        peer: Peer[Any] = Peer(_ignore_answer, self._requested)
        self.connection = Connection(loop, self, peer, "client", server._max_size)  # noqa: SLF001  same file

    # What comes from the connection

    def connection_ready(self, connection: Connection, /) -> None:
        if self._is_connected:
            # It was blocked.
            self.go_on()
        elif self._server.session_began(self):
            self._is_connected = True
        else:
            connection.abort("too many connections")

    def connection_blocked(self, _connection: Connection, /) -> None:
        self._choose_reading()

    def connection_ended(self, _connection: Connection, reason: str, /) -> None:
        logger.debug("JSON-RPC client is gone: %s", reason)
        self._waiting.clear()
        self._server.session_ended(self)

    def stream_ended(self, connection: Connection, /) -> bool:
        # A client may say that it asks no more and still wait for answers.
        self._is_at_end = True
        if not self._undone:
            connection.close()
        return True

    def stop_reading(self) -> None:
        """Take no more requests; those that were read are done."""
        self._is_stopped = True
        self._choose_reading()

    def _choose_reading(self) -> None:
        self.connection.read(not (self._waiting or self._is_stopped or self.connection.is_blocked))

    # Requests

    def _requested(self, messages: list[Message | JsonRpcParseError], is_batch: bool) -> None:
        batch = _Batch(len(messages)) if is_batch else None
        self._undone += len(messages)
        for message in messages:
            if self._waiting or self.connection.is_blocked:
                # Blocked by the answers to requests of the same turn: what is not read yet is not read at all.
                self._waiting.append((message, batch))
            elif self._server.is_full:
                self._waiting.append((message, batch))
                self._server.wait(self)
                self._choose_reading()
            else:
                self._handle(message, batch)

    def go_on(self) -> None:
        """Handle requests that waited, until all are done, as many run as may run, or the answers are not read."""
        while self._waiting:
            if self.connection.is_blocked:
                return
            if self._server.is_full:
                self._server.wait(self)
                return
            self._handle(*self._waiting.popleft())
        self._choose_reading()

    def _handle(self, message: Message | JsonRpcParseError, batch: _Batch | None) -> None:
        fault = message if isinstance(message, JsonRpcParseError) else check_request(message)
        if fault is not None:
            text = "Parse error" if fault.code == -32700 else "Invalid Request"
            self._answer(encode_error(fault.request_id, fault.code, text, encode_json(fault.message)), batch)
            return
        # What the check made sure of.
        assert isinstance(message, Message)
        assert message.method is not None
        try:
            result = self._dispatcher.call(message.method, message.params)
        except CALLBACK_FAULTS as error:  # the boundary to the functions
            self._answer(self._failed(message, error), batch)
            return
        if type(result) is CoroutineType:
            self._server.run(self._finish(result, message, batch))
        else:
            self._answer(self._encode(message, result), batch)

    async def _finish(self, function: Coroutine[Any, Any, Any], message: Message, batch: _Batch | None) -> None:
        try:
            # Meanwhile the connection may be lost (the answer is dropped) or the server be closed (this is cancelled).
            answer = self._encode(message, await function)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                self._answer(None, batch)
                raise
            # Something that the function waited for was cancelled, not the function.
            answer = self._failed(message, RuntimeError("cancelled"))
        except Exception as error:  # the boundary to the functions
            answer = self._failed(message, error)
        self._answer(answer, batch)

    def _encode(self, message: Message, result: Any) -> bytes | None:
        if message.id is UNSET:
            return None
        try:
            return encode_result(message.id, encode_json(result))
        except Exception as error:  # what cannot be encoded is the function's fault
            return self._failed(message, error)

    def _failed(self, message: Message, error: BaseException) -> bytes | None:
        """Return the answer for an exception of a function; log it unless the function meant it."""
        request_id: Id | None = None if message.id is UNSET else message.id
        if isinstance(error, RpcAnswerError):
            if message.id is UNSET:
                return None
            try:
                data = None if error.data is None else encode_json(error.data)
                return encode_error(request_id, error.code, error.message, data)
            except Exception as fault:  # data that cannot be encoded is the function's fault
                error = fault
        logger.error("error in JSON-RPC method %s", message.method, exc_info=error)
        if message.id is UNSET:
            return None
        return encode_error(request_id, INTERNAL_ERROR, "Internal error")

    def _answer(self, answer: bytes | None, batch: _Batch | None) -> None:
        """Send an answer, or keep it until its batch is done. None: a notification, which has no answer."""
        self._undone -= 1
        if batch is not None:
            batch.left -= 1
            if answer is not None:
                batch.answers.append(answer)
            answer = encode_batch(batch.answers) if batch.answers and not batch.left else None
        if answer is not None:
            self.connection.write(answer)
        if self._is_at_end and not self._undone:
            self.connection.close()


def _ignore_answer(_call: Any, _message: Message) -> None:
    """Take the answer to a call; a server makes none."""


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
