"""One call of the client (L2): what was asked, how it stands, how it ended. Tables, timers and tries are the client's.

A call is made per SIP transaction, so it is one slotted object that serves as the handle of the call while it is
pending and as its outcome afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

from sipwright.errors import RpcAnswerError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.groups import Group
from sipwright.jsonrpc.messages import NOT_JSON, Error, decode_json
from sipwright.jsonrpc.outcome import CANCELLED, Status, exception_of, undecodable


class Attempt:
    """A further request for a call that was sent already: the answer to either of them ends the call."""

    __slots__ = ("call", "connection", "id", "plan")
    id: int

    def __init__(self, call: PendingCall, plan: Plan, connection: Connection) -> None:
        self.call = call
        self.plan = plan
        self.connection = connection


class Probe:
    """A request that asks whether a server that was left out answers again. Counted as no call."""

    __slots__ = ("connection", "id", "table", "when")
    id: int
    when: float
    table: dict[Any, None]
    # Not None: its answer is not that of a plain call.
    plan: Final = True

    def __init__(self, connection: Connection) -> None:
        self.connection = connection


class Plan:
    """What a call may do besides being sent once: the further tries of a call with `retry` or `hedge`.

    `tries_left` is how many more there may be, `codes` the error codes after which the next server is asked, `asked`
    the servers that were. `may_repeat` tells whether the call may be sent again although it may have been carried out.
    `requests` counts what was sent for the call.
    """

    __slots__ = (
        "asked",
        "attempts",
        "codes",
        "delays",
        "group",
        "hedge",
        "is_sent",
        "may_repeat",
        "requests",
        "slice",
        "slices_left",
        "timer",
        "tries_left",
    )

    def __init__(
        self,
        group: Group,
        tries: int,
        *,
        may_repeat: bool,
        codes: Collection[int | range] = (),
        slices: int = 1,
        slice_: float = 0.0,
        hedge: float | None = None,
    ) -> None:
        self.group = group
        self.tries_left = tries
        self.may_repeat = may_repeat
        self.codes = codes
        # An idempotent call may be asked again when its part of the time is over: `slices_left` counts the parts.
        self.slices_left = slices
        self.slice = slice_
        # Seconds after which another server is asked beside those that have not answered yet.
        self.hedge = hedge
        self.asked: list[str] = []
        self.requests = 0
        # Whether the call itself is in flight, and what else is for it.
        self.is_sent = False
        self.attempts: dict[Attempt, None] = {}
        # How many times in a row it has waited before it asked again.
        self.delays = 0
        self.timer: asyncio.TimerHandle | None = None


class CallOwner(Protocol):
    """Who is told that a call was given up."""

    def call_cancelled(self, call: PendingCall) -> None:
        """Take note of it; the call has ended, and waits for no server any more."""


class PendingCall:
    """A call in flight, and its outcome once `status` is not None.

    `status` is "ok", "error" (the server answered with an error), "timeout" (no answer in time), "failure" (nobody
    could be asked, or the connection was lost) or "cancelled". `result` is the result as JSON bytes for "ok",
    `error` the server's error for "error", `reason` a text for a person for "failure".
    """

    __slots__ = (
        "argument",
        "connection",
        "done",
        "ended",
        "error",
        "id",
        "method",
        "owner",
        "params",
        "plan",
        "queue",
        "reason",
        "result",
        "started",
        "status",
        "table",
        "when",
    )
    # Set by the client right after the call is made, the end when it ends; not in __init__ because each store counts.
    id: int
    started: float
    ended: float
    when: float
    table: dict[Any, None]
    owner: CallOwner

    def __init__(
        self, method: str, params: bytes | None, done: Callable[[Any, PendingCall], object], argument: Any
    ) -> None:
        self.method = method
        self.params = params
        self.done = done
        self.argument = argument
        self.status: Status | None = None
        self.connection: Connection | None = None
        self.plan: Plan | None = None
        # The client's table of calls that wait for a server, while the call is in it.
        self.queue: dict[PendingCall, Any] | None = None
        self.result: bytes | None = None
        self.error: Error | None = None
        self.reason = ""

    @property
    def server(self) -> str:
        """The server that was asked last, "host:port"; empty when none was."""
        return "" if self.connection is None else self.connection.server

    @property
    def tries(self) -> int:
        """How many servers were asked so far, one that was asked twice counted twice."""
        if self.plan is not None:
            return self.plan.requests
        return 0 if self.connection is None else 1

    @property
    def ms(self) -> int:
        """Milliseconds from the call to its end, rounded; 0 while it is pending."""
        return 0 if self.status is None else round((self.ended - self.started) * 1000)

    def cancel(self) -> None:
        """Give the call up: `done` is not called, the answer will be counted as late. Does nothing once it ended."""
        if self.status is None:
            self.status = CANCELLED
            self.ended = self.started
            self.reason = "the call was given up"
            # It is in none while its time is over and others are told first (a server that is left out, for one).
            self.table.pop(self, None)
            if self.queue is not None:
                del self.queue[self]
                self.queue = None
            self.owner.call_cancelled(self)
            self.argument = None

    def value(self, decode: Callable[[bytes, str], Any] | None = None) -> Any:
        """Return the result as Python objects, or raise what the outcome stands for.

        `decode(result, method)` is a decoder as `decoder_for` returns it, for a result of a certain type.

        Raises RpcAnswerError, RpcTimeoutError, RpcConnectionError (also for a call that was cancelled), RpcClosedError;
        RpcResultError for a result of another type; RuntimeError while the call is pending.
        """
        if self.result is None:
            raise self.exception()
        if decode is not None:
            return decode(self.result, self.method)
        try:
            return decode_json(self.result)
        except NOT_JSON as error:
            raise undecodable(self.method, error) from None

    def exception(self) -> RpcAnswerError | RpcTimeoutError | RpcConnectionError:
        """Return the exception that an outcome without a result stands for. Raises RuntimeError while it is pending."""
        if self.status is None:
            raise RuntimeError(f"the call of {self.method!r} has not ended")
        return exception_of(self)
