"""The variables of htable: `$sht(table=>key)` and what counts, increments and expires items."""

from __future__ import annotations

from collections.abc import Callable

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Value, Variable
from sipwright.modules.htable.matching import Test, count_test
from sipwright.modules.htable.table import Table
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
        remote = self.remote(table)
        if remote is not None:
            return Variable.waiting(
                use.text, lambda ctx: remote.get(ctx, key(ctx)), lambda ctx, value: remote.set(key(ctx), value)
            )

        def assign(ctx: Context, value: Value) -> None:
            table.set(key(ctx), value)

        return Variable(use.text, lambda ctx: table.get(key(ctx)), assign)

    @pvar_factory("shtex")
    def pv_shtex(self, use: VariableUse) -> Variable:
        """In how many seconds a key expires; 0 when it does not or is missing. Only where the table has autoexpire.

        Assigning sets it; 0, that the key does not expire.
        """
        table, key = self.table_and_key(use)
        remote = self.remote(table)
        expire = table.expire if remote is None else remote.expire

        def assign(ctx: Context, value: Value) -> None:
            try:
                expire(key(ctx), to_int(value))
            except ArgumentError:
                self.services.log.error("%s was not set: %r is no number of seconds", use.text, value)

        if remote is None:
            return Variable(use.text, lambda ctx: round(table.ttl(key(ctx)) or 0), assign)

        async def fetch(ctx: Context) -> Value:
            return round(await remote.ttl(ctx, key(ctx)) or 0)

        return Variable.waiting(use.text, fetch, assign)

    @pvar_factory("shtinc")
    def pv_shtinc(self, use: VariableUse) -> Variable:
        """The value of a key, after one was added to it; `$null` when it is missing (without `initval`) or a text."""
        return self._adding(use, 1)

    @pvar_factory("shtdec")
    def pv_shtdec(self, use: VariableUse) -> Variable:
        """The value of a key, after one was taken from it."""
        return self._adding(use, -1)

    @pvar_factory("shtcn")
    def pv_shtcn(self, use: VariableUse) -> Variable:
        """How many keys match: `$shtcn(table=>^a)`.

        `**` is all, `==x` equal, `%~x` begins with, `~%x` ends with, `~~re` or any other text matches.
        """
        table, pattern = self.table_and_key(use)

        def test_of(ctx: Context) -> Test | None:
            test = count_test(pattern(ctx))
            return None if test is None else lambda key, _value: test(key)

        return self._counting(use, table, test_of, values=False)

    @pvar_factory("shtcv")
    def pv_shtcv(self, use: VariableUse) -> Variable:
        """How many values match: `$shtcv(table=>==up)`; as `$shtcn`, and `eq7` is the integer 7."""
        table, pattern = self.table_and_key(use)

        def test_of(ctx: Context) -> Test | None:
            test = count_test(pattern(ctx))
            return None if test is None else lambda _key, value: test(value)

        return self._counting(use, table, test_of, values=True)

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

    def _adding(self, use: VariableUse, amount: int) -> Variable:
        table, key = self.table_and_key(use)
        remote = self.remote(table)
        if remote is not None:
            return Variable.waiting(use.text, lambda ctx: remote.add(ctx, key(ctx), amount))
        return Variable(use.text, lambda ctx: table.add(key(ctx), amount))

    def _counting(
        self, use: VariableUse, table: Table, test_of: Callable[[Context], Test | None], *, values: bool
    ) -> Variable:
        remote = self.remote(table)
        if remote is not None:
            return Variable.waiting(use.text, lambda ctx: remote.count(ctx, test_of(ctx), values=values))
        return Variable(use.text, lambda ctx: table.count(test_of(ctx)))
