"""The main path of a datagram: parse, match, and run the script on what is new (stations 2 to 4).

Of several workers each has transactions of its own. What belongs to none of this one's goes through `hand_over` first,
which gives it to the worker that it belongs to.

Nothing that comes from the network gets past here as an exception: a message that cannot be parsed is counted and
answered 400 where RFC 3261 allows it, and whatever else goes wrong is our own fault, logged once with the datagram.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from sipwright.engine.reply import Replier
from sipwright.engine.run import Runner
from sipwright.engine.stats import Counters
from sipwright.engine.trace import Trace
from sipwright.errors import SipParseError
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Address, Context, Socket
from sipwright.sip import build
from sipwright.sip.message import Message, Request, Response
from sipwright.sip.parse import parse
from sipwright.transaction.table import TransactionTable

REQUEST = RouteKind.REQUEST
HandOver: TypeAlias = Callable[[Message, Address, Socket], bool]


class Receiver:
    """Takes datagrams.

    `cancel(context)` handles a CANCEL that the script has not, see `engine.services`. `hand_over(message, source,
    socket)` tells whether it has given a message to another worker; None where there is no other.
    """

    __slots__ = (
        "_absorb",
        "_account",
        "_cancelled",
        "_log",
        "_match_cancel",
        "_replier",
        "_runner",
        "_start",
        "_stats",
        "hand_over",
        "is_stopping",
        "trace",
    )

    def __init__(
        self,
        table: TransactionTable,
        runner: Runner,
        replier: Replier,
        cancelled: Callable[[Context, bool], bool],
        stats: Counters,
        log: logging.Logger,
    ) -> None:
        self._absorb = table.receive
        self._match_cancel = table.match_cancel
        self._runner = runner
        self._start = runner.start
        self._account = runner.account
        self._replier = replier
        self._cancelled = cancelled
        self._stats = stats
        self._log = log
        self.is_stopping = False
        self.hand_over: HandOver | None = None
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
                self._response(message, source, socket)
        except Exception:
            self._log.exception("fault in handling a datagram from %s: %r", source, data)

    def _request(self, request: Request, source: Address, socket: Socket) -> None:
        if self._absorb(request):
            self._stats.received_requests += 1
            if self.trace is not None:
                self.trace("absorb", None, {"request": request})
            return
        if (
            self.hand_over is not None
            # A worker that is being replaced has the INVITE, and would give the CANCEL to its successor.
            and (request.method != "CANCEL" or self._match_cancel(request) is None)
            and self.hand_over(request, source, socket)
        ):
            if self.trace is not None:
                self.trace("hand_over", None, {"request": request})
            return
        self._stats.received_requests += 1
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
        elif self.is_stopping:
            self._stats.refused += 1
            context.reply_headers = ["Retry-After: 5\r\n"]
            self._replier.reply_stateless(context, 503, "Service Unavailable")
            return
        self._start(context)
        if not context.answered:
            self._account(context)

    def _cancel(self, context: Context) -> None:
        """Handle a CANCEL: at once when its INVITE is suspended, otherwise in the script, which may leave it alone."""
        if self._cancelled(context, True):
            return
        self._start(context)
        if not context.answered and context.suspension is None and not self._cancelled(context, False):
            self._account(context)

    def _response(self, response: Response, source: Address, socket: Socket) -> None:
        if self.hand_over is not None and self.hand_over(response, source, socket):
            return
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
