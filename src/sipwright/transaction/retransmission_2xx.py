"""Repeating a 2xx to an INVITE until its ACK comes: RFC 3261 section 13.3.1.4, a part of the user agent core.

The INVITE server transaction does not do it (RFC 6026): the ACK of a 2xx is a transaction of its own, and only the
one who answers knows that it came. A proxy does not do it either, so it is started for our own answers only.
Kamailio's tm does the same for a 200 of `t_reply`, over TCP too.
"""

from __future__ import annotations

from sipwright.timerqueue import Timer
from sipwright.transaction.host import Host, ServerTransaction
from sipwright.transaction.key import DialogKey


class Retransmission2xx:
    """A 2xx that is sent again after T1, then at doubled intervals up to T2, until `stop()` or for 64*T1.

    It starts with its construction, which follows the sending of the 2xx, and is in `pending` under `key` until it
    stops. "The server generates 2xx retransmissions
    independent of transport": a hop further on may be UDP. When no ACK comes the host's `timeout` is called, once; the
    transaction itself may have ended by then.
    """

    __slots__ = ("_host", "_interval", "_limit", "_pending", "_timer", "key", "transaction")

    def __init__(
        self,
        host: Host,
        transaction: ServerTransaction,
        key: DialogKey,
        pending: dict[DialogKey, Retransmission2xx],
    ) -> None:
        self._host = host
        self.transaction = transaction
        self.key = key
        self._pending = pending
        pending[key] = self
        self._interval = host.timers.t1
        self._timer: Timer = host.start_timer(self._interval, _TIMER, self)
        self._limit: Timer = host.start_timer(host.timers.timeout, _TIMER_LIMIT, self)

    def timer(self) -> None:
        """Send the 2xx again."""
        host = self._host
        self._interval = min(2 * self._interval, host.timers.t2)
        self._timer = host.start_timer(self._interval, _TIMER, self)
        host.send(self.transaction, self.transaction.last_response)

    def timer_limit(self) -> None:
        """Give up: the dialog stands, but a user agent would now end the session with BYE."""
        self.stop()
        self._host.timeout(self.transaction)

    def stop(self) -> None:
        """Send no more: the ACK came."""
        self._pending.pop(self.key, None)
        self._timer.cancel()
        self._limit.cancel()


_TIMER = Retransmission2xx.timer
_TIMER_LIMIT = Retransmission2xx.timer_limit
