"""The functions of pv: questions about values, and `$xavp` records from texts."""

from __future__ import annotations

from sipwright.lang.namespace import Value
from sipwright.modules.pv.kinds import text_of
from sipwright.modules.pv.lists import split_params
from sipwright.script.context import Context
from sipwright.script.kinds import NullableStr, ReadVariable, Str, WritableVariable
from sipwright.script.module import Module, function


class PvFunctions(Module):
    """Questions about values, and records from texts."""

    @function()
    def is_int(self, ctx: Context, variable: ReadVariable) -> int:
        """Tell whether the value of a variable is an integer."""
        return 1 if isinstance(variable.get(ctx), int) else -1

    @function()
    def pv_isset(self, ctx: Context, variable: ReadVariable) -> int:
        """Tell whether a variable has a value."""
        return -1 if variable.get(ctx) is None else 1

    @function()
    def pv_unset(self, ctx: Context, variable: WritableVariable) -> int:
        """Assign `$null` to a variable."""
        if variable.set is None:
            return -1
        variable.set(ctx, None)
        return 1

    @function()
    def not_empty(self, ctx: Context, variable: ReadVariable) -> int:
        """Tell whether the value of a variable is a text that is not empty."""
        value = variable.get(ctx)
        return 1 if isinstance(value, str) and value else -1

    @function()
    def typeof(self, ctx: Context, variable: ReadVariable, kind: Str) -> int:
        """Tell whether a variable's value is of a type: `int`, `str`, `null`."""
        return 1 if _type_name(variable.get(ctx)) == kind else -1

    @function()
    def xavp_params_explode(self, ctx: Context, params: NullableStr, name: Str) -> int:
        """Make a new `$xavp` record of a list `name=value;name=value`."""
        record: dict[str, list[Value]] = {}
        for key, value in split_params(params, ";"):
            record.setdefault(key, []).append(value)
        if not record:
            return -1
        if ctx.xavps is None:
            ctx.xavps = {}
        ctx.xavps.setdefault(name, []).append(record)
        return 1

    @function()
    def xavp_params_implode(self, ctx: Context, name: Str, target: WritableVariable) -> int:
        """Store the newest `$xavp` record of a name as a list `name=value;name=value` in a variable."""
        items = (ctx.xavps or {}).get(name)
        if not items or not isinstance(items[-1], dict) or target.set is None:
            return -1
        pairs = [f"{key}={text_of(value)};" for key, values in items[-1].items() for value in values]
        target.set(ctx, "".join(pairs))
        return 1


def _type_name(value: Value) -> str:
    if value is None:
        return "null"
    return "int" if isinstance(value, int) else "str"
