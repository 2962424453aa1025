"""Walking through the keys of a table on a Redis server, a page at a time: SCAN, which holds up nobody there.

Each key that is there all the while is seen once; one that comes or goes meanwhile may be seen or not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from sipwright.errors import RedisError
from sipwright.modules.htable.redis_values import decode_item
from sipwright.redis.resp import Word
from sipwright.script.context import Context
from sipwright.script.store import Item

# How many keys of the database, not of the table, the server is asked to look at in one step.
PAGE = 1000

# Key, value, and the value as it is written there.
Found: TypeAlias = tuple[str, Item, bytes]
Ask: TypeAlias = Callable[[Context, Sequence[Word]], Awaitable[Any]]


class Pages:
    """A walk. `ask` gives the reply to a command, `prefix` is what the names of the keys begin with.

    Without `values`, the values are empty texts. `error` is what ended the walk before it was through.
    """

    __slots__ = ("_ask", "_cursor", "_prefix", "_seen", "_values", "error")

    def __init__(self, ask: Ask, prefix: str, *, values: bool) -> None:
        self._ask = ask
        self._prefix = prefix
        self._values = values
        self._cursor: Word | None = "0"
        self._seen: set[bytes] = set()
        self.error: RedisError | None = None

    async def next(self, ctx: Context) -> list[Found] | None:
        """Return the items of the next page, which may be none; None behind the last one."""
        if self._cursor is None:
            return None
        try:
            return await self._page(ctx, self._cursor)
        except RedisError as error:
            self.error = error
            self._cursor = None
            return None

    async def _page(self, ctx: Context, cursor: Word) -> list[Found]:
        reply = await self._ask(ctx, ("SCAN", cursor, "MATCH", f"{self._prefix}*", "COUNT", PAGE))
        if isinstance(reply, RedisError):
            raise reply
        following, keys = reply
        new = [key for key in dict.fromkeys(keys) if key not in self._seen]
        self._seen.update(new)
        found: Any = [b""] * len(new)
        if new and self._values:
            found = await self._ask(ctx, ("MGET", *new))
            if isinstance(found, RedisError):
                raise found
        self._cursor = None if following == b"0" else following
        start = len(self._prefix.encode())
        return [
            (key[start:].decode("utf-8", "surrogateescape"), decode_item(data), data)
            for key, data in zip(new, found, strict=True)
            # What was deleted meanwhile is not there, nor is what is no string for Redis.
            if data is not None
        ]
