"""The main path of a datagram: parse, match, and run the script on what is new (stations 2 to 4).

Nothing that comes from the network gets past here as an exception: a message that cannot be parsed is counted and
answered 400 where RFC 3261 allows it, and whatever else goes wrong is our own fault, logged once with the datagram.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from sipwright.engine.admission import Admission
from sipwright.engine.reply import Replier
from sipwright.engine.run import Runner
from sipwright.engine.stats import Counters
from sipwright.engine.trace import Trace
from sipwright.errors import SipParseError
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Address, Context, Socket
from sipwright.sip import build
from sipwright.sip.message import Request, Response
from sipwright.sip.parse import parse
from sipwright.transaction.table import TransactionTable

REQUEST = RouteKind.REQUEST


class Receiver:
    """Takes datagrams. `cancel(context)` handles a CANCEL that the script has not, see `engine.services`."""

    __slots__ = (
        "_absorb",
        "_admission",
        "_cancelled",
        "_log",
        "_replier",
        "_runner",
        "_start",
        "_stats",
        "_transactions",
        "trace",
    )

    def __init__(
        self,
        table: TransactionTable,
        runner: Runner,
        replier: Replier,
        cancelled: Callable[[Context, bool], bool],
        admission: Admission,
        stats: Counters,
        log: logging.Logger,
    ) -> None:
        self._absorb = table.receive
        self._transactions = table.keys
        self._admission = admission
        self._runner = runner
        self._start = runner.start
        self._replier = replier
        self._cancelled = cancelled
        self._stats = stats
        self._log = log
        self.trace: Trace | None = None

    def receive(self, data: bytes, source: Address, socket: Socket) -> None:
        """Take one datagram from `source`."""
        try:
            try:
                message = parse(data)
            except SipParseError as error:
                self._refuse(data, source, socket, error)
                return
            if isinstance(message, Request):
                self._request(message, source, socket)
            else:
                self._response(message, source)
        except Exception:
            self._log.exception("fault in handling a datagram from %s: %r", source, data)

    def _request(self, request: Request, source: Address, socket: Socket) -> None:
        self._stats.received_requests += 1
        if self._absorb(request):
            if self.trace is not None:
                self.trace("absorb", None, {"request": request})
            return
        context = Context(request, source, socket, REQUEST)
        if self.trace is not None:
            self.trace("receive", context, {"request": request})
        method = request.method
        if method == "ACK":
            if self._replier.is_stateless_tag(request.to_tag):
                self._stats.absorbed_acks += 1
                return
        elif method == "CANCEL":
            self._cancel(context)
            return
        elif len(self._transactions) >= self._admission.limit:
            self._admission.turn_away(context)
            return
        self._start(context)

    def _cancel(self, context: Context) -> None:
        """Handle a CANCEL: at once when its INVITE is suspended, otherwise in the script, which may leave it alone."""
        if self._cancelled(context, True):
            return
        self._start(context)
        if not context.answered and context.suspension is None:
            self._cancelled(context, False)

    def _response(self, response: Response, source: Address) -> None:
        # Nothing is relayed, so no response is expected: a stray one is counted and dropped.
        self._stats.received_replies += 1
        self._stats.stray_replies += 1
        self._log.debug("< %s %d from %s belongs to no transaction", response.cseq_method, response.status, source)

    def _refuse(self, data: bytes, source: Address, socket: Socket, error: SipParseError) -> None:
        if not data.strip(b"\r\n\0 "):
            self._stats.keepalives += 1
            return
        self._stats.bad_messages += 1
        self._log.info("< malformed message from %s: %s", source, error.reason)
        refusal = build.refusal(error, source, self._replier.stateless_tag(data))
        if refusal is not None:
            self._stats.sent_replies += 1
            socket.send(*refusal)
