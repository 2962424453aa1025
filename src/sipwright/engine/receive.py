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

from sipwright.engine.admission import Admission
from sipwright.engine.reply import Replier
from sipwright.engine.run import Runner
from sipwright.engine.stats import Counters
from sipwright.engine.trace import Trace
from sipwright.errors import SipParseError
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Address, Context, Handling, Socket
from sipwright.sip import build
from sipwright.sip.message import Message, Request, Response
from sipwright.sip.parse import parse
from sipwright.transaction.state import State
from sipwright.transaction.table import TransactionTable

REQUEST = RouteKind.REQUEST
HandOver: TypeAlias = Callable[[Message, Address, Socket], bool]


class Receiver:
    """Takes datagrams.

    `cancel(context)` handles a CANCEL that the script has not, see `engine.services`. `hand_over(message, source,
    socket)` tells whether it has given a message to another worker; None where there is no other. `is_retiring` is set
    when a successor takes what is new.
    """

    __slots__ = (
        "_absorb",
        "_account",
        "_admission",
        "_cancelled",
        "_handling",
        "_log",
        "_replier",
        "_start",
        "_stats",
        "_table",
        "_transactions",
        "_when_ended",
        "hand_over",
        "is_retiring",
        "trace",
    )

    def __init__(
        self,
        table: TransactionTable,
        runner: Runner,
        replier: Replier,
        cancelled: Callable[[Context, bool], bool],
        admission: Admission,
        handling: Handling,
        stats: Counters,
        log: logging.Logger,
    ) -> None:
        self._table = table
        self._absorb = table.receive
        self._transactions = table.keys
        self._admission = admission
        self._start = runner.start
        self._account = runner.account
        self._when_ended = runner.when_ended
        self._replier = replier
        self._cancelled = cancelled
        self._handling = handling
        self._stats = stats
        self._log = log
        self.is_retiring = False
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
        self._handling.context = None

    def _request(self, request: Request, source: Address, socket: Socket) -> None:
        if self.trace is not None:
            self._trace_absorbed(request, source)
        if self._absorb(request):
            self._stats.received_requests += 1
            return
        if (
            self.hand_over is not None
            and not self._is_cancel_of_ours(request)
            and self.hand_over(request, source, socket)
        ):
            if self.trace is not None:
                self.trace("hand_over", None, {"message": request, "source": source})
            return
        self._stats.received_requests += 1
        if self.trace is not None:
            self._trace_absorbed(request, source)
        if self._absorb(request):
            return
        self._handling.context = context = Context(request, source, socket, REQUEST)
        if self.trace is not None:
            self.trace("receive", context, {"request": request, "source": source})
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
        if context.transaction is None and not context.answered:
            self._when_ended(context, self._account)

    def _is_cancel_of_ours(self, request: Request) -> bool:
        # A worker that is being replaced would give it to its successor, which does not have the INVITE.
        return request.method == "CANCEL" and (
            self._table.match_cancel(request) is not None or self._table.held_for_cancel(request) is not None
        )

    def _trace_absorbed(self, request: Request, source: Address) -> None:
        """Tell of a request that its transaction absorbs, before it sends anything."""
        transaction = self._table.match(request)
        # The ACK of a 2xx is the script's, though its INVITE's transaction is found.
        if transaction is not None and (request.method != "ACK" or transaction.state is not State.ACCEPTED):
            assert self.trace is not None
            self.trace("absorb", None, {"message": request, "source": source})

    def _cancel(self, context: Context) -> None:
        """Handle a CANCEL: at once when its INVITE is suspended, otherwise in the script, which may leave it alone.

        In a worker that retires no script begins that could have a say in it.
        """
        if self._cancelled(context, not self.is_retiring):
            return
        self._start(context)
        self._when_ended(context, self._left)

    def _left(self, cancel: Context) -> None:
        if not cancel.answered and cancel.suspension is None and not self._cancelled(cancel, False):
            self._account(cancel)

    def _response(self, response: Response, source: Address, socket: Socket) -> None:
        if self.hand_over is not None and self.hand_over(response, source, socket):
            return
        # Nothing is relayed, so no response is expected: a stray one is counted and dropped.
        self._stats.received_replies += 1
        self._stats.stray_replies += 1
        if self.trace is not None:
            self.trace("stray", None, {"message": response, "source": source})

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
