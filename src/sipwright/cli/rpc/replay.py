"""A service that is played from a recording: each call gets the answer that the same call got when it was recorded.

Calls are the same when method and params are (as values: blanks and the order of members do not matter). What was
answered in different ways gets the answers in the order in which they came, the last one then for ever. Where there was
no answer there is none. A call that is not in the recording gets an error, -32601 when no call of its method is, else
-32602, and is told of at the end.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET

from sipwright.cli.rpc.recording import Recorded
from sipwright.errors import FramingParseError, JsonRpcParseError
from sipwright.jsonrpc.framing import Framing
from sipwright.jsonrpc.messages import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    Id,
    Message,
    answer_id,
    check_request,
    decode,
    encode_batch,
    encode_error,
    encode_json,
)

Key: TypeAlias = tuple[str, str]
"""Method and params of a call, the params as a text that is the same for the same values; empty for none."""

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
MAX_SIZE = 1 << 26
MAX_TOLD = 20


class Answer(NamedTuple):
    """What was answered: the members without the id, None for no answer; and after how many seconds."""

    members: dict[str, msgspec.Raw] | None
    seconds: float


class Replay:
    """The service. `calls` is how many calls are recorded, of `methods`; `unmatched` counts those that are not."""

    def __init__(self, recorded: Iterable[Recorded], framing: Framing, with_delays: bool) -> None:
        self.answers = match_answers(recorded)
        self.calls = sum(map(len, self.answers.values()))
        self.methods = sorted({method for method, _ in self.answers})
        self.answered = 0
        self.notifications = 0
        self.unmatched: Counter[Key] = Counter()
        self._framing = framing
        self._with_delays = with_delays

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client to its end."""
        decoder = self._framing.decoder(MAX_SIZE)
        waiting: set[asyncio.Task[None]] = set()
        try:
            # At a fault of the stream it is closed, as a service does.
            while data := await reader.read(1 << 16):
                try:
                    payloads, is_good = decoder.feed(data), True
                except FramingParseError as error:
                    payloads, is_good = list(error.payloads), False
                for payload in payloads:
                    task = asyncio.create_task(self._answer(payload, writer))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)
                await writer.drain()
                if not is_good:
                    break
            # A client that asks no more may still wait for answers.
            if waiting:
                await asyncio.wait(waiting)
            await writer.drain()
        except OSError:
            pass
        finally:
            for task in waiting:
                task.cancel()
            writer.close()

    async def _answer(self, payload: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            content = decode(payload)
        except JsonRpcParseError as error:
            text = "Parse error" if error.code == PARSE_ERROR else "Invalid Request"
            self._send(writer, encode_error(error.request_id, error.code, text, encode_json(error.message)))
            return
        is_batch = isinstance(content, list)
        answers = [self._find(message) for message in (content if isinstance(content, list) else [content])]
        if self._with_delays:
            await asyncio.sleep(max(seconds for _, seconds in answers))
        texts = [text for text, _ in answers if text is not None]
        if texts:
            self._send(writer, encode_batch(texts) if is_batch else texts[0])

    def _send(self, writer: asyncio.StreamWriter, payload: bytes) -> None:
        if not writer.is_closing():
            writer.write(self._framing.encode(payload))

    def _find(self, message: Message | JsonRpcParseError) -> tuple[bytes | None, float]:
        """Return the answer to a message, None for none, and how long it took."""
        fault = message if isinstance(message, JsonRpcParseError) else check_request(message)
        if fault is not None or isinstance(message, JsonRpcParseError):
            assert fault is not None
            return encode_error(fault.request_id, fault.code, "Invalid Request", encode_json(fault.message)), 0.0
        if message.id is UNSET:
            self.notifications += 1
            return None, 0.0
        key = key_of(message)
        answers = self.answers.get(key)
        if answers is None:
            self.unmatched[key] += 1
            return self._not_recorded(message.id, key), 0.0
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer.members is None:
            return None, answer.seconds
        self.answered += 1
        return encode_json({**answer.members, "id": message.id}), answer.seconds

    def _not_recorded(self, request_id: Id, key: Key) -> bytes:
        if key[0] in self.methods:
            data = encode_json("the recording has no call with these params")
            return encode_error(request_id, INVALID_PARAMS, "Invalid params", data)
        data = encode_json("the recording has no call of this method")
        return encode_error(request_id, METHOD_NOT_FOUND, "Method not found", data)

    def report(self) -> str:
        """Return what was asked, and what of it was not in the recording."""
        lines = [f"answered {self.answered} calls, took {self.notifications} notifications"]
        if self.unmatched:
            lines.append(f"{self.unmatched.total()} calls were not in the recording:")
            lines += [
                f"  {count} x {method} {params}" for (method, params), count in self.unmatched.most_common(MAX_TOLD)
            ]
            if len(self.unmatched) > MAX_TOLD:
                lines.append(f"  and {len(self.unmatched) - MAX_TOLD} others")
        return "\n".join(lines)


def match_answers(recorded: Iterable[Recorded]) -> dict[Key, list[Answer]]:
    """Return the answers to each call of the clients, in the order of the calls."""
    answers: dict[Key, list[Answer]] = {}
    # Where the answer to a call has to go, by its connection and id.
    places: dict[tuple[int, Id], tuple[list[Answer], int, float]] = {}
    for time, connection, side, payload in recorded:
        for message in _messages(payload):
            if side == "client" and message.method is not None and message.id is not UNSET:
                own = answers.setdefault(key_of(message), [])
                places[connection, message.id] = own, len(own), time
                own.append(Answer(None, 0.0))
            elif side == "server" and message.method is None and message.id is not UNSET:
                place = places.pop((connection, message.id), None) or places.pop((connection, answer_id(message)), None)
                if place is not None:
                    own, index, asked = place
                    own[index] = Answer(_members(payload, message), time - asked)
    return answers


def _messages(payload: bytes) -> list[Message]:
    try:
        content = decode(payload)
    except JsonRpcParseError:
        return []
    return [item for item in (content if isinstance(content, list) else [content]) if isinstance(item, Message)]


def _members(payload: bytes, message: Message) -> dict[str, msgspec.Raw]:
    if payload.lstrip()[:1] == b"{":
        members = _decode_members(payload)
        members.pop("id", None)
        # Each is a view of the payload otherwise.
        return {name: raw.copy() for name, raw in members.items()}
    # An element of a batch: what JSON-RPC knows of it.
    known = (("jsonrpc", message.jsonrpc), ("result", message.result), ("error", message.error))
    return {name: raw.copy() for name, raw in known if isinstance(raw, msgspec.Raw)}


def key_of(message: Message) -> Key:
    """Return what tells one call from another."""
    assert message.method is not None
    if message.params is UNSET:
        return message.method, ""
    try:
        return message.method, json.dumps(json.loads(bytes(message.params)), sort_keys=True, ensure_ascii=False)
    except ValueError:
        return message.method, bytes(message.params).decode("utf-8", "replace")
