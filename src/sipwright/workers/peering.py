"""From one worker to another, over Unix sockets: owns the form of what goes, and what becomes of too much.

What goes is datagrams that belong to the other worker, and notes of modules (`Services.tell_worker`). Each index has
one way in that all workers can write to; whoever reads the index's sockets reads it too. A worker that is being
replaced has, besides, a way to its successor. All datagrams of one turn of the loop go out as one message, so a burst
costs one system call and not one for each.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from sipwright.script.context import Address, Socket
from sipwright.sip.message import Message
from sipwright.transport.udp import UdpSocket
from sipwright.workers.steering import Steering

# One datagram on its way: which of the listening addresses it came to, from where, and what it is.
Handed = tuple[int, tuple[str | int, ...], bytes]


class Datagrams(msgspec.Struct, tag=0, array_like=True):
    """Datagrams that one worker hands to another."""

    datagrams: list[Handed]


class Note(msgspec.Struct, tag=1, array_like=True):
    """What a module says to itself in another worker."""

    name: str
    payload: bytes


# Above these a batch goes out at once: a message must fit into the socket's buffer (212,992 bytes by default).
BATCH = 64
BATCH_BYTES = 48 * 1024
# What may wait for a worker that does not read: about what its socket's buffer would hold.
WAITING_BYTES = 4 * 1024 * 1024
# Messages taken at one wake-up, of up to 64 datagrams each.
DRAIN = 4
MAX_MESSAGE = 256 * 1024

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Datagrams | Note).decode


def channel() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a way for datagrams: out and in."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in ends:
        end.setblocking(False)
    return ends


class Outlet:
    """The way to another worker. It never blocks: what does not fit waits, and what is too much is dropped.

    `sent` and `dropped` are numbers of datagrams and notes.
    """

    __slots__ = ("_batch", "_bytes", "_loop", "_socket", "_waiting", "_waiting_bytes", "dropped", "sent")

    def __init__(self, end: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._socket = end
        self._loop = loop
        self._batch: list[tuple[int, Address, bytes]] = []
        self._bytes = 0
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._waiting_bytes = 0
        self.sent = 0
        self.dropped = 0

    def give(self, address_index: int, source: Address, data: bytes) -> None:
        """Send a datagram on, with the others of this turn of the loop."""
        if not self._batch:
            self._loop.call_soon(self.flush)
        self._batch.append((address_index, source, data))
        self._bytes += len(data)
        if len(self._batch) >= BATCH or self._bytes >= BATCH_BYTES:
            self.flush()

    def tell(self, name: str, payload: bytes) -> None:
        """Send a note, behind the datagrams that were given before."""
        self.flush()
        self._send_or_wait(_encode(Note(name, payload)), 1)

    def flush(self) -> None:
        """Send what there is now."""
        if self._batch:
            # As a list, with the sources as they are: what it is decoded to is what its type says.
            message, number = _encode((0, self._batch)), len(self._batch)
            self._batch.clear()
            self._bytes = 0
            self._send_or_wait(message, number)

    @property
    def is_waiting(self) -> bool:
        """Whether something is left that the other worker has had no room for."""
        return bool(self._waiting)

    def close(self) -> None:
        """Send what can be sent at once, and let the socket go."""
        self.flush()
        self._write_waiting()
        if self._waiting:
            self._loop.remove_writer(self._socket.fileno())
        self.dropped += sum(number for _message, number in self._waiting)
        self._waiting.clear()
        self._socket.close()

    def _send_or_wait(self, message: bytes, number: int) -> None:
        if self._waiting or not self._send(message, number):
            self._wait(message, number)

    def _send(self, message: bytes, number: int) -> bool:
        try:
            self._socket.send(message)
        except BlockingIOError:
            return False
        except OSError:
            # Nobody has the other end any more.
            self.dropped += number
            return True
        self.sent += number
        return True

    def _wait(self, message: bytes, number: int) -> None:
        if self._waiting_bytes + len(message) > WAITING_BYTES:
            self.dropped += number
            return
        if not self._waiting:
            self._loop.add_writer(self._socket.fileno(), self._writable)
        self._waiting.append((message, number))
        self._waiting_bytes += len(message)

    def _writable(self) -> None:
        self._write_waiting()
        if not self._waiting:
            self._loop.remove_writer(self._socket.fileno())

    def _write_waiting(self) -> None:
        while self._waiting and self._send(*self._waiting[0]):
            self._waiting_bytes -= len(self._waiting.popleft()[0])


class Inlet:
    """The way in from other workers.

    It gives datagrams to `receive`, as if they had come to the socket of their address, and notes to `hear(name,
    payload)`.
    """

    __slots__ = ("_hear", "_loop", "_receive", "_socket", "_sockets", "received")

    def __init__(
        self,
        end: socket.socket,
        sockets: Sequence[UdpSocket],
        receive: Callable[[bytes, Address, Any], None],
        hear: Callable[[str, bytes], object],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._socket = end
        self._sockets = sockets
        self._receive = receive
        self._hear = hear
        self._loop = loop
        self.received = 0

    def open(self) -> None:
        """Start receiving."""
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def drain(self) -> None:
        """Take all that is there now."""
        while self._take():
            pass

    def close(self) -> None:
        """Stop receiving and let the socket go."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(DRAIN):
            if not self._take():
                return

    def _take(self) -> bool:
        try:
            message = self._socket.recv(MAX_MESSAGE)
        except OSError:
            # Nothing there.
            return False
        decoded = _decode(message)
        if isinstance(decoded, Note):
            self.received += 1
            self._hear(decoded.name, decoded.payload)
            return True
        for address_index, source, data in decoded.datagrams:
            self.received += 1
            self._receive(data, source, self._sockets[address_index])
        return True


class Handover:
    """What a worker does with messages that are not its own. Call it with a message that no transaction here has.

    `peers` are the ways to the other indices. `heir` is set when the worker is being replaced: to its successor then
    goes whatever it would otherwise begin.
    """

    __slots__ = ("_index", "_numbers", "_owner", "_peers", "heir")

    def __init__(
        self, steering: Steering | None, index: int, sockets: Sequence[UdpSocket], peers: Mapping[int, Outlet]
    ) -> None:
        # With one worker there is nothing to ask.
        self._owner = None if steering is None or steering.workers == 1 else steering.owner
        self._index = index
        self._numbers = {socket: number for number, socket in enumerate(sockets)}
        self._peers = peers
        self.heir: Outlet | None = None

    def __call__(self, message: Message, source: Address, socket: Socket) -> bool:
        """Hand a message on to whom it belongs. False: it is this worker's own."""
        outlet = self.heir
        if self._owner is not None:
            owner = self._owner(message)
            if owner != self._index:
                outlet = self._peers[owner]
        if outlet is None:
            return False
        outlet.give(self._numbers[socket], source, message.data)  # type: ignore[index]
        return True

    def tell(self, index: int, name: str, payload: bytes) -> bool:
        """Send a note to another index. False: there is no such worker."""
        outlet = self._peers.get(index)
        if outlet is None:
            return False
        outlet.tell(name, payload)
        return True

    def statistics(self) -> dict[str, int]:
        """Return how many datagrams were handed on, and how many were lost on the way."""
        outlets = [*self._peers.values(), *([] if self.heir is None else [self.heir])]
        return {
            "peering:sent": sum(outlet.sent for outlet in outlets),
            "peering:dropped": sum(outlet.dropped for outlet in outlets),
        }
