"""Module textopsx: applies the edits of a message, and removes most of it."""

from __future__ import annotations

from sipwright.errors import SipParseError
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.script.kinds import Regex
from sipwright.script.module import Module, function
from sipwright.sip.edits import Edits, apply

# RFC 3261 section 8.1.1, and what section 18.3 and 20.15 want to stay with a body.
_NEEDED = {"via", "from", "to", "call-id", "cseq", "max-forwards", "contact", "route", "record-route"}
_NEEDED |= {"content-type", "content-length"}


class Textopsx(Module):
    """Further edits of the message."""

    name = "textopsx"

    @function(routes=RouteKind.REQUEST | RouteKind.ONREPLY | RouteKind.EVENT)
    def msg_apply_changes(self, ctx: Context) -> int:
        """Make the edits visible: from here on, variables and functions see the edited message.

        False, and everything as before, when the edits make the message unreadable.
        """
        try:
            self.services.replace_message(ctx, apply(ctx.message, ctx.edits, ctx.uri))
        except SipParseError as error:
            self.services.log.error("msg_apply_changes: the edits make the message unreadable: %s", error.reason)
            return -1
        ctx.edits = None
        # Kamailio: $ru is now what is in the message, and $ou too.
        ctx.uri = None
        return 1

    @function()
    def remove_body(self, ctx: Context) -> int:
        """Remove the body and its Content-Type."""
        if not ctx.message.body:
            return 1
        edits = _edits(ctx)
        edits.remove("Content-Type")
        edits.set_body(b"")
        return 1

    @function()
    def keep_hf(self, ctx: Context) -> int:
        """Remove all headers but those that a request needs."""
        return _keep(ctx, None)

    @function("keep_hf")
    def keep_hf_re(self, ctx: Context, names: Regex) -> int:
        """Remove all headers but those that a request needs and those whose names match."""
        return _keep(ctx, names)


def _keep(ctx: Context, names: Regex | None) -> int:
    edits = _edits(ctx)
    for key, name in {(field[0], field[1]) for field in ctx.message.fields()}:
        if key not in _NEEDED and (names is None or not names.search(name)):
            edits.remove(key)
    return 1


def _edits(ctx: Context) -> Edits:
    if ctx.edits is None:
        ctx.edits = Edits(ctx.message)
    return ctx.edits
