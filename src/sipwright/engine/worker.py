"""The worker: an engine core on an event loop, with its sockets, from start to stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Any

from sipwright.engine.core import Core
from sipwright.engine.eventlog import EventLog
from sipwright.engine.garbage import Garbage
from sipwright.engine.trace import Trace
from sipwright.jsonrpc.client import Client
from sipwright.script.loader import Script
from sipwright.script.settings import ListenAddress
from sipwright.script.store import Store
from sipwright.timerqueue import TimerQueue
from sipwright.transport.udp import UdpSocket

logger = logging.getLogger("sipwright")

# Timers end in batches of this many seconds: with thousands of them a second, one wake-up each would cost more.
TICK = 0.005
# How often a worker that stops looks whether something is still suspended.
DRAIN_INTERVAL = 0.02
LINGER_INTERVAL = 0.1
TEND_INTERVAL = 1.0


class Worker:
    """One worker: sockets, transactions, scripts and connections on one event loop.

    Make it inside the running loop, with bound sockets, one for each address of `listen` (`open_sockets`). `start()`
    starts the modules, `read()` begins to receive, `stop()` drains and closes. `index`, `tag_prefix` and
    `stateless_prefix` are for one of several workers (see `Core`). `rpc_client` makes the JSON-RPC client;
    `shared_store` gives the stores that workers share; `trace` is told everything that happens.
    """

    def __init__(
        self,
        script: Script,
        listen: Sequence[ListenAddress],
        sockets: Sequence[socket.socket],
        *,
        index: int = 0,
        tag_prefix: str | None = None,
        stateless_prefix: str | None = None,
        rpc_client: Callable[..., Any] = Client,
        shared_store: Callable[[str], Store] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._armed: asyncio.TimerHandle | None = None
        self._timers = TimerQueue(loop.time, self._arm, TICK)
        self.core = Core(
            script,
            listen,
            timers=self._timers,
            clock=loop.time,
            tag_prefix=tag_prefix or secrets.token_hex(6),
            stateless_prefix=stateless_prefix,
            index=index,
            # So that a number of a worker that has died means none of its successor's transactions.
            first_label=secrets.randbits(30),
            rpc_client=rpc_client,
            shared_store=shared_store,
            log=logger,
            trace=trace,
            event_log=EventLog(logger),
        )
        self.services = self.core.services
        self.sockets = [UdpSocket(bound, self.core.receive) for bound in sockets]
        self._garbage = Garbage()

    def start(self) -> None:
        """Start the modules and the guards."""
        self.services.add_statistics(self._socket_statistics)
        self.core.start()
        self._garbage.start()
        self._tend(None)

    def read(self) -> None:
        """Begin to receive."""
        for udp in self.sockets:
            udp.open(self._loop)

    async def stop(self, drain_timeout: float) -> None:
        """Take no new requests, let suspended ones go on for `drain_timeout` seconds, end the rest, and close."""
        await self.drain(drain_timeout)
        self.close()

    async def drain(self, drain_timeout: float) -> None:
        """Do what `stop` does, but stay there to refuse requests and to absorb retransmissions until `close()`."""
        self.core.refuse()
        await self._drain(drain_timeout)

    async def retire(self, drain_timeout: float, linger: float) -> None:
        """Let suspended requests go on for `drain_timeout` seconds, and end the rest.

        Then be there for retransmissions until the last transaction has ended, at most for `linger` seconds. New
        requests have to be handed over meanwhile (`core.hand_over`).
        """
        self.core.retire()
        await self._drain(drain_timeout)
        until = self._loop.time() + linger
        while self.core.transactions and self._loop.time() < until:
            # Meanwhile retransmissions are absorbed and timers end transactions.
            await asyncio.sleep(LINGER_INTERVAL)

    def close(self) -> None:
        """Close the sockets."""
        for udp in self.sockets:
            udp.close()
        if self._armed is not None:
            self._armed.cancel()

    async def _drain(self, drain_timeout: float) -> None:
        until = self._loop.time() + drain_timeout
        while len(self.services.suspensions) and self._loop.time() < until:
            # Meanwhile answers come in and transactions end.
            await asyncio.sleep(DRAIN_INTERVAL)
        await self.core.stop()

    def _tend(self, _argument: None) -> None:
        self._garbage.tend(self.core.transactions)
        self._timers.start(TEND_INTERVAL, self._tend)

    def _arm(self, when: float) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed = self._loop.call_at(when, self._timers.expire)

    def _socket_statistics(self) -> dict[str, int]:
        return {
            "core:send_errors": sum(udp.send_errors for udp in self.sockets),
            "core:udp_drops": sum(udp.drops for udp in self.sockets),
            "core:udp_queued": sum(udp.queued for udp in self.sockets),
        }
