"""The kinds of arguments that script functions take, as annotations of a module's methods.

    @function()
    def t_reply(self, ctx: Context, code: Int, reason: Str) -> int: ...

A module with an argument of a kind of its own annotates it with `Annotated[type, ParamKind(...)]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import (
    BRANCH_ROUTE,
    FAILURE_ROUTE,
    ONREPLY_ROUTE,
    READ_VARIABLE,
    ROUTE,
    UPDATED_VARIABLE,
    VARIABLE,
    ParamKind,
    Part,
    Route,
    Value,
    Variable,
)
from sipwright.lang.regex import compile_regex


def to_text(value: Value) -> str:
    """Return a value as a script sees it in a string; `$null` is `<null>`, as in Kamailio."""
    if isinstance(value, str):
        return value
    return "<null>" if value is None else str(value)


def to_int(value: Value) -> int:
    """Return a value as an integer; ArgumentError when its text is none."""
    if isinstance(value, int):
        return value
    if value is None:
        raise ArgumentError("expected an integer, found $null")
    try:
        return int(value, 0) if value[:2] in ("0x", "0X") else int(value)
    except ValueError:
        raise ArgumentError(f"expected an integer, found {value!r}") from None


def to_text_or_empty(value: Value) -> str:
    """Return a value as text, `$null` as the empty string."""
    return "" if value is None else str(value)


def _to_status(value: Value) -> int:
    status = to_int(value)
    if not 100 <= status <= 699:
        raise ArgumentError(f"{status} is no status code, 100 to 699")
    return status


def _to_regex(value: Value) -> re.Pattern[str]:
    return compile_regex(to_text(value))


def prepare_text(parts: Sequence[Part]) -> Callable[[Any], str]:
    """Return a function of the context that gives the text of parts; for arguments that are seldom needed."""
    if all(isinstance(part, str) for part in parts):
        constant = "".join(parts)  # type: ignore[arg-type]
        return lambda _context: constant
    getters: list[tuple[str | None, Callable[[Any], Value] | None, Callable[[Value], str]]] = [
        (part, None, to_text)
        if isinstance(part, str)
        else (None, part.get, to_text if part.missing else to_text_or_empty)
        for part in parts
    ]

    def text(context: Any) -> str:
        return "".join(
            [literal if literal is not None else convert(get(context)) for literal, get, convert in getters]  # type: ignore[misc]
        )

    return text


STR = ParamKind("string", "a string", convert=to_text, textual=True)
OPTIONAL_STR = ParamKind("string", "a string", convert=to_text_or_empty, textual=True)
INT = ParamKind("integer", "an integer", convert=to_int)
STATUS = ParamKind("status", "a status code, 100 to 699", convert=_to_status)
REGEX = ParamKind("regex", "a regular expression", convert=_to_regex, lone_dollar=True)
LAZY_STR = ParamKind("string", "a string", prepare=prepare_text)

# `Str`: text. `NullableStr`: text, `$null` as "". `Int`: integer. `Status`: integer, 100 to 699. `Regex`: compiled
# pattern. `LazyStr`: function of the context that gives the text. `WritableVariable` (which may not be read),
# `UpdatedVariable` (read and written), `ReadVariable`: the variable itself. The route kinds: a Route, or None when a
# dynamic name is unknown.
Str = Annotated[str, STR]
NullableStr = Annotated[str, OPTIONAL_STR]
Int = Annotated[int, INT]
Status = Annotated[int, STATUS]
Regex = Annotated[re.Pattern[str], REGEX]
LazyStr = Annotated[Callable[[Any], str], LAZY_STR]
WritableVariable = Annotated[Variable, VARIABLE]
UpdatedVariable = Annotated[Variable, UPDATED_VARIABLE]
ReadVariable = Annotated[Variable, READ_VARIABLE]
RouteName = Annotated[Route | None, ROUTE]
FailureRouteName = Annotated[Route | None, FAILURE_ROUTE]
OnreplyRouteName = Annotated[Route | None, ONREPLY_ROUTE]
BranchRouteName = Annotated[Route | None, BRANCH_ROUTE]
