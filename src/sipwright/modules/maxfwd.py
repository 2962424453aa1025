"""Module maxfwd: the Max-Forwards header (RFC 3261 sections 16.3 and 16.6)."""

from __future__ import annotations

from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.script.kinds import Int
from sipwright.script.module import Module, Param, function
from sipwright.sip.edits import Edits

ROUTES = RouteKind.REQUEST | RouteKind.BRANCH | RouteKind.FAILURE | RouteKind.EVENT


class Maxfwd(Module):
    """Counting hops."""

    name = "maxfwd"
    max_limit = Param(int, 70, minimum=1, maximum=255, doc="the greatest value that a request goes on with")

    @function(routes=ROUTES)
    def mf_process_maxfwd_header(self, ctx: Context, limit: Int) -> int:
        """Decrement Max-Forwards, or add it with the limit; -1 when it is 0, 1 decremented, 2 added.

        It is done once for a message, however often it is called.
        """
        message = ctx.message
        value = message.max_forwards
        if value == 0:
            return -1
        new = limit if value is None else min(value - 1, self.max_limit)
        if ctx.extra is None:
            ctx.extra = {}
        if ctx.extra.get("maxfwd") is not message:
            ctx.extra["maxfwd"] = message
            if ctx.edits is None:
                ctx.edits = Edits(message)
            if value is None:
                ctx.edits.append(f"Max-Forwards: {new}")
            else:
                ctx.edits.insert(f"Max-Forwards: {new}", "Max-Forwards")
                ctx.edits.remove("Max-Forwards")
        return 2 if value is None else 1

    @function("is_maxfwd_lt", routes=ROUTES)
    def is_maxfwd_lt(self, ctx: Context, limit: Int) -> int:
        """Tell whether Max-Forwards is less than the limit; -2 when there is none."""
        value = ctx.message.max_forwards
        if value is None:
            return -2
        return 1 if value < limit else -1
