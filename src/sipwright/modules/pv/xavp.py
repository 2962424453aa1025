"""The structured variable `$xavp`: stacks of values and of records whose fields are stacks of values.

    $xavp(root), $xavp(root[1]), $xavp(root=>field), $xavp(root[0]=>field[2]), index -1 the oldest, * all

Index 0 is the newest; lists hold the oldest first. A root without an index that is assigned to gets a new item
(`$xavp(a=>b) = 1` pushes a new record with one field); with an index the item is replaced, or a field pushed into
the record that is there. What is not there cannot be indexed: such an assignment does nothing, as in Kamailio.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Part, Value, Variable
from sipwright.modules.pv.avp import Stack
from sipwright.script.context import Context
from sipwright.script.module import Module, VariableUse, pvar_factory

Record: TypeAlias = dict[str, list[Value]]
Index: TypeAlias = int | Variable | str | None

_match_name = re.compile(r"[\w.-]+").fullmatch


class Level:
    """One name of an `$xavp` with its index: None without one, an integer, a variable, or `"*"`."""

    __slots__ = ("index", "name")

    def __init__(self, name: str, index: Index) -> None:
        self.name = name
        self.index = index

    def position(self, items: Sequence[Any], ctx: Context) -> int | None:
        """Return where the indexed item is in a list, None when it is not there."""
        index = self.index
        number = index.get(ctx) if isinstance(index, Variable) else index or 0
        if not isinstance(number, int) or not -len(items) <= number < len(items):
            return None
        return -1 - number


class Xavps(Module):
    """The variable `$xavp`."""

    @pvar_factory("xavp")
    def pv_xavp(self, use: VariableUse) -> Variable:
        """A structured value that lives with the transaction."""
        if use.index is not None:
            raise ArgumentError("the index of an $xavp is inside its parentheses: $xavp(name[0]=>field)")
        root, field = parse_path(use.inner)
        assign = _root_setter(root) if field is None else _field_setter(root, field)
        return Stack(use.text, _getter(root, field), assign, lambda ctx: count_xavps(ctx, root, field))


def parse_path(inner: Sequence[Part] | None) -> tuple[Level, Level | None]:
    """Parse what is in the parentheses of an `$xavp`. ArgumentError: malformed."""
    if not inner:
        raise ArgumentError("$xavp needs a name in parentheses, like $xavp(root=>field)")
    levels: list[list[Part]] = [[]]
    for part in inner:
        if isinstance(part, Variable):
            levels[-1].append(part)
            continue
        first, *others = part.split("=>")
        levels[-1].append(first)
        levels += [[other] for other in others]
    if len(levels) > 2:
        raise ArgumentError("an $xavp has at most two levels, $xavp(root=>field)")
    parsed = [_parse_level(level) for level in levels]
    return parsed[0], parsed[1] if len(parsed) == 2 else None


def _parse_level(parts: list[Part]) -> Level:
    head, *rest = parts
    if not isinstance(head, str):
        raise ArgumentError("the name of an $xavp cannot be a variable")
    if len(rest) == 2 and isinstance(rest[0], Variable) and isinstance(rest[1], str) and rest[1].strip() == "]":
        name, bracket, between = head.partition("[")
        if bracket and not between.strip() and _match_name(name.strip()):
            return Level(name.strip(), rest[0])
    if rest:
        raise ArgumentError("a variable can only be the index of an $xavp: $xavp(root[$var(i)]=>field)")
    name, bracket, index = head.strip().partition("[")
    name = name.strip()
    if not _match_name(name):
        raise ArgumentError(f"bad name {name!r} in an $xavp")
    if not bracket:
        return Level(name, None)
    index = index.strip()
    if index[-1:] != "]":
        raise ArgumentError("missing ']' in an $xavp")
    index = index[:-1].strip()
    if index == "*":
        return Level(name, "*")
    try:
        return Level(name, int(index))
    except ValueError:
        raise ArgumentError(f"the index of an $xavp is an integer, '*' or a variable, not {index!r}") from None


def count_xavps(ctx: Context, root: Level, field: Level | None) -> int:
    """Return how many items or fields a path names; a level without an index means all of them."""
    items = (ctx.xavps or {}).get(root.name, [])
    if field is None:
        return len(_selected(items, root, ctx))
    records = [item for item in _selected(items, root, ctx) if isinstance(item, dict)]
    return sum(len(_selected(record.get(field.name, []), field, ctx)) for record in records)


def _selected(items: list[Any], level: Level, ctx: Context) -> Sequence[Any]:
    if level.index is None or level.index == "*":
        return items
    at = level.position(items, ctx)
    return () if at is None else items[at : at + 1 or None]


def _getter(root: Level, field: Level | None) -> Callable[[Context], Value]:
    def get_root(ctx: Context) -> Value:
        item = _item(ctx, root)
        # Kamailio writes a record as <<xavp:0x...>>, its address.
        return f"<<xavp:{root.name}>>" if isinstance(item, dict) else item

    def get_field(ctx: Context) -> Value:
        if field is None or ctx.xavps is None:
            return None
        item = _item(ctx, root)
        return _at(item.get(field.name), field, ctx) if isinstance(item, dict) else None

    return get_root if field is None else get_field


def _item(ctx: Context, level: Level) -> Any:
    return None if ctx.xavps is None else _at(ctx.xavps.get(level.name), level, ctx)


def _at(items: list[Any] | None, level: Level, ctx: Context) -> Any:
    if not items:
        return None
    if level.index is None or level.index == "*":
        return items[-1]
    at = level.position(items, ctx)
    return None if at is None else items[at]


def _root_setter(root: Level) -> Callable[[Context, Value], None]:
    def assign(ctx: Context, value: Value) -> None:
        if ctx.xavps is None:
            ctx.xavps = {}
        _assign(ctx.xavps, root, value, ctx)

    return assign


def _field_setter(root: Level, field: Level) -> Callable[[Context, Value], None]:
    def assign(ctx: Context, value: Value) -> None:
        if root.index is None and value is not None:
            if ctx.xavps is None:
                ctx.xavps = {}
            ctx.xavps.setdefault(root.name, []).append({field.name: [value]})
            return
        for record in _records(ctx, root):
            _assign(record, field, value, ctx)

    return assign


def _records(ctx: Context, root: Level) -> Iterable[Record]:
    items = (ctx.xavps or {}).get(root.name, [])
    if root.index == "*":
        return [item for item in items if isinstance(item, dict)]
    item = _at(items, root, ctx)
    return [item] if isinstance(item, dict) else []


def _assign(stacks: dict[str, list[Any]], level: Level, value: Value, ctx: Context) -> None:
    """Push, replace (with an index) or drop (`$null`) a value of the stack that a level names."""
    items = stacks.get(level.name)
    if level.index == "*":
        stacks.pop(level.name, None)
        if value is not None:
            stacks[level.name] = [value]
    elif level.index is None and value is not None:
        stacks.setdefault(level.name, []).append(value)
    elif items:
        at = level.position(items, ctx)
        if at is None:
            return
        if value is None:
            del items[at]
        else:
            items[at] = value
