"""Module pipelimit: lets so many requests pass in an interval, by pipes whose names may contain variables.

`pl_check("$si", "TAILDROP", "10")` makes the pipe of that name where there is none yet, and counts the request in it,
for all workers together. What becomes of a request that may not pass is the script's to say, for example
`pl_drop("5", "15")`. Intervals have `timer_interval` seconds, and limits of TAILDROP and RED are requests per
interval. The algorithms are those of module ratelimit.

The names often come from the requests, so there are bounds: at most `max_pipes` pipes are kept under their names, and
each worker begins to count at most so many in an interval. Beyond the first bound `pl_check()` with algorithm and
limit still limits, and only `pl_active()` and `pl_check()` without them do not know the pipe; beyond the second one
requests pass.
"""

from __future__ import annotations

import difflib
from random import Random
from typing import Annotated, TypeAlias

from sipwright.errors import ArgumentError, SipwrightError
from sipwright.lang.namespace import ParamKind, RouteKind, Value
from sipwright.script.context import Context
from sipwright.script.kinds import Str, to_int, to_text
from sipwright.script.module import REPLYING, Module, Param, function
from sipwright.script.pipes import ALGORITHMS, FEEDBACK, NETWORK, NOP, Pipes
from sipwright.script.services import Services

DROPPING = REPLYING | RouteKind.BRANCH | RouteKind.ONSEND

# Kamailio: what is said when the script gives no positive number.
DEFAULT_RETRY_AFTER = 5

# Algorithm and limit.
Pipe: TypeAlias = tuple[str, int]


def _to_algorithm(value: Value) -> str:
    text = to_text(value)
    name = text.upper()
    if name not in ALGORITHMS:
        close = difflib.get_close_matches(name, ALGORITHMS, n=1)
        message = f"unknown algorithm '{text}', expected one of {', '.join(ALGORITHMS)}"
        raise ArgumentError(message, suggestion=close[0] if close else None)
    return name


def _to_limit(value: Value) -> int:
    limit = to_int(value)
    if limit < 0:
        raise ArgumentError(f"a limit is not negative, as {limit} is")
    return limit


def _to_seconds(value: Value) -> int:
    seconds = to_int(value)
    if seconds < 0:
        raise ArgumentError(f"a number of seconds is not negative, as {seconds} is")
    return seconds or DEFAULT_RETRY_AFTER


Algorithm = Annotated[str, ParamKind("algorithm", f"one of {', '.join(ALGORITHMS)}", convert=_to_algorithm)]
Limit = Annotated[int, ParamKind("limit", "a number, at least 0", convert=_to_limit)]
Seconds = Annotated[int, ParamKind("seconds", "a number of seconds", convert=_to_seconds)]


def _refuse_database(_module: Pipelimit, _value: str) -> None:
    raise ArgumentError('there is no database: give the pipe in the script, pl_check("name", "TAILDROP", "10")')


class Pipelimit(Module):
    """Limits by name."""

    name = "pipelimit"

    timer_interval = Param(int, 10, minimum=1, doc="seconds of an interval")
    clean_unused = Param(int, 0, minimum=0, doc="intervals after which a pipe that is not used is forgotten; 0: never")
    max_pipes = Param(
        int, 100_000, minimum=1, doc="pipes that are kept, and that a worker begins to count in an interval"
    )
    load_fetch = Param(int, 1, minimum=0, maximum=1, doc="whether NETWORK and FEEDBACK have any effect")
    reply_code = Param(int, 503, minimum=300, maximum=699, doc="status of pl_drop()")
    reply_reason = Param(str, "Server Unavailable", doc="reason of pl_drop()")
    db_url = Param(str, "", parse=_refuse_database, doc="refused: there is no database")
    ignored_params = (
        "hash_size",
        "plp_algorithm_column",
        "plp_limit_column",
        "plp_pipeid_column",
        "plp_table_name",
        "timer_mode",
    )

    def child_init(self, services: Services) -> None:
        """Begin to count."""
        super().child_init(services)
        self._random = Random()  # noqa: S311 - for spreading load, not for secrets
        self._pipes = Pipes(services, "pipelimit", self.timer_interval, self.max_pipes)
        self._kept = services.shared_store("pipelimit:pipes")
        # One interval more, since it is not renewed at each use but at the first one of an interval.
        self._ttl = (self.clean_unused + 1) * self.timer_interval if self.clean_unused else None
        self._renewed: set[str] = set()
        self._not_kept = 0
        services.add_statistics(self._statistics)
        if self._ttl is not None:
            services.timers.start(self.timer_interval, self._sweep)

    @function("pl_check")
    def pl_check(self, _ctx: Context, name: Str) -> int:
        """Count the request in a pipe: 1 it may pass, -1 it may not, -2 there is no such pipe, 2 it has no limit."""
        try:
            pipe = self._find(name)
        except SipwrightError:
            # The store has logged it. Nothing is turned away because of a fault of ours.
            return 1
        return -2 if pipe is None else self._check(name, pipe)

    @function("pl_check")
    def pl_check_limit(self, _ctx: Context, name: Str, algorithm: Algorithm, limit: Limit) -> int:
        """Count the request in a pipe, as above; make the pipe if there is none.

        Of a pipe that there is a limit above 0 becomes the limit; its algorithm stays what it is.
        """
        try:
            pipe = self._find_or_keep(name, (algorithm, limit))
        except SipwrightError:
            pipe = (algorithm, limit)
        return self._check(name, pipe)

    @function()
    def pl_active(self, _ctx: Context, name: Str) -> int:
        """Tell whether there is a pipe of that name."""
        try:
            return 1 if self._kept.get(name) is not None else -1
        except SipwrightError:
            return -1

    @function("pl_drop", routes=DROPPING)
    def pl_drop(self, ctx: Context) -> int:
        """Answer 503, or what `reply_code` and `reply_reason` say."""
        return self._drop(ctx, None)

    @function("pl_drop", routes=DROPPING)
    def pl_drop_retry(self, ctx: Context, seconds: Seconds) -> int:
        """Answer the same with a Retry-After header."""
        return self._drop(ctx, seconds)

    @function("pl_drop", routes=DROPPING)
    def pl_drop_range(self, ctx: Context, least: Seconds, most: Seconds) -> int:
        """Answer the same with a Retry-After header, by chance between two numbers of seconds."""
        return self._drop(ctx, self._random.randint(least, max(least, most)))

    # ---- pipes by their names

    def _find(self, name: str) -> Pipe | None:
        text = self._kept.get(name)
        if not isinstance(text, str):
            return None
        if self._ttl is not None and name not in self._renewed:
            self._renewed.add(name)
            self._kept.expire(name, self._ttl)
        algorithm, _, limit = text.partition(" ")
        return algorithm, int(limit)

    def _find_or_keep(self, name: str, pipe: Pipe) -> Pipe:
        found = self._find(name)
        if found is None:
            if self._kept.count() >= self.max_pipes:
                self._not_kept += 1
            else:
                # Another worker may have been first; it had the same script.
                self._kept.insert(name, "{} {}".format(*pipe), self._ttl)
            return pipe
        limit = pipe[1]
        if limit in (0, found[1]):
            return found
        self._kept.set(name, f"{found[0]} {limit}", self._ttl, renew=True)
        return found[0], limit

    def _check(self, name: str, pipe: Pipe) -> int:
        algorithm, limit = pipe
        if algorithm == NOP:
            return 2
        if algorithm in (NETWORK, FEEDBACK) and not self.load_fetch:
            return 1
        if algorithm == FEEDBACK and limit > 100:
            self.services.log.error("pl_check: the limit of FEEDBACK is a load in percent, 0 to 100, not %d", limit)
            return -1
        return 1 if self._pipes.passes(name, algorithm, limit) else -1

    def _drop(self, ctx: Context, seconds: int | None) -> int:
        if seconds is not None:
            ctx.reply_headers = [*(ctx.reply_headers or ()), f"Retry-After: {seconds}\r\n"]
        reply = self.services.reply_stateless if ctx.transaction is None else self.services.reply
        return 1 if reply(ctx, self.reply_code, self.reply_reason) else -1

    def _sweep(self, _argument: object) -> None:
        self.services.timers.start(self.timer_interval, self._sweep)
        self._renewed.clear()
        try:
            self._kept.take_expired()
        except SipwrightError:
            # The store has logged it; they are there the next time.
            return

    def _statistics(self) -> dict[str, int]:
        return {
            "pipelimit:limited": self._pipes.limited,
            "pipelimit:not_kept": self._not_kept,
            "pipelimit:uncounted": self._pipes.uncounted,
        }
