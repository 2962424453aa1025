"""Running routes: owns the one error boundary between the engine and a script, and what happens after a script.

A route runs once for each message, and again each time its transaction is resumed. Whatever it raises is logged with
the script's own file and line, and answered 500 if nothing was sent. A transaction that a script leaves behind,
neither answered nor suspended, is ended here, so nothing hangs.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from sipwright.engine.stats import Counters
from sipwright.engine.trace import Trace
from sipwright.lang.namespace import Route, RouteKind
from sipwright.lang.runtime import Site
from sipwright.script.context import Context, Handling
from sipwright.script.suspend import Continuation, Suspension, Suspensions, Wait

SERVER_ERROR = "I'm terribly sorry, server error occurred"


class Runner:
    """Runs routes on contexts; `handling` tells the log which one.

    `reply(context, status, reason)` answers within the transaction, `release(context)` ends it without an answer.
    `refused(context)` answers a request that could not be suspended, and is false of others.
    `files` are the script's files, to find the script's line in a traceback.
    """

    __slots__ = (
        "_files",
        "_handling",
        "_log",
        "_refused",
        "_release",
        "_reply",
        "_stats",
        "_suspensions",
        "request_route",
        "trace",
    )

    def __init__(
        self,
        request_route: Route,
        files: frozenset[str],
        suspensions: Suspensions,
        reply: Callable[[Context, int, str], bool],
        release: Callable[[Context], bool],
        handling: Handling,
        refused: Callable[[Context], bool],
        stats: Counters,
        log: logging.Logger,
    ) -> None:
        self.request_route = request_route
        self._files = files
        self._suspensions = suspensions
        self._reply = reply
        self._release = release
        self._handling = handling
        self._refused = refused
        self._stats = stats
        self._log = log
        self.trace: Trace | None = None

    def start(self, context: Context) -> None:
        """Run the request route on a new request, which is the one that is handled now."""
        route = self.request_route
        self.run(route, context)
        suspension = context.suspension
        if suspension is not None:
            if isinstance(suspension, Wait):
                suspension.then += (self._started,)
        elif not context.answered and (context.transaction is not None or context.overloaded):
            self._started(context)

    def when_ended(self, context: Context, then: Callable[[Context], object]) -> None:
        """Call `then(context)` once the script that runs on a context has ended.

        That is now, unless it waits for a variable. Suspended in any other way, it has ended.
        """
        suspension = context.suspension
        if isinstance(suspension, Wait):
            suspension.then += (then,)
        else:
            then(context)

    def _started(self, context: Context) -> None:
        if context.suspension is not None or context.answered or self._refused(context):
            return
        if context.transaction is not None:
            # Kamailio: a transaction that the script made and left is put away without an answer, with a warning.
            self._log.warning(
                "the script ended without an answer, a suspension or t_release(); its transaction is ended"
            )
            self._release(context)
            self.account(context)

    def account(self, context: Context) -> None:
        """Count a request that a script has done with, if it was not answered and nobody waits for its end."""
        if context.answered or context.counted or context.suspension is not None or context.kind is RouteKind.EVENT:
            return
        context.counted = True
        if context.message.method == "ACK":
            self._stats.acks += 1
        else:
            self._stats.dropped += 1

    def resume(self, suspension: Suspension, continuation: Continuation) -> bool:
        """Go on with a suspended script. False: the suspension was ended before."""
        if not self._suspensions.take(suspension):
            return False
        self._stats.resumed += 1
        context = suspension.context
        handling = self._handling
        before, handling.context = handling.context, context
        try:
            if self.trace is not None:
                self.trace("resume", context, {"where": _where(continuation)})
            if suspension.coroutine is not None:
                self._step(suspension.coroutine, context, continuation)
            else:
                assert isinstance(continuation, Route)
                self.run(continuation, context)
            if context.answered or context.transaction is None:
                # Answered, or released.
                self.when_ended(context, self.account)
            elif context.suspension is None:
                self._resumed(continuation, context)
            else:
                self.when_ended(context, partial(self._resumed, continuation))
        finally:
            handling.context = before
        return True

    def _resumed(self, continuation: Continuation, context: Context) -> None:
        if context.answered or context.suspension is not None or context.transaction is None:
            self.account(context)
            return
        if context.kind is RouteKind.EVENT:
            # Nobody waits for an answer to an event.
            self._release(context)
        elif not self._refused(context):
            self._stats.unanswered += 1
            self._log.error("the resumed route %s ended without an answer; answered 500", _where(continuation))
            self._reply(context, 500, SERVER_ERROR)

    def go_on(self, wait: Wait, value: Any) -> bool:
        """Go on with a script that waited for a variable. False: the wait was ended before."""
        if not self._suspensions.take_wait(wait):
            return False
        context = wait.context
        with self._handling.of(context):
            if self.trace is not None:
                self.trace("go_on", context, {"value": value})
            assert wait.coroutine is not None
            self._step(wait.coroutine, context, value)
            for then in wait.then:
                self.when_ended(context, then)
        return True

    def overdue(self, context: Context) -> None:
        """End a transaction whose suspension lasted too long: in its failure_route, or with 408."""
        self._stats.overdue += 1
        with self._handling.of(context):
            self._log.error("suspended for too long")
            route = context.on_failure
            if route is not None:
                context.on_failure = None
                context.kind = RouteKind.FAILURE
                self.run(route, context)
            self.when_ended(context, self._timed_out)

    def _timed_out(self, context: Context) -> None:
        if context.answered or context.suspension is not None or context.transaction is None:
            self.account(context)
        elif not self._refused(context):
            self._reply(context, 408, "Request Timeout")
        self.account(context)

    def run(self, route: Route, context: Context) -> None:
        """Run a route; nothing that a script does gets past here."""
        try:
            if not route.suspends:
                route.run(context)
                return
        except Exception as error:
            self._failed(context, error)
            return
        self._step(route.run(context), context, None)

    def _step(self, coroutine: Coroutine[Any, Any, int], context: Context, value: Any) -> None:
        """Let a script that can wait in place go on until it waits again or ends."""
        try:
            coroutine.send(value).coroutine = coroutine
        except StopIteration:
            return
        except Exception as error:
            # Among them the AttributeError of a module that awaits anything but a Suspension.
            self._failed(context, error)

    def fail(self, suspension: Suspension, error: Exception) -> None:
        """End a suspension whose outcome could not be given to its script: an error of that script."""
        if self._suspensions.take(suspension):
            if suspension.coroutine is not None:
                suspension.coroutine.close()
            with self._handling.of(suspension.context):
                self._failed(suspension.context, error)

    def report(self, _context: Context, site: Site, message: str) -> None:
        """Log what a running script got wrong without being stopped by it."""
        self._log.error("%s: %s", site, message, extra={"file": site.file, "line": site.line})

    def _failed(self, context: Context, error: Exception) -> None:
        self._stats.script_errors += 1
        file, line = script_place(error, self._files)
        self._log.error(
            "%s: %s: %s",
            f"{file}:{line}" if line else file,
            type(error).__name__,
            error,
            exc_info=error if self._log.isEnabledFor(logging.DEBUG) else None,
            extra={"file": file, "line": line},
        )
        if not context.answered and context.suspension is None:
            self._reply(context, 500, SERVER_ERROR)


def _where(continuation: Continuation) -> str:
    return continuation.name if isinstance(continuation, Route) else "in place"


def script_place(error: BaseException, files: frozenset[str]) -> tuple[str, int]:
    """Return file and line of the innermost script line in an exception's traceback, or where else it was raised."""
    # Not extract_tb(), which reads the files.
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    for filename, line in reversed(frames):
        if filename in files:
            return filename, line
    return frames[-1] if frames else ("unknown place", 0)
