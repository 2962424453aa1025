"""Locks of scripts, over all workers: owns who holds one, waiting for it, and giving back what a script forgot.

A lock is of a key of a store, and is held by a message: all routes that run on it, also after a suspension. Who waits
for one lets its worker do other things, and looks again and again. A lock comes free when it is given back, when its
message has gone, when its worker died, and in any case LOCK_SECONDS after it was last taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Protocol

from sipwright.errors import StoreError
from sipwright.script.context import Context
from sipwright.script.services import Services
from sipwright.script.store import Store
from sipwright.script.suspend import Wait

# As long as a script may be suspended, by default.
LOCK_SECONDS = 60.0
WAIT_SECONDS = 5.0
# How long to wait before each look; the last one for all further ones.
PAUSES = (0.002, 0.005, 0.01, 0.02)
TIDY_INTERVAL = 1.0

# Where a context has its holder.
HOLDER = "locks"


class Lockable(Protocol):
    """Where a lock is, as far as giving it back goes: a store, or the locks that are elsewhere."""

    def unlock(self, key: str, holder: str) -> bool:
        """Give a lock back that was taken once."""


class RemoteLocks(Lockable, Protocol):
    """Locks that are not in this server: who takes one waits for the answer."""

    async def take_lock(self, ctx: Context, key: str, holder: str, seconds: float) -> bool | None:
        """Take a lock, as `Store.lock`; None: it cannot be asked for."""


class Locks:
    """The locks that the scripts of one worker take."""

    __slots__ = ("_is_tidying", "_names", "_services", "forgotten", "holders")

    def __init__(self, services: Services) -> None:
        self._services = services
        self._names = count(1)
        self._is_tidying = False
        # How many holders there are, and those that have gone without having given everything back.
        self.holders = 0
        self.forgotten: list[tuple[str, dict[tuple[Lockable, str], int]]] = []

    def try_lock(self, ctx: Context, store: Store, key: str) -> bool:
        """Take a lock, if nobody else has it. A message may take one several times, and give it back as often."""
        holder = self._holder(ctx)
        try:
            if not store.lock(key, holder.name, LOCK_SECONDS):
                return False
        except StoreError:
            return False
        lock = (store, key)
        holder.held[lock] = holder.held.get(lock, 0) + 1
        return True

    async def lock(self, ctx: Context, store: Store, key: str, what: str) -> bool:
        """Take a lock, waited for. False: it did not come free in time, which is logged as of `what`."""

        async def take() -> bool:
            return self.try_lock(ctx, store, key)

        return await self._wait_for(ctx, take, what)

    async def lock_remote(self, ctx: Context, store: RemoteLocks, key: str, what: str) -> bool:
        """Take a lock that is elsewhere, as `lock`. False also when it cannot be asked for."""

        async def take() -> bool | None:
            holder = self._holder(ctx)
            taken = await store.take_lock(ctx, key, holder.name, LOCK_SECONDS)
            if taken:
                holder.held[store, key] = holder.held.get((store, key), 0) + 1
            return taken

        return await self._wait_for(ctx, take, what)

    async def _wait_for(self, ctx: Context, take: Callable[[], Awaitable[bool | None]], what: str) -> bool:
        services = self._services
        until = services.clock() + WAIT_SECONDS
        looks = 0
        while not (taken := await take()):
            if taken is None:
                return False
            # Meanwhile anything may have happened to other messages; this one goes on, or it does not get here.
            if services.clock() >= until or not await self._pause(ctx, PAUSES[min(looks, len(PAUSES) - 1)]):
                services.log.error("%s: somebody else has the lock, going on without it", what)
                return False
            looks += 1
        return True

    def holds(self, ctx: Context, store: Lockable, key: str) -> bool:
        """Tell whether a message has taken a lock that it has not given back."""
        holder = None if ctx.extra is None else ctx.extra.get(HOLDER)
        return holder is not None and (store, key) in holder.held

    def unlock(self, ctx: Context, store: Lockable, key: str, what: str) -> bool:
        """Give a lock back. False: somebody else has taken it over, which is logged as of `what`."""
        if not self.holds(ctx, store, key):
            return True
        held = self._holder(ctx).held
        lock = (store, key)
        held[lock] -= 1
        if not held[lock]:
            del held[lock]
        with contextlib.suppress(StoreError):
            if store.unlock(key, self._holder(ctx).name):
                return True
        self._services.log.error("%s: the lock was held for more than %d s, and is lost", what, LOCK_SECONDS)
        return False

    async def _pause(self, ctx: Context, seconds: float) -> bool:
        """Let the worker do other things for a while. False: this message cannot wait."""
        wait = Wait(ctx)
        if not self._services.hold(wait):
            return False
        self._services.timers.start(seconds, self._go_on, wait)
        await wait
        return True

    def _go_on(self, wait: Wait) -> None:
        self._services.go_on(wait, None)

    # ---- what scripts forget

    def _holder(self, ctx: Context) -> Holder:
        if ctx.extra is None:
            ctx.extra = {}
        holder: Holder | None = ctx.extra.get(HOLDER)
        if holder is None:
            holder = ctx.extra[HOLDER] = Holder(self, str(next(self._names)))
            if not self._is_tidying:
                self._is_tidying = True
                self._services.timers.start(TIDY_INTERVAL, self._tidy)
        return holder

    def _tidy(self, _argument: object) -> None:
        forgotten, self.forgotten = self.forgotten, []
        for name, held in forgotten:
            for (store, key), times in held.items():
                self._services.log.error("a lock of %r was not given back by the script that took it", key)
                with contextlib.suppress(StoreError):
                    for _ in range(times):
                        store.unlock(key, name)
        self._is_tidying = self.holders > 0
        if self._is_tidying:
            self._services.timers.start(TIDY_INTERVAL, self._tidy)


class Holder:
    """What one message holds: how often it has taken which lock."""

    __slots__ = ("_locks", "held", "name")

    def __init__(self, locks: Locks, name: str) -> None:
        self._locks = locks
        self.name = name
        self.held: dict[tuple[Lockable, str], int] = {}
        locks.holders += 1

    def __del__(self) -> None:
        """Leave what is still held to the next tidying: at this moment the same store may be in use."""
        self._locks.holders -= 1
        if self.held:
            self._locks.forgotten.append((self.name, self.held))
