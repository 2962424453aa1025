"""Module cfgutils: chance, locks, flags of the server, and routes that may not exist.

One worker never handles two messages at the same time, so a lock is only in the way of a script that was suspended
while it held it. Nothing can wait here: `lock()` and `trylock()` are false where Kamailio would wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random
from typing import Annotated, Any

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import ParamKind, Part, RouteKind
from sipwright.script.context import Context
from sipwright.script.corehash import core_hash
from sipwright.script.kinds import Int, NullableStr, Str
from sipwright.script.module import Module, Param, function


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
        self._locked: set[str] = set()

    def mod_init(self) -> None:
        """Take over the initial values."""
        self._probability = self.initial_probability
        self._gflags = self.initial_gflags

    # ---- chance

    @function()
    def rand_event(self, _ctx: Context, percent: Int = -1) -> int:
        """Be true by chance, in so many percent of calls or as often as was set."""
        chance = random() * 100  # noqa: S311 - for spreading load, not for secrets
        return 1 if chance < (self._probability if percent < 0 else percent) else -1

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
        """Set a flag that all messages of this worker see."""
        self._gflags |= 1 << (flag & 31)
        return 1

    @function()
    def reset_gflag(self, _ctx: Context, flag: Int) -> int:
        """Reset a flag that all messages of this worker see."""
        self._gflags &= ~(1 << (flag & 31))
        return 1

    @function()
    def is_gflag(self, _ctx: Context, flag: Int) -> int:
        """Tell whether a flag that all messages of this worker see is set."""
        return 1 if self._gflags >> (flag & 31) & 1 else -1

    # ---- locks

    @function()
    def lock(self, _ctx: Context, key: Str) -> int:
        """Take a lock; false when a suspended script holds it."""
        if key in self._locked:
            self.services.log.warning("lock(%r): a suspended script holds it, going on without it", key)
            return -1
        self._locked.add(key)
        return 1

    @function()
    def trylock(self, _ctx: Context, key: Str) -> int:
        """Take a lock; false when a suspended script holds it."""
        if key in self._locked:
            return -1
        self._locked.add(key)
        return 1

    @function()
    def unlock(self, _ctx: Context, key: Str) -> int:
        """Release a lock."""
        self._locked.discard(key)
        return 1

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
