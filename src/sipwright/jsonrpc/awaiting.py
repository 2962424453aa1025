"""Calls that a task waits for (L2): the way from the end of a call back into `async` code.

An asyncio.Future per call would do the same, but each future wakes its task by a callback of its own, which costs as
much as sending the call. asyncio lets a task wait for any object that has the attributes of a future (see
`asyncio.isfuture`): here such a small one per call, and all tasks whose answers came in one read are woken together,
at its end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

from sipwright.jsonrpc.calls import PendingCall
from sipwright.jsonrpc.outcome import CANCELLED


class Waker:
    """Wakes the tasks whose calls ended: at the end of the read that brought their answers, or in the next turn."""

    __slots__ = ("_ended", "_is_held", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ended: deque[CallFuture] = deque()
        self._is_held = False

    def hold(self) -> None:
        """Wake nobody until `release`."""
        self._is_held = True

    def release(self) -> None:
        """Wake, now, all whose calls have ended."""
        self._is_held = False
        self._wake_all()

    def release_later(self) -> None:
        """Wake in the next turn of the loop whom `release` has not woken."""
        if self._is_held:
            self._is_held = False
            if self._ended:
                self._loop.call_soon(self._wake_all)

    def wake(self, future: CallFuture, _call: PendingCall | None = None) -> None:
        """Wake the task that waits for the call (`done` of the call, with the future as its argument)."""
        ended = self._ended
        if not ended and not self._is_held:
            self._loop.call_soon(self._wake_all)
        ended.append(future)

    def _wake_all(self) -> None:
        ended = self._ended
        try:
            while ended:
                future = ended.popleft()
                wakeup = future.wakeup
                if wakeup is not None:
                    future.wakeup = None
                    future.context.run(wakeup, future)
        finally:
            # A task that ends the program (KeyboardInterrupt) leaves the others to the next turn.
            if ended:
                self._loop.call_soon(self._wake_all)


class CallFuture:
    """What the task that made a call awaits, once: gives the call's value, or raises what its outcome stands for.

    `decode` is what makes the value of the result; None for plain Python objects. Cancelling the task cancels the call.

    Give `Waker.wake` and the object itself as `done` and `argument` of the call, then set `call`.
    """

    __slots__ = ("_asyncio_future_blocking", "_loop", "_message", "call", "context", "decode", "wakeup")

    call: PendingCall
    context: Context

    # Only stored where it is needed; each store counts.
    _message: object

    def __init__(self, loop: asyncio.AbstractEventLoop, decode: Callable[[bytes, str], Any] | None = None) -> None:
        self.decode = decode
        self._asyncio_future_blocking = False
        self._loop = loop
        self.wakeup: Callable[[CallFuture], object] | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        if self.call.status is None:
            self._asyncio_future_blocking = True
            yield self
        return self.call.value(self.decode)

    # What asyncio.Task asks of a future

    def add_done_callback(self, wakeup: Callable[[CallFuture], object], *, context: Context) -> None:
        """Take what wakes the task."""
        self.wakeup = wakeup
        self.context = context

    def cancel(self, msg: object = None) -> bool:
        """Give the call up, and have CancelledError raised in the task."""
        if self.call.status is not None:
            return False
        self.call.cancel()
        self._message = msg
        self.call.done(self, self.call)
        return True

    def result(self) -> None:
        """Raise CancelledError in the task if the call was given up; other outcomes are raised by `__await__`."""
        if self.call.status == CANCELLED:
            message = getattr(self, "_message", None)
            raise asyncio.CancelledError(message) if message is not None else asyncio.CancelledError
