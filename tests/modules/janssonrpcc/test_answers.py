from __future__ import annotations

from types import SimpleNamespace

import pytest

from sipwright.jsonrpc.messages import Message, answer_error, decode
from sipwright.modules.janssonrpcc.answers import InternalError, answer_text, internal_error, payload_of

REQUEST = b'{"id":7,"jsonrpc":"2.0","method":"m"}'
BAD = '"internal_error":{"message":"Bad response result","code":-20,"data":' + REQUEST.decode() + "}"


def text_of(members: str | bytes) -> str:
    """Return what a script gets of a response with these members."""
    text = members.encode() if isinstance(members, str) else members
    message = decode(b'{"jsonrpc":"2.0","id":7%b}' % (text and b"," + text))
    assert isinstance(message, Message)
    error = answer_error(message)
    return answer_text(SimpleNamespace(error=error, result=None if error else bytes(message.result)), REQUEST)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ('"result":null', '{"result":null}'),
        ('"result":"a\\"b"', '{"result":"a\\"b"}'),
        ('"result":{ "a" : 1.10,\n "l": [1, 2], "s": "a  b" }', '{"result":{"a":1.10,"l":[1,2],"s":"a  b"}}'),
        ('"result":"h\\u00e9 \\/"', '{"result":"hé /"}'),
        ('"error":null,"result":1', '{"result":1}'),
        ('"error":{"code": -1, "message": "no"}', '{"error":{"code":-1,"message":"no"}}'),
        ('"error":"plain"', '{"error":"plain"}'),
        ('"error":5', '{"error":5}'),
        ('"error":{"code":"x"}', '{"error":{"code":"x"}}'),
        ('"error":{"code":1},"result":5', f'{{"error":{{"code":1}},"result":5,"data":{REQUEST.decode()},{BAD}}}'),
        ("", f'{{"data":{REQUEST.decode()},{BAD}}}'),
        ('"error":null', f'{{"data":{REQUEST.decode()},{BAD}}}'),
    ],
)
def test_an_answer_is_one_json_text(members: str, text: str) -> None:
    assert text_of(members) == text


@pytest.mark.parametrize("members", [b'"result":"\xff"', b'"error":{"message":"\xff"}'])
def test_an_answer_that_cannot_be_decoded_is_no_json(members: bytes) -> None:
    assert text_of(members) == internal_error(InternalError.JSON, REQUEST)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-1, "Failed to build request"),
        (-5, "Failed to send"),
        (-10, "JSON parse error"),
        (-20, "Bad response result"),
        (-50, "Retry failed"),
        (-75, "Server disconnected"),
        (-100, "Message timeout"),
    ],
)
def test_internal_errors_have_kamailios_codes_and_texts(code: int, message: str) -> None:
    assert internal_error(InternalError(code)) == f'{{"internal_error":{{"message":"{message}","code":{code}}}}}'


def test_the_data_of_an_internal_error_is_the_request() -> None:
    assert internal_error(InternalError.TIMEOUT, payload_of("m", b"[ 1 ]", 5)) == (
        '{"internal_error":{"message":"Message timeout","code":-100,'
        '"data":{"id":5,"jsonrpc":"2.0","method":"m","params":[1]}}}'
    )
    assert payload_of("m", b"", None) == b'{"jsonrpc":"2.0","method":"m"}'
