"""One end of a JSON-RPC connection (L0): owns the ids and the table of pending calls; no socket, future or clock.

Both roles: what this end asks is entered in `pending` by `request`, and an answer takes it out again, exactly once;
what the other end asks is handed to `requested`. An answer that nobody waits for is counted and harms nothing:
late (its call was abandoned before), doubled (its call was answered before) or unknown (no such call was made).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from msgspec import UNSET

from sipwright.errors import JsonRpcParseError
from sipwright.jsonrpc.messages import NOT_JSON, Message, answer_id, decode, decode_message

# So many abandoned ids are remembered, to tell a late answer from a doubled one; the oldest are forgotten first.
MAX_ABANDONED = 1024


class Pending(Protocol):
    """What a call has to have: the peer writes its id there."""

    id: int


C = TypeVar("C", bound=Pending)


class Peer(Generic[C]):
    """Matches answers to calls.

    `answered(call, response)` is called once for each call that is answered. `requested(messages, is_batch)` is called
    with what the other end asks: messages that have a method, and the faults of payloads or elements of a batch that
    are no messages; with None there they are counted as malformed. `stray(what, id)` is told of each answer that nobody
    waits for, `late`, `doubled` or `unknown`; the id is None when it is no number. `requests` is how many were made,
    and the id of the last one.
    """

    __slots__ = (
        "_abandoned",
        "_answered",
        "_requested",
        "doubled",
        "late",
        "malformed",
        "pending",
        "requests",
        "stray",
        "unknown",
    )

    def __init__(
        self,
        answered: Callable[[C, Message], object],
        requested: Callable[[list[Message | JsonRpcParseError], bool], object] | None = None,
        stray: Callable[[str, int | None], object] | None = None,
    ) -> None:
        self.pending: dict[int | str | None, C] = {}
        self.late = 0
        self.doubled = 0
        self.unknown = 0
        self.malformed = 0
        self._answered = answered
        self._requested = requested
        self.stray = stray
        self.requests = 0
        self._abandoned: dict[int, None] = {}

    def request(self, call: C, head: bytes, params: bytes | None) -> bytes:
        """Enter a call and return its payload. `head` is `request_head(method)`, `params` JSON or None."""
        self.requests = call.id = number = self.requests + 1
        self.pending[number] = call
        if params is None:
            return b'{"id":%d%b}' % (number, head)
        return b'{"id":%d%b,"params":%b}' % (number, head, params)

    def abandon(self, call: C) -> bool:
        """Forget a call that nobody waits for any longer; its answer will be counted as late. False: it had none."""
        if self.pending.pop(call.id, None) is None:
            return False
        abandoned = self._abandoned
        abandoned[call.id] = None
        if len(abandoned) > MAX_ABANDONED:
            del abandoned[next(iter(abandoned))]
        return True

    def take_all(self) -> list[C]:
        """Return all pending calls, in the order in which they were made, and forget them: the connection is gone."""
        calls = list(self.pending.values())
        self.pending.clear()
        return calls

    def receive(self, payload: bytes) -> None:
        """Take one payload: the answer to a call, a batch, a request of the other end, or rubbish."""
        try:
            message = decode_message(payload)
        except NOT_JSON:
            self._receive_other(payload)
            return
        if message.method is None:
            # The id is an int here unless the other end is odd; an id that is none of ours finds nothing.
            call = self.pending.pop(message.id, None)  # type: ignore[arg-type]
            if call is not None:
                self._answered(call, message)
            elif not self._match(message):
                self._hand_over([message], False)
        else:
            self._hand_over([message], False)

    def _receive_other(self, payload: bytes) -> None:
        try:
            decoded = decode(payload)
        except JsonRpcParseError as error:
            self._hand_over([error], False)
            return
        batch = decoded if isinstance(decoded, list) else [decoded]
        requests = [item for item in batch if isinstance(item, JsonRpcParseError) or not self._match(item)]
        if requests:
            self._hand_over(requests, True)

    def _match(self, message: Message) -> bool:
        """Match a response to its call, or count it. False when the message is no response."""
        if message.method is not None:
            return False
        number = answer_id(message)
        call = self.pending.pop(number, None)
        if call is not None:
            self._answered(call, message)
        elif number is not None and 0 < number <= self.requests:
            if number in self._abandoned:
                del self._abandoned[number]
                self.late += 1
                self._tell("late", number)
            else:
                self.doubled += 1
                self._tell("doubled", number)
        elif message.result is UNSET and message.error is UNSET and self._requested is not None:
            return False
        else:
            self.unknown += 1
            self._tell("unknown", number)
        return True

    def _tell(self, what: str, number: int | None) -> None:
        if self.stray is not None:
            self.stray(what, number)

    def _hand_over(self, messages: list[Message | JsonRpcParseError], is_batch: bool) -> None:
        if self._requested is not None:
            self._requested(messages, is_batch)
        else:
            self.malformed += len(messages)
