"""Flags of a message, of its branch and of the script: 32 bits each, by the name of their variables.

`$mf`, the message's, are in the Context; `$bf` and `$sf` are seldom used and kept in its `extra`.
"""

from __future__ import annotations

from typing import Annotated

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import ParamKind, Value
from sipwright.script.context import Context
from sipwright.script.kinds import to_int

_BITS = 32
_MASK = 2**_BITS - 1


def _to_flag(value: Value) -> int:
    flag = to_int(value)
    if not 0 <= flag < _BITS:
        raise ArgumentError(f"a flag is a number from 0 to {_BITS - 1}, not {flag}")
    return flag


# The argument of a function: the number of a flag.
Flag = Annotated[int, ParamKind("flag", "the number of a flag", convert=_to_flag)]


def get_flags(ctx: Context, word: str) -> int:
    """Return all flags of a word: `mf`, `bf` or `sf`."""
    if word == "mf":
        return ctx.flags
    flags: int = ctx.extra.get(word, 0) if ctx.extra else 0
    return flags


def set_flags(ctx: Context, word: str, flags: int) -> None:
    """Replace all flags of a word."""
    if word == "mf":
        ctx.flags = flags & _MASK
        return
    if ctx.extra is None:
        ctx.extra = {}
    ctx.extra[word] = flags & _MASK


def set_flag(ctx: Context, word: str, flag: int) -> int:
    """Set one flag; 1, as script functions return it."""
    set_flags(ctx, word, get_flags(ctx, word) | 1 << flag)
    return 1


def reset_flag(ctx: Context, word: str, flag: int) -> int:
    """Reset one flag; 1, as script functions return it."""
    set_flags(ctx, word, get_flags(ctx, word) & ~(1 << flag))
    return 1


def is_flag_set(ctx: Context, word: str, flag: int) -> int:
    """Return 1 when a flag is set, else -1."""
    return 1 if get_flags(ctx, word) >> flag & 1 else -1
