"""A table of a script whose items are on a Redis server: the operations of `Table`, waited for.

What needs one key is one command. What looks at all keys walks through them with SCAN, a page at a time, and sees each
key that is there all the while once. Who assigns to a variable does not wait: the command is on its way, in order.

While the server is away, reading gives None, and what asks for success gets False; see `Failures` for what else. A
command that failed may have been carried out all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sipwright.errors import RedisAwayError, RedisError
from sipwright.modules.htable.matching import Test
from sipwright.modules.htable.redis_failures import Failures
from sipwright.modules.htable.redis_pages import Pages
from sipwright.modules.htable.redis_scripts import ADD, LOCK, REMOVE, SET_KEEPING, UNLOCK
from sipwright.modules.htable.redis_values import decode_item, encode_item, item_prefix, lock_prefix
from sipwright.modules.htable.table import Table
from sipwright.redis.resp import Word
from sipwright.redis.scripts import LuaScript
from sipwright.script.context import Context
from sipwright.script.services import Services
from sipwright.script.store import Item
from sipwright.script.suspend import Wait

AWAY = RedisAwayError("the server is away")
TOO_MANY = RedisAwayError("too many transactions are suspended")


class RedisTable:
    """The items of a table on a server. Use it after `start`."""

    __slots__ = (
        "_client",
        "_go_on",
        "_hold",
        "_initial",
        "_locks",
        "_owner",
        "_prefix",
        "_renew",
        "_services",
        "_submit",
        "_taken",
        "_ttl",
        "failures",
        "name",
    )

    def __init__(self, table: Table) -> None:
        self.name = table.name
        self._initial = table.initial
        self._renew = table.renew
        # Milliseconds.
        self._ttl = None if table.autoexpire is None else table.autoexpire * 1000
        self._prefix = item_prefix(table.name)
        self._locks = lock_prefix(table.name)
        # How often a message of this process has taken a lock.
        self._taken: dict[tuple[str, str], int] = {}

    def start(self, services: Services, client: Any, *, owner: str, raises: bool) -> None:
        """Begin to use a client. `owner` is this process among all that take locks."""
        self._services = services
        self._client = client
        self._submit = client.submit
        self._hold = services.hold
        self._go_on = services.go_on
        self._owner = owner
        self.failures = Failures(self.name, services, raises=raises)

    # ---- one key, waited for

    async def get(self, ctx: Context, key: str) -> Item | None:
        """Return a value, or what a missing key has."""
        # What _ask() does, without another coroutine: no other operation is as frequent.
        wait = Wait(ctx)
        reply: Any
        if not self._hold(wait):
            reply = TOO_MANY
        elif self._submit(("GET", self._prefix + key), self._go_on, wait):
            # Meanwhile the transaction may have been cancelled: then nothing here goes on.
            reply = await wait
            if isinstance(reply, bytes):
                return decode_item(reply)
            if reply is None:
                return self._initial
        else:
            self._services.unsuspend(wait)
            reply = AWAY
        self.failures.read(reply)
        return None

    async def add(self, ctx: Context, key: str, amount: int) -> int | None:
        """Add to a value and return the sum; None when it is no number."""
        initial: Word = "" if self._initial is None else self._initial
        arguments = (amount, initial, "" if self._ttl is None else self._ttl, int(self._renew))
        reply = await self._run(ctx, ADD, [self._prefix + key], arguments)
        if isinstance(reply, RedisError):
            self.failures.read(reply)
        return int(reply) if isinstance(reply, bytes) else None

    async def ttl(self, ctx: Context, key: str) -> float | None:
        """Return in how many seconds a key expires, None when it does not or is not there."""
        left = await self._ask(ctx, ("PTTL", self._prefix + key))
        if isinstance(left, RedisError):
            self.failures.read(left)
            return None
        return left / 1000 if left > 0 else None

    async def put(self, ctx: Context, key: str, value: Item) -> bool:
        """Store a value, and wait until it is stored."""
        if self._ttl is not None and not self._renew:
            reply = await self._run(ctx, SET_KEEPING, [self._prefix + key], (encode_item(value), self._ttl))
        else:
            reply = await self._ask(ctx, self._setting(key, value, self._ttl))
        return self._is_done(reply)

    async def put_for(self, ctx: Context, key: str, value: Item, seconds: int) -> bool:
        """Store a value that expires in so many seconds, or with 0 never."""
        return self._is_done(await self._ask(ctx, self._setting(key, value, seconds * 1000 if seconds > 0 else None)))

    async def expire_in(self, ctx: Context, key: str, seconds: int) -> bool:
        """Let a key expire in so many seconds, or with 0 never; nothing is done where the table has no autoexpire."""
        return self._ttl is None or self._is_done(await self._ask(ctx, self._expiring(key, seconds)))

    async def delete(self, ctx: Context, key: str) -> bool:
        """Delete a key, whether it is there or not."""
        return self._is_done(await self._ask(ctx, ("DEL", self._prefix + key)))

    # ---- one key, on its way

    def set(self, key: str, value: Item | None) -> None:
        """Store a value; None deletes the key."""
        if value is None:
            self._send(("DEL", self._prefix + key))
        elif self._ttl is None or self._renew:
            self._send(self._setting(key, value, self._ttl))
        elif not self._client.submit_script(
            SET_KEEPING, [self._prefix + key], (encode_item(value), self._ttl), self._written
        ):
            self.failures.write(AWAY)

    def expire(self, key: str, seconds: int) -> None:
        """Let a key expire, as `expire_in`."""
        if self._ttl is not None:
            self._send(self._expiring(key, seconds))

    # ---- all keys

    def pages(self, *, values: bool = True) -> Pages:
        """Return a walk through all keys."""
        return Pages(self._ask, self._prefix, values=values)

    async def count(self, ctx: Context, test: Test | None, *, values: bool = True) -> int | None:
        """Return of how many items a test is true; without a test, how many there are."""
        number = 0
        pages = self.pages(values=values and test is not None)
        while (page := await pages.next(ctx)) is not None:
            number += len(page) if test is None else sum(test(key, value) for key, value, _data in page)
        if pages.error is not None:
            self.failures.read(pages.error)
            return None
        return number

    async def any(self, ctx: Context, test: Test, *, values: bool = True) -> bool:
        """Tell whether a test is true of an item."""
        pages = self.pages(values=values)
        while (page := await pages.next(ctx)) is not None:
            if any(test(key, value) for key, value, _data in page):
                return True
        if pages.error is not None:
            self.failures.read(pages.error)
        return False

    async def remove_if(self, ctx: Context, test: Test, *, values: bool = True) -> bool:
        """Delete the items that a test is true of; one whose value is changed meanwhile is left."""
        pages = self.pages(values=values)
        while (page := await pages.next(ctx)) is not None:
            chosen = [(self._prefix + key, data) for key, value, data in page if test(key, value)]
            if not chosen:
                continue
            keys = [key for key, _data in chosen]
            if values:
                reply = await self._run(ctx, REMOVE, keys, [data for _key, data in chosen])
            else:
                reply = await self._ask(ctx, ("DEL", *keys))
            if isinstance(reply, RedisError):
                return self.failures.write(reply)
        return True if pages.error is None else self.failures.write(pages.error)

    async def clear(self, ctx: Context) -> bool:
        """Delete everything."""
        return await self.remove_if(ctx, lambda _key, _value: True, values=False)

    # ---- locks: who has one is `holder` of this process (script.locks)

    async def take_lock(self, ctx: Context, key: str, holder: str, seconds: float) -> bool | None:
        """Take the lock of a key; False when somebody else has it, None when the server is away.

        The same holder may take it several times. It is lost `seconds` after it was last taken.
        """
        wait = Wait(ctx)
        reply: Any = TOO_MANY
        if self._hold(wait):
            arguments = (self._lock_owner(holder), round(seconds * 1000))
            asked = (wait, key, holder)
            if self._client.submit_script(LOCK, [self._locks + key], arguments, self._lock_came, asked):
                reply = await wait
            else:
                self._services.unsuspend(wait)
                reply = AWAY
        if isinstance(reply, RedisError):
            self.failures.write(reply)
            return None
        if reply != 1:
            return False
        self._taken[key, holder] = self._taken.get((key, holder), 0) + 1
        return True

    def unlock(self, key: str, holder: str) -> bool:
        """Give a lock back that was taken once; the last time frees it, on its way."""
        left = self._taken.get((key, holder), 0) - 1
        if left > 0:
            self._taken[key, holder] = left
        else:
            self._taken.pop((key, holder), None)
            self._free(key, holder)
        return True

    def _lock_came(self, asked: tuple[Wait, str, str], reply: Any) -> None:
        wait, key, holder = asked
        if not self._go_on(wait, reply) and reply == 1 and (key, holder) not in self._taken:
            # The message has gone meanwhile.
            self._free(key, holder)

    def _free(self, key: str, holder: str) -> None:
        # Where this fails, the lock comes free in time by itself.
        self._client.submit_script(UNLOCK, [self._locks + key], [self._lock_owner(holder)], self._written)

    def _lock_owner(self, holder: str) -> str:
        return f"{self._owner}:{holder}"

    # ---- shared by the above

    async def _ask(self, ctx: Context, words: Sequence[Word]) -> Any:
        """Return the reply to a command, a RedisError for none."""
        wait = Wait(ctx)
        if not self._hold(wait):
            return TOO_MANY
        if self._submit(words, self._go_on, wait):
            return await wait
        self._services.unsuspend(wait)
        return AWAY

    async def _run(self, ctx: Context, script: LuaScript, keys: Sequence[Word], arguments: Sequence[Word]) -> Any:
        wait = Wait(ctx)
        if not self._hold(wait):
            return TOO_MANY
        if self._client.submit_script(script, keys, arguments, self._go_on, wait):
            return await wait
        self._services.unsuspend(wait)
        return AWAY

    def _send(self, words: Sequence[Word]) -> None:
        if not self._submit(words, self._written):
            self.failures.write(AWAY)

    def _written(self, _argument: None, reply: Any) -> None:
        if isinstance(reply, RedisError):
            self.failures.written(reply)

    def _is_done(self, reply: Any) -> bool:
        return self.failures.write(reply) if isinstance(reply, RedisError) else True

    def _setting(self, key: str, value: Item, ttl: int | None) -> Sequence[Word]:
        if ttl is None:
            return ("SET", self._prefix + key, encode_item(value))
        return ("SET", self._prefix + key, encode_item(value), "PX", ttl)

    def _expiring(self, key: str, seconds: int) -> Sequence[Word]:
        if seconds > 0:
            return ("PEXPIRE", self._prefix + key, seconds * 1000)
        return ("PERSIST", self._prefix + key)
