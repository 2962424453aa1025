"""JSON-RPC 2.0 messages (L0): bytes to members and members to bytes; owns no ids, no state and no connection.

What is read stays as raw as it came: `params`, `result`, `error` and `data` are JSON bytes, so a number keeps its
spelling (1.10 stays 1.10) and nobody pays for parsing what is only passed on. What is written is given as JSON bytes
for the same reason. JSON is the strict one of RFC 8259.

What RFC 8259 leaves open is as msgspec has it: a lone surrogate that is escaped is an error; integers may have any
length; a number that no float can be (1e400) is passed on and an error when it is decoded, and so are strings that
are no UTF-8; there may be 500 arrays inside one another and more, but not so many that the stack would end.

Reading is lenient where an answer can still be understood: the version is not checked, members that nobody knows are
skipped, an id that came back as the string "17" is 17. Requests are checked strictly (`check_request`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from sipwright.errors import JsonRpcParseError

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

MAX_BATCH: Final = 10_000
"""How many messages a batch may have: what is in one payload is handled in one turn of the loop."""

Id = int | str | None

# The bytes that an array and an object begin with.
_STRUCTURED: Final = b"[{"


class Message(msgspec.Struct, gc=False):
    """One JSON-RPC object as it was read: a request, a notification or a response, told apart by its members.

    A member that is absent is UNSET, `method` None. With a method it is a request, or a notification when the id is
    absent; without one it is a response.
    """

    id: int | str | UnsetType | None = UNSET
    method: str | None = None
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    jsonrpc: Raw | UnsetType = UNSET


class Error(msgspec.Struct, gc=False):
    """The error member of a response. `text` is the member as JSON bytes, or the characters of a string error.

    `code` is None and `message` the text when the member is not an object as section 5.1 wants it. `member` is the
    member as JSON in any case, and `result` the result that was there beside it, against section 5.
    """

    text: bytes
    code: int | None
    message: str
    data: bytes | None = None
    member: bytes = b""
    result: bytes | None = None


class _ErrorObject(msgspec.Struct, gc=False):
    code: int = 0
    message: str = ""
    data: Raw | UnsetType = UNSET


_NEITHER = b'{"code":-32603,"message":"The answer has neither result nor error"}'

NEITHER: Final = Error(_NEITHER, INTERNAL_ERROR, "The answer has neither result nor error", member=_NEITHER)
"""The error of a response without result and error."""

decode_message = msgspec.json.Decoder(Message).decode
"""Decode the usual payload, one object. Raises one of NOT_JSON for all others: `decode` says what they are."""

NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises; UnicodeDecodeError where a string is not UTF-8, RecursionError where it nests too deeply."""

decode_json = msgspec.json.decode
encode_json = msgspec.json.Encoder().encode
_decode_batch = msgspec.json.Decoder(list[Raw]).decode
_decode_error = msgspec.json.Decoder(_ErrorObject).decode
_decode_string = msgspec.json.Decoder(str).decode


def decode(payload: bytes | Raw) -> Message | list[Message | JsonRpcParseError]:
    """Decode a payload: one message, or a batch with a message or the fault of each of its elements.

    Raises JsonRpcParseError when the payload is neither, or a batch of more than MAX_BATCH elements: code -32700 when
    it is not JSON, otherwise -32600.
    """
    item = _decode_one(payload)
    if isinstance(item, Message):
        return item
    try:
        elements = _decode_batch(payload)
    except NOT_JSON:
        raise item from None
    if not elements:
        raise JsonRpcParseError("an empty batch")
    if len(elements) > MAX_BATCH:
        raise JsonRpcParseError(f"a batch of more than {MAX_BATCH} messages")
    return [_decode_one(element) for element in elements]


def _decode_one(payload: bytes | Raw) -> Message | JsonRpcParseError:
    try:
        return decode_message(payload)
    except NOT_JSON as error:
        return _what_is_wrong(payload, error)


def _what_is_wrong(payload: bytes | Raw, error: Exception) -> JsonRpcParseError:
    """Return the fault of what is no JSON-RPC message, with the id if that much can be told."""
    try:
        value: Any = decode_json(payload)
    except NOT_JSON as fault:
        return JsonRpcParseError(f"not JSON: {fault}", PARSE_ERROR)
    request_id = value.get("id") if isinstance(value, dict) else None
    if isinstance(request_id, bool) or not isinstance(request_id, int | str):
        request_id = None
    return JsonRpcParseError(f"not a JSON-RPC message: {error}", INVALID_REQUEST, request_id)


def check_request(message: Message) -> JsonRpcParseError | None:
    """Return what is wrong with a message as a request or notification (section 4), None when it is right.

    Params that are null count as none, and are taken out.
    # Kamailio: jsonrpcc sends them for an empty text.
    """
    request_id = None if message.id is UNSET else message.id
    if message.jsonrpc is UNSET or bytes(message.jsonrpc) != b'"2.0"':
        return JsonRpcParseError('"jsonrpc" is not "2.0"', INVALID_REQUEST, request_id)
    if message.method is None:
        return JsonRpcParseError("no method", INVALID_REQUEST, request_id)
    if message.params is not UNSET and (params := bytes(message.params))[:1] not in (b"[", b"{"):
        if params == b"null":
            message.params = UNSET
            return None
        return JsonRpcParseError("params is neither an array nor an object", INVALID_REQUEST, request_id)
    return None


def answer_id(message: Message) -> int | None:
    """Return the id of a response as one of ours: an integer, also when it came back as a string of digits."""
    if isinstance(message.id, int):
        return message.id
    if isinstance(message.id, str) and message.id.isascii() and message.id.isdigit() and len(message.id) < 20:
        return int(message.id)
    return None


def answer_error(message: Message) -> Error | None:
    """Return the error of a response, None when it is a result.

    An error member that is not null counts, even beside a result; a response with neither member is an internal
    error (-32603).
    """
    raw = message.error
    if raw is UNSET or (text := bytes(raw)) == b"null":
        return None if message.result is not UNSET else NEITHER
    result = None if message.result is UNSET else bytes(message.result)
    try:
        if text[:1] == b'"':
            string = _decode_string(text)
            return Error(string.encode(), None, string, None, text, result)
        error = _decode_error(text)
    except NOT_JSON:
        return Error(text, None, text.decode("utf-8", "replace"), None, text, result)
    data = None if error.data is UNSET else bytes(error.data)
    return Error(text, error.code, error.message, data, text, result)


@lru_cache(maxsize=1024)
def request_head(method: str) -> bytes:
    """Return the members `jsonrpc` and `method` of a request as `Peer.request` wants them, from a cache."""
    return b',"jsonrpc":"2.0","method":%b' % encode_json(method)


def encode_notification(method: str, params: bytes | None) -> bytes:
    """Return a notification; `params` is JSON, None for no params member."""
    if params is None:
        return b"{%b}" % request_head(method)[1:]
    return b'{%b,"params":%b}' % (request_head(method)[1:], params)


def encode_result(request_id: Id, result: bytes) -> bytes:
    """Return the response with a result, which is JSON."""
    if type(request_id) is int:
        return b'{"jsonrpc":"2.0","result":%b,"id":%d}' % (result, request_id)
    return b'{"jsonrpc":"2.0","result":%b,"id":%b}' % (result, encode_json(request_id))


def encode_error(request_id: Id, code: int, message: str, data: bytes | None = None) -> bytes:
    """Return the response with an error; `data` is JSON, None for no data member."""
    member = b'{"code":%d,"message":%b' % (code, encode_json(message))
    if data is not None:
        member += b',"data":%b' % data
    return b'{"jsonrpc":"2.0","error":%b},"id":%b}' % (member, encode_json(request_id))


def encode_batch(payloads: Sequence[bytes]) -> bytes:
    """Return the batch of some encoded messages."""
    return b"[%b]" % b",".join(payloads)


def encode_params(params: Any) -> bytes | None:
    """Return parameters as JSON: None for None, otherwise an array or an object.

    Takes what msgspec can encode: tuple, list, dict, dataclass, Struct and so on. Raises TypeError for anything that
    is neither an array nor an object in JSON (section 4.2).
    """
    if params is None:
        return None
    text = encode_json(params)
    if text[0] not in _STRUCTURED:
        raise TypeError(f"params must be an array or an object, not {type(params).__name__}")
    return text
