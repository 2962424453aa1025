"""Calls that wait for a server (L2): in the order in which they were made, for each group by itself.

A call waits while its group has no connection yet, or, where the client is told to, while all of its servers have as
many calls in flight as they may. `fill` sends those that can be sent, whenever a server comes or a call has ended.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from sipwright.jsonrpc.calls import PendingCall
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.groups import Group
from sipwright.jsonrpc.pool import why_not


class Waiting:
    """The waiting calls of one client; `queues` is empty when there are none.

    At most `limit` calls of each group wait. `waits_when_full` tells whether calls wait for a server that is full.
    `send(call, connection)` sends one, `fail(call, reason)` ends one; it is never called from inside `add`, which has
    `later(callback, ...)` call it in the next turn of the loop.
    """

    __slots__ = ("_fail", "_later", "_limit", "_send", "_waits_when_full", "queues")

    def __init__(
        self,
        *,
        limit: int,
        waits_when_full: bool,
        send: Callable[[PendingCall, Connection], object],
        fail: Callable[[PendingCall, str], object],
        later: Callable[..., object],
    ) -> None:
        self._limit = limit
        self._waits_when_full = waits_when_full
        self._send = send
        self._fail = fail
        self._later = later
        # True for calls that wait for any connection, not only for a first one.
        self.queues: dict[Group, dict[PendingCall, bool]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.queues.values()))

    def add(self, call: PendingCall, group: Group, is_patient: bool, refusal: str = "") -> None:
        """Have a call wait, or fail soon: for `refusal` if there is one, or because it would wait in vain."""
        queue = self.queues.get(group)
        if queue is None:
            # The first of a dict is found behind all that were taken out: 24 us for each of 100,000, this takes 0.1.
            queue = self.queues[group] = OrderedDict()
        queue[call] = is_patient
        call.queue = queue
        if refusal:
            self._later(self._refuse, call, refusal)
        elif (
            (group.is_ready and not self._waits_when_full)
            or group.is_given_up
            or not (is_patient or group.is_starting or group.is_ready)
            or not self._limit
        ):
            self._later(self._refuse, call, why_not(group))
        elif len(queue) > self._limit:
            self._later(self._refuse, call, f"{self._limit} calls wait for a server already")

    def _refuse(self, call: PendingCall, reason: str) -> None:
        if call.queue is not None:
            self._fail(call, reason)

    def reason(self, call: PendingCall) -> str:
        """Return why a call waits, for a person."""
        return next(why_not(group) for group, queue in self.queues.items() if queue is call.queue)

    def fill(self) -> None:
        """Send those that a server can take now: one of each group in turn, since groups may share servers."""
        groups = deque(self.queues.items())
        while groups:
            group, queue = groups.popleft()
            connection = group.pick() if queue else None
            if connection is not None:
                call = next(iter(queue))
                del queue[call]
                call.queue = None
                # Next time, too, the others come first.
                self.queues[group] = self.queues.pop(group)
                groups.append((group, queue))
                # It may fill the connection's buffer: then the group has changed, and this is called from within.
                self._send(call, connection)
            elif not queue and self.queues.get(group) is queue:
                del self.queues[group]

    def group_changed(self, group: Group) -> None:
        """Send those that wait for a group, or end those that wait in vain."""
        if group not in self.queues:
            return
        self.fill()
        queue = self.queues.get(group)
        if not queue:
            return
        if group.is_ready:
            ended = [] if self._waits_when_full else list(queue)
        elif group.is_given_up:
            ended = list(queue)
        else:
            ended = [] if group.is_starting else [call for call, is_patient in queue.items() if not is_patient]
        for call in ended:
            # The end of another one may have ended it.
            if call.queue is not None:
                self._fail(call, why_not(group))
