"""Which servers are left out because their calls get no answers (L2): a circuit breaker for each server.

`max_failures` calls in a row without an answer in time take a server out of the choice. It is then asked with a probe
of our own every `interval` seconds, and any answer to it, also "Method not found", brings the server back. A lost
connection is no matter of this file: a server without a connection is not asked anyway; but one that was out before is
asked with a probe first when it is connected again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sipwright.jsonrpc.calls import Probe
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.endpoint import Endpoint
from sipwright.jsonrpc.messages import request_head

logger = logging.getLogger("sipwright.jsonrpc.client")


class Health:
    """The breakers of one client's servers. `max_failures` 0: none is ever left out.

    `start_deadline(seconds, probe)` sees to it that `ended(probe)` is called when a probe was not answered in time;
    `changed(event, endpoint)` is told `out` and `back`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        max_failures: int,
        interval: float,
        method: str,
        timeout: float,
        start_deadline: Callable[[float, Probe], object],
        changed: Callable[[str, Endpoint], object],
    ) -> None:
        self.max_failures = max_failures
        self.pending = 0
        self._loop = loop
        self._interval = interval
        self._method = method
        self._timeout = timeout
        self._start_deadline = start_deadline
        self._changed = changed
        self._endpoints: dict[Connection, Endpoint] = {}
        # Of the next probe on a connection.
        self._timers: dict[Connection, asyncio.TimerHandle] = {}

    def connected(self, endpoint: Endpoint) -> None:
        """Take note of a new connection."""
        assert endpoint.connection is not None
        self._endpoints[endpoint.connection] = endpoint
        if endpoint.is_out:
            self._probe(endpoint, endpoint.connection)

    def lost(self, connection: Connection) -> None:
        """Take note of the end of a connection."""
        self._endpoints.pop(connection, None)
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def blame(self, connection: Connection) -> None:
        """Take note that a call had no answer in time."""
        endpoint = self._endpoints.get(connection)
        if endpoint is None:
            return
        endpoint.failed += 1
        endpoint.failures += 1
        if not self.max_failures or endpoint.failures < self.max_failures or endpoint.is_out:
            return
        endpoint.is_out = True
        logger.warning(
            "JSON-RPC server %s is left out: %d calls in a row had no answer", endpoint.name, endpoint.failures
        )
        self._changed("out", endpoint)
        endpoint.tell()
        self._probe_later(endpoint, connection)

    def answered(self, probe: Probe) -> None:
        """Take the answer to a probe: the server is back."""
        self.pending -= 1
        del probe.table[probe]
        endpoint = self._endpoints.get(probe.connection)
        if endpoint is not None and endpoint.is_out:
            endpoint.is_out = False
            endpoint.failures = 0
            logger.info("JSON-RPC server %s answers again", endpoint.name)
            # Told before it gets the calls that wait for it.
            self._changed("back", endpoint)
            endpoint.tell()

    def ended(self, probe: Probe) -> None:
        """Take the end of a probe without an answer: its time is over, or its connection is lost."""
        self.pending -= 1
        probe.table.pop(probe, None)
        probe.connection.peer.abandon(probe)
        endpoint = self._endpoints.get(probe.connection)
        if endpoint is not None:
            self._probe_later(endpoint, probe.connection)

    def _probe_later(self, endpoint: Endpoint, connection: Connection) -> None:
        self._timers[connection] = self._loop.call_later(self._interval, self._probe, endpoint, connection)

    def _probe(self, endpoint: Endpoint, connection: Connection) -> None:
        self._timers.pop(connection, None)
        if endpoint.is_leaving:
            # It will not be asked again, and its connection is closed when nothing is in flight.
            return
        if connection.is_blocked:
            self._probe_later(endpoint, connection)
            return
        probe = Probe(connection)
        self.pending += 1
        self._start_deadline(self._timeout, probe)
        connection.write(connection.request(probe, request_head(self._method), None))
