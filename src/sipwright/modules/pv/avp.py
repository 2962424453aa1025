"""The variable `$avp`, a stack of values by name, and `$cnt`, which counts the values of stacks.

The values live in the Context, so they are there as long as the transaction. Lists hold the newest value last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Getter, Value, Variable
from sipwright.script.context import Context
from sipwright.script.kinds import prepare_text, to_int
from sipwright.script.module import Module, VariableUse, pvar_factory


@dataclass(slots=True)
class Stack(Variable):
    """A variable with several values; `count` tells how many."""

    count: Getter = lambda _context: 0


class Avps(Module):
    """The variables `$avp` and `$cnt`."""

    @pvar_factory("avp")
    def pv_avp(self, use: VariableUse) -> Variable:
        """A stack of values that lives with the transaction.

        Assignment pushes, `$null` drops one value; with index `*` all values are read (separated by commas),
        replaced or dropped. Index 0 is the newest value, -1 the oldest.
        """
        key = _avp_key(use)
        index = use.index
        count = _avp_counter(key)
        if index == "*":
            return Stack(use.text, _avp_all_getter(key), _avp_all_setter(key), count)
        if index is None or index == 0:
            return Stack(use.text, _avp_top_getter(key), _avp_setter(key, None), count)
        return Stack(use.text, _avp_getter(key, index), _avp_setter(key, index), count)

    @pvar_factory("cnt")
    def pv_cnt(self, use: VariableUse) -> Variable:
        """How many values an `$avp` or an `$xavp` has: `$cnt($avp(x))`."""
        inner = use.inner
        if inner is None or len(inner) != 1 or not isinstance(inner[0], Stack):
            raise ArgumentError("$cnt(...) counts an $avp or an $xavp, like $cnt($avp(x))")
        return Variable(use.text, inner[0].count)


def _avp_key(use: VariableUse) -> Callable[[Context], str]:
    """Return a function that gives the key of an `$avp`: its name, and `i:N` for those with an integer name."""
    inner = use.inner
    if not inner:
        raise ArgumentError("$avp needs a name in parentheses, like $avp(x)")
    if len(inner) == 1 and isinstance(inner[0], Variable):
        get = inner[0].get

        def dynamic(ctx: Context) -> str:
            value = get(ctx)
            return f"i:{value}" if isinstance(value, int) else str(value)

        return dynamic
    if all(isinstance(part, str) for part in inner):
        name = use.fixed_inner()
        if name[:2] in ("s:", "S:"):
            name = name[2:]
        elif name[:2] in ("i:", "I:"):
            name = f"i:{to_int(name[2:])}"
        return lambda _ctx: name
    return prepare_text(inner)


def _avp_top_getter(key: Callable[[Context], str]) -> Callable[[Context], Value]:
    def get(ctx: Context) -> Value:
        avps = ctx.avps
        if avps is None:
            return None
        values = avps.get(key(ctx))
        return values[-1] if values else None

    return get


def _avp_getter(key: Callable[[Context], str], index: int | Variable | str) -> Callable[[Context], Value]:
    def get(ctx: Context) -> Value:
        values = None if ctx.avps is None else ctx.avps.get(key(ctx))
        at = _position(values, index, ctx)
        return None if values is None or at is None else values[at]

    return get


def _avp_setter(key: Callable[[Context], str], index: int | Variable | str | None) -> Callable[[Context, Value], None]:
    def assign(ctx: Context, value: Value) -> None:
        avps = ctx.avps
        if avps is None:
            avps = ctx.avps = {}
        name = key(ctx)
        if value is not None:
            # Kamailio: an index does not replace a value, the new one is pushed all the same.
            avps.setdefault(name, []).append(value)
            return
        values = avps.get(name)
        at = _position(values, 0 if index is None else index, ctx)
        if values is not None and at is not None:
            # Kamailio ignores the index here and drops the newest; its manual has it as it is done here.
            del values[at]

    return assign


def _avp_all_getter(key: Callable[[Context], str]) -> Callable[[Context], Value]:
    def get(ctx: Context) -> Value:
        values = None if ctx.avps is None else ctx.avps.get(key(ctx))
        return ", ".join(map(str, reversed(values))) if values else None

    return get


def _avp_all_setter(key: Callable[[Context], str]) -> Callable[[Context, Value], None]:
    def assign(ctx: Context, value: Value) -> None:
        if ctx.avps is None:
            ctx.avps = {}
        if value is None:
            ctx.avps.pop(key(ctx), None)
        else:
            ctx.avps[key(ctx)] = [value]

    return assign


def _position(values: list[Value] | None, index: int | Variable | str, ctx: Context) -> int | None:
    """Return where in the list the value of an index is, None when there is none: 0 is the newest, the last."""
    number = index.get(ctx) if isinstance(index, Variable) else index
    if not values or not isinstance(number, int) or not -len(values) <= number < len(values):
        return None
    return -1 - number


def _avp_counter(key: Callable[[Context], str]) -> Callable[[Context], Value]:
    def count(ctx: Context) -> Value:
        return 0 if ctx.avps is None else len(ctx.avps.get(key(ctx), ()))

    return count
