"""The servers of a client without asyncio (L2): which one gets the next call, and which may be asked at all.

A `SyncServer` is one address with what is known of it; a `SyncGroup` is an ordered choice among servers: the highest
level with one that can take the call, inside it by turns or the one with the fewest calls in flight, both in the
proportion of the weights. Nothing here waits, and nothing is done beside the calls: a server is connected to, and
asked whether it answers again, by a call that comes when the time for that has come. Everything is called with the
client's lock held; `now` is the monotonic time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec
from sipwright.jsonrpc.resolve import SrvRecord
from sipwright.jsonrpc.sync_calls import NEVER, Waiter
from sipwright.jsonrpc.sync_connection import SyncConnection
from sipwright.jsonrpc.sync_lane import Lane
from sipwright.jsonrpc.turns import Level, Policy, check_policy, spread

logger = logging.getLogger("sipwright.jsonrpc.client")
# Who has set up no logging hears of servers by the exceptions of calls, not on stderr.
logger.addHandler(logging.NullHandler())

MAX_RECONNECT_DELAY = 30.0
# Seconds after which a server that could not be connected to is asked again by a call that nobody else can take,
# doubled for each failure in a row up to `reconnect_interval`.
MIN_PAUSE = 0.02


@dataclass(slots=True)
class Rules:
    """What all servers of a client have in common; the arguments of `SyncClient`."""

    max_pending: int
    reconnect_interval: float
    max_conn_attempts: int
    max_failures: int
    probe_interval: float
    random: Callable[[], float]


class SyncServer:
    """One server.

    `failures` counts the attempts to connect that failed in a row, `unanswered` the calls without an answer in a row;
    `is_out` is true while it is left out because of these, `is_leaving` once it is in no group.
    """

    def __init__(self, address: ServerAddress, rules: Rules, max_pending: int | None) -> None:
        self.address = address
        self.name = str(address)
        self.max_pending = max_pending or rules.max_pending
        self.connections: dict[Lane, SyncConnection] = {}
        self.connecting: set[Lane] = set()
        self.reconnects = 0
        self.blocked = 0
        self.failures = 0
        self.unanswered = 0
        self.is_out = False
        self.is_given_up = False
        self.is_leaving = False
        self.last_failure = ""
        self.probe_at = 0.0
        # When calls that others could take ask it again, and when those that nobody else can take do.
        self.retry_at = 0.0
        self.pause_until = 0.0
        self._rules = rules
        self._attempts_left = rules.max_conn_attempts
        self._connected_at = 0.0
        # Whether it has answered on its present connection, and whether it did when it was last asked for anything.
        self._is_proven = False
        self._is_trusted = True
        self._lanes: set[Lane] = set()

    @property
    def pending(self) -> int:
        """How many requests are in flight."""
        return sum(len(connection.pending) for connection in self.connections.values())

    def is_ready(self, lane: Lane) -> bool:
        """Tell whether a call can be sent, as far as the server is concerned: it may have all that it may have."""
        connection = self.connections.get(lane)
        return connection is not None and not connection.is_blocked and not self.is_out

    def can_take(self, lane: Lane, now: float, is_urgent: bool) -> bool:
        """Tell whether a call can be sent, or the server be connected to for it."""
        connection = self.connections.get(lane)
        if connection is not None:
            return not connection.is_blocked and not self.is_out and self.pending < self.max_pending
        return self.may_connect(lane) and now >= (self.pause_until if is_urgent else self.retry_at)

    def may_connect(self, lane: Lane) -> bool:
        """Tell whether a thread may connect to it some time."""
        return not self.is_given_up and not self.connecting and lane not in self.connections

    @property
    def is_beginning(self) -> bool:
        """True while a thread connects to it and there is no reason to think that it will fail."""
        return bool(self.connecting) and self._is_trusted

    def connected(self, connection: SyncConnection, now: float) -> None:
        """Take note of a connection."""
        logger.info("connected to JSON-RPC server %s", self.name)
        self.reconnects += connection.lane in self._lanes
        self._lanes.add(connection.lane)
        self.connections[connection.lane] = connection
        self._attempts_left = self._rules.max_conn_attempts
        self._connected_at = now
        self._is_proven = False
        if self.is_out:
            self.probe_at = now

    def answered(self) -> None:
        """Take note of an answer."""
        self.unanswered = 0
        self._is_proven = self._is_trusted = True

    def lost(self, connection: SyncConnection, why: str, now: float) -> None:
        """Take note that a connection is gone; the server is asked again at once if it had answered or lasted."""
        self.connections.pop(connection.lane, None)
        if self._is_proven or now - self._connected_at >= self._rules.reconnect_interval:
            self.failures = 0
            self._fail(why, now, 0.0)
        else:
            self.failed(why, now)

    def failed(self, why: str, now: float) -> None:
        """Take note that it could not be connected to."""
        doubled = 2.0 ** min(self.failures, 30)
        delay = self._rules.reconnect_interval * doubled * (0.75 + self._rules.random() / 2)
        self.failures += 1
        self._fail(why, now, min(delay, MAX_RECONNECT_DELAY))
        self.pause_until = now + min(MIN_PAUSE * doubled, delay)

    def _fail(self, why: str, now: float, delay: float) -> None:
        self.last_failure = why
        self._is_trusted = self._is_proven = False
        self.retry_at = self.pause_until = now + delay
        self.is_given_up = self._attempts_left == 0
        self._attempts_left = max(self._attempts_left - 1, -1)
        if self.is_given_up:
            logger.error("JSON-RPC server %s: %s; no attempts are left", self.name, why)
        else:
            logger.warning("JSON-RPC server %s: %s; next attempt in %.1f s", self.name, why, delay)

    def blame(self, now: float) -> bool:
        """Take note that a call had no answer in time. True when the server is left out from now on."""
        self.unanswered += 1
        limit = self._rules.max_failures
        if not limit or self.unanswered < limit or self.is_out:
            return False
        self.is_out = True
        self.probe_at = now + self._rules.probe_interval
        logger.warning("JSON-RPC server %s is left out: %d calls in a row had no answer", self.name, self.unanswered)
        return True

    def is_back(self) -> None:
        """Take note that it answers again."""
        self.is_out = False
        self.unanswered = 0
        logger.info("JSON-RPC server %s answers again", self.name)

    def why_not(self, lane: Lane) -> str:
        """Return why it takes no call, for a person."""
        connection = self.connections.get(lane)
        if connection is None:
            return self.last_failure or "connecting"
        if self.is_out:
            return f"is left out after {self.unanswered} calls without an answer"
        return "does not read what it is sent" if connection.is_blocked else "has as many calls as it may have"


@dataclass(slots=True)
class SrvEntry:
    """An srv name in a group: what it stood for last, and when it is to be asked again."""

    spec: ServerSpec
    records: list[SrvRecord] | None = None
    due: float = 0.0
    failures: int = 0
    asked_by: Lane | None = None
    last_failure: str = ""


class SyncGroup:
    """Servers by level. `waiting` are the threads whose calls no server has taken yet, in their order."""

    def __init__(self, name: str, policy: Policy) -> None:
        check_policy(policy)
        self.name = name
        self.servers: list[SyncServer] = []
        self.names: list[SrvEntry] = []
        self.waiting: dict[Waiter, None] = {}
        self._is_least = policy == "least_pending"
        self._rings: list[deque[SyncServer]] = []
        self._weights: dict[SyncServer, int] = {}

    def set_members(self, members: Sequence[tuple[SyncServer, Level, int]]) -> None:
        """Set the servers with their levels and weights."""
        self.servers = list(dict.fromkeys(server for server, _, _ in members))
        levels: dict[Level, list[tuple[SyncServer, int]]] = {}
        for server, level, weight in members:
            levels.setdefault(level, []).append((server, weight))
        self._weights = {server: weight for server, _, weight in members}
        self._rings = [deque(_ring(levels[level])) for level in sorted(levels)]

    def choose(self, lane: Lane, asked: Collection[str], now: float, is_urgent: bool = False) -> SyncServer | None:
        """Return the server for the next call, or None. One that is not connected is to be connected to.

        Those that are passed over keep their turn.
        """
        for ring in self._rings:
            best: SyncServer | None = None
            place, load = 0, 0.0
            for index, server in enumerate(ring):
                if not server.can_take(lane, now, is_urgent) or server.name in asked:
                    continue
                if not self._is_least:
                    best, place = server, index
                    break
                # With one more call: of two idle servers, the one with the greater weight.
                share = (server.pending + 1) / self._weights[server]
                if best is None or share < load:
                    best, place, load = server, index, share
            if best is not None:
                if lane in best.connections:
                    # Otherwise it has its turn when it is connected.
                    del ring[place]
                    ring.append(best)
                return best
            if any(server.is_beginning and server.name not in asked for server in ring):
                # In a moment the better ones are there: a backup is not for the moment of the start.
                return None
        return None

    def has_others(self, server: SyncServer, lane: Lane) -> bool:
        """Tell whether another server could take a call instead."""
        return any(other is not server and (other.is_ready(lane) or not other.failures) for other in self.servers)

    def next_time(self, lane: Lane) -> float:
        """Return when a server may be able to take a call that cannot now, as far as that is a matter of time."""
        times = [
            server.probe_at if lane in server.connections else server.pause_until
            for server in self.servers
            if server.may_connect(lane) or (server.is_out and lane in server.connections)
        ]
        return min(times, default=NEVER)

    def is_ready(self, lane: Lane, asked: Collection[str] = ()) -> bool:
        """Tell whether a server is connected that reads and is not left out: then it has as many calls as it may."""
        return any(server.is_ready(lane) and server.name not in asked for server in self.servers)

    @property
    def is_given_up(self) -> bool:
        """True when no server will ever take a call (also when there are none)."""
        return not self.names and all(server.is_given_up and not server.connections for server in self.servers)

    def due_name(self, now: float) -> SrvEntry | None:
        """Return an srv name that is to be asked now, by whoever asks first."""
        return next((entry for entry in self.names if now >= entry.due and entry.asked_by is None), None)

    @property
    def is_resolving(self) -> bool:
        """True while an srv name has not been resolved yet."""
        return any(entry.records is None for entry in self.names)

    def wake_first(self) -> None:
        """Have the first of those look around that wait their turn."""
        for waiter in self.waiting:
            waiter.wake()
            break

    def why_not(self, lane: Lane) -> str:
        """Return why no server of the group takes calls, for a person."""
        if not self.servers:
            faults = [entry.last_failure for entry in self.names if entry.last_failure]
            if faults:
                return "; ".join(faults)
            return "the names of the servers are not resolved" if self.is_resolving else "there are no servers"
        if self.is_ready(lane):
            return "every connected server has as many calls pending as it may have"
        states = [f"{server.name}: {server.why_not(lane)}" for server in self.servers]
        return f"no server is connected ({'; '.join(states)})"


def _ring(members: list[tuple[SyncServer, int]]) -> Iterable[SyncServer]:
    if len({weight for _, weight in members}) <= 1:
        return [server for server, _ in members]
    return spread(members)
