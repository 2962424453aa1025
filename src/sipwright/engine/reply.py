"""Replies: owns the To tags and the way from a status to bytes on the wire, with a transaction and without one."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

from sipwright.engine.stats import Counters
from sipwright.engine.trace import Trace
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.script.suspend import Suspension
from sipwright.script.uris import parsed_uri
from sipwright.sip import build
from sipwright.sip.message import Request
from sipwright.transaction.invite_server import InviteServerTransaction

EVENT = RouteKind.EVENT


class Replier:
    """Answers requests.

    A To tag is `prefix` (random, one per worker: RFC 3261 19.3) and a number; that of a stateless answer is made from
    the request, so that it is the same for each retransmission (8.2.7), and begins with `stateless_prefix`, so that
    its ACK is known to every worker of the server.
    `new_transaction(context)` makes the transaction of a context that has none; `accepted(request, transaction)` is
    told of the 2xx to an INVITE, which has to be repeated until its ACK comes. A final answer is also the end of what
    a context still has: `abandon(suspension)` ends its suspension, `release(context)`, after a stateless one, both
    that and the transaction.
    """

    __slots__ = (
        "_abandon",
        "_accepted",
        "_new_transaction",
        "_next_tag",
        "_prefix",
        "_release",
        "_stateless_prefix",
        "_stats",
        "trace",
    )

    def __init__(
        self,
        prefix: str,
        stateless_prefix: str,
        new_transaction: Callable[[Context], bool],
        accepted: Callable[[Request, InviteServerTransaction], None],
        abandon: Callable[[Suspension], bool],
        release: Callable[[Context], bool],
        stats: Counters,
    ) -> None:
        self._abandon = abandon
        self._accepted = accepted
        self._prefix = prefix
        self._stateless_prefix = stateless_prefix
        self._next_tag = 0
        self._new_transaction = new_transaction
        self._release = release
        self._stats = stats
        self.trace: Trace | None = None

    def reply(self, context: Context, status: int, reason: str) -> bool:
        """Answer within the transaction, made if there is none. False: a final answer was sent before, or an ACK."""
        if context.transaction is None and not self._new_transaction(context):
            return False
        transaction = context.transaction
        assert transaction is not None
        if transaction.status >= 200:
            # Asked here too: to an INVITE, the transaction itself would let a second 2xx pass (RFC 6026 section 7.1).
            return False
        request = context.message
        to_tag = context.to_tag
        if to_tag is None and status != 100:
            to_tag = self.tag(context)
        if context.reply_headers is None and (context.uri is None or status // 100 != 3):
            data = build.reply(request, status, reason, source=context.source, to_tag=to_tag)
        else:
            data = self._with_additions(context, status, reason, to_tag)
        if request.method == "INVITE":
            transaction.to_tag = request.to_tag or to_tag
        if not transaction.respond(status, data):
            return False
        self._stats.tm_replies += 1
        if status >= 200:
            self._stats.completed += 1
            self._answered(context)
            if status < 300 and isinstance(transaction, InviteServerTransaction):
                self._accepted(request, transaction)
            if context.suspension is not None:
                self._abandon(context.suspension)
        return True

    def reply_stateless(self, context: Context, status: int, reason: str) -> bool:
        """Answer without a transaction. False for an ACK."""
        request = context.message
        if request.method == "ACK":
            return False
        data = self._with_additions(context, status, reason, self.stateless_tag(request.data))
        target = build.reply_target(request, context.source)
        self._stats.sent_replies += 1
        if self.trace is not None:
            self.trace("reply_stateless", context, {"data": data, "address": target})
        context.socket.send(data, target)
        if status >= 200:
            self._answered(context)
            self._release(context)
        return True

    def _answered(self, context: Context) -> None:
        context.answered = True
        if not context.counted and context.kind is not EVENT:
            context.counted = True
            self._stats.answered += 1

    def tag(self, context: Context) -> str:
        """Return the To tag of every answer within the context's transaction, chosen at first use."""
        if context.to_tag is None:
            self._next_tag += 1
            context.to_tag = f"{self._prefix}-{self._next_tag:x}"
        return context.to_tag

    def stateless_tag(self, seed: bytes) -> str:
        """Return a To tag for stateless answers; `seed` is the same for each retransmission of a request."""
        return f"{self._stateless_prefix}{zlib.crc32(seed):08x}"

    def is_stateless_tag(self, tag: str | None) -> bool:
        """Tell whether a To tag is one of ours that no transaction belongs to."""
        return tag is not None and tag.startswith(self._stateless_prefix)

    def _with_additions(self, context: Context, status: int, reason: str, to_tag: str | None) -> bytes:
        """Build a reply with what append_to_reply() and set_reply_body() added; they hold for one reply.

        A redirection names the Request-URI that the script set, unless it added a Contact itself.
        """
        lines = context.reply_headers or []
        if status // 100 == 3 and parsed_uri(context.uri or "") is not None and not any(map(_is_contact, lines)):
            lines = [*lines, f"Contact: <{context.uri}>"]
        body = context.reply_body
        context.reply_headers = None
        context.reply_body = None
        headers = "".join(line if line.endswith("\r\n") else line.rstrip("\r\n") + "\r\n" for line in lines)
        return build.reply(
            context.message,
            status,
            reason,
            source=context.source,
            to_tag=to_tag,
            headers=headers.encode("utf-8", "surrogateescape"),
            body=b"" if body is None else body,
        )


# Added text may be several lines.
_is_contact = re.compile(r"^(?:contact|m)[ \t]*:", re.IGNORECASE | re.MULTILINE).search
