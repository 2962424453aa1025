"""What supervisor and worker say to each other."""

from __future__ import annotations

from sipwright.engine.commands import CommandInfo
from sipwright.workers.control import (
    Answer,
    Ask,
    Beat,
    Drained,
    End,
    Failed,
    Fault,
    Follow,
    FromSupervisor,
    FromWorker,
    FromWorkers,
    Notice,
    Read,
    Ready,
    Retire,
    Stop,
    ToWorker,
    pack,
)


def test_messages_come_through_in_pieces_of_any_size() -> None:
    from_worker: list[FromWorker] = [Ready(), Beat({"tm:live": 3}), Failed("no such file"), Drained()]
    from_worker += [Ready([CommandInfo("a.b", "Do it.", "sum", ["x?"])]), Answer(7, b"[1]")]
    from_worker += [Answer(8, fault=Fault(-32602, "no", b'"why"')), Notice("a:b", b"\x00", True, 9), Notice("a:b")]
    stream = b"".join(pack(message) for message in from_worker)
    messages = FromWorkers()
    assert [m for byte in stream for m in messages.feed(bytes([byte]))] == from_worker
    to_worker: list[ToWorker] = [Read(), Follow(4711), Retire(2.5), Stop(0.0), End()]
    to_worker += [Ask(7, "a.b", b"[1]"), Ask(8, "a.b"), Notice("a:b", b"x")]
    assert FromSupervisor().feed(b"".join(pack(message) for message in to_worker)) == to_worker
