"""The worker: an engine core on an event loop, with its sockets, from start to stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from sipwright.engine.core import Core
from sipwright.engine.garbage import Garbage
from sipwright.engine.trace import Trace
from sipwright.jsonrpc.client import Client
from sipwright.script.loader import Script
from sipwright.script.settings import ListenAddress
from sipwright.timerqueue import TimerQueue
from sipwright.transport.udp import UdpSocket

logger = logging.getLogger("sipwright")

# Timers end in batches of this many seconds: with thousands of them a second, one wake-up each would cost more.
TICK = 0.005
# How often a worker that stops looks whether something is still suspended.
DRAIN_INTERVAL = 0.02
TEND_INTERVAL = 1.0


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
        self._loop = loop = asyncio.get_running_loop()
        self._armed: asyncio.TimerHandle | None = None
        self._timers = TimerQueue(loop.time, self._arm, TICK)
        self._listen = list(listen)
        self._receive_buffer = script.settings.receive_buffer
        self.core = Core(
            script,
            self._listen,
            timers=self._timers,
            clock=loop.time,
            tag_prefix=secrets.token_hex(6),
            rpc_client=rpc_client,
            log=logger,
            trace=trace,
        )
        self.services = self.core.services
        self.sockets: list[UdpSocket] = []
        self._garbage = Garbage()

    def start(self) -> None:
        """Open the sockets, start the modules, and receive."""
        try:
            for address in self._listen:
                socket = UdpSocket(address.host, address.port, self.core.receive, self._receive_buffer)
                self.sockets.append(socket)
                address.host, address.port = socket.address
        except BaseException:
            self._close_sockets()
            raise
        self.services.add_statistics(self._socket_statistics)
        self.core.start()
        self._garbage.start()
        self._tend(None)
        for socket in self.sockets:
            socket.open(self._loop)

    async def stop(self, drain_timeout: float) -> None:
        """Take no new requests, let suspended ones go on for `drain_timeout` seconds, end the rest, and close."""
        self.core.refuse()
        until = self._loop.time() + drain_timeout
        while len(self.services.suspensions) and self._loop.time() < until:
            # Meanwhile answers come in and transactions end; new requests are refused.
            await asyncio.sleep(DRAIN_INTERVAL)
        await self.core.stop()
        self._close_sockets()
        if self._armed is not None:
            self._armed.cancel()

    def _tend(self, _argument: None) -> None:
        self._garbage.tend(self.core.transactions)
        self._timers.start(TEND_INTERVAL, self._tend)

    def _close_sockets(self) -> None:
        for socket in self.sockets:
            socket.close()

    def _arm(self, when: float) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed = self._loop.call_at(when, self._timers.expire)

    def _socket_statistics(self) -> dict[str, int]:
        return {
            "core:send_errors": sum(socket.send_errors for socket in self.sockets),
            "core:udp_drops": sum(socket.drops for socket in self.sockets),
            "core:udp_queued": sum(socket.queued for socket in self.sockets),
        }
