"""What one method may use (L0): how often it is called, how many of its calls run, how long one takes.

The clock is an argument. The codes here are of the range that JSON-RPC 2.0 leaves to servers (section 5.1).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from sipwright.errors import ArgumentError, RpcAnswerError

UNAUTHENTICATED: Final = -32001
"""The connection has not authenticated itself (see `Server(auth=...)`)."""
RATE_EXCEEDED: Final = -32002
"""The method is called too often; data is `{"retry_after": SECONDS}`."""
TOO_MANY_CALLS: Final = -32003
"""So many calls of the method run, and wait, as may."""
DEADLINE_EXCEEDED: Final = -32004
"""The call took longer than the server lets it."""
CALL_CANCELLED: Final = -32005
"""The client has cancelled the call."""
RESULT_TOO_LARGE: Final = -32006
"""The result is larger than the server sends."""

MAX_WAITING: Final = 1000
"""How many calls of a method with `concurrency` wait for their turn; one more is refused."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a method is registered with.

    `thread`: a plain function runs in a thread. `concurrency`: how many calls of it run at a time. `rate`: how many
    begin in a second, on average; as many may come at once (at least one). `timeout`: seconds that one may take, from
    the moment it was read. None is no limit. Raises ArgumentError for a limit that is not above 0.
    """

    thread: bool = False
    concurrency: float | None = None
    rate: float | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "rate", "timeout"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ArgumentError(f"{name} is a number above 0, not {value!r}")

    def changed(
        self, thread: bool | None, concurrency: float | None, rate: float | None, timeout: float | None
    ) -> Limits:
        """Return limits of which those that are not None are these; infinity stands for none."""
        return Limits(
            self.thread if thread is None else thread,
            _other(self.concurrency, concurrency),
            _other(self.rate, rate),
            _other(self.timeout, timeout),
        )


NO_LIMITS: Final = Limits()


def _other(present: float | None, wanted: float | None) -> float | None:
    if wanted is None:
        return present
    return None if wanted == math.inf else wanted


class TokenBucket:
    """Lets `rate` things happen in a second, and as many at once (at least one) after a rest."""

    __slots__ = ("_burst", "_rate", "_tokens", "_when")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = self._tokens = max(1.0, rate)
        self._when = float("-inf")

    def take(self, now: float) -> float:
        """Return 0.0 when it may happen at this time (seconds), otherwise in how many seconds it may."""
        tokens = min(self._burst, self._tokens + (now - self._when) * self._rate)
        self._when = now
        if tokens >= 1.0:
            self._tokens = tokens - 1.0
            return 0.0
        self._tokens = tokens
        return (1.0 - tokens) / self._rate


class Places:
    """Lets `number` calls run at a time; others wait in `waiting`, in their order."""

    __slots__ = ("number", "taken", "waiting")

    def __init__(self, number: float) -> None:
        self.number = number
        self.taken = 0
        self.waiting: deque[Any] = deque()

    def take(self, call: Any) -> bool:
        """Return True when the call may begin now; otherwise it waits. Raises RpcAnswerError when too many do."""
        if self.taken < self.number:
            self.taken += 1
            return True
        if len(self.waiting) >= MAX_WAITING:
            raise RpcAnswerError(TOO_MANY_CALLS, "Too many calls", f"{self.number} run and {MAX_WAITING} wait")
        self.waiting.append(call)
        return False

    def leave(self) -> Any | None:
        """Give a place back. Returns the call that has it now and may begin, None when none waits."""
        if self.waiting:
            return self.waiting.popleft()
        self.taken -= 1
        return None


def rate_exceeded(retry_after: float) -> RpcAnswerError:
    """Return the error for a method that is called too often."""
    return RpcAnswerError(RATE_EXCEEDED, "Rate limit exceeded", {"retry_after": round(retry_after, 3)})
