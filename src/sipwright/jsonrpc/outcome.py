"""How a call ends (L0): the words for it, and the exceptions that an end without a result stands for.

Shared by the asyncio client (`calls`, `tries`) and by the one without (`sync_calls`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, Protocol

from sipwright.errors import RpcAnswerError, RpcClosedError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc.messages import INTERNAL_ERROR, NOT_JSON, PARSE_ERROR, Error, Message, answer_error, decode_json

Status = Literal["ok", "error", "timeout", "failure", "cancelled"]

OK: Final = "ok"
ERROR: Final = "error"
TIMEOUT: Final = "timeout"
FAILURE: Final = "failure"
CANCELLED: Final = "cancelled"

CLOSED: Final = "the client was closed"
"""The reason of the calls that were pending when the client was closed."""


class Ended(Protocol):
    """A call that has ended without a result."""

    method: str
    status: Status | None
    error: Error | None
    reason: str

    @property
    def server(self) -> str:
        """The server that was asked last."""

    @property
    def ms(self) -> int:
        """Milliseconds from the call to its end."""


def exception_of(call: Ended) -> RpcAnswerError | RpcTimeoutError | RpcConnectionError:
    """Return the exception that the end of a call without a result stands for."""
    if call.error is not None:
        error = call.error
        try:
            data = None if error.data is None else decode_json(error.data)
        except NOT_JSON:
            data = None
        return RpcAnswerError(INTERNAL_ERROR if error.code is None else error.code, error.message, data)
    if call.status == TIMEOUT:
        return RpcTimeoutError(f"no answer to {call.method!r} from {call.server} within {call.ms} ms")
    if call.reason == CLOSED:
        return RpcClosedError(f"the client was closed before {call.method!r} was answered")
    return RpcConnectionError(f"{call.method!r}: {call.reason}")


def undecodable(method: str, error: Exception) -> RpcAnswerError:
    """Return the exception for a result that is passed on as it came, and has a string in it that is not Unicode."""
    return RpcAnswerError(PARSE_ERROR, f"the result of {method!r} cannot be decoded: {error}")


def has_code(message: Message, codes: Collection[int | range]) -> bool:
    """Tell whether an answer is an error with one of the codes."""
    error = answer_error(message)
    return (
        error is not None
        and error.code is not None
        and any(error.code in one if isinstance(one, range) else error.code == one for one in codes)
    )
