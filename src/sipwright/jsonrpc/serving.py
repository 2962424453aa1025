"""The serving half of one connection (L2): requests to functions, what they return to answers.

Either end of a connection may serve: `Server` has one `Serving` for each client, a client one for each server that is
to call its methods. Which functions there are is `dispatch`, how many run and what else they have in common is the
`Executor`, one for any number of connections; a call that has more to it than that is an `invocation`.

A plain function is called and answered in the same turn of the loop, without a task; an `async` one runs as a task.
Requests beyond what may run wait in their order, and while any wait the connection is not read, so that the other end
feels it; but it is read, up to `MAX_WAITING` of them, while this end has calls of its own in flight on it: their
answers come the same way.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any

from msgspec import UNSET

from sipwright.errors import JsonRpcParseError, RpcAnswerError
from sipwright.jsonrpc import invocation
from sipwright.jsonrpc.connection import CALLBACK_FAULTS, Connection
from sipwright.jsonrpc.dispatch import Dispatcher
from sipwright.jsonrpc.executor import Executor
from sipwright.jsonrpc.limits import CALL_CANCELLED, RESULT_TOO_LARGE
from sipwright.jsonrpc.messages import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    Id,
    Message,
    check_request,
    encode_batch,
    encode_error,
    encode_json,
    encode_result,
)

logger = logging.getLogger("sipwright.jsonrpc.server")

MAX_WAITING = 1000
"""How many requests may wait while the connection is read for the answers to this end's own calls."""

# Deals with a request instead of its function; False: it does not.
Gate = Callable[[Message, "Batch | None"], bool]


class Batch:
    """Collects the answers of one batch until all of its requests are done."""

    __slots__ = ("answers", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.answers: list[bytes] = []


class Serving:
    """Serves the requests of one connection with the functions of a dispatcher.

        serving = Serving(dispatcher, executor)
        peer = Peer(answered, serving.requested)
        serving.attach(Connection(loop, owner, peer, name))

    The owner of the connection calls `go_on()` when it is ready again, `choose_reading()` when it is blocked and
    `connection_ended()` at its end. Functions that ask for their connection get `remote`; a request is first shown to
    the `gate`, if there is one and the executor is not plain.

    Of the `requests` that came, notifications too, each ends as one of `results`, `errors`, `notifications` and
    `cancelled`; the others are `undone`. `when_done`, if set, is called each time that there are none of these.
    """

    __slots__ = (
        "_find",
        "_is_stopped",
        "_waiting",
        "cancelled",
        "connection",
        "errors",
        "executor",
        "gate",
        "is_held",
        "is_over",
        "is_queued",
        "notifications",
        "remote",
        "requests",
        "results",
        "running",
        "when_done",
    )

    connection: Connection

    def __init__(self, dispatcher: Dispatcher, executor: Executor, remote: Any = None) -> None:
        self.executor = executor
        self.remote = remote
        self.gate: Gate | None = None
        self.when_done: Callable[[], object] | None = None
        self.requests = self.results = self.errors = self.notifications = self.cancelled = 0
        # Calls that the other end can cancel, by their ids.
        self.running: dict[Id, invocation.Invocation] = {}
        self.is_held = False
        self.is_over = False
        self.is_queued = False
        self._find = dispatcher.find
        self._waiting: deque[tuple[Message | JsonRpcParseError, Batch | None]] = deque()
        self._is_stopped = False

    def attach(self, connection: Connection) -> None:
        """Answer on this connection, and be counted."""
        self.connection = connection
        self.executor.servings.add(self)

    @property
    def undone(self) -> int:
        """How many requests have not ended."""
        return self.requests - self.results - self.errors - self.notifications - self.cancelled

    # What the owner of the connection tells

    def connection_ended(self) -> None:
        """Forget what waits; functions that run go on, and their answers are dropped."""
        self.is_over = True
        self._drop_waiting()
        self.when_done = self._done_after_end
        self._done_after_end()

    def stop_reading(self) -> None:
        """Take no more requests; those that were read are done."""
        self._is_stopped = True
        self.choose_reading()

    def choose_reading(self) -> None:
        """Have the connection read, or not."""
        connection = self.connection
        if connection.pending:
            connection.read(len(self._waiting) < MAX_WAITING)
        else:
            connection.read(not (self._waiting or self._is_stopped or connection.is_blocked))

    def _done_after_end(self) -> None:
        if not self.undone:
            self.executor.serving_ended(self)

    def _drop_waiting(self) -> None:
        self.cancelled += len(self._waiting)
        self._waiting.clear()

    # Requests

    def requested(self, messages: list[Message | JsonRpcParseError], is_batch: bool) -> None:
        """Take what one payload asks (`requested` of the connection's peer)."""
        executor = self.executor
        if is_batch and len(messages) > executor.max_batch:
            messages, is_batch = [JsonRpcParseError(f"a batch of more than {executor.max_batch} messages")], False
        batch = Batch(len(messages)) if is_batch else None
        self.requests += len(messages)
        for message in messages:
            if self._waiting or self.is_held or self.connection.is_blocked:
                # Blocked by the answers to requests of the same turn, perhaps: what is not read yet is not read at all.
                if not invocation.is_cancelling(self, message):
                    self._waiting.append((message, batch))
                    continue
            elif executor.is_full and not invocation.is_cancelling(self, message):
                self._waiting.append((message, batch))
                executor.wait(self)
                continue
            self._handle(message, batch)
        if self._waiting:
            self.choose_reading()

    def go_on(self) -> None:
        """Handle requests that waited, until all are done, as many run as may run, or the answers are not read."""
        while self._waiting:
            if self.is_held or self.connection.is_blocked:
                return
            if self.executor.is_full:
                self.executor.wait(self)
                return
            self._handle(*self._waiting.popleft())
        self.choose_reading()

    def take_waiting(self, request_id: Id) -> tuple[Message, Batch | None] | None:
        """Take the request with this id out of those that wait, if it is there."""
        for item in self._waiting:
            message, batch = item
            if isinstance(message, Message) and message.id is not UNSET and message.id == request_id:
                self._waiting.remove(item)
                return message, batch
        return None

    def _handle(self, message: Message | JsonRpcParseError, batch: Batch | None) -> None:
        if isinstance(message, JsonRpcParseError):
            self._refuse(message, batch)
            return
        fault = check_request(message)
        if fault is not None:
            self._refuse(fault, batch)
            return
        method = self._find(message.method or "")
        if method is None or not method.is_plain or not self.executor.is_plain:
            invocation.begin(self, message, method, batch)
            return
        try:
            result = method.invoke(message.params, self.remote)
        except CALLBACK_FAULTS as error:  # the boundary to the functions
            self.fail(message, error, batch)
            return
        if type(result) is CoroutineType:
            self.executor.run(self._finish(result, message, batch))
        else:
            self.succeed(message, result, batch)

    async def _finish(self, function: Coroutine[Any, Any, Any], message: Message, batch: Batch | None) -> None:
        try:
            # Meanwhile the connection may be lost (the answer is dropped) or the server be closed (this is cancelled).
            result = await function
        except asyncio.CancelledError as error:
            if is_cancelled():
                self.give_up(batch)
                raise
            # Something that the function waited for was cancelled, not the function.
            self.fail(message, error, batch)
        except Exception as error:  # the boundary to the functions
            self.fail(message, error, batch)
        else:
            self.succeed(message, result, batch)

    # Answers

    def succeed(self, message: Message, result: Any, batch: Batch | None) -> int:
        """Answer with a result. Returns 0, or the code of the error that it became."""
        if message.id is UNSET:
            self.notifications += 1
            self._answer(None, batch)
            return 0
        try:
            answer = encode_result(message.id, encode_json(result))
        except Exception as error:  # what cannot be encoded is the function's fault
            return self.fail(message, error, batch)
        if len(answer) > self.executor.max_response:
            text = f"{len(answer)} bytes, the limit is {self.executor.max_response}"
            return self.fail(message, RpcAnswerError(RESULT_TOO_LARGE, "Result too large", text), batch)
        self.results += 1
        self._answer(answer, batch)
        return 0

    def fail(self, message: Message, error: BaseException, batch: Batch | None) -> int:
        """Answer for an exception of a function; log it unless the function meant it. Returns the error's code."""
        answer_error = self.executor.answer_error(error)
        request_id: Id = None if message.id is UNSET else message.id
        if answer_error is not None:
            code = answer_error.code
            try:
                data = None if answer_error.data is None else encode_json(answer_error.data)
                answer = encode_error(request_id, code, answer_error.message, data)
            except Exception as fault:  # data that cannot be encoded is the function's fault
                answer_error, error = None, fault
        if answer_error is None:
            logger.error("error in JSON-RPC method %s", message.method, exc_info=error)
            code = INTERNAL_ERROR
            answer = encode_error(request_id, code, "Internal error")
        if message.id is UNSET:
            self.notifications += 1
            self._answer(None, batch)
        else:
            self.errors += 1
            self._answer(answer, batch)
        return code

    def answer_cancelled(self, message: Message, batch: Batch | None) -> int:
        """Answer a call that the other end has cancelled. Returns the error's code."""
        self.cancelled += 1
        text = None if message.id is UNSET else encode_error(message.id, CALL_CANCELLED, "Call cancelled")
        self._answer(text, batch)
        return CALL_CANCELLED

    def give_up(self, batch: Batch | None) -> None:
        """End a request without an answer: the server is being closed."""
        self.cancelled += 1
        self._answer(None, batch)

    def _refuse(self, fault: JsonRpcParseError, batch: Batch | None) -> None:
        self.errors += 1
        text = "Parse error" if fault.code == PARSE_ERROR else "Invalid Request"
        code = PARSE_ERROR if fault.code == PARSE_ERROR else INVALID_REQUEST
        self._answer(encode_error(fault.request_id, code, text, encode_json(fault.message)), batch)

    def _answer(self, answer: bytes | None, batch: Batch | None) -> None:
        """Send an answer, or keep it until its batch is done. None: a notification, which has no answer."""
        if batch is not None:
            batch.left -= 1
            if answer is not None:
                batch.answers.append(answer)
            answer = encode_batch(batch.answers) if batch.answers and not batch.left else None
        if answer is not None:
            self.connection.write(answer)
        if self.when_done is not None and not self.undone:
            self.when_done()


def is_cancelled() -> bool:
    """Tell whether a CancelledError is meant for the task that runs, and not for something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
