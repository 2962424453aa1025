"""Variables of flags: `$mf` of the message, `$bf` of the branch, `$sf` of the script; with `F` in hexadecimal."""

from __future__ import annotations

from sipwright.lang.namespace import Value, Variable
from sipwright.script.context import Context
from sipwright.script.flags import get_flags, set_flags
from sipwright.script.kinds import to_int
from sipwright.script.module import Module, VariableUse, pvar_factory


class FlagVariables(Module):
    """The variables of flags."""

    @pvar_factory("mf", "bf", "sf", "mF", "bF", "sF")
    def pv_flags(self, use: VariableUse) -> Variable:
        """All flags as an integer, or (the names in `F`) as eight hexadecimal digits."""
        use.check_plain()
        word = use.name.lower()
        hexadecimal = use.name[1] == "F"

        def get(ctx: Context) -> Value:
            flags = get_flags(ctx, word)
            return f"{flags:08x}" if hexadecimal else flags

        def assign(ctx: Context, value: Value) -> None:
            try:
                set_flags(ctx, word, to_int(value or 0))
            except ValueError:
                self.services.log.error("%s was not set: %r is no integer", use.text, value)

        return Variable(use.text, get, assign)
