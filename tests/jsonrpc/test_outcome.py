"""What the end of a call stands for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sipwright.errors import RpcAnswerError, RpcClosedError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc.messages import INTERNAL_ERROR, Error, decode_message
from sipwright.jsonrpc.outcome import CLOSED, ERROR, FAILURE, TIMEOUT, Status, exception_of, has_code


@dataclass
class Call:
    method: str = "m"
    status: Status | None = FAILURE
    error: Error | None = None
    reason: str = ""
    server: str = "a:1"
    ms: int = 7


def test_each_end_without_a_result_has_its_exception() -> None:
    answer = exception_of(Call(status=ERROR, error=Error(b"", 5, "no", b'{"a":1}')))
    assert isinstance(answer, RpcAnswerError)
    assert (answer.code, answer.message, answer.data) == (5, "no", {"a": 1})
    late = exception_of(Call(status=TIMEOUT))
    assert (type(late), str(late)) == (RpcTimeoutError, "no answer to 'm' from a:1 within 7 ms")
    lost = exception_of(Call(reason="a:1: it broke"))
    assert (type(lost), str(lost)) == (RpcConnectionError, "'m': a:1: it broke")
    assert type(exception_of(Call(reason=CLOSED))) is RpcClosedError


def test_an_error_that_is_none_of_json_rpc_is_an_internal_one_and_bad_data_is_left_out() -> None:
    answer = exception_of(Call(status=ERROR, error=Error(b'"no"', None, "no", b'"\xff"')))
    assert isinstance(answer, RpcAnswerError)
    assert (answer.code, answer.data) == (INTERNAL_ERROR, None)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"id":1,"error":{"code":5,"message":""}}', True),
        (b'{"id":1,"error":{"code":-32001,"message":""}}', True),
        (b'{"id":1,"error":{"code":-32000,"message":""}}', False),
        (b'{"id":1,"error":"text"}', False),
        (b'{"id":1,"result":5}', False),
    ],
)
def test_a_code_is_one_of_numbers_and_ranges(payload: bytes, expected: bool) -> None:
    assert has_code(decode_message(payload), [5, range(-32010, -32000)]) is expected
