"""One call of the client without asyncio (L2): what was asked, how it stands, how it ended, and who waits for it.

All of it is changed under the client's lock only. A `Waiter` is a thread that waits; where it sleeps is `sync_lane`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from sipwright.jsonrpc.messages import NOT_JSON, Error, Message, decode_json, request_head
from sipwright.jsonrpc.outcome import Status, exception_of, undecodable

if TYPE_CHECKING:  # a cycle: connections carry requests, threads wait in lanes
    from sipwright.jsonrpc.sync_connection import SyncConnection
    from sipwright.jsonrpc.sync_lane import Lane

NEVER: Final = float("inf")


class Waiter:
    """A thread that waits in a lane, for so many calls to end (`left`) or for something to change.

    `is_woken` says that it has been told. `sleep` is the lock that it sleeps on while another thread reads for it.
    """

    __slots__ = ("is_woken", "lane", "left", "sleep", "was_released")

    def __init__(self, left: int = 1) -> None:
        self.left = left
        self.lane: Lane | None = None
        self.is_woken = False
        self.sleep: Lock | None = None
        self.was_released = False

    def wake(self) -> None:
        """Tell the thread that something has changed."""
        self.is_woken = True
        if self.lane is not None:
            self.lane.wake(self)

    def nudge(self) -> None:
        """Have the thread look around, if it sleeps."""
        if self.sleep is not None and not self.was_released:
            self.was_released = True
            self.sleep.release()


class SyncRequest:
    """One request on one connection, for a call or (None) as a probe. `start` is where it begins in the stream."""

    __slots__ = ("call", "connection", "id", "start")

    def __init__(self, call: SyncCall | None, connection: SyncConnection) -> None:
        self.call = call
        self.connection = connection
        # The peer writes it; there was none as long as it is 0.
        self.id = 0
        self.start = 0

    @property
    def may_have_left(self) -> bool:
        """Whether any byte of it may have left this machine; only then can the server have seen it."""
        return self.connection.sent > self.start


class SyncCall:
    """A call, and its outcome once `status` is not None. The words are those of `PendingCall`.

    Its tries: `tries_left` further ones, on servers that are not in `asked`; `codes` are answers that lead to one;
    `may_repeat` says whether it may be sent again although it may have been carried out. `requests` are in flight for
    it; `is_due` says that the next try is to be made.
    """

    __slots__ = (
        "asked",
        "codes",
        "delays",
        "ended",
        "error",
        "head",
        "is_due",
        "is_unsent",
        "kept",
        "lost",
        "may_repeat",
        "method",
        "params",
        "reason",
        "requests",
        "result",
        "server",
        "started",
        "status",
        "tries",
        "tries_left",
        "waiter",
    )

    def __init__(self, method: str, params: bytes | None, waiter: Waiter) -> None:
        self.method = method
        # ValueError here for a method that is no Unicode text, before anything is entered anywhere.
        self.head = request_head(method)
        self.params = params
        self.waiter = waiter
        self.status: Status | None = None
        self.result: bytes | None = None
        self.error: Error | None = None
        self.reason = ""
        self.server = ""
        self.started = self.ended = 0.0
        self.tries = self.tries_left = 0
        self.requests: list[SyncRequest] = []
        self.codes: Collection[int | range] = ()
        self.may_repeat = False
        self.asked: list[str] = []
        self.is_due = False
        # No byte of it has left: the try that is due is not a further one.
        self.is_unsent = False
        # How many times in a row it has waited before it asked again.
        self.delays = 0
        # What the call ends with if no further server can be asked: an answer, or the loss of a connection.
        self.kept: Message | None = None
        self.lost = ""

    @property
    def ms(self) -> int:
        """Milliseconds from the call to its end, rounded; 0 while it is pending."""
        return 0 if self.status is None else round((self.ended - self.started) * 1000)

    def value(self, decode: Callable[[bytes, str], Any] | None = None) -> Any:
        """Return the result as Python objects, or raise what the outcome stands for, as `PendingCall.value` does."""
        if self.result is None:
            if self.status is None:
                raise RuntimeError(f"the call of {self.method!r} has not ended")
            raise exception_of(self)
        if decode is not None:
            return decode(self.result, self.method)
        try:
            return decode_json(self.result)
        except NOT_JSON as error:
            raise undecodable(self.method, error) from None
