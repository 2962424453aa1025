"""What a script sees of calls that have ended: the texts of results, and the members of `$jsonrpc(...)`.

`$jsonrpc(status)` and the like are of the last call; `$jsonrpc(NAME.status)` of the call of that name in the last
`jsonrpc_parallel`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from sipwright.errors import ArgumentError
from sipwright.jsonrpc.resulttext import member_text
from sipwright.lang.namespace import Value
from sipwright.script.context import Context

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What the name of a call may be."""

# In a context's `extra`: the last call; the calls of the last `jsonrpc_parallel` by name; the name of its failed one.
LAST, PARTS, FAILED = "jsonrpc", "jsonrpc.parts", "jsonrpc.failed"


def outcome_text(call: Any) -> str:
    """Return the text of a call that has ended: its result, its error, `timeout` or `failure`."""
    if call.status == "ok":
        return member_text(call.result)
    if call.status == "error":
        text: str = call.error.text.decode("utf-8", "surrogateescape")
        return text
    return str(call.status)


def keep(context: Context, name: str, value: Any) -> None:
    """Keep something for the variables."""
    if context.extra is None:
        context.extra = {}
    context.extra[name] = value


def forget_parts(context: Context) -> None:
    """Keep nothing of an earlier `jsonrpc_parallel`."""
    if context.extra is not None:
        context.extra.pop(PARTS, None)
        context.extra.pop(FAILED, None)


_MEMBERS: dict[str, Callable[[Any], Value]] = {
    # Of a call that has not ended, "pending".
    "status": lambda call: call.status or "pending",
    "result": lambda call: None if call.result is None else member_text(call.result),
    "error": lambda call: None if call.error is None else outcome_text(call),
    "code": lambda call: None if call.error is None else call.error.code,
    "message": lambda call: call.reason or None if call.error is None else call.error.message,
    "data": lambda call: None if call.error is None or call.error.data is None else member_text(call.error.data),
    "server": lambda call: call.server or None,
    "ms": lambda call: call.ms,
    "method": lambda call: call.method,
    "tries": lambda call: call.tries,
}


def reader(inner: str) -> Callable[[Context], Value]:
    """Return what reads `$jsonrpc(inner)`. ArgumentError: there is no such thing."""
    if inner == "failed":
        return _kept(FAILED, lambda name: name)
    name, dot, member = inner.rpartition(".")
    read = _MEMBERS.get(member)
    if read is None or (dot and not NAME.fullmatch(name)):
        raise ArgumentError(
            f"$jsonrpc({inner}) is unknown, expected one of {', '.join(_MEMBERS)}, failed, or NAME. and one of these"
        )
    return _kept(PARTS, lambda parts: read(parts[name]) if name in parts else None) if dot else _kept(LAST, read)


def _kept(what: str, read: Callable[[Any], Value]) -> Callable[[Context], Value]:
    def get(context: Context) -> Value:
        kept = context.extra.get(what) if context.extra is not None else None
        return None if kept is None else read(kept)

    return get
