"""What supervisor and worker say to each other."""

from __future__ import annotations

from sipwright.workers.control import (
    Beat,
    Drained,
    End,
    Failed,
    Follow,
    FromSupervisor,
    FromWorker,
    FromWorkers,
    Read,
    Ready,
    Retire,
    Stop,
    ToWorker,
    pack,
)


def test_messages_come_through_in_pieces_of_any_size() -> None:
    from_worker: list[FromWorker] = [Ready(), Beat({"tm:live": 3}), Failed("no such file"), Drained()]
    stream = b"".join(pack(message) for message in from_worker)
    messages = FromWorkers()
    assert [m for byte in stream for m in messages.feed(bytes([byte]))] == from_worker
    to_worker: list[ToWorker] = [Read(), Follow(4711), Retire(2.5), Stop(0.0), End()]
    assert FromSupervisor().feed(b"".join(pack(message) for message in to_worker)) == to_worker
