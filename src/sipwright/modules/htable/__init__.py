"""Module htable: tables of keys and values that all messages share, `$sht(table=>key)`.

Tables are defined by the parameter `htable`. Keys may contain variables. Items expire where the table says so; what
has expired is missing at once, and is deleted by a sweep, which also runs `event_route[htable:expired:TABLE]`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import ParamKind, Part, Value, Variable
from sipwright.lang.regex import compile_regex
from sipwright.modules.htable.table import Table, count_test, matcher, parse_definition
from sipwright.script.context import Context
from sipwright.script.kinds import Int, Str, prepare_text, to_int
from sipwright.script.module import Module, Param, VariableUse, function, pvar_factory
from sipwright.script.services import Services
from sipwright.script.store import Item


def _define(module: Htable, text: str) -> None:
    table = parse_definition(text)
    module.tables[table.name] = table
    module.event_routes = (*module.event_routes, f"htable:expired:{table.name}")


def _refuse_database(_module: Htable, _value: str) -> None:
    raise ArgumentError("tables cannot be loaded from a database here")


def _split_path(parts: Sequence[Part]) -> tuple[str, list[Part]]:
    """Split `table=>key` to the table's name and the parts of the key. ArgumentError: malformed."""
    head = parts[0] if parts else ""
    if not isinstance(head, str) or "=>" not in head:
        raise ArgumentError("expected table=>key, with the name of the table written out")
    name, _, key = head.partition("=>")
    return name.strip(), [key, *parts[1:]] if key else list(parts[1:])


Path = tuple[str, Callable[[Any], str]]


def _prepare_path(parts: Sequence[Part]) -> Path:
    name, key = _split_path(parts)
    return name, prepare_text(key)


TablePath = Annotated[Path, ParamKind("path", "table=>key", prepare=_prepare_path)]
TableRegex = Annotated[Path, ParamKind("path", "table=>expression", prepare=_prepare_path, lone_dollar=True)]


class Htable(Module):
    """Shared tables."""

    name = "htable"
    event_routes: tuple[str, ...] = ("htable:mod-init",)
    htable = Param(str, "", parse=_define, doc="a table, 'name=>size=8;autoexpire=3600;initval=0'; repeatable")
    timer_interval = Param(int, 20, minimum=1, doc="seconds between sweeps for expired items")
    db_url = Param(str, "", parse=_refuse_database, doc="refused: there is no database")
    ignored_params = (
        "array_size_suffix",
        "db_expires",
        "dmq_init_sync",
        "enable_dmq",
        "event_callback",
        "event_callback_mode",
        "expires_column",
        "fetch_rows",
        "key_name_column",
        "key_type_column",
        "key_value_column",
        "timer_procs",
        "value_type_column",
    )

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        self.tables: dict[str, Table] = {}
        self._expired: tuple[str, Item] | None = None
        self._held: set[tuple[str, str]] = set()

    def child_init(self, services: Services) -> None:
        """Make the stores, and start the sweep."""
        super().child_init(services)
        for table in self.tables.values():
            table.store = services.shared_store(f"htable:{table.name}")
        services.timers.start(0.0, self._announce)
        services.timers.start(self.timer_interval, self._sweep)

    def _announce(self, _argument: object) -> None:
        self.services.run_event_route("htable:mod-init")

    def _sweep(self, _argument: object) -> None:
        for table in self.tables.values():
            for item in table.store.take_expired():
                self._expired = item
                self.services.run_event_route(f"htable:expired:{table.name}")
        self._expired = None
        self.services.timers.start(self.timer_interval, self._sweep)

    # ---- variables

    @pvar_factory("sht")
    def pv_sht(self, use: VariableUse) -> Variable:
        """The value of a key; `$null` or `initval` when it is missing. Assigning `$null` deletes it."""
        table, key = self._resolve(use)

        def get(ctx: Context) -> Value:
            value = table.store.get(key(ctx))
            return table.initial if value is None else value

        def assign(ctx: Context, value: Value) -> None:
            table.set(key(ctx), value)

        return Variable(use.text, get, assign)

    @pvar_factory("shtex")
    def pv_shtex(self, use: VariableUse) -> Variable:
        """In how many seconds a key expires; 0 when it does not or is missing. Only where the table has autoexpire."""
        table, key = self._resolve(use)

        def get(ctx: Context) -> Value:
            return round(table.store.ttl(key(ctx)) or 0)

        def assign(ctx: Context, value: Value) -> None:
            if table.autoexpire is None:
                return
            try:
                table.store.expire(key(ctx), to_int(value))
            except ValueError:
                self.services.log.error("%s was not set: %r is no number of seconds", use.text, value)

        return Variable(use.text, get, assign)

    @pvar_factory("shtinc")
    def pv_shtinc(self, use: VariableUse) -> Variable:
        """The value of a key, after one was added to it; `$null` when it is missing (without `initval`) or a text."""
        table, key = self._resolve(use)
        return Variable(use.text, lambda ctx: table.add(key(ctx), 1))

    @pvar_factory("shtdec")
    def pv_shtdec(self, use: VariableUse) -> Variable:
        """The value of a key, after one was taken from it."""
        table, key = self._resolve(use)
        return Variable(use.text, lambda ctx: table.add(key(ctx), -1))

    @pvar_factory("shtcn")
    def pv_shtcn(self, use: VariableUse) -> Variable:
        """How many keys match: `$shtcn(table=>^a)`; see `count_test`."""
        table, pattern = self._resolve(use)

        def count(ctx: Context) -> Value:
            test = count_test(pattern(ctx))
            return sum(1 for name, _ in table.store.items() if test(name))

        return Variable(use.text, count)

    @pvar_factory("shtcv")
    def pv_shtcv(self, use: VariableUse) -> Variable:
        """How many values match: `$shtcv(table=>==up)`; see `count_test`."""
        table, pattern = self._resolve(use)

        def count(ctx: Context) -> Value:
            test = count_test(pattern(ctx))
            return sum(1 for _, value in table.store.items() if test(value))

        return Variable(use.text, count)

    @pvar_factory("shtrecord")
    def pv_shtrecord(self, use: VariableUse) -> Variable:
        """The item that has expired, in `event_route[htable:expired:TABLE]`: its `key` or `value`."""
        part = use.fixed_inner()
        if part not in ("key", "value"):
            raise ArgumentError(f"expected $shtrecord(key|value), found {part!r}")
        at = 0 if part == "key" else 1
        return Variable(use.text, lambda _ctx: None if self._expired is None else self._expired[at])

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

    # ---- deleting

    @function()
    def sht_rm(self, _ctx: Context, table: Str, key: Str) -> int:
        """Delete a key."""
        found = self.tables.get(table)
        if found is None:
            return -1
        found.store.delete(key)
        return 1

    @function()
    def sht_reset(self, _ctx: Context, table: Str) -> int:
        """Delete all keys of a table."""
        found = self.tables.get(table)
        if found is None:
            return -1
        found.store.clear()
        return 1

    @function()
    def sht_rm_name_re(self, ctx: Context, path: TableRegex) -> int:
        """Delete the keys that match, `table=>expression`."""
        pattern = compile_regex(path[1](ctx))
        return self._remove(path[0], lambda key, _value: pattern.search(key) is not None)

    @function()
    def sht_rm_value_re(self, ctx: Context, path: TableRegex) -> int:
        """Delete the keys whose values are texts that match, `table=>expression`."""
        pattern = compile_regex(path[1](ctx))
        return self._remove(path[0], lambda _key, value: isinstance(value, str) and bool(pattern.search(value)))

    @function()
    def sht_rm_name(self, _ctx: Context, table: Str, op: Str, text: Str) -> int:
        """Delete the keys that compare: `eq`, `ne`, `sw`, `ew`, `in`, `re`."""
        test = matcher(op, text)
        return self._remove(table, lambda key, _value: test(key))

    @function()
    def sht_rm_value(self, _ctx: Context, table: Str, op: Str, text: Str) -> int:
        """Delete the keys whose values are texts that compare."""
        test = matcher(op, text)
        return self._remove(table, lambda _key, value: isinstance(value, str) and test(value))

    # ---- looking for, setting

    @function("sht_has_name")
    @function("sht_match_name")
    def sht_has_name(self, _ctx: Context, table: Str, op: Str, text: Str) -> int:
        """Tell whether there is a key that compares: `eq`, `ne`, `sw`, `ew`, `in`, `re`."""
        test = matcher(op, text)
        return self._any(table, lambda key, _value: test(key))

    @function("sht_has_str_value")
    @function("sht_match_str_value")
    def sht_has_str_value(self, _ctx: Context, table: Str, op: Str, text: Str) -> int:
        """Tell whether there is a value, a text, that compares."""
        test = matcher(op, text)
        return self._any(table, lambda _key, value: isinstance(value, str) and test(value))

    @function()
    def sht_setxs(self, _ctx: Context, table: Str, key: Str, value: Str, expires: Int) -> int:
        """Store a text that expires in so many seconds."""
        return self._set(table, key, value, expires)

    @function()
    def sht_setxi(self, _ctx: Context, table: Str, key: Str, value: Int, expires: Int) -> int:
        """Store an integer that expires in so many seconds."""
        return self._set(table, key, value, expires)

    # ---- locks: one worker handles one message at a time

    @function()
    def sht_lock(self, ctx: Context, path: TablePath) -> int:
        """Lock the slot of a key; false when a suspended script holds it."""
        lock = (path[0], path[1](ctx))
        if lock in self._held:
            self.services.log.warning("sht_lock(%s=>%s): a suspended script holds it, going on without it", *lock)
            return -1
        self._held.add(lock)
        return 1

    @function()
    def sht_unlock(self, ctx: Context, path: TablePath) -> int:
        """Release the slot of a key."""
        self._held.discard((path[0], path[1](ctx)))
        return 1

    # ---- iterators

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
        """Delete the item where an iterator is."""
        walk = _iterators(ctx).get(iterator)
        if walk is None or walk.current is None:
            return -1
        walk.table.store.delete(walk.current[0])
        return 1

    @function()
    def sht_iterator_end(self, ctx: Context, iterator: Str) -> int:
        """End to walk through a table."""
        _iterators(ctx).pop(iterator, None)
        return 1

    @function()
    def sht_print(self, _ctx: Context) -> int:
        """Write all tables to the log."""
        for table in self.tables.values():
            for key, value in table.store.items():
                self.services.log.error("htable %s: %s => %s", table.name, key, value)
        return 1

    # ---- shared by the above

    def _resolve(self, use: VariableUse) -> tuple[Table, Callable[[Any], str]]:
        """Return the table and a function that gives the key. ArgumentError: unknown table, no key, an index."""
        if use.index is not None:
            raise ArgumentError(f"${use.name} takes no index")
        name, key = _split_path(use.inner or ())
        table = self.tables.get(name)
        if table is None:
            close = difflib.get_close_matches(name, self.tables, n=1)
            raise ArgumentError(
                f'unknown table \'{name}\': define it with modparam("htable", "htable", "{name}=>size=8")',
                suggestion=close[0] if close else None,
            )
        if not key:
            raise ArgumentError(f"${use.name} needs a key behind '=>'")
        return table, prepare_text(key)

    def _remove(self, name: str, test: Callable[[str, Item], bool]) -> int:
        table = self.tables.get(name)
        if table is None:
            return -1
        for key, value in table.store.items():
            if test(key, value):
                table.store.delete(key)
        return 1

    def _any(self, name: str, test: Callable[[str, Item], bool]) -> int:
        table = self.tables.get(name)
        items: Iterable[tuple[str, Item]] = () if table is None else table.store.items()
        return 1 if any(test(key, value) for key, value in items) else -1

    def _set(self, name: str, key: str, value: Item, expires: int) -> int:
        table = self.tables.get(name)
        if table is None:
            return -1
        table.store.set(key, value, expires if expires > 0 else None, renew=True)
        return 1


class Walk:
    """An iterator of a script: a copy of the table's items, and where it is."""

    __slots__ = ("_items", "current", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.current: tuple[str, Item] | None = None
        self._items = iter(table.store.items())

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
