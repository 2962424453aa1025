"""Counters of one worker: owns the numbers, named as `$stat(...)` and the statistics show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

# Names as in Kamailio's statistics where it has the same one.
NAMES = {
    "received_requests": "core:rcv_requests",
    "received_replies": "core:rcv_replies",
    "bad_messages": "core:bad_msgs",
    "keepalives": "core:keepalives",
    "acks": "core:acks",
    "answered": "core:answered",
    "dropped": "core:dropped",
    "stray_replies": "core:stray_replies",
    "script_errors": "core:script_errors",
    "unanswered": "core:unanswered",
    "sent_replies": "sl:sent_replies",
    "tm_replies": "tm:sent_replies",
    "absorbed_acks": "tm:absorbed_acks",
    "completed": "tm:completed",
    "released": "tm:released",
    "cancelled": "tm:cancelled",
    "overdue": "tm:overdue",
    "refused": "tm:refused",
    "overload": "tm:overload",
    "suspend_refused": "tm:suspend_refused",
    "suspended": "tm:suspended_total",
    "resumed": "tm:resumed_total",
}


# Counters of what there is now; all others only grow.
GAUGES = frozenset(
    """
    core:udp_queued janssonrpcc:pending janssonrpcc:resting jsonrpc:dialed jsonrpc:pending redis:pending redis:up
    tm:current tm:live tm:suspended
    """.split()
)


class Counters:
    """The engine's own counters; each attribute only grows.

    Every request is accounted for: received_requests are the absorbed ones (`tm:absorbed`, absorbed_acks), the acks
    that reached the script, the answered (finally) and the dropped ones (left without an answer by the script), and
    those that are still being handled. Every transaction is, too: the created ones are completed (answered finally),
    released (ended without an answer), or live.
    """

    __slots__ = tuple(NAMES)

    def __init__(self) -> None:
        for name in NAMES:
            setattr(self, name, 0)

    received_requests: int
    received_replies: int
    bad_messages: int
    keepalives: int
    acks: int
    answered: int
    dropped: int
    stray_replies: int
    script_errors: int
    unanswered: int
    sent_replies: int
    tm_replies: int
    absorbed_acks: int
    completed: int
    released: int
    cancelled: int
    overdue: int
    refused: int
    overload: int
    suspend_refused: int
    suspended: int
    resumed: int

    def read(self) -> dict[str, int]:
        """Return the counters by their public names."""
        return {public: getattr(self, name) for name, public in NAMES.items()}


class Statistics:
    """All counters of a worker: the engine's, and those that modules add. `others` gives those of the other workers."""

    def __init__(self) -> None:
        self._sources: list[Callable[[], dict[str, int]]] = []
        self.others: Callable[[], Iterable[dict[str, int]]] | None = None

    def add(self, source: Callable[[], dict[str, int]]) -> None:
        """Add a source of counters by public name, `module:name`."""
        self._sources.append(source)

    def read(self) -> dict[str, int]:
        """Return all counters of the server."""
        totals = self.read_own()
        if self.others is not None:
            for counters in self.others():
                for name, number in counters.items():
                    totals[name] = totals.get(name, 0) + number
        return totals

    def read_own(self) -> dict[str, int]:
        """Return all counters of this worker."""
        merged: dict[str, int] = {}
        for source in self._sources:
            merged.update(source())
        return merged
