"""Functions that are always there, without any module loaded (Kamailio's core cookbook).

They change the Request-URI (`$ru`), set flags of the message, and write to the log. `$rc` is here, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sipwright.errors import SipParseError
from sipwright.lang.namespace import Value
from sipwright.script.context import Context
from sipwright.script.flags import Flag, is_flag_set, reset_flag, set_flag
from sipwright.script.kinds import Int, Str
from sipwright.script.loglevels import level_of
from sipwright.script.module import Module, function, pvar
from sipwright.script.uris import change_request_uri, parsed_request_uri, parsed_uri
from sipwright.sip.grammar import parse_host_port, split_values


class Core(Module):
    """What every script has."""

    name = "core"
    event_routes = ("core:worker-one-init",)

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        # Global parameters of the script's own, `group.name = value`, which `@cfg_get.group.name` reads.
        self.custom_globals: dict[str, int | str] = {}

    # ---- flags of the message

    @function()
    def setflag(self, ctx: Context, flag: Flag) -> int:
        """Set a flag of the message."""
        return set_flag(ctx, "mf", flag)

    @function()
    def resetflag(self, ctx: Context, flag: Flag) -> int:
        """Reset a flag of the message."""
        return reset_flag(ctx, "mf", flag)

    @function()
    def isflagset(self, ctx: Context, flag: Flag) -> int:
        """Tell whether a flag of the message is set."""
        return is_flag_set(ctx, "mf", flag)

    # ---- Request-URI

    @function("rewriteuri")
    @function("seturi")
    def seturi(self, ctx: Context, uri: Str) -> int:
        """Replace the Request-URI."""
        if parsed_uri(uri) is None:
            return -1
        ctx.uri = uri
        return 1

    @function()
    def revert_uri(self, ctx: Context) -> int:
        """Take back all changes of the Request-URI."""
        ctx.uri = None
        return 1

    @function("rewriteuser")
    @function("setuser")
    def setuser(self, ctx: Context, user: Str) -> int:
        """Replace the user part of the Request-URI."""
        return _result(change_request_uri(ctx, user=user or None))

    @function("rewriteuserpass")
    @function("setuserpass")
    def setuserpass(self, ctx: Context, text: Str) -> int:
        """Replace user part and password, `user:password`."""
        user, colon, password = text.partition(":")
        return _result(change_request_uri(ctx, user=user or None, password=password if colon else None))

    @function("rewritehost")
    @function("sethost")
    def sethost(self, ctx: Context, host: Str) -> int:
        """Replace the host; the port goes with the old one."""
        return _result(change_request_uri(ctx, host=host, port=None))

    @function("rewritehostport")
    @function("sethostport")
    def sethostport(self, ctx: Context, text: Str) -> int:
        """Replace host and port, `host:port`."""
        try:
            host, port = parse_host_port(text)
        except SipParseError:
            return -1
        return _result(change_request_uri(ctx, host=host, port=port))

    @function("rewriteport")
    @function("setport")
    def setport(self, ctx: Context, port: Int) -> int:
        """Replace the port."""
        return _result(change_request_uri(ctx, port=port))

    @function()
    def strip(self, ctx: Context, count: Int) -> int:
        """Remove the first characters of the user part."""
        return self._change_user(ctx, lambda user: user[count:])

    @function()
    def strip_tail(self, ctx: Context, count: Int) -> int:
        """Remove the last characters of the user part."""
        return self._change_user(ctx, lambda user: user[: max(0, len(user) - count)])

    @function()
    def prefix(self, ctx: Context, text: Str) -> int:
        """Put a text before the user part."""
        return self._change_user(ctx, lambda user: text + user)

    # ---- the way of the reply

    @function("force_rport")
    @function("add_rport")
    def force_rport(self, ctx: Context) -> int:
        """Answer to the port that the request came from, as if its Via had asked for it (RFC 3581)."""
        message = ctx.message
        if message.via.rport is not None:
            return 1
        line = next(field[3] for field in message.fields() if field[0] == "via")
        first = split_values(line.partition(":")[2])[0]
        encoded = first.encode("utf-8", "surrogateescape")
        self.services.replace_message(ctx, message.data.replace(encoded, encoded + b";rport", 1))
        if ctx.edits is not None:
            ctx.edits.message = ctx.message
        return 1

    # ---- the return code

    @pvar("rc", "retcode", "?")
    def pv_rc(self, ctx: Context) -> Value:
        """What the last function or route gave back."""
        return ctx.rc

    # ---- log

    @function("log")
    def log(self, _ctx: Context, text: Str) -> int:
        """Write a line to the log."""
        self.services.log.error("%s", text.rstrip("\r\n"))
        return 1

    @function("log")
    def log_level(self, _ctx: Context, level: Int, text: Str) -> int:
        """Write a line to the log at one of Kamailio's levels, -5 to 3."""
        self.services.log.log(level_of(level), "%s", text.rstrip("\r\n"))
        return 1

    def _change_user(self, ctx: Context, change: Callable[[str], str]) -> int:
        uri = parsed_request_uri(ctx)
        if uri is None:
            return -1
        user = change(uri.user or "")
        if user == (uri.user or ""):
            return 1
        return _result(change_request_uri(ctx, user=user or None))


def _result(changed: bool) -> int:
    return 1 if changed else -1
