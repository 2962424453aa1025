"""What listens in a simulated network: the servers that `create_server` of the simulated loop returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from sipwright.testing.simnet.sockets import SimSocket


class SimServer(asyncio.AbstractServer):
    """What `create_server` returns: the same as from asyncio. `unlisten()` takes its addresses from the network."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        names: Sequence[Any],
        start: Callable[[], object],
        stop: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._sockets = tuple(SimSocket(name) for name in names)
        self._start = start
        self._stop = stop
        self._transports: dict[asyncio.Transport, None] = {}
        self._is_serving = False
        self._is_closed = False
        self._closed: asyncio.Event = asyncio.Event()

    @property
    def sockets(self) -> tuple[SimSocket, ...]:
        """The sockets that it listens on; none when it is closed."""
        return () if self._is_closed else self._sockets

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Return whether connections are accepted."""
        return self._is_serving

    async def start_serving(self) -> None:
        """Accept connections."""
        if self._is_closed:
            raise RuntimeError("the server is closed")
        if not self._is_serving:
            self._is_serving = True
            self._start()

    async def serve_forever(self) -> None:
        """Accept connections until this is cancelled or the server is closed."""
        await self.start_serving()
        try:
            await self._closed.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Accept no more connections; those that there are stay."""
        if not self._is_closed:
            self._is_closed = True
            self._is_serving = False
            self._stop()
            self._look()

    async def wait_closed(self) -> None:
        """Wait until the server and its connections are closed (as from Python 3.12.1 on)."""
        await self._closed.wait()

    def close_clients(self) -> None:
        """Close the connections."""
        for transport in list(self._transports):
            transport.close()

    def abort_clients(self) -> None:
        """Close the connections without writing what is left."""
        for transport in list(self._transports):
            transport.abort()

    def attach(self, transport: asyncio.Transport) -> None:
        """Take note of a connection."""
        self._transports[transport] = None

    def detach(self, transport: asyncio.Transport) -> None:
        """Forget a connection."""
        self._transports.pop(transport, None)
        self._look()

    def _look(self) -> None:
        if self._is_closed and not self._transports:
            self._closed.set()
