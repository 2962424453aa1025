"""One call that is more than calling a function (L2): limits, deadline, middlewares, threads, cancelling, and hooks.

`begin` takes it up and says no, has it wait for a place of its method, or starts it. It ends exactly once: by what its
function returns or raises, by its deadline, by the client that cancels it, or by the end of the server. From its end on
its place is free, and the next that waits for one starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET

from sipwright.errors import JsonRpcParseError, RpcAnswerError
from sipwright.jsonrpc.connection import CALLBACK_FAULTS
from sipwright.jsonrpc.convert import Signature
from sipwright.jsonrpc.dispatch import Method, not_found
from sipwright.jsonrpc.executor import ServerEvent
from sipwright.jsonrpc.limits import CALL_CANCELLED, DEADLINE_EXCEEDED, rate_exceeded
from sipwright.jsonrpc.messages import Id, Message
from sipwright.jsonrpc.middleware import RpcRequest, through

if TYPE_CHECKING:  # a cycle: a Serving begins invocations, which end with its answers
    from sipwright.jsonrpc.serving import Batch, Serving

Fate = Literal["timeout", "cancelled"]


class Invocation:
    """A call that was taken up."""

    __slots__ = (
        "_batch",
        "_began",
        "_fate",
        "_has_place",
        "_is_begun",
        "_message",
        "_method",
        "_serving",
        "_task",
        "_timer",
    )

    def __init__(self, serving: Serving, message: Message, method: Method | None, batch: Batch | None) -> None:
        self._serving = serving
        self._message = message
        self._method = method
        self._batch = batch
        self._began = asyncio.get_running_loop().time()
        # Why it is to end before its function does, once that is so.
        self._fate: Fate | None = None
        self._has_place = False
        self._is_begun = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def take_up(self) -> None:
        """Look at the limits, and start it or have it wait."""
        serving, message, method = self._serving, self._message, self._method
        if serving.executor.hooks:
            self._tell("started")
        if serving.executor.cancel_method is not None and message.id is not UNSET:
            serving.running[message.id] = self
        if method is None:
            self.start()
            return
        if method.bucket is not None and (wait := method.bucket.take(self._began)):
            self._fail(rate_exceeded(wait))
            return
        if method.timeout is not None:
            self._timer = asyncio.get_running_loop().call_later(method.timeout, self.stop, "timeout")
        try:
            if method.places is not None and not method.places.take(self):
                return
        except RpcAnswerError as error:
            self._fail(error)
            return
        self._has_place = method.places is not None
        self.start()

    def start_in_place(self) -> None:
        """Start it with the place that another has left."""
        self._has_place = True
        self.start()

    def start(self) -> None:
        """Call the function."""
        if self._is_stopped:
            self._end_by_fate()
            return
        serving, method = self._serving, self._method
        executor = serving.executor
        if executor.is_closing or serving.is_over:
            # Nobody waits for it any longer.
            self._give_up()
            return
        try:
            work: Any
            if executor.middlewares:
                work = through(executor, RpcRequest(self._message, method, serving.remote))
            elif method is None:
                raise not_found()
            elif method.in_thread:
                work = executor.run_in_thread(partial(method.invoke, self._message.params, serving.remote))
            else:
                work = method.invoke(self._message.params, serving.remote)
        except CALLBACK_FAULTS as error:  # the boundary to the functions
            self._fail(error)
            return
        if type(work) is CoroutineType:
            self._task = executor.run(self._finish(work))
        else:
            self._succeed(work)

    def stop(self, fate: Fate) -> None:
        """End it before its function does: its time is over, or the client has cancelled it."""
        if self._is_stopped:
            return
        self._fate = fate
        places = None if self._method is None else self._method.places
        if self._task is not None:
            # Before its first step, a task that is cancelled would not get to say so; it looks for its fate there.
            if self._is_begun:
                self._task.cancel()
        elif places is not None and self in places.waiting:
            places.waiting.remove(self)
            self._end_by_fate()
        # Otherwise it has a place and is about to start.

    async def _finish(self, work: Coroutine[Any, Any, Any]) -> None:
        self._is_begun = True
        if self._is_stopped:
            work.close()
            self._end_by_fate()
            return
        try:
            # Meanwhile it may be stopped, the connection be lost, or the server be closed.
            result = await work
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling() and not self._is_stopped:
                self._give_up()
                raise
            # Stopped; or something that the function waited for was cancelled, not the function.
            self._fail(error)
        except Exception as error:  # the boundary to the functions
            self._fail(error)
        else:
            self._succeed(result)

    @property
    def _is_stopped(self) -> bool:
        return self._fate is not None

    # Ends

    def _succeed(self, result: Any) -> None:
        if self._is_stopped:
            self._end_by_fate()
            return
        code = self._serving.succeed(self._message, result, self._batch)
        self._ended("error" if code else "result", code)

    def _fail(self, error: BaseException) -> None:
        if self._is_stopped:
            self._end_by_fate()
            return
        code = self._serving.fail(self._message, error, self._batch)
        self._ended("error", code)

    def _give_up(self) -> None:
        self._serving.give_up(self._batch)
        self._ended("cancelled", 0)

    def _end_by_fate(self) -> None:
        if self._fate == "cancelled":
            self._serving.answer_cancelled(self._message, self._batch)
            self._ended("cancelled", CALL_CANCELLED)
            return
        assert self._method is not None
        error = RpcAnswerError(DEADLINE_EXCEEDED, "Deadline exceeded", f"{self._method.timeout:g} seconds")
        self._serving.fail(self._message, error, self._batch)
        self._ended("error", DEADLINE_EXCEEDED)

    def _ended(self, status: Literal["result", "error", "cancelled"], code: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        serving, message = self._serving, self._message
        if serving.running and message.id is not UNSET and serving.running.get(message.id) is self:
            del serving.running[message.id]
        if self._has_place:
            self._has_place = False
            self._leave()
        if serving.executor.hooks:
            self._tell("ended", status, code)

    def _leave(self) -> None:
        assert self._method is not None
        assert self._method.places is not None
        following: Invocation | None = self._method.places.leave()
        if following is None:
            return
        if self._serving.executor.is_closing:
            while following is not None:
                following._give_up()  # noqa: SLF001  same class
                following = self._method.places.leave()
        else:
            # Not from in here: a thousand that end at once would nest.
            asyncio.get_running_loop().call_soon(following.start_in_place)

    def _tell(
        self,
        kind: Literal["started", "ended"],
        status: Literal["", "result", "error", "cancelled"] = "",
        code: int = 0,
    ) -> None:
        message = self._message
        ms = 0.0 if kind == "started" else (asyncio.get_running_loop().time() - self._began) * 1000
        is_notification = message.id is UNSET
        request_id: Id = None if message.id is UNSET else message.id
        assert message.method is not None
        event = ServerEvent(kind, self._serving.remote, message.method, request_id, is_notification, ms, status, code)
        self._serving.executor.tell(event)


def begin(serving: Serving, message: Message, method: Method | None, batch: Batch | None) -> None:
    """Take a call up. `method` is None when there is no such method."""
    if serving.gate is not None and serving.gate(message, batch):
        return
    if message.method == serving.executor.cancel_method and method is None:
        _cancel(serving, message, batch)
        return
    Invocation(serving, message, method, batch).take_up()


def is_cancelling(serving: Serving, message: Message | JsonRpcParseError) -> bool:
    """Tell whether a request cancels another one: it does not wait for its turn."""
    cancel_method = serving.executor.cancel_method
    return cancel_method is not None and isinstance(message, Message) and message.method == cancel_method


def _cancel(serving: Serving, message: Message, batch: Batch | None) -> None:
    """Cancel a call of the same connection. Where there is none with that id, it has ended already: nothing is said."""
    try:
        request_id = _CANCELLED.invoke(message.params)
    except RpcAnswerError as error:
        serving.fail(message, error, batch)
        return
    serving.succeed(message, None, batch)
    waiting = serving.take_waiting(request_id)
    if waiting is not None:
        serving.answer_cancelled(*waiting)
    elif (call := serving.running.get(request_id)) is not None:
        call.stop("cancelled")


def _cancelled_id(id: int | str) -> int | str:  # noqa: A002  the name on the wire
    return id


_CANCELLED = Signature(_cancelled_id)
