"""The host of server transactions: owns where their bytes go."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sipwright.engine.trace import Trace
from sipwright.sip import build
from sipwright.sip.parse import parse
from sipwright.timerqueue import TimerQueue
from sipwright.transaction.host import ServerTransaction
from sipwright.transaction.table import TransactionTable
from sipwright.transaction.timers import TimerSettings


class TransactionHost:
    """What transactions call (transaction.host.Host). A transaction's `peer` is a socket and an address of it."""

    __slots__ = ("_log", "_remove", "ended", "start_timer", "timers", "trace")

    def __init__(self, table: TransactionTable, timerqueue: TimerQueue, log: logging.Logger) -> None:
        self._log = log
        self._remove = table.remove
        self.ended: Callable[[Any], object] = table.remove
        self.start_timer = timerqueue.start
        self.timers = TimerSettings()
        self.trace: Trace | None = None

    def set_trace(self, trace: Trace | None) -> None:
        """Tell what happens to `trace`, or nobody."""
        self.trace = trace
        self.ended = self._remove if trace is None else self._traced_end

    def _traced_end(self, transaction: ServerTransaction) -> None:
        assert self.trace is not None
        self.trace("ended", transaction.user, {"transaction": transaction})
        self._remove(transaction)  # type: ignore[arg-type]  # there is no third kind

    def send(self, transaction: ServerTransaction, data: bytes) -> None:
        """Send bytes to the transaction's peer."""
        peer = transaction.peer
        if self.trace is not None:
            self.trace("send", transaction.user, {"data": data, "address": peer[1]})
        peer[0].send(data, peer[1])

    def trying(self, transaction: ServerTransaction) -> bytes:
        """Build a 100 Trying."""
        request = transaction.request
        assert request is not None  # it is there until the final response
        return build.reply(request, 100, "Trying", source=transaction.user.source)

    def timeout(self, transaction: ServerTransaction) -> None:
        """Take note that an ACK never came: nothing is left to do, the caller has gone."""
        if self._log.isEnabledFor(logging.INFO):
            # The request has gone with its answer; the answer has the same ids.
            self._log.info("no ACK for the %d", transaction.status, extra={"about": parse(transaction.last_response)})

    def transport_error(self, transaction: ServerTransaction) -> None:
        """Take note that a response could not be sent."""
        self._log.warning("could not send to %s", transaction.peer[1])
