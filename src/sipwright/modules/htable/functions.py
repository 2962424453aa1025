"""The functions of htable that delete, look for and set items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from sipwright.lang.namespace import ParamKind, Part
from sipwright.lang.regex import compile_regex
from sipwright.modules.htable.matching import matcher, of_key, of_text
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


class TableFunctions(Tables):
    """The functions that name a table and work on its items. A table that is not there makes them false."""

    # ---- deleting

    @function()
    def sht_rm(self, _ctx: Context, table: Str, key: Str) -> int:
        """Delete a key."""
        found = self.tables.get(table)
        return 1 if found is not None and found.delete(key) else -1

    @function()
    def sht_reset(self, _ctx: Context, table: Str) -> int:
        """Delete all keys of a table."""
        found = self.tables.get(table)
        return 1 if found is not None and found.clear() else -1

    @function()
    def sht_rm_name_re(self, ctx: Context, path: TableRegex) -> int:
        """Delete the keys that match, `table=>expression`."""
        search = compile_regex(path[1](ctx)).search
        return self._remove(path[0], of_key(lambda key: search(key) is not None))

    @function()
    def sht_rm_value_re(self, ctx: Context, path: TableRegex) -> int:
        """Delete the keys whose values are texts that match, `table=>expression`."""
        search = compile_regex(path[1](ctx)).search
        return self._remove(path[0], of_text(lambda value: search(value) is not None))

    @function()
    def sht_rm_name(self, _ctx: Context, table: Str, op: Str, text: Str) -> int:
        """Delete the keys that compare: `eq`, `ne`, `sw`, `ew`, `in`, `re`."""
        return self._remove(table, of_key(matcher(op, text)))

    @function()
    def sht_rm_value(self, _ctx: Context, table: Str, op: Str, text: Str) -> int:
        """Delete the keys whose values are texts that compare."""
        return self._remove(table, of_text(matcher(op, text)))

    # ---- looking for, setting

    @function("sht_has_name")
    @function("sht_match_name")
    def sht_has_name(self, _ctx: Context, table: Str, op: Str, text: Str) -> int:
        """Tell whether there is a key that compares: `eq`, `ne`, `sw`, `ew`, `in`, `re`."""
        return self._any(table, of_key(matcher(op, text)))

    @function("sht_has_str_value")
    @function("sht_match_str_value")
    def sht_has_str_value(self, _ctx: Context, table: Str, op: Str, text: Str) -> int:
        """Tell whether there is a value, a text, that compares."""
        return self._any(table, of_text(matcher(op, text)))

    @function()
    def sht_setxs(self, _ctx: Context, table: Str, key: Str, value: Str, expires: Int) -> int:
        """Store a text that expires in so many seconds."""
        return self._set(table, key, value, expires)

    @function()
    def sht_setxi(self, _ctx: Context, table: Str, key: Str, value: Int, expires: Int) -> int:
        """Store an integer that expires in so many seconds."""
        return self._set(table, key, value, expires)

    @function()
    def sht_print(self, _ctx: Context) -> int:
        """Write all tables to the log."""
        for table in self.tables.values():
            for key, value in table.items():
                self.services.log.error("htable %s: %s => %s", table.name, key, value)
        return 1

    # ---- shared by the above

    def _remove(self, name: str, test: Callable[[str, Item], bool]) -> int:
        table = self.tables.get(name)
        return 1 if table is not None and table.remove_if(test) else -1

    def _any(self, name: str, test: Callable[[str, Item], bool]) -> int:
        table = self.tables.get(name)
        return 1 if table is not None and table.any(test) else -1

    def _set(self, name: str, key: str, value: Item, expires: int) -> int:
        table = self.tables.get(name)
        return 1 if table is not None and table.set_for(key, value, expires) else -1
