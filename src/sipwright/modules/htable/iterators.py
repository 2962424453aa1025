"""Walking through a table. An iterator has the items as they were when it began, and belongs to its message.

On Redis it has a page of them at a time, as they are when the walk gets there.

Kamailio locks the slot of the table where an iterator is. Here a table may be changed meanwhile, by anyone.
"""

from __future__ import annotations

from collections.abc import Iterator

from sipwright.lang.namespace import Variable
from sipwright.modules.htable.functions import Code, code_of
from sipwright.modules.htable.redis_pages import Found
from sipwright.modules.htable.redis_table import RedisTable
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
        """Begin to walk through a table: as it is now, or on Redis as it is when the walk gets there."""
        found = self.tables.get(table)
        if found is None:
            return -1
        remote = self.remote(found)
        _iterators(ctx)[iterator] = Walk(found) if remote is None else RemoteWalk(remote)
        return 1

    @function(suspends=Tables.is_any_remote)
    def sht_iterator_next(self, ctx: Context, iterator: Str) -> Code:
        """Go to the next item; false behind the last one."""
        walk = _iterators(ctx).get(iterator)
        if isinstance(walk, RemoteWalk):
            return code_of(walk.next(ctx))
        return 1 if walk is not None and walk.next() else -1

    @function(suspends=Tables.is_any_remote)
    def sht_iterator_rm(self, ctx: Context, iterator: Str) -> Code:
        """Delete the item where an iterator is, and go to the next one; -2 when that was the last."""
        walk = _iterators(ctx).get(iterator)
        if walk is None or walk.current is None:
            return -1
        if isinstance(walk, RemoteWalk):
            return walk.remove(ctx, walk.current[0])
        if not walk.table.delete(walk.current[0]):
            return -1
        return 1 if walk.next() else -2

    @function(suspends=Tables.is_any_remote)
    def sht_iterator_sets(self, ctx: Context, iterator: Str, value: Str) -> Code:
        """Store a text where an iterator is."""
        return _set(ctx, iterator, value)

    @function(suspends=Tables.is_any_remote)
    def sht_iterator_seti(self, ctx: Context, iterator: Str, value: Int) -> Code:
        """Store an integer where an iterator is."""
        return _set(ctx, iterator, value)

    @function(suspends=Tables.is_any_remote)
    def sht_iterator_setex(self, ctx: Context, iterator: Str, seconds: Int) -> Code:
        """Let the item where an iterator is expire in so many seconds, or with 0 never."""
        walk = _iterators(ctx).get(iterator)
        if walk is None or walk.current is None:
            return -1
        if isinstance(walk, RemoteWalk):
            return code_of(walk.table.expire_in(ctx, walk.current[0], seconds))
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


class RemoteWalk:
    """An iterator of a table on Redis: a page of it at a time, and where it is."""

    __slots__ = ("_items", "_pages", "current", "table")

    def __init__(self, table: RedisTable) -> None:
        self.table = table
        self.current: tuple[str, Item] | None = None
        self._pages = table.pages()
        self._items: Iterator[Found] = iter(())

    async def next(self, ctx: Context) -> bool:
        """Go on; False behind the last item, or when the server is away."""
        while (found := next(self._items, None)) is None:
            page = await self._pages.next(ctx)
            if page is None:
                self.current = None
                if self._pages.error is not None:
                    self.table.failures.read(self._pages.error)
                return False
            self._items = iter(page)
        self.current = found[:2]
        return True

    async def remove(self, ctx: Context, key: str) -> int:
        """Delete the item with the key where it is, and go on; the code of that."""
        if not await self.table.delete(ctx, key):
            return -1
        return 1 if await self.next(ctx) else -2

    async def set(self, ctx: Context, key: str, value: Item) -> int:
        """Store a value under the key where it is; the code of that."""
        if not await self.table.put(ctx, key, value):
            return -1
        self.current = (key, value)
        return 1


def _iterators(ctx: Context) -> dict[str, Walk | RemoteWalk]:
    if ctx.extra is None:
        ctx.extra = {}
    iterators: dict[str, Walk | RemoteWalk] = ctx.extra.setdefault("htable", {})
    return iterators


def _current(ctx: Context, name: str) -> tuple[str | None, Item | None]:
    walk = _iterators(ctx).get(name)
    return (None, None) if walk is None or walk.current is None else walk.current


def _set(ctx: Context, name: str, value: Item) -> Code:
    walk = _iterators(ctx).get(name)
    if walk is None or walk.current is None:
        return -1
    if isinstance(walk, RemoteWalk):
        return walk.set(ctx, walk.current[0], value)
    if not walk.table.set(walk.current[0], value):
        return -1
    walk.current = (walk.current[0], value)
    return 1
