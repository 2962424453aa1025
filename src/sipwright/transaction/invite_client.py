"""The INVITE client transaction: RFC 3261 section 17.1.1 as RFC 6026 mends it, owns the repetition of one INVITE.

The user (TU) gives the bytes of the INVITE; the host sends them, takes the responses and builds the ACK of a response
of 300 to 699. The ACK of a 2xx is the TU's (13.2.2.4), and so is giving up (CANCEL) when no final response follows a
provisional one. A response belongs to the transaction when `response_key(response)` is its key.
"""

from __future__ import annotations

from typing import Any

from sipwright.sip.message import Response
from sipwright.timerqueue import Timer
from sipwright.transaction.host import ClientHost
from sipwright.transaction.state import State, Transition

CALLING = State.CALLING
PROCEEDING = State.PROCEEDING
ACCEPTED = State.ACCEPTED
COMPLETED = State.COMPLETED
TERMINATED = State.TERMINATED

# RFC 6026 figure 4, which replaces RFC 3261 figure 5.
TRANSITIONS = (
    Transition(CALLING, "timer_a", CALLING, "last"),
    Transition(CALLING, "timer_b", TERMINATED),
    Transition(CALLING, "transport_error", TERMINATED),
    Transition(CALLING, "receive_response 1xx", PROCEEDING),
    Transition(CALLING, "receive_response 2xx", ACCEPTED),
    Transition(CALLING, "receive_response 3xx-6xx", COMPLETED, "ACK"),
    Transition(PROCEEDING, "receive_response 1xx", PROCEEDING),
    Transition(PROCEEDING, "receive_response 2xx", ACCEPTED),
    Transition(PROCEEDING, "receive_response 3xx-6xx", COMPLETED, "ACK"),
    Transition(PROCEEDING, "transport_error", PROCEEDING),
    Transition(ACCEPTED, "receive_response 1xx", ACCEPTED),
    Transition(ACCEPTED, "receive_response 2xx", ACCEPTED),
    Transition(ACCEPTED, "receive_response 3xx-6xx", ACCEPTED),
    Transition(ACCEPTED, "transport_error", ACCEPTED),
    Transition(ACCEPTED, "timer_m", TERMINATED),
    Transition(COMPLETED, "receive_response 1xx", COMPLETED),
    Transition(COMPLETED, "receive_response 2xx", COMPLETED),
    Transition(COMPLETED, "receive_response 3xx-6xx", COMPLETED, "ACK"),
    Transition(COMPLETED, "transport_error", TERMINATED),
    Transition(COMPLETED, "timer_d", TERMINATED),
)


class InviteClientTransaction:
    """An INVITE on its way out; `start()` sends it.

    `request` is all of its bytes; `peer` is opaque and belongs to the host; `reliable` tells that it is reached over
    TCP, TLS or the like. The host is given every provisional response, every 2xx (several, when the INVITE was forked),
    and the first response of 300 to 699.
    """

    __slots__ = ("_ack", "_host", "_interval_a", "_timer", "_timer_a", "key", "peer", "reliable", "request", "state")

    def __init__(self, host: ClientHost, key: bytes, request: bytes, peer: Any, reliable: bool = False) -> None:
        self._host = host
        self.key = key
        self.request = request
        self.peer: Any = peer
        self.reliable = reliable
        self.state = CALLING
        self._ack = b""
        self._interval_a = host.timers.t1
        self._timer_a: Timer | None = None
        # One of them runs at a time: B, M or D.
        self._timer: Timer | None = None

    def start(self) -> None:
        """Send the INVITE and start Timers A and B. To be called once."""
        host = self._host
        self._timer = host.start_timer(host.timers.b, _TIMER_B, self)
        if not self.reliable:
            self._timer_a = host.start_timer(self._interval_a, _TIMER_A, self)
        host.send(self, self.request)

    def receive_response(self, response: Response) -> None:
        """Take a response that belongs to this transaction."""
        status = response.status
        if self.state is CALLING or self.state is PROCEEDING:
            if status < 200:
                self.state = PROCEEDING
                self._cancel_timers()
                self._host.response(self, response)
            elif status < 300:
                self._accept(response)
            else:
                self._complete(response)
        elif self.state is ACCEPTED:
            if 200 <= status < 300:
                self._host.response(self, response)
        elif self.state is COMPLETED and status >= 300:
            self._host.send(self, self._ack)

    def timer_a(self) -> None:
        """Send the INVITE again."""
        if self.state is CALLING:
            self._interval_a *= 2
            self._timer_a = self._host.start_timer(self._interval_a, _TIMER_A, self)
            self._host.send(self, self.request)

    def timer_b(self) -> None:
        """End and tell the TU: no response came."""
        if self.state is CALLING:
            self.state = TERMINATED
            self._cancel_timers()
            self._host.timeout(self)
            self._host.ended(self)

    def timer_d(self) -> None:
        """End: no more final responses are expected."""
        if self.state is COMPLETED:
            self.state = TERMINATED
            self._host.ended(self)

    def timer_m(self) -> None:
        """End: no more 2xx are expected."""
        if self.state is ACCEPTED:
            self.state = TERMINATED
            self._host.ended(self)

    def transport_error(self) -> None:
        """End and tell the TU when the INVITE or the ACK could not be sent (17.1.4, RFC 6026 section 7.2)."""
        if self.state is CALLING or self.state is COMPLETED:
            self.state = TERMINATED
            self._cancel_timers()
            self._host.transport_error(self)
            self._host.ended(self)

    def _accept(self, response: Response) -> None:
        self.state = ACCEPTED
        self._cancel_timers()
        host = self._host
        self._timer = host.start_timer(host.timers.m, _TIMER_M, self)
        host.response(self, response)

    def _complete(self, response: Response) -> None:
        self.state = COMPLETED
        self._cancel_timers()
        host = self._host
        self._ack = host.ack(self, response)
        if not self.reliable:
            self._timer = host.start_timer(host.timers.d, _TIMER_D, self)
        host.send(self, self._ack)
        host.response(self, response)
        if self.reliable:
            # Timer D is zero seconds.
            self.timer_d()

    def _cancel_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._timer_a is not None:
            self._timer_a.cancel()


_TIMER_A = InviteClientTransaction.timer_a
_TIMER_B = InviteClientTransaction.timer_b
_TIMER_D = InviteClientTransaction.timer_d
_TIMER_M = InviteClientTransaction.timer_m
