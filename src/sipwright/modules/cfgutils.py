"""Module cfgutils: chance, locks, flags of the server, and routes that may not exist.

Locks and flags are those of all workers. A lock is held by a message, in all routes that run on it. Who waits for one
lets its worker do other things.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Annotated, Any

from sipwright.errors import ArgumentError, StoreError
from sipwright.lang.namespace import ParamKind, Part, RouteKind
from sipwright.script.context import Context
from sipwright.script.corehash import core_hash
from sipwright.script.kinds import Int, NullableStr, Str
from sipwright.script.locks import Locks
from sipwright.script.module import Module, Param, function
from sipwright.script.services import Services
from sipwright.script.store import Store


def _refuse(_parts: Sequence[Part]) -> object:
    raise ArgumentError("sleeping would stop the whole worker: suspend the transaction instead, with t_suspend()")


Refused = Annotated[object, ParamKind("nothing", "nothing", prepare=_refuse)]


class Cfgutils(Module):
    """Odds and ends."""

    name = "cfgutils"
    initial_probability = Param(int, 10, minimum=0, maximum=100, doc="of rand_event(), in percent")
    initial_gflags = Param(int, 0, doc="flags of the server at its start, as bits")
    ignored_params = ("hash_file", "lock_set_size")

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        self._random = Random()  # noqa: S311 - for spreading load, not for secrets
        self._opened: Store | None = None

    def mod_init(self) -> None:
        """Take over the initial value."""
        self._probability = self.initial_probability

    def child_init(self, services: Services) -> None:
        """Start with no locks."""
        super().child_init(services)
        self._locks = Locks(services)
        self._opened = None

    # ---- chance

    @function()
    def rand_event(self, _ctx: Context, percent: Int = -1) -> int:
        """Be true by chance, in so many percent of calls or as often as was set."""
        return 1 if self._random.random() * 100 < (self._probability if percent < 0 else percent) else -1

    @function()
    def rand_set_prob(self, _ctx: Context, percent: Int) -> int:
        """Set how often `rand_event()` is true, in percent."""
        if not 0 <= percent <= 100:
            return -1
        self._probability = percent
        return 1

    @function()
    def rand_reset_prob(self, _ctx: Context) -> int:
        """Set the probability back to `initial_probability`."""
        self._probability = self.initial_probability
        return 1

    @function()
    def rand_get_prob(self, _ctx: Context) -> int:
        """Return the probability in percent."""
        return self._probability

    @function()
    def core_hash(self, _ctx: Context, first: NullableStr, second: NullableStr, bits: Int) -> int:
        """Return the hash of one or two texts, from 1 to two to the power of `bits`."""
        texts = [text.encode("utf-8", "surrogateescape") for text in (first, second)]
        return core_hash(*texts, size=1 << max(0, min(bits, 30))) + 1

    # ---- flags of the server

    @function()
    def set_gflag(self, _ctx: Context, flag: Int) -> int:
        """Set a flag that all messages of the server see."""
        return self._set_gflag(flag, 1)

    @function()
    def reset_gflag(self, _ctx: Context, flag: Int) -> int:
        """Reset a flag that all messages of the server see."""
        return self._set_gflag(flag, 0)

    @function()
    def is_gflag(self, _ctx: Context, flag: Int) -> int:
        """Tell whether a flag that all messages of the server see is set."""
        return 1 if self._store().get(_gflag(flag)) == 1 else -1

    def _set_gflag(self, flag: int, value: int) -> int:
        try:
            self._store().set(_gflag(flag), value, None, renew=True)
        except StoreError:
            return -1
        return 1

    # ---- locks

    @function(suspends=True)
    async def lock(self, ctx: Context, key: Str) -> int:
        """Take a lock, and wait for that up to 5 s; false when somebody else still has it then.

        It is false, too, when this message has it. A lock that was forgotten comes free when its message has gone, and
        in any case 60 s after it was taken.
        """
        if self._locks.holds(ctx, self._store(), key):
            self.services.log.error("lock(%r): this message has it already", key)
            return -1
        return 1 if await self._locks.lock(ctx, self._store(), key, f"lock({key!r})") else -1

    @function()
    def trylock(self, ctx: Context, key: Str) -> int:
        """Take a lock; false when somebody has it, be it this message."""
        store = self._store()
        return 1 if not self._locks.holds(ctx, store, key) and self._locks.try_lock(ctx, store, key) else -1

    @function()
    def unlock(self, ctx: Context, key: Str) -> int:
        """Release a lock; false when it was held for too long and somebody else has it."""
        return 1 if self._locks.unlock(ctx, self._store(), key, f"unlock({key!r})") else -1

    def _store(self) -> Store:
        """Return the store of locks and flags, opened once it is used."""
        store = self._opened
        if store is None:
            store = self._opened = self.services.shared_store("cfgutils:gflags")
            with contextlib.suppress(StoreError):
                for flag in range(32):
                    if self.initial_gflags >> flag & 1:
                        store.insert(_gflag(flag), 1, None)
        return store

    # ---- routes

    @function()
    def check_route_exists(self, _ctx: Context, name: Str) -> int:
        """Tell whether there is a route of that name."""
        return -1 if self.services.find_route(RouteKind.REQUEST, name) is None else 1

    @function(runs_routes=True)
    def route_if_exists(self, ctx: Context, name: Str) -> Any:
        """Run a route if it exists, and return what it returns; false when there is none."""
        route = self.services.find_route(RouteKind.REQUEST, name)
        return -1 if route is None else route.run(ctx)

    # ---- what would stop the worker

    @function()
    def sleep(self, _ctx: Context, _seconds: Refused) -> int:
        """Refused when a script is loaded."""
        return -1

    @function()
    def usleep(self, _ctx: Context, _microseconds: Refused) -> int:
        """Refused when a script is loaded."""
        return -1


def _gflag(flag: int) -> str:
    """Return the key of a flag."""
    return str(flag & 31)
