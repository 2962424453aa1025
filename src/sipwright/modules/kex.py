"""Module kex: flags of branch and script, the destination, statistics, and whether a URI is this server's."""

from __future__ import annotations

from sipwright.lang.namespace import Value, Variable
from sipwright.script.context import Context
from sipwright.script.flags import Flag, is_flag_set, reset_flag, set_flag
from sipwright.script.kinds import Int, Str
from sipwright.script.loglevels import level_of
from sipwright.script.module import Module, VariableUse, function, pvar_factory
from sipwright.script.services import Services
from sipwright.script.uris import parsed_uri


class Kex(Module):
    """What Kamailio's core had once, and puts here now."""

    name = "kex"

    def child_init(self, services: Services) -> None:
        """Remember the level of the log, for `resetdebug()`."""
        super().child_init(services)
        self._level = services.log.level

    # ---- flags

    @function()
    def setsflag(self, ctx: Context, flag: Flag) -> int:
        """Set a flag of the script."""
        return set_flag(ctx, "sf", flag)

    @function()
    def resetsflag(self, ctx: Context, flag: Flag) -> int:
        """Reset a flag of the script."""
        return reset_flag(ctx, "sf", flag)

    @function()
    def issflagset(self, ctx: Context, flag: Flag) -> int:
        """Tell whether a flag of the script is set."""
        return is_flag_set(ctx, "sf", flag)

    @function()
    def setbflag(self, ctx: Context, flag: Flag) -> int:
        """Set a flag of the branch."""
        return set_flag(ctx, "bf", flag)

    @function()
    def resetbflag(self, ctx: Context, flag: Flag) -> int:
        """Reset a flag of the branch."""
        return reset_flag(ctx, "bf", flag)

    @function()
    def isbflagset(self, ctx: Context, flag: Flag) -> int:
        """Tell whether a flag of the branch is set."""
        return is_flag_set(ctx, "bf", flag)

    # ---- destination

    @function()
    def setdsturi(self, ctx: Context, uri: Str) -> int:
        """Set where the request goes instead of to its Request-URI, `$du`."""
        if parsed_uri(uri) is None:
            return -1
        ctx.dst_uri = uri
        return 1

    @function()
    def resetdsturi(self, ctx: Context) -> int:
        """Let the request go to its Request-URI."""
        ctx.dst_uri = None
        return 1

    @function()
    def isdsturiset(self, ctx: Context) -> int:
        """Tell whether a destination is set."""
        return -1 if ctx.dst_uri is None else 1

    @function()
    def is_myself(self, _ctx: Context, uri: Str) -> int:
        """Tell whether a URI's, or an address's, host and port are this server's."""
        parsed = parsed_uri(uri if ":" in uri.partition("@")[0].partition(".")[0] else f"sip:{uri}")
        if parsed is None or not parsed.host:
            return -1
        return 1 if self.services.is_myself(parsed.host, parsed.port or 0) else -1

    # ---- log and statistics

    @function()
    def setdebug(self, _ctx: Context, level: Int) -> int:
        """Set the level of the log of this worker, one of Kamailio's numbers."""
        self.services.set_log_level(level_of(level))
        return 1

    @function()
    def resetdebug(self, _ctx: Context) -> int:
        """Set the level of the log back to what it was at the start."""
        self.services.set_log_level(self._level)
        return 1

    @pvar_factory("stat")
    def pv_stat(self, use: VariableUse) -> Variable:
        """A counter, by its name alone or with its group: `$stat(rcv_requests)`; `$null` when there is none."""
        name = use.fixed_inner()

        def get(_ctx: Context) -> Value:
            counters = self.services.statistics()
            if name in counters:
                return counters[name]
            return next((value for full, value in counters.items() if full.partition(":")[2] == name), None)

        return Variable(use.text, get)
