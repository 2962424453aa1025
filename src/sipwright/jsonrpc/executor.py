"""What the connections that serve have in common (L2): how many functions run, in tasks and threads, and what was done.

At most `max_concurrent` async functions, and plain ones in threads, run at a time, over all connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.connection import CALLBACK_FAULTS
from sipwright.jsonrpc.messages import MAX_BATCH, Id

if TYPE_CHECKING:  # a cycle: each of them runs on an executor
    from sipwright.jsonrpc.middleware import Middleware
    from sipwright.jsonrpc.serving import Serving

logger = logging.getLogger("sipwright.jsonrpc.server")

NO_LIMIT = 1 << 62
MAX_THREADS = 32

COUNTED = ("requests", "results", "errors", "notifications", "cancelled")
"""What a Serving counts: the first is the sum of the others and of those that are not done."""


@dataclass(slots=True)
class ServerEvent:
    """Something that happened on a server: a connection was made or lost, or a call of it began or ended.

    `kind` is "connected", "disconnected", "started" or "ended"; the members after `connection` (an RpcConnection) are
    of calls. `id` is that of the request, None for a notification too. An "ended" one took `ms` milliseconds; `status`
    is "result", "error" with its `code`, or "cancelled". Notifications have the status that nobody was told.
    """

    kind: Literal["connected", "disconnected", "started", "ended"]
    connection: Any
    method: str = ""
    id: Id = None
    is_notification: bool = False
    ms: float = 0.0
    status: Literal["", "result", "error", "cancelled"] = ""
    code: int = 0


Hook = Callable[[ServerEvent], object]


class Executor:
    """Runs the functions of any number of connections.

    `max_concurrent` is how many async functions and threads run at a time, `max_threads` how many threads there are.
    An answer of more than `max_response` bytes becomes an error, a batch of more than `max_batch` messages (10000 at
    most) is refused. With `cancel_method`, the other end cancels calls by a notification of that name, with
    `{"id": ID}`.

    `is_plain` is True while calls need nothing but their method: no hook, middleware, gate or `cancel_method`.
    """

    def __init__(
        self,
        *,
        max_concurrent: int = 1000,
        max_threads: int = MAX_THREADS,
        max_response: int | None = None,
        max_batch: int = MAX_BATCH,
        cancel_method: str | None = None,
    ) -> None:
        if not 0 < max_batch <= MAX_BATCH:
            raise ArgumentError(f"max_batch is a number from 1 to {MAX_BATCH}, not {max_batch!r}")
        self.max_batch = max_batch
        self.max_response = NO_LIMIT if max_response is None else max_response
        self.cancel_method = cancel_method
        self.is_plain = cancel_method is None
        self.is_full = max_concurrent <= 0
        self.is_closing = False
        self.servings: set[Serving] = set()
        self.hooks: list[Hook] = []
        self.middlewares: list[Middleware] = []
        self._errors: dict[type[BaseException], Callable[[Any], RpcAnswerError]] = {}
        self._max_concurrent = max_concurrent
        self._max_threads = max_threads
        self._threads: ThreadPoolExecutor | None = None
        # In the order of their beginning, as all that is ended one after another: runs from one seed are the same.
        self._tasks: dict[asyncio.Task[None], None] = {}
        # Connections with requests that wait for a task to end, each once, in the order of their turn.
        self._queue: deque[Serving] = deque()
        # What was counted for connections that are gone.
        self._gone = dict.fromkeys(COUNTED, 0)

    # Tasks and threads

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run an async function as a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        self.is_full = len(self._tasks) >= self._max_concurrent
        task.add_done_callback(self._task_ended)
        return task

    async def run_in_thread(self, call: Callable[[], Any]) -> Any:
        """Call a function in a thread, with the context variables of the task, and return its result.

        When it is cancelled, the thread goes on, and what it returns is dropped.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._max_threads, "jsonrpc")
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, _run, call)

    def wait(self, serving: Serving) -> None:
        """Have `serving.go_on()` called once a task has ended."""
        if not serving.is_queued:
            serving.is_queued = True
            self._queue.append(serving)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self.is_full = len(self._tasks) >= self._max_concurrent
        while self._queue and not self.is_full:
            serving = self._queue.popleft()
            serving.is_queued = False
            serving.go_on()

    async def finish(self, deadline: float) -> None:
        """Let what runs and waits end until `deadline` (a time of the loop), and cancel the rest."""
        now = asyncio.get_running_loop().time
        # A task that ends may let a waiting request start another one.
        while self._tasks and (left := deadline - now()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        self._queue.clear()
        self.is_closing = True
        # One that is cancelled before its first step would never say so.
        await asyncio.sleep(0)
        late = list(self._tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        self.is_closing = False

    # What is done for every call

    def add_hook(self, hook: Hook) -> None:
        """Have a function told of each ServerEvent."""
        self.hooks.append(hook)
        self.is_plain = False

    def add_middleware(self, middleware: Middleware) -> None:
        """Put a middleware around every call, inside of those that are there."""
        self.middlewares.append(middleware)
        self.is_plain = False

    def add_error(self, kind: type[BaseException], make: Callable[[Any], RpcAnswerError]) -> None:
        """Answer exceptions of a class, and of classes made from it, with the error that `make(exception)` returns."""
        self._errors[kind] = make

    def answer_error(self, error: BaseException) -> RpcAnswerError | None:
        """Return the error to answer an exception with, None for one that nobody meant to be seen."""
        if isinstance(error, RpcAnswerError):
            return error
        for kind in type(error).__mro__:
            if kind in self._errors:
                try:
                    return self._errors[kind](error)
                except Exception:  # the boundary to the user's code
                    logger.exception("error while answering an exception of the class %s", kind.__name__)
                    return None
        return None

    def tell(self, event: ServerEvent) -> None:
        """Tell the hooks."""
        for hook in self.hooks:
            try:
                hook(event)
            except CALLBACK_FAULTS:  # the boundary to the hook
                logger.exception("error in a hook of the JSON-RPC server")

    # Counting

    def serving_ended(self, serving: Serving) -> None:
        """Forget a connection that is gone and whose requests have all ended; what it counted is kept."""
        if serving in self.servings:
            self.servings.discard(serving)
            for name in COUNTED:
                self._gone[name] += getattr(serving, name)

    def counters(self) -> dict[str, int]:
        """Return what was counted since the start.

        `requests` is the sum of the others: `results`, `errors`, `notifications` (that ended), `cancelled` (by the
        client, by its leaving while they waited, or by `close`) and `running`, those that have not ended.
        """
        counted = {name: self._gone[name] + sum(getattr(s, name) for s in self.servings) for name in COUNTED}
        return {**counted, "running": sum(serving.undone for serving in self.servings)}


def _run(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except StopIteration as error:
        # A future cannot have it: whoever waits for it would wait for ever.
        raise RuntimeError("a function raised StopIteration") from error
