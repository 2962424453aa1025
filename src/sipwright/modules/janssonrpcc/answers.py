"""What a script gets of a request, as one JSON text: the answer, or the internal error that stands in its place.

    {"result":...}    {"error":{...}}    {"internal_error":{"message":"...","code":N,"data":{...}}}

The codes, the texts and the order of the members are those of Kamailio's module, as is the request in `data`. As there,
what the server sent is decoded and written anew, without white space and escapes that are not needed; but numbers keep
their spelling.
"""

from __future__ import annotations

import enum
from typing import Any

from sipwright.jsonrpc.lenient import decode_spelled, encode
from sipwright.jsonrpc.messages import NEITHER, NOT_JSON, request_head


class InternalError(enum.IntEnum):
    """Why there is no answer; the values are Kamailio's."""

    BUILD = -1
    SEND = -5
    JSON = -10
    BAD_RESPONSE = -20
    RETRY = -50
    DISCONNECTED = -75
    TIMEOUT = -100


_TEXTS = {
    InternalError.BUILD: "Failed to build request",
    InternalError.SEND: "Failed to send",
    InternalError.JSON: "JSON parse error",
    InternalError.BAD_RESPONSE: "Bad response result",
    InternalError.RETRY: "Retry failed",
    InternalError.DISCONNECTED: "Server disconnected",
    InternalError.TIMEOUT: "Message timeout",
}


def internal_error(code: InternalError, payload: bytes | None = None) -> str:
    """Return the text for a request that has no answer; `payload` is the request, if there was one."""
    return _rewritten(b"{%b}" % _internal_member(code, payload))


def answer_text(call: Any, payload: bytes) -> str:
    """Return the text for a call that was answered, with a result or an error.

    An answer with both or neither is a bad response (section 5 of JSON-RPC); one with a string that is not UTF-8 is no
    JSON.
    """
    try:
        if call.error is None:
            return _rewritten(b'{"result":%b}' % call.result)
        error = call.error
        if error is NEITHER:
            return _rewritten(b"{%b}" % _bad_response(payload))
        member = b'"error":%b' % error.member
        if error.result is None:
            return _rewritten(b"{%b}" % member)
        return _rewritten(b'{%b,"result":%b,%b}' % (member, error.result, _bad_response(payload)))
    except NOT_JSON:
        return internal_error(InternalError.JSON, payload)


def payload_of(method: str, params: bytes, number: int | None) -> bytes:
    """Return a request as JSON; `number` is the id that it had, None when it was never sent."""
    members = request_head(method)
    if params:
        members += b',"params":%b' % params
    return b"{%b}" % members[1:] if number is None else b'{"id":%d%b}' % (number, members)


def _bad_response(payload: bytes) -> bytes:
    # Kamailio: the request is there twice, beside the error too.
    return b'"data":%b,%b' % (payload, _internal_member(InternalError.BAD_RESPONSE, payload))


def _internal_member(code: InternalError, payload: bytes | None) -> bytes:
    data = b"" if payload is None else b',"data":%b' % payload
    return b'"internal_error":{"message":"%b","code":%d%b}' % (_TEXTS[code].encode(), code, data)


def _rewritten(text: bytes) -> str:
    return encode(decode_spelled(text)).decode()
