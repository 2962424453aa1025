"""The INVITE server transaction: RFC 3261 section 17.2.1 as RFC 6026 mends it, owns one INVITE's state.

It builds no bytes and knows no script: the user (TU) passes the bytes of its responses, the host sends them and
builds the 100 Trying. Repeating a 2xx until its ACK comes is the TU's (13.3.1.4): see retransmission_2xx.py.
"""

from __future__ import annotations

from typing import Any

from sipwright.sip.message import Request
from sipwright.timerqueue import Timer
from sipwright.transaction.host import Host
from sipwright.transaction.state import State, Transition

PROCEEDING = State.PROCEEDING
ACCEPTED = State.ACCEPTED
COMPLETED = State.COMPLETED
CONFIRMED = State.CONFIRMED
TERMINATED = State.TERMINATED

# RFC 6026 figure 5, which replaces RFC 3261 figure 7; for "Transport Err" its section 8.8: the state stays as it is.
# "last" to a retransmission in Proceeding is nothing before the first provisional response.
TRANSITIONS = (
    Transition(PROCEEDING, "receive_retransmission", PROCEEDING, "last"),
    Transition(PROCEEDING, "timer_100", PROCEEDING, "100"),
    Transition(PROCEEDING, "respond 1xx", PROCEEDING, "new"),
    Transition(PROCEEDING, "respond 2xx", ACCEPTED, "new"),
    Transition(PROCEEDING, "respond 3xx-6xx", COMPLETED, "new"),
    Transition(PROCEEDING, "receive_ack", PROCEEDING),
    Transition(PROCEEDING, "transport_error", PROCEEDING),
    Transition(PROCEEDING, "terminate", TERMINATED),
    Transition(ACCEPTED, "receive_retransmission", ACCEPTED),
    Transition(ACCEPTED, "respond 2xx", ACCEPTED, "new"),
    Transition(ACCEPTED, "receive_ack", ACCEPTED),
    Transition(ACCEPTED, "transport_error", ACCEPTED),
    Transition(ACCEPTED, "timer_l", TERMINATED),
    Transition(ACCEPTED, "terminate", TERMINATED),
    Transition(COMPLETED, "receive_retransmission", COMPLETED, "last"),
    Transition(COMPLETED, "timer_g", COMPLETED, "last"),
    Transition(COMPLETED, "receive_ack", CONFIRMED),
    Transition(COMPLETED, "transport_error", COMPLETED),
    Transition(COMPLETED, "timer_h", TERMINATED),
    Transition(COMPLETED, "terminate", TERMINATED),
    Transition(CONFIRMED, "receive_retransmission", CONFIRMED),
    Transition(CONFIRMED, "receive_ack", CONFIRMED),
    Transition(CONFIRMED, "transport_error", CONFIRMED),
    Transition(CONFIRMED, "timer_i", TERMINATED),
    Transition(CONFIRMED, "terminate", TERMINATED),
)


class InviteServerTransaction:
    """An INVITE, and what was answered to it.

    `peer` is opaque and belongs to the host; `reliable` tells that it is reached over TCP, TLS or the like. `user` and
    `to_tag` are the TU's, None at first; set `to_tag` before a final response: the ACK of an RFC 2543 client is
    matched by it. With the final response `request` and `user` become None.
    """

    __slots__ = (
        "_host",
        "_interval_g",
        "_timer",
        "_timer_g",
        "key",
        "last_response",
        "peer",
        "reliable",
        "request",
        "state",
        "status",
        "to_tag",
        "user",
    )

    def __init__(self, host: Host, key: bytes, request: Request, peer: Any, reliable: bool = False) -> None:
        self._host = host
        self.key = key
        self.request: Request | None = request
        self.peer: Any = peer
        self.reliable = reliable
        self.state = PROCEEDING
        self.status = 0
        self.last_response = b""
        self.to_tag: str | None = None
        self.user: Any = None
        self._timer_g: Timer | None = None
        self._interval_g = 0.0
        # One of them runs at a time: that of the 100 Trying, then L, or H and I.
        self._timer: Timer = host.start_timer(host.timers.trying, _TIMER_100, self)

    def respond(self, status: int, data: bytes) -> bool:
        """Send a response of the TU: `data` is all of it, `status` 100 to 699 its status code.

        Returns False, and does nothing, when a final response was already given, but for a 2xx after a 2xx: that is
        sent, once (RFC 6026 section 7.1; further branches of a proxy may answer 2xx as well).
        """
        state = self.state
        if state is PROCEEDING:
            if status < 200:
                self._provisional(status, data)
            elif status < 300:
                self._accept(status, data)
            else:
                self._complete(status, data)
            return True
        if state is ACCEPTED and 200 <= status < 300:
            self.status = status
            self.last_response = data
            self._host.send(self, data)
            return True
        return False

    def receive_retransmission(self, _request: Request) -> None:
        """Take the INVITE once more: the last provisional or the last negative final response is sent again.

        After a 2xx it is absorbed without a word: the TU repeats that itself.
        """
        if self.state is PROCEEDING:
            if self.last_response:
                self._host.send(self, self.last_response)
        elif self.state is COMPLETED:
            self._host.send(self, self.last_response)

    def receive_ack(self, _request: Request) -> bool:
        """Take an ACK that matches this transaction. False: it acknowledges a 2xx and is the TU's (RFC 6026 7.1)."""
        if self.state is ACCEPTED:
            return False
        if self.state is COMPLETED:
            self.state = CONFIRMED
            self._cancel_timers()
            if self.reliable:
                # Timer I is zero seconds.
                self.timer_i()
            else:
                self._timer = self._host.start_timer(self._host.timers.i, _TIMER_I, self)
        return True

    def timer_100(self) -> None:
        """Send 100 Trying: the TU has not answered within 200 ms."""
        if self.state is PROCEEDING:
            self.status = 100
            self.last_response = self._host.trying(self)
            self._host.send(self, self.last_response)

    def timer_g(self) -> None:
        """Send the final response again: no ACK has come yet."""
        if self.state is COMPLETED:
            host = self._host
            self._interval_g = min(2 * self._interval_g, host.timers.t2)
            self._timer_g = host.start_timer(self._interval_g, _TIMER_G, self)
            host.send(self, self.last_response)

    def timer_h(self) -> None:
        """End and tell the TU: the ACK never came."""
        if self.state is COMPLETED:
            self.state = TERMINATED
            self._cancel_timers()
            self._host.timeout(self)
            self._host.ended(self)

    def timer_i(self) -> None:
        """End: no more ACKs are expected."""
        if self.state is CONFIRMED:
            self.state = TERMINATED
            self._host.ended(self)

    def timer_l(self) -> None:
        """End: no more retransmissions of the INVITE, and no more 2xx of the TU, are expected."""
        if self.state is ACCEPTED:
            self.state = TERMINATED
            self._host.ended(self)

    def transport_error(self) -> None:
        """Take note that a response could not be sent: the TU is told, and the transaction goes on.

        17.2.4 in the version of RFC 6026 section 8.8: it remains in its state; Timer G or a retransmission tries again.
        """
        if self.state is not TERMINATED:
            self._host.transport_error(self)

    def terminate(self) -> None:
        """End at once, without a response: for a TU that gives up, and for a worker that stops."""
        if self.state is not TERMINATED:
            self.state = TERMINATED
            self.request = self.user = None
            self._cancel_timers()
            self._host.ended(self)

    def _provisional(self, status: int, data: bytes) -> None:
        self.status = status
        self.last_response = data
        self._cancel_timers()
        self._host.send(self, data)

    def _accept(self, status: int, data: bytes) -> None:
        self.state = ACCEPTED
        self.status = status
        self.last_response = data
        self.request = self.user = None
        self._cancel_timers()
        host = self._host
        # Over reliable transports too (RFC 6026 section 7.1): 2xx of other branches may still come.
        self._timer = host.start_timer(host.timers.l, _TIMER_L, self)
        host.send(self, data)

    def _complete(self, status: int, data: bytes) -> None:
        self.state = COMPLETED
        self.status = status
        self.last_response = data
        self.request = self.user = None
        self._cancel_timers()
        host = self._host
        timers = host.timers
        if not self.reliable:
            self._interval_g = timers.t1
            self._timer_g = host.start_timer(timers.t1, _TIMER_G, self)
        self._timer = host.start_timer(timers.h, _TIMER_H, self)
        host.send(self, data)

    def _cancel_timers(self) -> None:
        self._timer.cancel()
        if self._timer_g is not None:
            self._timer_g.cancel()


_TIMER_100 = InviteServerTransaction.timer_100
_TIMER_G = InviteServerTransaction.timer_g
_TIMER_H = InviteServerTransaction.timer_h
_TIMER_I = InviteServerTransaction.timer_i
_TIMER_L = InviteServerTransaction.timer_l
