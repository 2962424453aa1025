"""The variables of htable: `$sht(table=>key)` and what counts, increments and expires items."""

from __future__ import annotations

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Value, Variable
from sipwright.modules.htable.matching import count_test
from sipwright.modules.htable.tables import EXPIRED, Tables
from sipwright.script.context import Context
from sipwright.script.kinds import to_int
from sipwright.script.module import VariableUse, pvar_factory


class TableVariables(Tables):
    """The variables that name a table, and `$shtrecord`."""

    @pvar_factory("sht")
    def pv_sht(self, use: VariableUse) -> Variable:
        """The value of a key; `$null` or `initval` when it is missing. Assigning `$null` deletes it."""
        table, key = self.table_and_key(use)

        def assign(ctx: Context, value: Value) -> None:
            table.set(key(ctx), value)

        return Variable(use.text, lambda ctx: table.get(key(ctx)), assign)

    @pvar_factory("shtex")
    def pv_shtex(self, use: VariableUse) -> Variable:
        """In how many seconds a key expires; 0 when it does not or is missing. Only where the table has autoexpire.

        Assigning sets it; 0, that the key does not expire.
        """
        table, key = self.table_and_key(use)

        def assign(ctx: Context, value: Value) -> None:
            try:
                table.expire(key(ctx), to_int(value))
            except ArgumentError:
                self.services.log.error("%s was not set: %r is no number of seconds", use.text, value)

        return Variable(use.text, lambda ctx: round(table.ttl(key(ctx)) or 0), assign)

    @pvar_factory("shtinc")
    def pv_shtinc(self, use: VariableUse) -> Variable:
        """The value of a key, after one was added to it; `$null` when it is missing (without `initval`) or a text."""
        table, key = self.table_and_key(use)
        return Variable(use.text, lambda ctx: table.add(key(ctx), 1))

    @pvar_factory("shtdec")
    def pv_shtdec(self, use: VariableUse) -> Variable:
        """The value of a key, after one was taken from it."""
        table, key = self.table_and_key(use)
        return Variable(use.text, lambda ctx: table.add(key(ctx), -1))

    @pvar_factory("shtcn")
    def pv_shtcn(self, use: VariableUse) -> Variable:
        """How many keys match: `$shtcn(table=>^a)`; see `count_test`."""
        table, pattern = self.table_and_key(use)

        def count(ctx: Context) -> Value:
            test = count_test(pattern(ctx))
            return table.count(None if test is None else lambda key, _value: test(key))

        return Variable(use.text, count)

    @pvar_factory("shtcv")
    def pv_shtcv(self, use: VariableUse) -> Variable:
        """How many values match: `$shtcv(table=>==up)`; see `count_test`."""
        table, pattern = self.table_and_key(use)

        def count(ctx: Context) -> Value:
            test = count_test(pattern(ctx))
            return table.count(None if test is None else lambda _key, value: test(value))

        return Variable(use.text, count)

    @pvar_factory("shtrecord")
    def pv_shtrecord(self, use: VariableUse) -> Variable:
        """The item that has expired, in `event_route[htable:expired:TABLE]`: its `key` or `value`."""
        part = use.fixed_inner()
        if part not in ("key", "value"):
            raise ArgumentError(f"expected $shtrecord(key|value), found {part!r}")
        at = 0 if part == "key" else 1

        def get(ctx: Context) -> Value:
            item = ctx.extra.get(EXPIRED) if ctx.extra is not None else None
            return None if item is None else item[at]

        return Variable(use.text, get)
