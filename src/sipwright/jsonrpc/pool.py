"""The servers of one client (L2): its groups, the endpoints in them, and who waits for a connection.

An address that is in several groups is one endpoint, with one connection. Which server gets a call is `groups`; calls
and what becomes of them are `caller`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from sipwright.errors import ArgumentError, RpcClosedError, RpcConnectionError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, parse_servers
from sipwright.jsonrpc.calls import CLOSED
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.groups import Endpoint, Group

Servers = str | Sequence[ServerSpec]


class Pool:
    """The groups by name (the client's own servers are the group "") and their endpoints.

    `changed(group)` is called after a server of the group came, went, or could not be reached; the other arguments are
    as in `Caller`. Raises ArgumentError for a malformed list of servers.
    """

    def __init__(
        self,
        lists: Mapping[str, Servers],
        changed: Callable[[Group], object],
        *,
        max_pending: int,
        reconnect_interval: float,
        max_conn_attempts: int,
        random: Callable[[], float],
    ) -> None:
        self.endpoints: list[Endpoint] = []
        self._specs = {name: _specs(servers) for name, servers in lists.items()}
        self._changed = changed
        self._max_pending = max_pending
        self._reconnect_interval = reconnect_interval
        self._max_conn_attempts = max_conn_attempts
        self._random = random
        self._groups: dict[str, Group] = {}
        self._watchers: list[tuple[Group, asyncio.Future[None]]] = []
        self._is_stopped = False

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[Endpoint], Connection],
        lost: Callable[[Connection, str], object],
    ) -> Group:
        """Begin to connect; return the client's own group. `make` and `lost` are as in `Endpoint`."""
        endpoints: dict[ServerAddress, Endpoint] = {}
        for name, specs in self._specs.items():
            for address in [spec.address for spec in specs if spec.address not in endpoints]:
                endpoints[address] = Endpoint(
                    loop,
                    address,
                    make,
                    lost,
                    reconnect_interval=self._reconnect_interval,
                    max_attempts=self._max_conn_attempts,
                    random=self._random,
                )
            members = [(spec.priority, endpoints[spec.address]) for spec in specs]
            self._groups[name] = Group(name, members, self._max_pending, self._group_changed)
        self.endpoints = list(endpoints.values())
        for endpoint in self.endpoints:
            endpoint.start()
        return self._groups[""]

    def stop(self) -> None:
        """Have no server take calls any more, and close the connections; what was written still leaves."""
        self._is_stopped = True
        for endpoint in self.endpoints:
            endpoint.stop()
        for _, watcher in self._watchers:
            if not watcher.done():
                watcher.set_exception(RpcClosedError(CLOSED))

    async def disconnected(self, clock: Callable[[], float]) -> None:
        """Wait after `stop` until the connections are closed, or cut them after a second.

        A connection closes once the other end has read what was written before.
        """
        deadline = clock() + 1.0
        while connections := self.connections():
            if clock() >= deadline:
                for connection in connections:
                    connection.abort(CLOSED)
            await asyncio.sleep(0 if clock() < deadline - 0.9 else 0.01)

    def group(self, name: str) -> Group:
        """Return the group of a name. Raises ArgumentError when there is none."""
        try:
            return self._groups[name]
        except KeyError:
            raise ArgumentError(f"no group of servers is named {name!r}") from None

    def connections(self) -> list[Connection]:
        """Return the connections that there are."""
        return [endpoint.connection for endpoint in self.endpoints if endpoint.connection is not None]

    async def connected(self, group: Group, timeout: float | None) -> None:
        """Wait until a server of the group takes calls.

        Raises RpcConnectionError after `timeout` seconds or when none will ever, RpcClosedError after `stop`.
        """
        if group.is_ready:
            return
        if self._is_stopped:
            raise RpcClosedError(CLOSED)
        if group.is_given_up:
            raise RpcConnectionError(why_not(group))
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (group, watcher)
        self._watchers.append(entry)
        try:
            async with asyncio.timeout(timeout):
                await watcher
        except TimeoutError:
            raise RpcConnectionError(why_not(group)) from None
        finally:
            self._watchers.remove(entry)

    def _group_changed(self, group: Group) -> None:
        is_ready, is_given_up = group.is_ready, group.is_given_up
        for watched, watcher in self._watchers:
            if watched is group and not watcher.done():
                if is_ready:
                    watcher.set_result(None)
                elif is_given_up:
                    watcher.set_exception(RpcConnectionError(why_not(group)))
        self._changed(group)


def _specs(servers: Servers) -> list[ServerSpec]:
    return parse_servers(servers) if isinstance(servers, str) else list(servers)


def why_not(group: Group) -> str:
    """Return why no server of the group takes calls, for a person."""
    if not group.endpoints:
        return "there are no servers"
    if group.is_ready:
        return "every connected server has as many calls pending as it may have"
    states = [f"{e.name}: {_state(e)}" for e in dict.fromkeys(group.endpoints)]
    return f"no server is connected ({'; '.join(states)})"


def _state(endpoint: Endpoint) -> str:
    if endpoint.connection is not None:
        return "does not read what it is sent"
    return endpoint.last_failure or "connecting"
