"""The worker: the only place of the engine where its parts are put together, and its life from start to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from sipwright.engine.receive import Receiver
from sipwright.engine.run import Runner
from sipwright.engine.services import WorkerServices
from sipwright.engine.stats import Counters
from sipwright.engine.trace import Trace
from sipwright.jsonrpc.client import Client
from sipwright.script.loader import Script
from sipwright.script.settings import ListenAddress
from sipwright.timerqueue import TimerQueue
from sipwright.transaction.table import TransactionTable
from sipwright.transport.udp import UdpSocket

logger = logging.getLogger("sipwright")

# Timers end in batches of this many seconds: with thousands of them a second, one wake-up each would cost more.
TICK = 0.005
SWEEP_INTERVAL = 1.0

# Nothing on the main path leaves a reference cycle, so the collector has little to find: with the default threshold
# and 30,000 live transactions it made each request half as dear again.
GC_THRESHOLD = (100_000, 50, 1000)


class Worker:
    """One worker: sockets, transactions, scripts and connections on one event loop.

    Make it inside the running loop. `start()` opens everything (StartError: a port is busy, an address is not here);
    `stop()` drains and closes. `rpc_client` makes the JSON-RPC client; `trace` is told everything that happens.
    """

    def __init__(
        self,
        script: Script,
        listen: Sequence[ListenAddress],
        *,
        rpc_client: Callable[..., Any] = Client,
        trace: Trace | None = None,
    ) -> None:
        self._script = script
        self._loop = loop = asyncio.get_running_loop()
        self._armed: asyncio.TimerHandle | None = None
        settings = script.settings
        self._timers = TimerQueue(loop.time, self._arm, TICK)
        self._table = TransactionTable()
        stats = Counters()
        self._listen = list(listen)
        self.services = services = WorkerServices(
            table=self._table,
            timers=self._timers,
            clock=loop.time,
            suspensions_limit=settings.max_suspended,
            tag_prefix=secrets.token_hex(6),
            routes=script.routes,
            listen=self._listen,
            aliases=settings.aliases,
            rpc_client=rpc_client,
            stats=stats,
            log=logger,
        )
        runner = Runner(
            script.request_route,
            script.files,
            services.suspensions,
            services.reply,
            services.release,
            stats,
            logger,
        )
        services.start_runner(runner)
        self._receiver = Receiver(self._table, runner, services.replier, services.cancel, stats, logger)
        if trace is not None:
            services.set_trace(trace)
            self._receiver.trace = trace
        self.sockets: list[UdpSocket] = []

    def start(self) -> None:
        """Open the sockets, start the modules, and receive."""
        try:
            for address in self._listen:
                socket = UdpSocket(address.host, address.port, self._receiver.receive)
                self.sockets.append(socket)
                address.host, address.port = socket.address
        except BaseException:
            self._close_sockets()
            raise
        self.services.add_statistics(self._socket_statistics)
        self._script.registry.child_init(self.services)
        self._sweep(None)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        for socket in self.sockets:
            socket.open(self._loop)
        self.services.run_event_route("core:worker-one-init")

    async def stop(self, drain_timeout: float) -> None:
        """Take no new requests, let suspended ones go on for `drain_timeout` seconds, end the rest, and close."""
        self._receiver.is_stopping = True
        until = self._loop.time() + drain_timeout
        while len(self.services.suspensions) and self._loop.time() < until:
            # Meanwhile answers come in and transactions end; new requests are refused.
            await asyncio.sleep(0.02)  # noqa: ASYNC110 - looked at only while stopping
        # Closing the RPC connections ends what waits for them in its error route; whatever else waits is given up.
        await self._script.registry.destroy()
        await asyncio.sleep(0)
        for suspension in self.services.suspensions:
            self.services.give_up(suspension)
        self._close_sockets()
        if self._armed is not None:
            self._armed.cancel()

    def _close_sockets(self) -> None:
        for socket in self.sockets:
            socket.close()

    def _arm(self, when: float) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed = self._loop.call_at(when, self._timers.expire)

    def _sweep(self, _argument: None) -> None:
        self.services.suspensions.sweep()
        self._timers.start(SWEEP_INTERVAL, self._sweep)

    def _socket_statistics(self) -> dict[str, int]:
        return {"core:send_errors": sum(socket.send_errors for socket in self.sockets)}
