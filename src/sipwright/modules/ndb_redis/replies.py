"""What `$redis(reply=>value[0]=>size)` says of a reply: the way into it, and what each key means.

The meanings were observed on Kamailio 5.6.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from sipwright.errors import ArgumentError, RedisAnswerError, RedisAwayError
from sipwright.lang.namespace import Part, Value, Variable
from sipwright.redis.resp import Reply, Status
from sipwright.script.kinds import to_int

# The numbers of hiredis, `$redisd(rpl_str)` and so on.
TYPES = {"rpl_str": 1, "rpl_arr": 2, "rpl_int": 3, "rpl_nil": 4, "rpl_sts": 5, "rpl_err": 6}

# What a script has of a command: the reply, or why there is none.
Result = Reply | RedisAwayError

_step = re.compile(r"\s*(value|type|info|size)\s*(?:\[\s*(-?\d+|\x00\d+)\s*\])?\s*").fullmatch


def type_of(reply: Result) -> int | None:
    """Return the type of a reply; None when there is none."""
    if isinstance(reply, RedisAwayError):
        return None
    if reply is None:
        return TYPES["rpl_nil"]
    if isinstance(reply, Status):
        return TYPES["rpl_sts"]
    if isinstance(reply, bytes):
        return TYPES["rpl_str"]
    if isinstance(reply, int):
        return TYPES["rpl_int"]
    return TYPES["rpl_arr"] if isinstance(reply, list) else TYPES["rpl_err"]


def value_of(reply: Result) -> Value:
    """Return a string or an integer; None for whatever else."""
    if isinstance(reply, int):
        return reply
    return _text(reply) if isinstance(reply, bytes) and not isinstance(reply, Status) else None


def info_of(reply: Result) -> Value:
    """Return the text of a status, an error or a string; of a command that failed, why."""
    if isinstance(reply, bytes):
        return _text(reply)
    return str(reply) if isinstance(reply, (RedisAnswerError, RedisAwayError)) else None


def size_of(reply: Result) -> Value:
    """Return how many elements an array has."""
    return len(reply) if isinstance(reply, list) else None


_KEYS: dict[str, Callable[[Result], Value]] = {
    "value": value_of,
    "type": type_of,
    "info": info_of,
    "size": size_of,
}


def parse_path(parts: Sequence[Part]) -> tuple[str, Callable[[Any, Result], Value]]:
    """Read `reply=>key`; return the name of the reply, and a function of the context and it. ArgumentError: malformed.

    Keys before the last one are `value[N]`. An index may be a variable.
    """
    indexes = [part for part in parts if isinstance(part, Variable)]
    numbers = iter(range(len(indexes)))
    text = "".join(part if isinstance(part, str) else f"\x00{next(numbers)}" for part in parts)
    name, *keys = text.split("=>")
    if not name.strip() or not keys or "\x00" in name:
        raise ArgumentError("expected $redis(reply=>key), with the name of the reply written out")
    steps: list[tuple[str, int | Variable | None]] = []
    for position, key in enumerate(keys):
        match = _step(key)
        if match is None:
            found = _shown(key, indexes)
            raise ArgumentError(f"expected value, type, info, size, value[N] or type[N], found {found!r}")
        index: int | Variable | None = None
        if match[2] is not None:
            index = indexes[int(match[2][1:])] if match[2].startswith("\x00") else int(match[2])
        if match[1] in ("info", "size") and index is not None:
            raise ArgumentError(f"{match[1]} has no index")
        if position < len(keys) - 1 and (match[1] != "value" or index is None):
            raise ArgumentError("only value[N] can have another key behind it")
        steps.append((match[1], index))
    return name.strip(), lambda context, reply: _follow(steps, context, reply)


def _follow(steps: list[tuple[str, int | Variable | None]], context: Any, reply: Result) -> Value:
    for _key, index in steps:
        at = to_int(index.get(context)) if isinstance(index, Variable) else index
        # Kamailio: [-1] is the reply itself.
        if at is None or at == -1:
            continue
        if not isinstance(reply, list) or not 0 <= at < len(reply):
            return None
        reply = reply[at]
    return _KEYS[steps[-1][0]](reply)


def _shown(key: str, indexes: list[Variable]) -> str:
    for number, index in enumerate(indexes):
        key = key.replace(f"\x00{number}", index.text)
    return key


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
