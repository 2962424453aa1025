"""The servers of a client without asyncio (L2): finding one for a call, connecting to it, asking srv names.

One lock covers all state and is never held while something is waited for. A thread that calls does for itself what has
to be done for its call; calls and what becomes of them are `sync_caller`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sipwright.errors import ArgumentError, JsonRpcParseError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, read_servers
from sipwright.jsonrpc.framing import Framing
from sipwright.jsonrpc.messages import Message, request_head
from sipwright.jsonrpc.outcome import CLOSED
from sipwright.jsonrpc.peer import Peer
from sipwright.jsonrpc.resolve import SrvRecord
from sipwright.jsonrpc.sockets import reason
from sipwright.jsonrpc.sync_calls import SyncRequest, Waiter
from sipwright.jsonrpc.sync_connecting import Channel, connect
from sipwright.jsonrpc.sync_connection import SyncConnection
from sipwright.jsonrpc.sync_lane import Lane
from sipwright.jsonrpc.sync_servers import Rules, SrvEntry, SyncGroup, SyncServer, logger
from sipwright.jsonrpc.tls import Tls
from sipwright.jsonrpc.turns import Level, Policy

Servers = str | Sequence[ServerSpec]

# Seconds after which a thread that waits for a server looks around although nobody has told it to.
LOOK_AROUND = 0.25
# Seconds for a probe that has no answer, and between questions for an srv name that failed.
PROBE_TIMEOUT = 5.0
MAX_NAME_DELAY = 60.0


class SyncResolver(Protocol):
    """Asks for SRV records and holds the thread up meanwhile; see `resolve.Resolver` for what it returns and raises."""

    def resolve_srv_now(self, name: str, timeout: float, /) -> tuple[list[SrvRecord], float]:
        """Return the records of a name and the seconds for which they hold."""


@dataclass(slots=True)
class Settings:
    """What the client was told; the arguments of `SyncClient` of the same names."""

    policy: Policy
    policies: Mapping[str, Policy]
    when_full: str
    max_waiting: int
    max_size: int
    framing: Framing
    tls: Tls | None
    resolver: SyncResolver
    min_srv_ttl: float
    probe_method: str


class PoolOwner(Protocol):
    """Who has the calls."""

    def answered(self, request: SyncRequest, message: Message) -> None:
        """Take an answer."""

    def requested(self, connection: SyncConnection, messages: list[Message | JsonRpcParseError]) -> None:
        """Take what a server asks, and what is no message."""

    def connection_lost(self, connection: SyncConnection, why: str) -> None:
        """Take the calls of a connection that is gone."""


class SyncPool:
    """The groups by name (the client's own servers are the group ""), their servers, and the lanes of the threads.

    Raises ArgumentError for a malformed list of servers.
    """

    def __init__(self, lists: Mapping[str, Servers], owner: PoolOwner, rules: Rules, settings: Settings) -> None:
        self.rules = rules
        self.clock = time.monotonic
        self.is_closed = False
        self._settings = settings
        self._owner = owner
        self._specs = {name: read_servers(servers) for name, servers in lists.items()}
        self.begin()

    def begin(self) -> None:
        """Begin without connections: now, and in a process that was forked."""
        self.lock = threading.Lock()
        self.servers: dict[ServerAddress, SyncServer] = {}
        self.groups: dict[str, SyncGroup] = {}
        # The main thread's, and that of all others; made when they are needed.
        self.lanes: dict[bool, Lane] = {}
        self.main_thread = threading.main_thread().ident
        self._probes: dict[SyncRequest, float] = {}
        for name, specs in self._specs.items():
            self.groups[name] = group = SyncGroup(name, self._settings.policies.get(name, self._settings.policy))
            group.names = [SrvEntry(spec) for spec in specs if spec.address.kind == "srv"]
            self._set_members(group)

    def forget(self) -> None:
        """Let go what belongs to the parent of this process."""
        for lane in self.lanes.values():
            lane.forget()

    def group(self, name: str | None) -> SyncGroup:
        """Return the group of a name, the client's own for None. Raises ArgumentError when there is none."""
        try:
            return self.groups[name or ""]
        except KeyError:
            raise ArgumentError(f"no group of servers is named {name!r}") from None

    def lane(self) -> Lane:
        """Return the lane of this thread (called with the lock held)."""
        is_main = threading.get_ident() == self.main_thread
        try:
            return self.lanes[is_main]
        except KeyError:
            lane = self.lanes[is_main] = Lane(self.lock, self.clock)
            return lane

    def mend(self, is_main: bool) -> None:
        """Put right what a thread has left half done that was interrupted by an exception of a signal handler."""
        lane = self.lanes.get(is_main)
        if lane is None:
            return
        lane.mend()
        if is_main:
            # What it had begun, nobody goes on with: it is the only thread in its lane.
            for server in self.servers.values():
                server.connecting.discard(lane)
            for group in self.groups.values():
                for entry in group.names:
                    entry.asked_by = None if entry.asked_by is lane else entry.asked_by
                for waiter in [waiter for waiter in group.waiting if waiter.lane is lane]:
                    del group.waiting[waiter]
                group.wake_first()

    def connections(self) -> list[SyncConnection]:
        """Return the connections that there are."""
        return [connection for lane in self.lanes.values() for connection in lane.connections.values()]

    # Finding a server

    def find(
        self,
        group: SyncGroup,
        waiter: Waiter,
        until: float,
        send: Callable[[SyncConnection], bool],
        asked: Sequence[str] = (),
    ) -> str:
        """Have `send(connection)` send something, with the lock held; return "", or why no server takes it by `until`.

        A server is waited for, unless none will be there, all have as many calls as they may, or it is a further try
        (`asked` are the servers that are out of the question) and none can be asked at once. When `send` returns False
        another connection is looked for.
        """
        try:
            while True:
                with self.lock:
                    if self.is_closed:
                        return CLOSED
                    lane = self.lane()
                    found = self._look(group, lane, waiter, until, send, asked)
                if isinstance(found, str):
                    return found
                if isinstance(found, float):
                    lane.wait(waiter, min(found, self.clock() + LOOK_AROUND))
                elif isinstance(found, SrvEntry):
                    self._resolve(found, group, until)
                else:
                    self._connect(found, group, lane, until)
        finally:
            if waiter in group.waiting:
                with self.lock:
                    self._leave_queue(group, waiter)

    def _look(
        self,
        group: SyncGroup,
        lane: Lane,
        waiter: Waiter,
        until: float,
        send: Callable[[SyncConnection], bool],
        asked: Sequence[str],
    ) -> str | float | SyncServer | SrvEntry:
        """Send, or return what is to be done first: connect to a server, resolve a name, wait until a certain time."""
        lane.look()
        while True:
            now = self.clock()
            entry = group.due_name(now)
            if entry is not None:
                entry.asked_by = lane
                return entry
            if any(server.is_out for server in group.servers):
                self._probe(group, lane, now)
            if group.waiting and not asked and next(iter(group.waiting)) is not waiter:
                return self._wait(group, lane, waiter, until, now)
            server = group.choose(lane, asked, now)
            is_full = server is None and group.is_ready(lane, asked)
            if server is None and not is_full:
                server = group.choose(lane, asked, now, is_urgent=True)
            if server is None:
                if asked or group.is_given_up or (is_full and self._settings.when_full == "refuse"):
                    return group.why_not(lane)
                return self._wait(group, lane, waiter, until, now)
            if group.waiting:
                self._leave_queue(group, waiter)
            connection = server.connections.get(lane)
            if connection is None:
                if now >= until:
                    return group.why_not(lane)
                server.connecting.add(lane)
                return server
            if send(connection):
                return ""

    def _wait(self, group: SyncGroup, lane: Lane, waiter: Waiter, until: float, now: float) -> str | float:
        if now >= until:
            return group.why_not(lane)
        if waiter not in group.waiting:
            if len(group.waiting) >= self._settings.max_waiting:
                return f"{self._settings.max_waiting} calls wait for a server already"
            group.waiting[waiter] = None
        waiter.is_woken = False
        return min(until, group.next_time(lane))

    def _leave_queue(self, group: SyncGroup, waiter: Waiter) -> None:
        group.waiting.pop(waiter, None)
        waiter.is_woken = False
        group.wake_first()

    def slot_freed(self, connection: SyncConnection) -> None:
        """Take note that a request is no longer in flight."""
        server = connection.server
        if server.is_leaving and not connection.pending:
            connection.lose("the server is in no group any more")
        else:
            self.changed(server)

    def changed(self, server: SyncServer) -> None:
        """Have those look around who wait for a server."""
        for group in self.groups.values():
            if group.waiting and server in group.servers:
                group.wake_first()

    def close(self) -> None:
        """Have no server take calls any more; the connections are closed once what was written has left."""
        self.is_closed = True
        for group in self.groups.values():
            for waiter in group.waiting:
                waiter.wake()
        for connection in self.connections():
            connection.say_goodbye()
        for connection in self.connections():
            connection.lose(CLOSED)
        for lane in self.lanes.values():
            lane.close()
        self.lanes.clear()

    # Connecting

    def _connect(self, server: SyncServer, group: SyncGroup, lane: Lane, until: float) -> None:
        now = self.clock()
        if until - now < 1e9 and group.has_others(server, lane):
            # One call finds out whether the server is back; half of its time is left for the others.
            until = now + (until - now) / 2
        if server.address.kind == "tls" and self._settings.tls is None:
            self._settings.tls = Tls()
        fault = ""
        sock = channel = None
        try:
            try:
                sock, channel = connect(server.address, self._settings.tls, until)
            except (OSError, ValueError, OverflowError) as error:
                # Not an OSError: a host name that cannot be written in IDNA, a port that is no port.
                fault = f"cannot connect: {reason(error)}"
            with self.lock:
                server.connecting.discard(lane)
                if sock is None:
                    server.failed(fault, self.clock())
                elif not self.is_closed:
                    self._add(server, lane, sock, channel)
                    sock = None
                self.changed(server)
        finally:
            server.connecting.discard(lane)
            if sock is not None:
                sock.close()

    def _add(self, server: SyncServer, lane: Lane, sock: socket.socket, channel: Channel | None) -> None:
        def requested(messages: list[Message | JsonRpcParseError], _is_batch: bool) -> None:
            self._owner.requested(connection, messages)

        connection = SyncConnection(
            sock,
            channel,
            server,
            lane,
            Peer(self._owner.answered, requested),
            self._settings.framing,
            self._settings.max_size,
            self._lost,
            self._freed,
        )
        server.connected(connection, self.clock())
        lane.add(connection)

    def _lost(self, connection: SyncConnection, why: str) -> None:
        if self.is_closed:
            connection.server.connections.pop(connection.lane, None)
        else:
            connection.server.lost(connection, why, self.clock())
        self._owner.connection_lost(connection, why)
        self.changed(connection.server)

    def _freed(self, connection: SyncConnection) -> None:
        self.changed(connection.server)

    # Servers that are left out

    def blame(self, server: SyncServer) -> None:
        """Take note that a server has not answered in time."""
        server.blame(self.clock())

    def _probe(self, group: SyncGroup, lane: Lane, now: float) -> None:
        for request, until in list(self._probes.items()):
            if now >= until or request.connection.is_lost:
                del self._probes[request]
                request.connection.peer.abandon(request)
                request.connection.server.probe_at = max(request.connection.server.probe_at, now)
        for server in group.servers:
            connection = server.connections.get(lane)
            if server.is_out and connection is not None and now >= server.probe_at and not connection.is_blocked:
                server.probe_at = now + max(self.rules.probe_interval, 0.001)
                request = SyncRequest(None, connection)
                self._probes[request] = now + PROBE_TIMEOUT
                connection.ask(request, request_head(self._settings.probe_method), None)

    def probe_answered(self, request: SyncRequest) -> None:
        """Take the answer to a probe: the server is back."""
        self._probes.pop(request, None)
        server = request.connection.server
        if server.is_out:
            server.is_back()
            self.changed(server)

    # Names

    def _resolve(self, entry: SrvEntry, group: SyncGroup, until: float) -> None:
        name = entry.spec.address.host
        records = entry.records
        try:
            now = self.clock()
            try:
                records, ttl = self._settings.resolver.resolve_srv_now(name, min(until - now, PROBE_TIMEOUT))
                entry.failures, entry.last_failure = 0, ""
                delay = max(ttl, self._settings.min_srv_ttl)
            except OSError as error:
                entry.last_failure = str(error)
                delay = min(self._settings.min_srv_ttl * 2.0**entry.failures, MAX_NAME_DELAY)
                entry.failures = min(entry.failures + 1, 30)
                logger.warning("%s; asked again in %.1f s", error, delay)
            with self.lock:
                entry.due = self.clock() + delay
                if records != entry.records:
                    entry.records = records
                    self._set_members(group)
                group.wake_first()
        finally:
            entry.asked_by = None

    def _set_members(self, group: SyncGroup) -> None:
        """Have a group consist of what it was told, with the servers that its names stand for now."""
        members: list[tuple[SyncServer, Level, int]] = []
        for spec in self._specs[group.name]:
            if spec.address.kind != "srv":
                members.append((self._server(spec.address, spec.max_pending), (-spec.priority, 0), spec.weight))
                continue
            is_tls = spec.address.host.lower().split(".")[1] == "_tls"
            entry = next(entry for entry in group.names if entry.spec is spec)
            for record in entry.records or ():
                address = ServerAddress(record.target, record.port, "tls" if is_tls else "tcp")
                # RFC 2782: a weight of 0 is for servers that are hardly ever to be asked.
                level = (-spec.priority, record.priority)
                members.append((self._server(address, spec.max_pending), level, max(record.weight, 1)))
        group.set_members(members)
        needed = {server for one in self.groups.values() for server in one.servers}
        for address in [address for address, server in self.servers.items() if server not in needed]:
            server = self.servers.pop(address)
            server.is_leaving = True
            for connection in [c for c in server.connections.values() if not c.pending]:
                connection.lose("the server is in no group any more")

    def _server(self, address: ServerAddress, max_pending: int | None) -> SyncServer:
        if address not in self.servers:
            self.servers[address] = SyncServer(address, self.rules, max_pending)
        return self.servers[address]
