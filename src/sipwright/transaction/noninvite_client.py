"""The non-INVITE client transaction: RFC 3261 section 17.1.2, owns the repetition of one request.

The user (TU) gives the bytes of the request; the host sends them and takes the responses. A response belongs to the
transaction when `response_key(response)` is its key.
"""

from __future__ import annotations

from typing import Any

from sipwright.sip.message import Response
from sipwright.timerqueue import Timer
from sipwright.transaction.host import ClientHost
from sipwright.transaction.state import State, Transition

TRYING = State.TRYING
PROCEEDING = State.PROCEEDING
COMPLETED = State.COMPLETED
TERMINATED = State.TERMINATED

# RFC 3261 figure 6.
TRANSITIONS = (
    Transition(TRYING, "timer_e", TRYING, "last"),
    Transition(TRYING, "timer_f", TERMINATED),
    Transition(TRYING, "transport_error", TERMINATED),
    Transition(TRYING, "receive_response 1xx", PROCEEDING),
    Transition(TRYING, "receive_response 2xx-6xx", COMPLETED),
    Transition(PROCEEDING, "timer_e", PROCEEDING, "last"),
    Transition(PROCEEDING, "timer_f", TERMINATED),
    Transition(PROCEEDING, "transport_error", TERMINATED),
    Transition(PROCEEDING, "receive_response 1xx", PROCEEDING),
    Transition(PROCEEDING, "receive_response 2xx-6xx", COMPLETED),
    Transition(COMPLETED, "receive_response 1xx", COMPLETED),
    Transition(COMPLETED, "receive_response 2xx-6xx", COMPLETED),
    Transition(COMPLETED, "transport_error", COMPLETED),
    Transition(COMPLETED, "timer_k", TERMINATED),
)


class NonInviteClientTransaction:
    """A request other than INVITE and ACK on its way out; `start()` sends it.

    `request` is all of its bytes; `peer` is opaque and belongs to the host; `reliable` tells that it is reached over
    TCP, TLS or the like. The first final response, and every provisional one before it, is given to the host.
    """

    __slots__ = ("_host", "_interval_e", "_timer", "_timer_e", "key", "peer", "reliable", "request", "state")

    def __init__(self, host: ClientHost, key: bytes, request: bytes, peer: Any, reliable: bool = False) -> None:
        self._host = host
        self.key = key
        self.request = request
        self.peer: Any = peer
        self.reliable = reliable
        self.state = TRYING
        self._interval_e = host.timers.t1
        self._timer_e: Timer | None = None
        # F, then K.
        self._timer: Timer | None = None

    def start(self) -> None:
        """Send the request and start Timers E and F. To be called once."""
        host = self._host
        self._timer = host.start_timer(host.timers.f, _TIMER_F, self)
        if not self.reliable:
            self._timer_e = host.start_timer(self._interval_e, _TIMER_E, self)
        host.send(self, self.request)

    def receive_response(self, response: Response) -> None:
        """Take a response that belongs to this transaction; after the first final one they are absorbed."""
        if self.state is TRYING or self.state is PROCEEDING:
            if response.status < 200:
                self.state = PROCEEDING
                self._host.response(self, response)
            else:
                self._complete(response)

    def timer_e(self) -> None:
        """Send the request again."""
        if self.state is TRYING:
            self._interval_e = min(2 * self._interval_e, self._host.timers.t2)
        elif self.state is PROCEEDING:
            self._interval_e = self._host.timers.t2
        else:
            return
        self._timer_e = self._host.start_timer(self._interval_e, _TIMER_E, self)
        self._host.send(self, self.request)

    def timer_f(self) -> None:
        """End and tell the TU: no final response came."""
        if self.state is TRYING or self.state is PROCEEDING:
            self.state = TERMINATED
            self._cancel_timers()
            self._host.timeout(self)
            self._host.ended(self)

    def timer_k(self) -> None:
        """End: no more responses are expected."""
        if self.state is COMPLETED:
            self.state = TERMINATED
            self._host.ended(self)

    def transport_error(self) -> None:
        """End and tell the TU: the request could not be sent (17.1.4)."""
        if self.state is TRYING or self.state is PROCEEDING:
            self.state = TERMINATED
            self._cancel_timers()
            self._host.transport_error(self)
            self._host.ended(self)

    def _complete(self, response: Response) -> None:
        self.state = COMPLETED
        self._cancel_timers()
        host = self._host
        if self.reliable:
            # Timer K is zero seconds.
            host.response(self, response)
            self.timer_k()
        else:
            self._timer = host.start_timer(host.timers.k, _TIMER_K, self)
            host.response(self, response)

    def _cancel_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._timer_e is not None:
            self._timer_e.cancel()


_TIMER_E = NonInviteClientTransaction.timer_e
_TIMER_F = NonInviteClientTransaction.timer_f
_TIMER_K = NonInviteClientTransaction.timer_k
