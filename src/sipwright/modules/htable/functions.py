"""The functions of htable that delete, look for and set items."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeAlias

from sipwright.lang.namespace import ParamKind, Part
from sipwright.lang.regex import compile_regex
from sipwright.modules.htable.matching import Test, matcher, of_key, of_text
from sipwright.modules.htable.redis_table import RedisTable
from sipwright.modules.htable.table import Table
from sipwright.modules.htable.tables import Tables, split_path
from sipwright.script.context import Context
from sipwright.script.kinds import Int, Str, prepare_text
from sipwright.script.module import function
from sipwright.script.store import Item

Path = tuple[str, Callable[[Any], str]]


def _prepare_path(parts: Sequence[Part]) -> Path:
    name, key = split_path(parts)
    return name, prepare_text(key)


TablePath = Annotated[Path, ParamKind("path", "table=>key", prepare=_prepare_path)]
TableRegex = Annotated[Path, ParamKind("path", "table=>expression", prepare=_prepare_path, lone_dollar=True)]


# The code of a function, or what it is waited for with.
Code: TypeAlias = int | Awaitable[int]


class TableFunctions(Tables):
    """The functions that name a table and work on its items. A table that is not there makes them false.

    Where the table is on Redis, they wait for it.
    """

    # ---- deleting

    @function(suspends=Tables.is_any_remote)
    def sht_rm(self, ctx: Context, table: Str, key: Str) -> Code:
        """Delete a key."""
        found, remote = self._find(table)
        if remote is not None:
            return code_of(remote.delete(ctx, key))
        return 1 if found is not None and found.delete(key) else -1

    @function(suspends=Tables.is_any_remote)
    def sht_reset(self, ctx: Context, table: Str) -> Code:
        """Delete all keys of a table."""
        found, remote = self._find(table)
        if remote is not None:
            return code_of(remote.clear(ctx))
        return 1 if found is not None and found.clear() else -1

    @function(suspends=Tables.is_any_remote)
    def sht_rm_name_re(self, ctx: Context, path: TableRegex) -> Code:
        """Delete the keys that match, `table=>expression`."""
        search = compile_regex(path[1](ctx)).search
        return self._remove(ctx, path[0], of_key(lambda key: search(key) is not None), values=False)

    @function(suspends=Tables.is_any_remote)
    def sht_rm_value_re(self, ctx: Context, path: TableRegex) -> Code:
        """Delete the keys whose values are texts that match, `table=>expression`."""
        search = compile_regex(path[1](ctx)).search
        return self._remove(ctx, path[0], of_text(lambda value: search(value) is not None))

    @function(suspends=Tables.is_any_remote)
    def sht_rm_name(self, ctx: Context, table: Str, op: Str, text: Str) -> Code:
        """Delete the keys that compare: `eq`, `ne`, `sw`, `ew`, `in`, `re`."""
        return self._remove(ctx, table, of_key(matcher(op, text)), values=False)

    @function(suspends=Tables.is_any_remote)
    def sht_rm_value(self, ctx: Context, table: Str, op: Str, text: Str) -> Code:
        """Delete the keys whose values are texts that compare."""
        return self._remove(ctx, table, of_text(matcher(op, text)))

    # ---- looking for, setting

    @function("sht_has_name", suspends=Tables.is_any_remote)
    @function("sht_match_name", suspends=Tables.is_any_remote)
    def sht_has_name(self, ctx: Context, table: Str, op: Str, text: Str) -> Code:
        """Tell whether there is a key that compares: `eq`, `ne`, `sw`, `ew`, `in`, `re`."""
        return self._any(ctx, table, of_key(matcher(op, text)), values=False)

    @function("sht_has_str_value", suspends=Tables.is_any_remote)
    @function("sht_match_str_value", suspends=Tables.is_any_remote)
    def sht_has_str_value(self, ctx: Context, table: Str, op: Str, text: Str) -> Code:
        """Tell whether there is a value, a text, that compares."""
        return self._any(ctx, table, of_text(matcher(op, text)))

    @function(suspends=Tables.is_any_remote)
    def sht_setxs(self, ctx: Context, table: Str, key: Str, value: Str, expires: Int) -> Code:
        """Store a text that expires in so many seconds."""
        return self._set(ctx, table, key, value, expires)

    @function(suspends=Tables.is_any_remote)
    def sht_setxi(self, ctx: Context, table: Str, key: Str, value: Int, expires: Int) -> Code:
        """Store an integer that expires in so many seconds."""
        return self._set(ctx, table, key, value, expires)

    @function(suspends=Tables.is_any_remote)
    def sht_print(self, ctx: Context) -> Code:
        """Write all tables to the log."""
        for table in self.local_tables():
            self._print(table, table.items())
        return self._print_remote(ctx) if self.is_any_remote() else 1

    # ---- shared by the above

    def _find(self, name: str) -> tuple[Table | None, RedisTable | None]:
        table = self.tables.get(name)
        return table, None if table is None else self.remote(table)

    def _remove(self, ctx: Context, name: str, test: Test, *, values: bool = True) -> Code:
        table, remote = self._find(name)
        if remote is not None:
            return code_of(remote.remove_if(ctx, test, values=values))
        return 1 if table is not None and table.remove_if(test) else -1

    def _any(self, ctx: Context, name: str, test: Test, *, values: bool = True) -> Code:
        table, remote = self._find(name)
        if remote is not None:
            return code_of(remote.any(ctx, test, values=values))
        return 1 if table is not None and table.any(test) else -1

    def _set(self, ctx: Context, name: str, key: str, value: Item, expires: int) -> Code:
        table, remote = self._find(name)
        if remote is not None:
            return code_of(remote.put_for(ctx, key, value, expires))
        return 1 if table is not None and table.set_for(key, value, expires) else -1

    async def _print_remote(self, ctx: Context) -> int:
        for table in self.tables.values():
            remote = self.remote(table)
            if remote is None:
                continue
            pages = remote.pages()
            while (page := await pages.next(ctx)) is not None:
                self._print(table, [(key, value) for key, value, _data in page])
        return 1

    def _print(self, table: Table, items: Sequence[tuple[str, Item]]) -> None:
        for key, value in items:
            self.services.log.error("htable %s: %s => %s", table.name, key, value)


async def code_of(success: Awaitable[bool]) -> int:
    """Return the code of a function that succeeds or not."""
    return 1 if await success else -1
