"""The engine of one worker without event loop and sockets: puts its parts together, and nothing else.

The worker drives it with a real clock and real sockets, `sipwright.testing` with a fake clock and a recording socket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sipwright.engine.receive import HandOver, Receiver
from sipwright.engine.run import Runner
from sipwright.engine.services import WorkerServices
from sipwright.engine.stats import Counters
from sipwright.engine.trace import Trace
from sipwright.redis.client import Clients
from sipwright.script.loader import Script
from sipwright.script.settings import ListenAddress
from sipwright.script.store import MemoryStores, Store
from sipwright.timerqueue import TimerQueue
from sipwright.transaction.table import TransactionTable

SWEEP_INTERVAL = 1.0


class RedisClients(Protocol):
    """The clients of Redis servers: `sipwright.redis.client.Clients`, or fakes."""

    def open(self, address: Any, **settings: Any) -> Any:
        """Return the client of a server."""

    def counters(self) -> dict[str, int]:
        """Return what they count, by public name."""

    async def close(self) -> None:
        """Close all of them, each after its pending replies."""


class Core:
    """What receives datagrams, runs scripts and answers.

    `timers` and `clock` (seconds) are the caller's to drive; `tag_prefix` is random for each worker and begins its To
    tags, `stateless_prefix` is that of the answers without transaction of all workers of the server; `index` is the
    worker's among them; `first_label` (random too) begins the numbers of its transactions; `rpc_client` makes the
    JSON-RPC client of module jsonrpc; `shared_store` gives the stores that workers share (default: stores of this
    process); `redis` has the clients of Redis servers. `trace` is told everything that happens, and so is `event_log`
    while the log's level is DEBUG. Give datagrams to `receive(data, source, socket)` after `start()`.
    """

    __slots__ = ("_log", "_receiver", "_redis", "_script", "_table", "_timers", "receive", "services")

    def __init__(
        self,
        script: Script,
        listen: Sequence[ListenAddress],
        *,
        timers: TimerQueue,
        clock: Callable[[], float],
        tag_prefix: str,
        stateless_prefix: str | None = None,
        index: int = 0,
        first_label: int = 0,
        rpc_client: Callable[..., Any],
        shared_store: Callable[[str], Store] | None = None,
        redis: RedisClients | None = None,
        log: logging.Logger,
        trace: Trace | None = None,
        event_log: Trace | None = None,
    ) -> None:
        self._log = log
        self._script = script
        self._timers = timers
        self._table = table = TransactionTable()
        self._redis = redis = Clients() if redis is None else redis
        stats = Counters()
        self.services = services = WorkerServices(
            table=table,
            timers=timers,
            clock=clock,
            tag_prefix=tag_prefix,
            stateless_prefix=f"{tag_prefix}-s" if stateless_prefix is None else stateless_prefix,
            worker=index,
            first_label=first_label,
            routes=script.routes,
            listen=listen,
            aliases=script.settings.aliases,
            rpc_client=rpc_client,
            shared_store=MemoryStores(clock).open if shared_store is None else shared_store,
            redis_client=redis.open,
            stats=stats,
            log=log,
            event_log=event_log,
        )
        runner = Runner(
            script.request_route,
            script.files,
            services.suspensions,
            services.reply,
            services.release,
            services.handling,
            services.admission.left,
            stats,
            log,
        )
        services.add_statistics(redis.counters)
        services.start_runner(runner)
        script.reporter.report = runner.report
        self._receiver = Receiver(
            table, runner, services.replier, services.cancel, services.admission, services.handling, stats, log
        )
        self.receive = self._receiver.receive
        services.trace_too(runner, self._receiver)
        services.set_trace(trace)

    def start(self) -> None:
        """Start the modules and the guard over suspensions."""
        self._script.registry.child_init(self.services)
        self._sweep(None)
        self.services.run_event_route("core:worker-one-init")

    @property
    def transactions(self) -> int:
        """How many transactions there are, completed ones too."""
        return self._table.live

    def hand_over(self, hand_over: HandOver) -> None:
        """Ask this first about every message that belongs to no transaction here."""
        self._receiver.hand_over = hand_over

    def retire(self) -> None:
        """Begin nothing from now on: what is new is handed over."""
        self._receiver.is_retiring = True
        self._leave(is_replaced=True)

    def refuse(self) -> None:
        """Take no new requests from now on: they are answered 503."""
        self.services.admission.stop()
        self._leave(is_replaced=False)

    def _leave(self, is_replaced: bool) -> None:
        try:
            self._script.registry.leave(is_replaced)
        except Exception:
            # A module's fault must not keep the worker from leaving.
            self._log.exception("fault of a module that was told to begin nothing new")

    async def stop(self) -> None:
        """End everything that waits: closed RPC connections end it in its error route, the rest is given up."""
        # Whoever asks again now is told so at once.
        self.services.suspensions.limit = 0
        try:
            await self._script.registry.destroy()
        except Exception:
            # A module's fault must not keep the worker, nor what waits for others.
            self._log.exception("fault in the end of a module")
        # Error routes have run, and may have asked for variables.
        await self._redis.close()
        for suspension in self.services.suspensions:
            self.services.give_up(suspension)

    def _sweep(self, _argument: None) -> None:
        self._timers.start(SWEEP_INTERVAL, self._sweep)
        self.services.suspensions.sweep()
        self.services.admission.tick(self._table.weight)
