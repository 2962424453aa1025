"""The servers of one client (L2): its groups, the endpoints in them, and who waits for a connection.

An address that is in several groups is one endpoint, with one connection. An `srv:` name stands for as many servers as
it has records (`srv`). Servers come and go at run time. Which server gets a call is `groups`; calls and what becomes of
them are `caller`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from sipwright.errors import ArgumentError, RpcClosedError, RpcConnectionError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, read_servers
from sipwright.jsonrpc.connecting import Connect
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.endpoint import Endpoint, OutgoingEndpoint
from sipwright.jsonrpc.groups import Group, Member
from sipwright.jsonrpc.outcome import CLOSED
from sipwright.jsonrpc.resolve import Resolver, SrvRecord
from sipwright.jsonrpc.srv import SrvName
from sipwright.jsonrpc.tls import Tls
from sipwright.jsonrpc.turns import Level, Policy

Servers = str | Sequence[ServerSpec]


class PoolOwner(Protocol):
    """Who is told what becomes of the servers."""

    def group_changed(self, group: Group) -> None:
        """Take note that a server of the group came, went, or could not be reached."""

    def endpoint_connected(self, endpoint: Endpoint) -> None:
        """Take note of a new connection, before anything is sent on it."""

    def endpoint_lost(self, connection: Connection, reason: str) -> None:
        """Take the calls of a connection that is gone."""

    def make_connection(self, endpoint: Endpoint) -> Connection:
        """Return the connection that an endpoint is to use."""


class Pool:
    """The groups by name (the client's own servers are the group "") and their endpoints.

    The arguments are as in `Caller`. Raises ArgumentError for a malformed list of servers.
    """

    def __init__(
        self,
        lists: Mapping[str, Servers],
        owner: PoolOwner,
        *,
        policy: Policy,
        policies: Mapping[str, Policy],
        max_pending: int,
        reconnect_interval: float,
        max_conn_attempts: int,
        random: Callable[[], float],
        connect: Connect,
        tls: Tls | None,
        resolver: Resolver,
        min_srv_ttl: float,
    ) -> None:
        self._owner = owner
        self.max_pending = max_pending
        self._reconnect_interval = reconnect_interval
        self._max_conn_attempts = max_conn_attempts
        self._random = random
        self._connect = connect
        self._tls = tls
        self._resolver = resolver
        self._min_srv_ttl = min_srv_ttl
        self._policy = policy
        self._policies = policies
        self._groups = {name: self._make_group(name) for name in lists}
        # What each group was told to have; an srv name among them stands for the members that it resolved to.
        self._specs: dict[str, list[ServerSpec]] = {name: [] for name in lists}
        self._endpoints: dict[ServerAddress, OutgoingEndpoint] = {}
        # Taken out of every group; they have calls in flight.
        self._leaving: dict[Endpoint, None] = {}
        self._names: dict[ServerAddress, SrvName] = {}
        # What gets no new calls in which group: addresses, and srv names with all that they stand for.
        self._drained: set[tuple[str, ServerAddress]] = set()
        # Counted of endpoints that are gone.
        self._reconnects = self._blocked = 0
        self._watchers: list[tuple[Group, asyncio.Future[None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopped = False
        for name, servers in lists.items():
            self._specs[name] += read_servers(servers)

    # Life

    def start(self, loop: asyncio.AbstractEventLoop) -> Group:
        """Begin to connect; return the client's own group."""
        self._loop = loop
        for name, specs in self._specs.items():
            for spec in specs:
                self._add(self._groups[name], spec)
        for group in self._groups.values():
            self._choose_drained(group)
            group.refresh()
        for endpoint in list(self._endpoints.values()):
            endpoint.start()
        return self._groups[""]

    def stop(self) -> None:
        """Have no server take calls any more, and close the connections; what was written still leaves."""
        self._is_stopped = True
        for srv_name in self._names.values():
            srv_name.stop()
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

    # What there is

    @property
    def endpoints(self) -> list[Endpoint]:
        """All endpoints, those that are about to leave too."""
        return [*self._leaving, *self._endpoints.values()]

    @property
    def reconnects(self) -> int:
        """How many connections there were beyond the first one of each endpoint."""
        return self._reconnects + sum(max(endpoint.connects - 1, 0) for endpoint in self.endpoints)

    @property
    def blocked(self) -> int:
        """How often an endpoint did not read what it was sent."""
        return self._blocked + sum(endpoint.blocked for endpoint in self.endpoints)

    def group(self, name: str) -> Group:
        """Return the group of a name. Raises ArgumentError when there is none."""
        try:
            return self._groups[name]
        except KeyError:
            raise ArgumentError(f"no group of servers is named {name!r}") from None

    @property
    def groups(self) -> list[Group]:
        """All groups."""
        return list(self._groups.values())

    def connections(self) -> list[Connection]:
        """Return the connections that there are."""
        return [endpoint.connection for endpoint in self.endpoints if endpoint.connection is not None]

    def describe(self) -> list[dict[str, Any]]:
        """Return what an operator wants to know of each server in each group."""
        return [
            {
                "group": group.name,
                "address": member.endpoint.name,
                "priority": -member.level[0],
                "weight": member.weight,
                "state": "drained" if member.is_drained else member.endpoint.state,
                "pending": member.endpoint.pending,
                "calls": member.endpoint.calls,
                "failures": member.endpoint.failed,
                "reason": member.endpoint.last_failure,
            }
            for group in self._groups.values()
            for member in group.members
        ]

    # Changes at run time

    def add_group(self, name: str) -> None:
        """Add a group without servers; nothing when it is there."""
        if name not in self._groups:
            self._groups[name] = self._make_group(name)
            self._specs[name] = []

    def add_server(self, spec: ServerSpec, group_name: str) -> None:
        """Add a server to a group, or give one that is there its priority and weight anew and end its draining.

        One that was given up is asked again.
        """
        group = self.group(group_name)
        # Servers that an srv name stands for are not listed, and stay.
        gone = [member for member in group.members if spec.address in (_listed(member), _origin(member))]
        self._take_out(group, spec.address, gone)
        self._specs[group_name].append(spec)
        if self._loop is not None and not self._is_stopped:
            for endpoint in self._add(group, spec):
                endpoint.start()
            self._choose_drained(group)
            group.refresh()

    def drain_server(self, address: ServerAddress, group_name: str | None) -> int:
        """Let a server have no new calls, in one group or in all; return how many are in flight."""
        members = self._members_at(address, group_name)
        for group in [self.group(group_name)] if group_name is not None else self.groups:
            self._drained.add((group.name, address))
            self._choose_drained(group)
            group.refresh()
        return sum(endpoint.pending for endpoint in {member.endpoint for member in members})

    def remove_server(self, address: ServerAddress, group_name: str | None) -> None:
        """Take a server out of one group or of all; its connection is closed once its calls in flight have ended."""
        gone = self._members_at(address, group_name)
        for group in [self.group(group_name)] if group_name is not None else self.groups:
            self._take_out(group, address, gone)
            group.refresh()
        self._sweep()

    def _members_at(self, address: ServerAddress, group_name: str | None) -> list[Member]:
        groups = self.groups if group_name is None else [self.group(group_name)]
        members = [
            member
            for group in groups
            for member in group.members
            if address in (member.endpoint.address, _origin(member))
        ]
        if not members and not any(spec.address == address for group in groups for spec in self._specs[group.name]):
            where = "" if group_name is None else f" in the group {group_name!r}"
            raise ArgumentError(f"there is no server {address}{where}")
        return members

    def _choose_drained(self, group: Group) -> None:
        for member in group.members:
            places = (member.endpoint.address, _origin(member))
            member.is_drained = any((group.name, place) in self._drained for place in places)

    def _make_group(self, name: str) -> Group:
        return Group(name, self._group_changed, self._policies.get(name, self._policy))

    # How servers get into groups and out

    def _add(self, group: Group, spec: ServerSpec) -> list[OutgoingEndpoint]:
        """Put a server into a group; return the endpoints that are new."""
        if spec.address.kind == "srv":
            name = self._name(spec.address)
            group.names.append(name)
            name.add((group.name, spec), lambda records: self._resolved(group, spec, records))
            return []
        endpoint, is_new = self._endpoint(spec.address, spec.max_pending)
        group.members.append(Member(endpoint, (-spec.priority, 0), spec.weight))
        return [endpoint] if is_new else []

    def _endpoint(self, address: ServerAddress, max_pending: int | None = None) -> tuple[OutgoingEndpoint, bool]:
        endpoint = self._endpoints.get(address)
        if endpoint is not None:
            if endpoint.is_given_up:
                # Whoever adds it again wants it to be tried again.
                endpoint.start()
            return endpoint, False
        assert self._loop is not None
        if address.kind == "tls" and self._tls is None:
            # The system's authorities will do.
            self._tls = Tls()
        endpoint = OutgoingEndpoint(
            self._loop,
            address,
            self,
            self._owner.make_connection,
            max_pending=max_pending or self.max_pending,
            reconnect_interval=self._reconnect_interval,
            max_attempts=self._max_conn_attempts,
            random=self._random,
            connect=self._connect,
            tls=self._tls,
        )
        self._endpoints[address] = endpoint
        return endpoint, True

    def _take_out(self, group: Group, address: ServerAddress, gone: Collection[Member]) -> None:
        """Forget that a group was told to have an address, and that it is drained."""
        self._drained.discard((group.name, address))
        for spec in [spec for spec in self._specs[group.name] if spec.address == address]:
            self._specs[group.name].remove(spec)
            if address in self._names:
                group.names.remove(self._names[address])
                self._names[address].remove((group.name, spec))
        group.members = [member for member in group.members if member not in gone]

    def _sweep(self) -> None:
        """Let those endpoints go that are in no group any more."""
        needed = {member.endpoint for group in self._groups.values() for member in group.members}
        for address, endpoint in list(self._endpoints.items()):
            if endpoint not in needed:
                del self._endpoints[address]
                self._leaving[endpoint] = None
                endpoint.leave()
                if endpoint.connection is None:
                    self._forget(endpoint)
        named = {spec.address for specs in self._specs.values() for spec in specs}
        for address in [address for address in self._names if address not in named]:
            self._names.pop(address).stop()

    def _forget(self, endpoint: Endpoint) -> None:
        """Let an endpoint go that has no connection any more; what was counted of it stays counted."""
        self._leaving.pop(endpoint, None)
        self._reconnects += max(endpoint.connects - 1, 0)
        self._blocked += endpoint.blocked

    # SRV names

    def _name(self, address: ServerAddress) -> SrvName:
        if address not in self._names:
            assert self._loop is not None
            self._names[address] = SrvName(
                self._loop, address.host, self._resolver, min_ttl=self._min_srv_ttl, random=self._random
            )
        return self._names[address]

    def _resolved(self, group: Group, spec: ServerSpec, records: Iterable[SrvRecord]) -> None:
        """Have the servers of an srv name be those that it has records of now."""
        if self._is_stopped or spec not in self._specs[group.name]:
            return
        kind = "tls" if spec.address.host.lower().split(".")[1:2] == ["_tls"] else "tcp"
        gone = [member for member in group.members if member.origin == spec]
        old = {(member.endpoint.address, member.level): member for member in gone}
        members = []
        new: list[OutgoingEndpoint] = []
        for record in records:
            address = ServerAddress(record.target, record.port, "tls" if kind == "tls" else "tcp")
            level: Level = (-spec.priority, record.priority)
            member = old.pop((address, level), None)
            if member is None:
                endpoint, is_new = self._endpoint(address, spec.max_pending)
                new += [endpoint] if is_new else []
                member = Member(endpoint, level, origin=spec)
            # RFC 2782: a weight of 0 is for servers that are hardly ever to be asked.
            member.weight = max(record.weight, 1)
            members.append(member)
        group.members = [member for member in group.members if member not in gone] + members
        self._choose_drained(group)
        for endpoint in new:
            endpoint.start()
        group.refresh()
        self._sweep()

    # What endpoints tell

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        """Choose anew in the groups that the endpoint is in."""
        for group in self._groups.values():
            if any(member.endpoint is endpoint for member in group.members):
                group.refresh()

    def endpoint_connected(self, endpoint: Endpoint) -> None:
        """Pass it on."""
        self._owner.endpoint_connected(endpoint)

    def endpoint_lost(self, connection: Connection, reason: str) -> None:
        """Pass it on."""
        for endpoint in [endpoint for endpoint in self._leaving if endpoint.connection is None]:
            self._forget(endpoint)
        self._owner.endpoint_lost(connection, reason)

    # Waiting for a connection

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
        self._owner.group_changed(group)


def _listed(member: Member) -> ServerAddress | None:
    """Return the address of a member that is listed itself."""
    return member.endpoint.address if member.origin is None else None


def _origin(member: Member) -> ServerAddress | None:
    """Return the srv name that a member is there for."""
    return None if member.origin is None else member.origin.address


def why_not(group: Group) -> str:
    """Return why no server of the group takes calls, for a person."""
    if group.is_ready:
        return "every connected server has as many calls pending as it may have"
    states = [f"{endpoint.name}: {_state(endpoint)}" for endpoint in group.endpoints]
    states += [
        name.last_failure or f"{name.name} is not resolved yet"
        for name in group.names
        if name.last_failure or not name.is_resolved
    ]
    if not states:
        return "there are no servers"
    return f"no server is connected ({'; '.join(states)})"


def _state(endpoint: Endpoint) -> str:
    if endpoint.is_leaving:
        return "is being drained"
    if endpoint.connection is None:
        return endpoint.last_failure or "connecting"
    if endpoint.is_out:
        return f"is left out after {endpoint.failures} calls without an answer"
    if endpoint.connection.is_blocked:
        return "does not read what it is sent"
    return "is being drained"
