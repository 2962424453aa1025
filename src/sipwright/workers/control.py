"""What the supervisor and a worker say to each other: messages over a Unix stream socket, framed as netstrings.

The end of that stream is a message too: to a worker it says that the supervisor is gone.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from sipwright.engine.commands import CommandInfo
from sipwright.netstring import Decoder, encode

MAX_MESSAGE = 8 << 20
"""The longest message, in bytes: the answer of a worker to a command may be long."""


class Ready(msgspec.Struct, tag=True):
    """The worker has started its modules; these are the commands that it knows."""

    commands: list[CommandInfo] = []


class Failed(msgspec.Struct, tag=True):
    """The worker cannot start; `reason` is for a person."""

    reason: str


class Beat(msgspec.Struct, tag=True):
    """The worker's loop turns; these are its counters."""

    counters: dict[str, int]


class Drained(msgspec.Struct, tag=True):
    """The worker was told to stop and has nothing suspended any more. It refuses what is new until it is told End."""


class Fault(msgspec.Struct):
    """The error of a command; `data` is JSON."""

    code: int
    message: str
    data: bytes | None = None


class Answer(msgspec.Struct, tag=True):
    """What became of the command of an Ask: a result, which is JSON, or a fault."""

    number: int
    result: bytes | None = None
    fault: Fault | None = None


class Notice(msgspec.Struct, tag=True):
    """Both ways: something that workers are to know of one another; None: not any more.

    `stamp` is the number of the Ask that it was put up for, or 0.
    """

    name: str
    value: bytes | None = None
    is_lasting: bool = False
    stamp: int = 0


class Ask(msgspec.Struct, tag=True):
    """Carry out a command, with params that are JSON, and answer with its number. Numbers grow."""

    number: int
    name: str
    params: bytes | None = None


class Read(msgspec.Struct, tag=True):
    """Begin to receive: nobody else reads the sockets of this index any more."""


class Follow(msgspec.Struct, tag=True):
    """The worker that gave to this one has died: take what the one before it gives, whose process id this is."""

    pid: int


class Retire(msgspec.Struct, tag=True):
    """Give what is new to the successor, end what is suspended within `drain_timeout` seconds, linger, and end."""

    drain_timeout: float


class Stop(msgspec.Struct, tag=True):
    """Refuse what is new, end what is suspended within `drain_timeout` seconds, and say so."""

    drain_timeout: float


class End(msgspec.Struct, tag=True):
    """End now: nobody else of the server has anything left to do."""


FromWorker: TypeAlias = Ready | Failed | Beat | Drained | Answer | Notice
ToWorker: TypeAlias = Read | Follow | Retire | Stop | End | Ask | Notice

_encode = msgspec.msgpack.Encoder().encode


def pack(message: FromWorker | ToWorker) -> bytes:
    """Return a message as it goes out."""
    return encode(_encode(message))


class FromWorkers:
    """Takes the bytes that come from one worker."""

    def __init__(self) -> None:
        self._frames = Decoder(MAX_MESSAGE)
        self._decode = msgspec.msgpack.Decoder(FromWorker).decode

    def feed(self, data: bytes) -> list[FromWorker]:
        """Return the messages that are complete."""
        return [self._decode(frame) for frame in self._frames.feed(data)]


class FromSupervisor:
    """Takes the bytes that come from the supervisor."""

    def __init__(self) -> None:
        self._frames = Decoder(MAX_MESSAGE)
        self._decode = msgspec.msgpack.Decoder(ToWorker).decode

    def feed(self, data: bytes) -> list[ToWorker]:
        """Return the messages that are complete."""
        return [self._decode(frame) for frame in self._frames.feed(data)]
