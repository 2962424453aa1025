"""Suspension: owns the door out of a script that waits, and the table of everything that waits.

A module that has to wait makes a `Suspension` (or a subclass with what it must remember), gives it to
`Services.suspend`, and ends its script function with 0. What it waits for later calls `Services.resume`, **once**: the
first of an answer, an error, a timeout, a CANCEL, the end of the transaction or of the worker takes the suspension
out of the table, and whoever comes later finds it ended and does nothing.

A script that waits for the value of a variable (`Wait`) is in the same table, but it does not see that: nothing is
sent, and the transaction stays what it is.

This file knows no clock: the owner calls `sweep()` at regular moments, and a suspension that has seen too many of
them is overdue. That makes the guard against forgotten suspensions free for all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

from sipwright.lang.namespace import Route
from sipwright.script.context import Context
from sipwright.transaction.table import TransactionTable


class Suspension:
    """What one suspended transaction waits for. `ended` is true once it was resumed or given up."""

    __slots__ = ("context", "coroutine", "ended", "sweep")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.ended = False
        self.sweep = 0
        # Set by the engine where a script waits in place: what goes on when it is resumed.
        self.coroutine: Coroutine[Any, Any, int] | None = None

    def abandoned(self) -> None:
        """Let go what was waited for: nobody will use it any more (a CANCEL came, or the transaction ended)."""

    def __await__(self) -> Generator[Suspension, int, int]:
        """Wait in place: the script goes on here with the value that it is resumed with."""
        return (yield self)


class Wait(Suspension):
    """What a script waits for that reads a variable; to be made, given to `Services.hold`, and awaited.

    `outer` is the suspension that the context has besides, by a `t_suspend()` before. Each function of `then` is
    called with the context once the script has ended. Where the request has no transaction, `table` has its `key`
    meanwhile, so that retransmissions are absorbed.
    """

    __slots__ = ("key", "outer", "table", "then")

    def __init__(self, context: Context) -> None:
        # Written out, not super().__init__(): one of these is made for each reading, and the call costs 100 ns.
        self.context = context
        self.ended = False
        self.sweep = 0
        self.coroutine = None
        self.outer: Suspension | None = None
        self.then: tuple[Callable[[Context], object], ...] = ()
        self.table: TransactionTable | None = None
        self.key = b""

    def __await__(self) -> Generator[Suspension, Any, Any]:
        """Wait in place: the script goes on here with the value that there is then."""
        return (yield self)

    def let_go(self) -> None:
        """Have retransmissions of the request absorbed no longer."""
        if self.table is not None:
            self.table.let_go(self.key)
            self.table = None

    def abandoned(self) -> None:
        """Let the request go."""
        self.let_go()


class Suspensions:
    """The suspended transactions of one worker: at most `limit` of them, each for at most `sweeps` sweeps.

    A limit of 0 is for a worker that stops: nothing is suspended any more, but scripts still get their variables.
    `overdue(context)` is told of one that lasted too long, after it has ended.
    """

    __slots__ = ("_overdue", "_pending", "_sweep", "limit", "sweeps")

    def __init__(self, overdue: Callable[[Context], None], limit: int = 100_000, sweeps: int = 60) -> None:
        self.limit = limit
        self.sweeps = sweeps
        self._overdue = overdue
        self._pending: dict[Suspension, None] = {}
        self._sweep = 0

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, suspension: Suspension) -> bool:
        """Suspend a context. False: it is suspended already, or the limit is reached."""
        context = suspension.context
        pending = self._pending
        if context.suspension is not None or len(pending) >= self.limit:
            return False
        context.suspension = suspension
        suspension.sweep = self._sweep
        pending[suspension] = None
        return True

    def add_wait(self, wait: Wait) -> bool:
        """Have a context wait for a variable, suspended or not. False: the limit is reached."""
        pending = self._pending
        if len(pending) >= self.limit > 0:
            return False
        context = wait.context
        wait.outer = context.suspension
        context.suspension = wait
        wait.sweep = self._sweep
        pending[wait] = None
        return True

    def take_wait(self, wait: Wait) -> bool:
        """End a wait, as `take`; a suspension that was there before it is there again."""
        if not self.take(wait):
            return False
        wait.let_go()
        outer = wait.outer
        if outer is not None and not outer.ended:
            wait.context.suspension = outer
        return True

    def take(self, suspension: Suspension) -> bool:
        """End a suspension. True for the first caller only: it, and nobody else, may go on with the script."""
        if suspension.ended:
            return False
        suspension.ended = True
        suspension.context.suspension = None
        del self._pending[suspension]
        return True

    def abandon(self, suspension: Suspension) -> bool:
        """End a suspension whose script is not to go on."""
        if not self.take(suspension):
            return False
        suspension.abandoned()
        if suspension.coroutine is not None:
            suspension.coroutine.close()
        if isinstance(suspension, Wait) and suspension.outer is not None:
            self.abandon(suspension.outer)
        return True

    def sweep(self) -> None:
        """Give up every suspension that has waited for too many sweeps: its owner is told its context."""
        self._sweep += 1
        limit = self._sweep - self.sweeps
        late = []
        for suspension in self._pending:
            if suspension.sweep >= limit:
                break
            late.append(suspension)
        for suspension in late:
            if self.abandon(suspension):
                self._overdue(suspension.context)

    def __iter__(self) -> Iterator[Suspension]:
        """Iterate over a snapshot: a suspension may end meanwhile."""
        return iter(list(self._pending))


# What a suspended script goes on with: a route, or in place the value of the call that waited.
Continuation = Route | int
