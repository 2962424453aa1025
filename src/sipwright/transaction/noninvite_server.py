"""The non-INVITE server transaction: RFC 3261 section 17.2.2, owns one request's state and its last response.

It builds no bytes and knows no script: the user (TU) passes the bytes of its responses, the host sends them.
A completed transaction is kept for Timer J, and with 30,000 transactions a second that is a million of them, so it
then holds nothing but its key, peer, last response and timer.
"""

from __future__ import annotations

from typing import Any

from sipwright.sip.message import Request
from sipwright.timerqueue import Timer
from sipwright.transaction.host import Host
from sipwright.transaction.state import State, Transition

TRYING = State.TRYING
PROCEEDING = State.PROCEEDING
COMPLETED = State.COMPLETED
TERMINATED = State.TERMINATED

# RFC 3261 figure 8. In place of its "Transport Err" arrows, RFC 6026 section 8.8: the state stays as it is.
TRANSITIONS = (
    Transition(TRYING, "receive_retransmission", TRYING),
    Transition(TRYING, "respond 1xx", PROCEEDING, "new"),
    Transition(TRYING, "respond 2xx-6xx", COMPLETED, "new"),
    Transition(TRYING, "transport_error", TRYING),
    Transition(TRYING, "terminate", TERMINATED),
    Transition(PROCEEDING, "receive_retransmission", PROCEEDING, "last"),
    Transition(PROCEEDING, "respond 1xx", PROCEEDING, "new"),
    Transition(PROCEEDING, "respond 2xx-6xx", COMPLETED, "new"),
    Transition(PROCEEDING, "transport_error", PROCEEDING),
    Transition(PROCEEDING, "terminate", TERMINATED),
    Transition(COMPLETED, "receive_retransmission", COMPLETED, "last"),
    Transition(COMPLETED, "transport_error", COMPLETED),
    Transition(COMPLETED, "timer_j", TERMINATED),
    Transition(COMPLETED, "terminate", TERMINATED),
)


class NonInviteServerTransaction:
    """A request other than INVITE and ACK, and what was answered to it.

    `peer` is opaque and belongs to the host; `reliable` tells that it is reached over TCP, TLS or the like. `user` and
    `to_tag` are the TU's, None at first. With the final response `request`, `user` and `to_tag` become None.
    """

    __slots__ = (
        "_host",
        "_timer_j",
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
        self.state = TRYING
        self.status = 0
        self.last_response = b""
        self.to_tag: str | None = None
        self.user: Any = None
        self._timer_j: Timer | None = None

    def respond(self, status: int, data: bytes) -> bool:
        """Send a response of the TU: `data` is all of it, `status` 100 to 699 its status code.

        Returns False, and does nothing, when a final response was already given (17.2.2: it MUST be discarded).
        """
        state = self.state
        if state is not TRYING and state is not PROCEEDING:
            return False
        host = self._host
        if status < 200:
            self.state = PROCEEDING
            self.status = status
            self.last_response = data
            host.send(self, data)
            return True
        self.state = COMPLETED
        self.status = status
        self.last_response = data
        self.request = self.user = self.to_tag = None
        if self.reliable:
            # Timer J is zero seconds.
            host.send(self, data)
            self.timer_j()
        else:
            self._timer_j = host.start_timer(host.timers.j, _TIMER_J, self)
            host.send(self, data)
        return True

    def receive_retransmission(self, _request: Request) -> None:
        """Take the request once more: it is answered with the last response, if there is one."""
        if self.state is PROCEEDING or self.state is COMPLETED:
            self._host.send(self, self.last_response)

    def timer_j(self) -> None:
        """End: no more retransmissions of the request are expected."""
        if self.state is COMPLETED:
            self.state = TERMINATED
            self._host.ended(self)

    def transport_error(self) -> None:
        """Take note that a response could not be sent: the TU is told, and a retransmission gets it once more.

        17.2.4 in the version of RFC 6026 section 8.8: the transaction remains in its state.
        """
        if self.state is not TERMINATED:
            self._host.transport_error(self)

    def terminate(self) -> None:
        """End at once, without a response: for a TU that gives up, and for a worker that stops."""
        if self.state is not TERMINATED:
            self.state = TERMINATED
            self.request = self.user = self.to_tag = None
            if self._timer_j is not None:
                self._timer_j.cancel()
            self._host.ended(self)


_TIMER_J = NonInviteServerTransaction.timer_j
