"""Walking through a table. An iterator has the items as they were when it began, and belongs to its message.

Kamailio locks the slot of the table where an iterator is. Here a table may be changed meanwhile, by anyone.
"""

from __future__ import annotations

from sipwright.lang.namespace import Variable
from sipwright.modules.htable.table import Table
from sipwright.modules.htable.tables import Tables
from sipwright.script.context import Context
from sipwright.script.kinds import Int, Str
from sipwright.script.module import VariableUse, function, pvar_factory
from sipwright.script.store import Item


class TableIterators(Tables):
    """The functions and variables of iterators."""

    @pvar_factory("shtitkey")
    def pv_shtitkey(self, use: VariableUse) -> Variable:
        """The key where an iterator is."""
        name = use.fixed_inner()
        return Variable(use.text, lambda ctx: _current(ctx, name)[0])

    @pvar_factory("shtitval")
    def pv_shtitval(self, use: VariableUse) -> Variable:
        """The value where an iterator is."""
        name = use.fixed_inner()
        return Variable(use.text, lambda ctx: _current(ctx, name)[1])

    @function()
    def sht_iterator_start(self, ctx: Context, iterator: Str, table: Str) -> int:
        """Begin to walk through a table as it is now."""
        found = self.tables.get(table)
        if found is None:
            return -1
        _iterators(ctx)[iterator] = Walk(found)
        return 1

    @function()
    def sht_iterator_next(self, ctx: Context, iterator: Str) -> int:
        """Go to the next item; false behind the last one."""
        walk = _iterators(ctx).get(iterator)
        return 1 if walk is not None and walk.next() else -1

    @function()
    def sht_iterator_rm(self, ctx: Context, iterator: Str) -> int:
        """Delete the item where an iterator is, and go to the next one; -2 when that was the last."""
        walk = _iterators(ctx).get(iterator)
        if walk is None or walk.current is None or not walk.table.delete(walk.current[0]):
            return -1
        return 1 if walk.next() else -2

    @function()
    def sht_iterator_sets(self, ctx: Context, iterator: Str, value: Str) -> int:
        """Store a text where an iterator is."""
        return _set(ctx, iterator, value)

    @function()
    def sht_iterator_seti(self, ctx: Context, iterator: Str, value: Int) -> int:
        """Store an integer where an iterator is."""
        return _set(ctx, iterator, value)

    @function()
    def sht_iterator_setex(self, ctx: Context, iterator: Str, seconds: Int) -> int:
        """Let the item where an iterator is expire in so many seconds, or with 0 never."""
        walk = _iterators(ctx).get(iterator)
        if walk is None or walk.current is None:
            return -1
        return 1 if walk.table.expire(walk.current[0], seconds) else -1

    @function()
    def sht_iterator_end(self, ctx: Context, iterator: Str) -> int:
        """End to walk through a table."""
        _iterators(ctx).pop(iterator, None)
        return 1


class Walk:
    """An iterator of a script: a copy of the table's items, and where it is."""

    __slots__ = ("_items", "current", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.current: tuple[str, Item] | None = None
        self._items = iter(table.items())

    def next(self) -> bool:
        """Go on; False behind the last item."""
        self.current = next(self._items, None)
        return self.current is not None


def _iterators(ctx: Context) -> dict[str, Walk]:
    if ctx.extra is None:
        ctx.extra = {}
    iterators: dict[str, Walk] = ctx.extra.setdefault("htable", {})
    return iterators


def _current(ctx: Context, name: str) -> tuple[str | None, Item | None]:
    walk = _iterators(ctx).get(name)
    return (None, None) if walk is None or walk.current is None else walk.current


def _set(ctx: Context, name: str, value: Item) -> int:
    walk = _iterators(ctx).get(name)
    if walk is None or walk.current is None or not walk.table.set(walk.current[0], value):
        return -1
    walk.current = (walk.current[0], value)
    return 1
