"""The host of server transactions: owns where their bytes go and what their end means to the rest of the worker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sipwright.engine.trace import Trace
from sipwright.script.context import Context
from sipwright.sip import build
from sipwright.timerqueue import TimerQueue
from sipwright.transaction.host import ServerTransaction
from sipwright.transaction.table import TransactionTable
from sipwright.transaction.timers import TimerSettings


class TransactionHost:
    """What transactions call (transaction.host.Host). A transaction's `peer` is a socket and an address of it.

    `ended_context(context)` is told of a transaction that ended before its script did.
    """

    __slots__ = ("_ended_context", "_log", "_table", "start_timer", "timers", "trace")

    def __init__(
        self,
        table: TransactionTable,
        timerqueue: TimerQueue,
        ended_context: Callable[[Context], None],
        log: logging.Logger,
    ) -> None:
        self._table = table
        self._ended_context = ended_context
        self._log = log
        self.start_timer = timerqueue.start
        self.timers = TimerSettings()
        self.trace: Trace | None = None

    def send(self, transaction: ServerTransaction, data: bytes) -> None:
        """Send bytes to the transaction's peer."""
        peer = transaction.peer
        if self.trace is not None:
            self.trace("send", transaction.user, {"data": data})
        peer[0].send(data, peer[1])

    def trying(self, transaction: ServerTransaction) -> bytes:
        """Build a 100 Trying."""
        request = transaction.request
        assert request is not None  # it is there until the final response
        return build.reply(request, 100, "Trying", source=transaction.user.source)

    def timeout(self, transaction: ServerTransaction) -> None:
        """Take note that an ACK never came: nothing is left to do, the caller has gone."""
        self._log.info("no ACK for the %d to %s", transaction.status, transaction.key.decode("utf-8", "replace"))

    def transport_error(self, transaction: ServerTransaction) -> None:
        """Take note that a response could not be sent."""
        self._log.warning("could not send to %s", transaction.peer[1])

    def ended(self, transaction: Any) -> None:
        """Forget the transaction."""
        self._table.remove(transaction)
        context = transaction.user
        if context is not None:
            self._ended_context(context)
