"""Module sl: answers without a transaction (Kamailio manual, module sl)."""

from __future__ import annotations

from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.script.kinds import Status, Str
from sipwright.script.module import REPLYING, Module, Param, function


class Sl(Module):
    """Stateless answers. The ACK of a negative one is recognised by its To tag and absorbed."""

    name = "sl"
    ignored_params = ("bind_tm", "event_callback", "rich_redirect")

    default_code = Param(int, 500, minimum=300, maximum=699, doc="status of sl_reply_error()")
    default_reason = Param(str, "Internal Server Error", doc="reason of sl_reply_error()")

    @function(routes=REPLYING)
    def sl_send_reply(self, ctx: Context, code: Status, reason: Str) -> int:
        """Answer without a transaction."""
        return 1 if self.services.reply_stateless(ctx, code, reason) else -1

    @function(routes=REPLYING | RouteKind.ONREPLY)
    def send_reply(self, ctx: Context, code: Status, reason: Str) -> int:
        """Answer within the transaction when there is one, and without one when not."""
        if ctx.transaction is not None:
            return 1 if self.services.reply(ctx, code, reason) else -1
        return 1 if self.services.reply_stateless(ctx, code, reason) else -1

    @function(routes=REPLYING)
    def sl_reply_error(self, ctx: Context) -> int:
        """Answer with the default code and reason."""
        return 1 if self.services.reply_stateless(ctx, self.default_code, self.default_reason) else -1
