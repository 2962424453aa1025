"""Batches of the client (L2): several calls and notifications in one payload, answered together or one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from sipwright.errors import RpcAnswerError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc.calls import PendingCall
from sipwright.jsonrpc.messages import MAX_BATCH, encode_params, request_head

SENT = "the batch was sent before"


class BatchSender(Protocol):
    """What a batch needs of the client."""

    async def connected(self, timeout: float | None = None, *, group: str | None = None) -> None:
        """Wait until a server can take calls."""

    def submit_batch(
        self,
        requests: Sequence[tuple[str, bytes | None, Any, Any]],
        *,
        timeout: float | None = None,
        group: str | None = None,
    ) -> list[PendingCall] | None:
        """Send the batch."""


class Batch:
    """Calls and notifications that are sent as one JSON-RPC batch.

    Await it to send it and to get the list of the calls' results in their order, where a call without a result has
    its exception (RpcAnswerError, RpcTimeoutError, RpcConnectionError) in its place. Or fill it in `async with`,
    which sends at its end, and ask each call by the index that `call` gave:

        async with client.batch() as batch:
            first = batch.call("add", [1, 2])
            batch.notify("log", {"text": "added"})
        print(batch.result(first))
    """

    def __init__(self, client: BatchSender, timeout: float, group: str | None) -> None:
        self._client = client
        self._timeout = timeout
        self._group = group
        self._requests: list[tuple[str, bytes | None, Any, Any]] = []
        self._calls: list[PendingCall] = []
        self._left = 0
        self._all_ended: asyncio.Future[None] | None = None

    def call(self, method: str, params: Any = None) -> int:
        """Add a call and return its index among the calls.

        Raises TypeError for params that cannot be encoded, ValueError for a method that is no Unicode text or when the
        batch is full, RuntimeError when it was sent.
        """
        self._add(method, params, Batch._ended)
        self._left += 1
        return self._left - 1

    def notify(self, method: str, params: Any = None) -> None:
        """Add a notification. Raises what `call` raises."""
        self._add(method, params, None)

    def _add(self, method: str, params: Any, ended: Callable[[Batch, PendingCall], None] | None) -> None:
        if self._all_ended is not None:
            raise RuntimeError(SENT)
        if len(self._requests) == MAX_BATCH:
            raise ValueError(f"a batch has at most {MAX_BATCH} messages")
        request_head(method)
        self._requests.append((method, encode_params(params), ended, self))

    def result(self, index: int) -> Any:
        """Return the result of a call of a batch that was sent, or raise what `Client.call` would raise.

        Raises RuntimeError for a batch that was not sent, IndexError when there is no such call.
        """
        if not self._calls and self._left:
            raise RuntimeError("the batch was not sent")
        return self._calls[index].value()

    async def send(self) -> list[Any]:
        """Send the batch and return the results and exceptions, as awaiting it does.

        Raises RpcConnectionError when no server can take it within the timeout, ArgumentError for an unknown group,
        RuntimeError when it was sent before.
        """
        if self._all_ended is not None:
            raise RuntimeError(SENT)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        self._all_ended = loop.create_future()
        if not self._requests:
            return []
        await self._client.connected(self._timeout, group=self._group)
        calls = self._client.submit_batch(self._requests, timeout=deadline - loop.time(), group=self._group)
        if calls is None:
            raise RpcConnectionError("no server can take the batch")
        # The requests refer to the batch: it would be garbage that only the collector finds.
        self._requests.clear()
        self._calls = calls
        try:
            if calls:
                await self._all_ended
        except asyncio.CancelledError:
            for call in calls:
                call.cancel()
            raise
        return [_outcome(call) for call in calls]

    def _ended(self, _call: PendingCall) -> None:
        self._left -= 1
        if not self._left and self._all_ended is not None and not self._all_ended.done():
            self._all_ended.set_result(None)

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self.send().__await__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.send()


def _outcome(call: PendingCall) -> Any:
    try:
        return call.value()
    except (RpcAnswerError, RpcTimeoutError, RpcConnectionError) as error:
        return error
