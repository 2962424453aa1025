"""Module ratelimit: lets so many requests of a kind pass in an interval, for all workers together.

A pipe has an algorithm and a limit, `"0:TAILDROP:200"`; a queue says which pipe the requests of a method go through,
`"0:INVITE"`, or `"0:*"` for the methods that have no queue of their own. What becomes of a request that may not pass
is the script's to say. Intervals have `timer_interval` seconds; limits of TAILDROP and RED are requests per second:

- TAILDROP: the first requests of an interval pass, up to the limit.

- RED: of an interval that comes after one with n times the limit (n rounded down), every nth request passes.

- NETWORK: while more bytes than the limit wait in the receive buffers, nothing passes; looked at once an interval.

- FEEDBACK: the share of requests that pass is adjusted, once an interval, so that the processors of the machine are
  busy to the limit, in percent.

- NOP: everything passes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.script.kinds import Int
from sipwright.script.module import Module, Param, function
from sipwright.script.pipes import ALGORITHMS, FEEDBACK, NOP, RED, TAILDROP, Pipes
from sipwright.script.services import Services

# Kamailio has 16; so many could not be told apart by anybody.
MAX_PIPES = 10_000
FORCED = RouteKind.REQUEST | RouteKind.EVENT


class Pipe(NamedTuple):
    """A pipe as the script defines it. `limit` is as it is written."""

    number: int
    algorithm: str
    limit: int


def _take_pipe(module: Ratelimit, text: str) -> None:
    words = text.split(":")
    if len(words) != 3:
        raise ArgumentError(f"a pipe is written number:algorithm:limit, as 0:TAILDROP:200, not {text!r}")
    number = _number(words[0], "the number of a pipe", 0)
    algorithm = words[1].strip()
    if algorithm not in ALGORITHMS:
        close = difflib.get_close_matches(algorithm.upper(), ALGORITHMS, n=1)
        message = f"unknown algorithm '{algorithm}', expected one of {', '.join(ALGORITHMS)}"
        raise ArgumentError(message, len(words[0]) + 1, close[0] if close else None)
    at = len(words[0]) + len(words[1]) + 2
    limit = _number(words[2], "the limit of a pipe", at)
    if algorithm == FEEDBACK and limit > 100:
        raise ArgumentError(f"the limit of {FEEDBACK} is a load in percent, 0 to 100, not {limit}", at)
    module.pipes[number] = Pipe(number, algorithm, limit)


def _take_queue(module: Ratelimit, text: str) -> None:
    number, colon, method = text.partition(":")
    method = method.strip()
    if not colon or not method:
        raise ArgumentError(f"a queue is written pipe:method, as 0:INVITE or 0:*, not {text!r}")
    pipe = _number(number, "the number of a pipe", 0)
    if method == "*":
        module.other_methods = pipe
    else:
        # Kamailio: the first queue of a method counts, the last one of `*`.
        module.methods.setdefault(method.upper(), pipe)


def _number(text: str, what: str, offset: int) -> int:
    if not text.strip().isdecimal():
        raise ArgumentError(f"{what} is a number, not {text.strip()!r}", offset)
    return int(text)


class Ratelimit(Module):
    """Limits by method."""

    name = "ratelimit"

    timer_interval = Param(int, 10, minimum=1, doc="seconds of an interval")
    pipe = Param(str, "", parse=_take_pipe, doc='a pipe, "number:algorithm:limit"; repeatable')
    queue = Param(str, "", parse=_take_queue, doc='which pipe a method goes through, "pipe:method"; repeatable')

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        self.pipes: dict[int, Pipe] = {}
        self.methods: dict[str, int] = {}
        self.other_methods: int | None = None

    def mod_init(self) -> None:
        """Check that queues lead to pipes."""
        for method, number in [*self.methods.items(), ("*", self.other_methods)]:
            if number is not None and number not in self.pipes:
                raise ArgumentError(
                    f'ratelimit: queue "{number}:{method}" has no pipe: '
                    f'modparam("ratelimit", "pipe", "{number}:TAILDROP:200") for one'
                )

    def child_init(self, services: Services) -> None:
        """Begin to count."""
        super().child_init(services)
        self._pipes = Pipes(services, "ratelimit", self.timer_interval, MAX_PIPES)
        services.add_statistics(lambda: {"ratelimit:limited": self._pipes.limited})

    @function("rl_check")
    def rl_check(self, ctx: Context) -> int:
        """Count the request in the pipe of its method: 1 it may pass, -1 it may not. Without a queue it may."""
        number = self.methods.get(ctx.message.method.upper(), self.other_methods)
        if number is None:
            # Deviation: in Kamailio it then goes through the pipe of whichever queue was defined first.
            return 1
        return self._check(self.pipes[number])

    @function("rl_check", routes=FORCED)
    def rl_check_in(self, _ctx: Context, pipe: Int) -> int:
        """Count the request in a pipe: 1 it may pass, -1 it may not, or there is no such pipe."""
        return self._check_number("rl_check", pipe)

    @function()
    def rl_check_pipe(self, _ctx: Context, pipe: Int) -> int:
        """Count the request in a pipe: 1 it may pass, -1 it may not, or there is no such pipe."""
        return self._check_number("rl_check_pipe", pipe)

    def _check_number(self, function_name: str, number: int) -> int:
        pipe = self.pipes.get(number)
        if pipe is None or pipe.algorithm == NOP:
            self.services.log.error("%s: there is no pipe %d with an algorithm", function_name, number)
            return -1
        return self._check(pipe)

    def _check(self, pipe: Pipe) -> int:
        limit = pipe.limit * self.timer_interval if pipe.algorithm in (TAILDROP, RED) else pipe.limit
        return 1 if self._pipes.passes(str(pipe.number), pipe.algorithm, limit) else -1
