"""What a transaction asks of the world around it, and what that world sees of a server transaction.

A transaction calls its host directly, for speed (a list of actions for the host to carry out costs ten times as
much). A host's method may be called in the middle of an event, but only when the transaction's state is already the
new one; `response`, `timeout`, `transport_error` and `ended` are the last thing that an event does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sipwright.sip.message import Request
from sipwright.timerqueue import Timer
from sipwright.transaction.state import State
from sipwright.transaction.timers import TimerSettings


class ServerTransaction(Protocol):
    """What the INVITE and the non-INVITE server transaction have in common; what each method does is said there.

    `peer` and `user` belong to the engine and are opaque here: where to send, and what the script knows.
    `last_response` and `status` are empty and 0 before the first response; `to_tag` is the tag that the user chose for
    responses.
    """

    key: bytes
    request: Request | None
    peer: Any
    state: State
    status: int
    last_response: bytes
    to_tag: str | None
    user: Any

    def respond(self, status: int, data: bytes) -> bool:
        """Send a response of the user."""

    def receive_retransmission(self, request: Request) -> None:
        """Take the request once more."""

    def transport_error(self) -> None:
        """Take note that a response could not be sent."""

    def terminate(self) -> None:
        """End at once."""


class Host(Protocol):
    """The world of server transactions.

    `timers` gives the delays. The engine usually binds `TimerQueue.start` as `start_timer`.
    """

    @property
    def timers(self) -> TimerSettings:
        """The delays of all transactions."""

    @property
    def start_timer(self) -> Callable[[float, Callable[[Any], object], Any], Timer]:
        """Call `callback(argument)` after a delay in seconds: `start_timer(delay, callback, argument)`."""

    def send(self, transaction: Any, data: bytes, /) -> object:
        """Send bytes to the peer of the transaction."""

    def trying(self, transaction: Any, /) -> bytes:
        """Return the bytes of a 100 Trying to the INVITE of the transaction (8.2.6.1: without a To tag)."""

    def timeout(self, transaction: Any, /) -> object:
        """Take note that the ACK of an INVITE transaction did not come (13.3.1.4, Timer H)."""

    def transport_error(self, transaction: Any, /) -> object:
        """Take note that a response could not be sent (17.2.4)."""

    def ended(self, transaction: Any, /) -> object:
        """Forget the transaction: it has ended and takes no further event."""


class ClientHost(Protocol):
    """The world of client transactions."""

    @property
    def timers(self) -> TimerSettings:
        """The delays of all transactions."""

    @property
    def start_timer(self) -> Callable[[float, Callable[[Any], object], Any], Timer]:
        """Call `callback(argument)` after a delay in seconds: `start_timer(delay, callback, argument)`."""

    def send(self, transaction: Any, data: bytes, /) -> object:
        """Send bytes to the peer of the transaction."""

    def ack(self, transaction: Any, response: Any, /) -> bytes:
        """Return the bytes of the ACK to a response of 300 to 699 (17.1.1.3)."""

    def response(self, transaction: Any, response: Any, /) -> object:
        """Take a response for the user."""

    def timeout(self, transaction: Any, /) -> object:
        """Take note that no final response came: Timer B or F."""

    def transport_error(self, transaction: Any, /) -> object:
        """Take note that the request could not be sent (17.1.4)."""

    def ended(self, transaction: Any, /) -> object:
        """Forget the transaction: it has ended and takes no further event."""
