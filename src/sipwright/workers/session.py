"""One client of the control interface, without its socket: bytes in, requests asked, answers out.

JSON-RPC 2.0 in netstrings, batches too. Each request is answered once, in whatever order the answers come; those of a
batch together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import UNSET

from sipwright.errors import JsonRpcParseError
from sipwright.jsonrpc.messages import Id, Message, check_request, encode_batch, encode_error, encode_result
from sipwright.jsonrpc.peer import Peer
from sipwright.netstring import Decoder, encode
from sipwright.workers.rounds import Outcome

MAX_REQUEST = 1 << 20

# `ask(method, params, done)`: params are JSON or None; `done` is called once, now or later.
Ask: TypeAlias = Callable[[str, bytes | None, Callable[[Outcome], object]], object]


class Session:
    """What one client asks and is answered. `write` takes the bytes for it, none where none are due.

    `unanswered` is how many of its payloads wait for their answers.
    """

    def __init__(self, ask: Ask, write: Callable[[bytes], object]) -> None:
        self._ask = ask
        self._write = write
        self._decoder = Decoder(MAX_REQUEST)
        self._peer: Peer[Any] = Peer(_nothing_was_asked, self._requested)
        self.unanswered = 0

    def feed(self, data: bytes) -> None:
        """Take what the client sends. FramingParseError: the stream cannot be followed any further."""
        for payload in self._decoder.feed(data):
            self._peer.receive(payload)

    def _requested(self, messages: list[Message | JsonRpcParseError], is_batch: bool) -> None:
        self.unanswered += 1
        answers = _Answers(self._send, is_batch, len(messages))
        for message in messages:
            fault = message if isinstance(message, JsonRpcParseError) else check_request(message)
            if fault is not None:
                answers.add(encode_error(fault.request_id, fault.code, str(fault)))
                continue
            assert isinstance(message, Message)
            assert message.method is not None
            params = None if message.params is UNSET else bytes(message.params)
            self._ask(message.method, params, answers.of(message.id))

    def _send(self, payload: bytes | None) -> None:
        self.unanswered -= 1
        self._write(b"" if payload is None else encode(payload))


class _Answers:
    """The answers to the requests of one payload, until all are there."""

    def __init__(self, send: Callable[[bytes | None], object], is_batch: bool, missing: int) -> None:
        self._send = send
        self._is_batch = is_batch
        self._missing = missing
        self._payloads: list[bytes] = []

    def add(self, payload: bytes | None) -> None:
        """Take one of them; None is that of a notification."""
        if payload is not None:
            self._payloads.append(payload)
        self._missing -= 1
        if self._missing:
            return
        if not self._payloads:
            self._send(None)
        else:
            self._send(encode_batch(self._payloads) if self._is_batch else self._payloads[0])

    def of(self, request_id: Id | Any) -> Callable[[Outcome], None]:
        """Return what to do with the outcome of the request with that id."""

        def take(outcome: Outcome) -> None:
            self.add(None if request_id is UNSET else _encode(request_id, outcome))

        return take


def _encode(request_id: Id, outcome: Outcome) -> bytes:
    fault = outcome.fault
    if fault is None:
        assert outcome.result is not None
        return encode_result(request_id, outcome.result)
    return encode_error(request_id, fault.code, fault.message, fault.data)


def _nothing_was_asked(_call: Any, _message: Message) -> None:
    raise AssertionError("the server asks its clients nothing")
