"""Server groups (L2): which server gets the next call.

A `Group` is an ordered choice among endpoints: the highest level with one that is ready; inside it by turns or the one
with the fewest calls in flight, both in the proportion of the weights. An endpoint may be in several groups; it has one
connection.

The choice is on the hot path, so a group keeps one ring of ready connections per level, rebuilt when a server comes or
goes, and a choice is one look and one rotation. A server of weight 3 stands three times in its ring, spread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable

from sipwright.jsonrpc.addresses import ServerSpec
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.endpoint import Endpoint
from sipwright.jsonrpc.srv import SrvName
from sipwright.jsonrpc.turns import Level, Policy, check_policy, spread


class Member:
    """An endpoint's place in a group. A drained one gets no calls in this group.

    `origin` is the srv name, with its priority, that it is there for; None for one that is listed itself.
    """

    __slots__ = ("endpoint", "is_drained", "level", "origin", "weight")

    def __init__(self, endpoint: Endpoint, level: Level, weight: int = 1, origin: ServerSpec | None = None) -> None:
        self.endpoint = endpoint
        self.level = level
        self.weight = weight
        self.origin = origin
        self.is_drained = False

    @property
    def is_ready(self) -> bool:
        """True when the endpoint can get a call in this group."""
        return not self.is_drained and self.endpoint.is_ready


class Group:
    """Endpoints by level. `on_change(group)` is called after a server came, went, or could not be reached.

    `names` are the srv names among its servers, whose records are members, too.
    """

    __slots__ = ("_on_change", "_rings", "_top", "_weights", "members", "name", "names", "pick")

    pick: Callable[[], Connection | None]
    """Return the connection for the next call, None when no server can take one."""

    def __init__(
        self,
        name: str,
        on_change: Callable[[Group], object],
        policy: Policy = "round_robin",
        members: Iterable[Member] = (),
    ) -> None:
        check_policy(policy)
        self.name = name
        self.members = list(members)
        self.names: list[SrvName] = []
        self._on_change = on_change
        self._rings: list[deque[Connection]] = []
        self._top: deque[Connection] = deque()
        # Of those in the rings, for the choice by pending calls.
        self._weights: dict[Connection, int] = {}
        self.pick = self._pick_by_turn if policy == "round_robin" else self._pick_least

    def _pick_by_turn(self) -> Connection | None:
        ring = self._top
        if ring:
            connection = ring[0]
            if len(connection.pending) < connection.limit:
                ring.rotate(-1)
                return connection
        return self.pick_other(())

    def _pick_least(self) -> Connection | None:
        return self.pick_other(())

    def pick_other(self, asked: Collection[str]) -> Connection | None:
        """Return the connection for the next call, or None, among the servers whose names are not in `asked`.

        Those that are passed over keep their turn.
        """
        is_least = self.pick == self._pick_least
        for ring in self._rings:
            best: Connection | None = None
            place, load = 0, 0.0
            for index, connection in enumerate(ring):
                pending = len(connection.pending)
                if pending >= connection.limit or connection.server in asked:
                    continue
                if not is_least:
                    best, place = connection, index
                    break
                # With one more call: of two idle servers, the one with the greater weight.
                share = (pending + 1) / self._weights[connection]
                if best is None or share < load:
                    best, place, load = connection, index, share
            if best is not None:
                del ring[place]
                ring.append(best)
                return best
        return None

    def pick_any(self) -> Connection | None:
        """Return the connection for what awaits no answer: also one that has as many calls in flight as it may."""
        ring = self._top
        if not ring:
            return None
        ring.rotate(-1)
        return ring[-1]

    @property
    def endpoints(self) -> list[Endpoint]:
        """The endpoints, each once."""
        return list(dict.fromkeys(member.endpoint for member in self.members))

    @property
    def is_ready(self) -> bool:
        """True when at least one server is connected, reads, and is not left out."""
        return bool(self._top)

    @property
    def is_starting(self) -> bool:
        """True until the first attempt to connect has ended for every server."""
        return not all(name.is_resolved for name in self.names) or not all(
            member.endpoint.is_tried for member in self.members
        )

    @property
    def is_given_up(self) -> bool:
        """True when no server is connected and none will be asked again (also when there are none)."""
        return not self.names and all(
            member.endpoint.is_given_up and member.endpoint.connection is None for member in self.members
        )

    def refresh(self) -> None:
        """Rebuild the rings: who stays keeps its turn, who comes is last."""
        turns = [connection for ring in self._rings for connection in ring]
        levels: dict[Level, dict[Connection, int]] = {}
        for member in self.members:
            ready = levels.setdefault(member.level, {})
            connection = member.endpoint.connection
            if connection is not None and member.is_ready:
                ready[connection] = member.weight
        self._weights = {c: weight for ready in levels.values() for c, weight in ready.items()}
        self._rings = [_ring(levels[level], turns) for level in sorted(levels)]
        self._top = next((ring for ring in self._rings if ring), deque())
        self._on_change(self)


def _ring(ready: dict[Connection, int], turns: list[Connection]) -> deque[Connection]:
    """Return the ring of a level; `turns` says whose turn came first before."""
    stay = [connection for connection in dict.fromkeys(turns) if connection in ready]
    order = stay + [connection for connection in ready if connection not in stay]
    if len(set(ready.values())) <= 1:
        return deque(order)
    return deque(spread([(connection, ready[connection]) for connection in order]))
