"""Which worker a message belongs to: owns the marks in tags and branches, the rule, and the kernel's copy of it.

Every worker can tell the owner of every message, and all of them tell the same one:

- a message with a branch of our own (a response to what we sent): the worker whose index is in the branch;
- an ACK with a To tag of our own: the worker whose index is in the tag, so that also the ACK of a 2xx, which has a
  branch of its own, ends the repetition of that 2xx; so an INVITE within a dialog, whose ACK has the same tag, and the
  CANCEL of that INVITE;
- otherwise the branch of the top Via decides, by a hash of its first bytes after the magic cookie: a retransmission,
  a CANCEL and the ACK of a negative answer have the branch of their INVITE (RFC 3261 17.2.3, 9.1);
- without a branch (RFC 2543), the Call-ID.

The kernel applies the rule for branches when it chooses a socket of the SO_REUSEPORT group: a classic BPF program,
which needs no privilege. It takes the first magic cookie of the datagram for that of the top Via. Where that is wrong,
where there is none within its reach, and on systems without it, workers hand the message on (`peering.py`).
"""

from __future__ import annotations

import ctypes
import logging
import secrets
import socket
import struct
from collections.abc import Iterable
from zlib import crc32

from sipwright.sip.message import Message, Request
from sipwright.transaction.key import MAGIC_COOKIE

logger = logging.getLogger("sipwright")

# Not in the socket module. The same on all architectures of Linux but for a few old ones, where the call then fails.
SO_ATTACH_REUSEPORT_CBPF = 51
MAX_WORKERS = 999

# So much of a branch is hashed, behind the cookie: enough for all who count in it.
HASHED = 32
# The greatest prime whose product with 256, and a byte, is below 2**32: the kernel's arithmetic is that of 32 bits.
PRIME = 16_777_213
# The upper half of the product with this (2**32 by the golden ratio) is even also for branches that only count up.
MIX = 0x9E3779B1
# Where the kernel looks for the cookie. A Request-URI and a first header beyond this are somebody's test.
SEARCH = range(24, 690)

# The methods of which a To tag of our own tells the owner. The others have no ACK that would have to find them.
_BY_TAG = frozenset(("INVITE", "ACK", "CANCEL"))

_COOKIE_LENGTH = len(MAGIC_COOKIE)
_MARK_LENGTH = 6
_INDEX_LENGTH = 3


class Steering:
    """The rule for one server with so many workers. `mark` is what its tags and branches have in common."""

    __slots__ = ("_mark", "_own_branch", "mark", "workers")

    def __init__(self, workers: int, mark: str | None = None) -> None:
        self.workers = workers
        self.mark = mark or secrets.token_hex(_MARK_LENGTH // 2)
        self._mark = self.mark.encode()
        self._own_branch = MAGIC_COOKIE + self._mark

    def tag_prefix(self, index: int) -> str:
        """Return how the To tags of a worker begin: differently in each of its lives (RFC 3261 19.3)."""
        return f"{self.mark}{index:0{_INDEX_LENGTH}d}{secrets.token_hex(3)}"

    @property
    def stateless_prefix(self) -> str:
        """How To tags of answers without transaction begin: their ACKs mean nothing to any worker."""
        return self.mark + "s"

    def branch_prefix(self, index: int) -> str:
        """Return how the branches begin that a worker puts into requests of its own."""
        return f"{self._own_branch.decode()}{index:0{_INDEX_LENGTH}d}"

    def owner(self, message: Message) -> int:
        """Return the index of the worker that a message belongs to."""
        branch = message.branch
        if branch[:_COOKIE_LENGTH] == MAGIC_COOKIE and len(branch) > _COOKIE_LENGTH:
            if isinstance(message, Request) and message.method in _BY_TAG:
                index = self._index_in_tag(message.to_tag)
                if index is not None:
                    return index
            if branch.startswith(self._own_branch):
                digits = branch[len(self._own_branch) : len(self._own_branch) + _INDEX_LENGTH]
                if digits.isdigit() and int(digits) < self.workers:
                    return int(digits)
            # 0.4 us; the same steps with bytes in a loop would be 3.
            number = int.from_bytes(branch[_COOKIE_LENGTH : _COOKIE_LENGTH + HASHED], "big") % PRIME
            return (number * MIX >> 16 & 0xFFFF) % self.workers
        return crc32(message.call_id.encode("utf-8", "surrogateescape")) % self.workers

    def _index_in_tag(self, tag: str | None) -> int | None:
        if tag is None or not tag.startswith(self.mark):
            return None
        digits = tag[_MARK_LENGTH : _MARK_LENGTH + _INDEX_LENGTH]
        if not (digits.isascii() and digits.isdecimal()) or int(digits) >= self.workers:
            return None
        return int(digits)

    def attach(self, sockets: Iterable[socket.socket]) -> bool:
        """Let the kernel choose among the sockets of each group; one socket of each group is given.

        The sockets of a group are numbered in the order in which they were bound. False: this system cannot.
        """
        program = self.program()
        code = ctypes.create_string_buffer(program)
        header = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
        try:
            for member in sockets:
                member.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, header)
        except OSError as error:
            logger.info("the kernel does not steer datagrams here (%s): workers hand them to one another", error)
            return False
        return True

    def program(self) -> bytes:
        """Return the rule for branches as instructions of classic BPF, 8 bytes each, on the payload of a datagram.

        Its value is an index; one that no socket has lets the kernel choose by address.
        """
        bpf = _Program()
        first, second = _word(MAGIC_COOKIE[:4]), _word(MAGIC_COOKIE[4:6])
        for offset in SEARCH:
            bpf.add(LD_WORD, offset)
            bpf.add(JUMP_EQUAL, first, 0, 2)
            bpf.add(LDX_NUMBER, offset)
            bpf.jump("found")
        bpf.jump("unknown")

        # X: where the cookie begins.
        bpf.label("found")
        bpf.add(LD_HALF_X, 4)
        bpf.add(JUMP_EQUAL, second, 1, 0)
        bpf.jump("unknown")
        bpf.add(LD_BYTE_X, 6)
        bpf.add(JUMP_EQUAL, MAGIC_COOKIE[6], 1, 0)
        bpf.jump("unknown")
        at = _COOKIE_LENGTH

        bpf.add(LD_WORD_X, at)
        bpf.add(JUMP_EQUAL, _word(self._mark[:4]), 1, 0)
        bpf.jump("foreign")
        bpf.add(LD_HALF_X, at + 4)
        bpf.add(JUMP_EQUAL, _word(self._mark[4:6]), 1, 0)
        bpf.jump("foreign")
        at += _MARK_LENGTH
        bpf.add(LD_NUMBER, 0)
        bpf.add(STORE, HASH)
        for position in range(_INDEX_LENGTH):
            bpf.add(LD_MEMORY, HASH)
            bpf.add(MULTIPLY, 10)
            bpf.add(STORE, HASH)
            bpf.add(LD_BYTE_X, at + position)
            bpf.add(SUBTRACT, ord("0"))
            bpf.add_to_hash()
        bpf.add(LD_MEMORY, HASH)
        bpf.add(RETURN_A)

        bpf.label("foreign")
        bpf.add(LD_NUMBER, 0)
        bpf.add(STORE, HASH)
        for position in range(HASHED):
            bpf.add(LD_BYTE_X, _COOKIE_LENGTH + position)
            # What ends a branch: white space, a parameter, a further Via.
            bpf.add(JUMP_GREATER, ord(" "), 0, 2)
            bpf.add(JUMP_EQUAL, ord(";"), 1, 0)
            bpf.add(JUMP_EQUAL, ord(","), 0, 1)
            bpf.jump("hashed")
            bpf.add(STORE, BYTE)
            bpf.add(LD_MEMORY, HASH)
            bpf.add(SHIFT_LEFT, 8)
            bpf.add(STORE, HASH)
            bpf.add(LD_MEMORY, BYTE)
            bpf.add_to_hash()
            bpf.add(LD_MEMORY, HASH)
            bpf.add(MODULO, PRIME)
            bpf.add(STORE, HASH)
        bpf.label("hashed")
        bpf.add(LD_MEMORY, HASH)
        bpf.add(MULTIPLY, MIX)
        bpf.add(SHIFT_RIGHT, 16)
        bpf.add(MODULO, self.workers)
        bpf.add(RETURN_A)

        bpf.label("unknown")
        bpf.add(RETURN_NUMBER, 0xFFFFFFFF)
        return bpf.assemble()


# Classic BPF: a number A, a number X, sixteen words of memory. `_X`: at X and an offset.
LD_WORD, LD_NUMBER, LD_MEMORY = 0x20, 0x00, 0x60
LD_WORD_X, LD_HALF_X, LD_BYTE_X = 0x40, 0x48, 0x50
LDX_NUMBER, LDX_MEMORY = 0x01, 0x61
STORE, STORE_X = 0x02, 0x03
ADD_X, SUBTRACT, MULTIPLY, SHIFT_LEFT, SHIFT_RIGHT, MODULO = 0x0C, 0x14, 0x24, 0x64, 0x74, 0x94
JUMP, JUMP_EQUAL, JUMP_GREATER = 0x05, 0x15, 0x25
RETURN_NUMBER, RETURN_A = 0x06, 0x16
# Places in memory.
HASH, BYTE, SAVED_X = 0, 1, 2


def _word(text: bytes) -> int:
    return int.from_bytes(text, "big")


class _Program:
    """Instructions with labels. Conditional jumps reach 255 instructions: they skip a `jump`, which reaches all."""

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int | str, int, int]] = []
        self._labels: dict[str, int] = {}

    def add(self, code: int, operand: int = 0, if_true: int = 0, if_false: int = 0) -> None:
        self._instructions.append((code, operand, if_true, if_false))

    def jump(self, label: str) -> None:
        self._instructions.append((JUMP, label, 0, 0))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._instructions)

    def add_to_hash(self) -> None:
        """Add A to the hash: both have to be in registers, and X is the cookie's place otherwise."""
        self.add(STORE, BYTE)
        self.add(STORE_X, SAVED_X)
        self.add(LDX_MEMORY, BYTE)
        self.add(LD_MEMORY, HASH)
        self.add(ADD_X)
        self.add(STORE, HASH)
        self.add(LDX_MEMORY, SAVED_X)

    def assemble(self) -> bytes:
        packed = []
        for position, (code, operand, if_true, if_false) in enumerate(self._instructions):
            number = operand if isinstance(operand, int) else self._labels[operand] - position - 1
            packed.append(struct.pack("HBBI", code, if_true, if_false, number))
        return b"".join(packed)
