"""Functions of textops about headers. Edits of the request show after `msg_apply_changes()`, as in Kamailio."""

from __future__ import annotations

import time
from typing import Annotated

from sipwright.lang.namespace import ParamKind, Value
from sipwright.modules.textops.edits import LineRegex, edits_of
from sipwright.modules.textops.subst import SubstExpression
from sipwright.script.context import Context
from sipwright.script.kinds import Str, to_text
from sipwright.script.module import Module, function
from sipwright.sip.headers import header_key


def _to_key(value: Value) -> str:
    return header_key(to_text(value))


HeaderKey = Annotated[str, ParamKind("header", "the name of a header", convert=_to_key)]


class HeaderFunctions(Module):
    """Looking for, adding, removing and changing headers."""

    @function()
    def is_present_hf(self, ctx: Context, key: HeaderKey) -> int:
        """Tell whether there is a header of that name."""
        for field in ctx.message.fields():
            if field[0] == key:
                return 1
        return -1

    @function()
    def is_present_hf_re(self, ctx: Context, pattern: LineRegex) -> int:
        """Tell whether there is a header whose name matches."""
        return 1 if any(pattern.search(name) for name, _ in ctx.message.header_items()) else -1

    @function()
    def append_hf(self, ctx: Context, text: Str, after: Str = "") -> int:
        """Add header lines at the end, or after the first header of a name."""
        edits_of(ctx).append(text, after or None)
        return 1

    @function()
    def insert_hf(self, ctx: Context, text: Str, before: Str = "") -> int:
        """Add header lines before the first header, or before the first one of a name."""
        edits_of(ctx).insert(text, before or None)
        return 1

    @function()
    def remove_hf(self, ctx: Context, name: Str) -> int:
        """Remove all headers of a name; false when there is none."""
        return 1 if edits_of(ctx).remove(name) else -1

    @function()
    def remove_hf_re(self, ctx: Context, pattern: LineRegex) -> int:
        """Remove all headers whose name matches; false when there is none."""
        return 1 if edits_of(ctx).remove_matching(pattern) else -1

    @function()
    def remove_hf_exp(self, ctx: Context, remove: LineRegex, keep: LineRegex) -> int:
        """Remove the headers whose name matches the first expression and not the second."""
        names = {name for name, _ in ctx.message.header_items() if remove.search(name) and not keep.search(name)}
        edits = edits_of(ctx)
        return 1 if sum([edits.remove(name) for name in names]) else -1

    @function()
    def subst_hf(self, ctx: Context, name: Str, expression: SubstExpression, flags: Str = "a") -> int:
        """Change header values: `a` of all headers of the name, `f` the first, `l` the last."""
        values = ctx.message.headers(name)
        if not values:
            return -1
        changed = False
        chosen = range(len(values)) if flags == "a" else [0] if flags == "f" else [len(values) - 1]
        for index in chosen:
            result = expression.run(values[index])
            if result is not None:
                values[index] = result
                changed = True
        if not changed:
            return -1
        edits = edits_of(ctx)
        edits.insert("\r\n".join(f"{name}: {value}" for value in values), name)
        edits.remove(name)
        return 1

    @function()
    def append_to_reply(self, ctx: Context, text: Str) -> int:
        """Add header lines to the next reply."""
        if ctx.reply_headers is None:
            ctx.reply_headers = []
        ctx.reply_headers.append(text)
        return 1

    @function()
    def append_time(self, ctx: Context) -> int:
        """Add a Date header to the next reply (RFC 3261 section 20.17)."""
        return self.append_to_reply(ctx, self._date())

    @function()
    def append_time_to_request(self, ctx: Context) -> int:
        """Add a Date header to the request."""
        return self.append_hf(ctx, self._date())

    @function()
    def is_privacy(self, ctx: Context, kind: Str) -> int:
        """Tell whether the Privacy header has a value: `id`, `user`, `header`, `session`, `none`, `critical`."""
        values = ";".join(ctx.message.headers("Privacy")).lower().replace(",", ";").split(";")
        return 1 if kind.lower() in [value.strip() for value in values] else -1

    def _date(self) -> str:
        return time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime(self.services.wall_clock()))
