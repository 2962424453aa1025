"""Batches of the client without asyncio (L2): several calls and notifications in one payload. With it: `batch`."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from sipwright.errors import RpcAnswerError, RpcClosedError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc.messages import MAX_BATCH, encode_batch, encode_notification, encode_params
from sipwright.jsonrpc.outcome import CLOSED, FAILURE
from sipwright.jsonrpc.sync_caller import SyncCaller
from sipwright.jsonrpc.sync_calls import SyncCall, SyncRequest, Waiter
from sipwright.jsonrpc.sync_connection import SyncConnection
from sipwright.jsonrpc.sync_servers import SyncGroup

SENT = "the batch was sent before"


class SyncBatch:
    """Calls and notifications that are sent as one JSON-RPC batch.

    `send` returns the list of the calls' results in their order, where a call without a result has its exception
    (RpcAnswerError, RpcTimeoutError, RpcConnectionError) in its place. Or fill it in `with`, which sends at its end,
    and ask each call by the index that `call` gave:

        with client.batch() as batch:
            first = batch.call("add", [1, 2])
            batch.notify("log", {"text": "added"})
        print(batch.result(first))
    """

    def __init__(self, caller: SyncCaller, timeout: float, group: SyncGroup) -> None:
        self._caller = caller
        self._timeout = timeout
        self._group = group
        self._waiter = Waiter(0)
        self._calls: list[SyncCall] = []
        # In their order: an encoded notification, or a call.
        self._messages: list[bytes | SyncCall] = []
        self._is_sent = False

    def call(self, method: str, params: Any = None) -> int:
        """Add a call and return its index among the calls.

        Raises TypeError for params that cannot be encoded, ValueError for a method that is no Unicode text or when the
        batch is full, RuntimeError when it was sent.
        """
        call = SyncCall(method, encode_params(params), self._waiter)
        self._add(call)
        self._calls.append(call)
        self._waiter.left += 1
        return len(self._calls) - 1

    def notify(self, method: str, params: Any = None) -> None:
        """Add a notification. Raises what `call` raises."""
        self._add(encode_notification(method, encode_params(params)))

    def _add(self, message: bytes | SyncCall) -> None:
        if self._is_sent:
            raise RuntimeError(SENT)
        if len(self._messages) == MAX_BATCH:
            raise ValueError(f"a batch has at most {MAX_BATCH} messages")
        self._messages.append(message)

    def result(self, index: int) -> Any:
        """Return the result of a call of a batch that was sent, or raise what `SyncClient.call` would raise.

        Raises RuntimeError for a batch that was not sent, IndexError when there is no such call.
        """
        if not self._is_sent:
            raise RuntimeError("the batch was not sent")
        return self._calls[index].value()

    def send(self) -> list[Any]:
        """Send the batch, wait, and return the results and exceptions.

        Raises RpcConnectionError when no server can take it within the timeout, RuntimeError when it was sent before.
        """
        if self._is_sent:
            raise RuntimeError(SENT)
        self._is_sent = True
        if not self._messages:
            return []
        self._caller.use(self._run)
        return [_outcome(call) for call in self._calls]

    def _run(self) -> None:
        caller, pool = self._caller, self._caller.pool
        now = pool.clock()
        until = now + self._timeout
        for call in self._calls:
            call.started = now
        try:
            why_not = pool.find(self._group, self._waiter, until, self._send)
            if why_not:
                # Its calls were never made: they count nowhere.
                raise RpcClosedError(CLOSED) if why_not == CLOSED else RpcConnectionError(f"the batch: {why_not}")
            while self._waiter.left > 0 and pool.clock() < until:
                pool.lane().wait(self._waiter, until)
                self._waiter.is_woken = False
                with pool.lock:
                    for call in [call for call in self._calls if call.is_due]:
                        caller.end(call, FAILURE, call.lost)
            for call in self._calls:
                caller.no_answer(call)
        finally:
            for call in self._calls:
                if call in caller.in_flight:
                    caller.cancel(call)

    def _send(self, connection: SyncConnection) -> bool:
        """Send all of it, with the lock held. False: it has not left, since the connection is gone."""
        was_busy, connection.is_busy = connection.is_busy, True
        payloads: list[bytes] = []
        for message in self._messages:
            if isinstance(message, bytes):
                payloads.append(message)
            else:
                request = SyncRequest(message, connection)
                message.requests.append(request)
                message.asked.append(connection.server.name)
                message.server = connection.server.name
                self._caller.in_flight[message] = None
                payloads.append(connection.prepare(request, message.head, message.params))
        connection.write(encode_batch(payloads))
        connection.is_busy = was_busy
        if connection.is_lost and all(call.is_unsent for call in self._calls) and self._calls:
            for call in self._calls:
                call.is_due = call.is_unsent = False
            return False
        self._caller.counts["notifications"] += len(self._messages) - len(self._calls)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.send()


def _outcome(call: SyncCall) -> Any:
    try:
        return call.value()
    except (RpcAnswerError, RpcTimeoutError, RpcConnectionError) as error:
        return error
