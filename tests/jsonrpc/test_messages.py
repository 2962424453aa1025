"""JSON-RPC messages: what is read is left raw, what is odd is understood, what is wrong is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from sipwright.errors import JsonRpcParseError
from sipwright.jsonrpc.messages import (
    NEITHER,
    Message,
    answer_error,
    answer_id,
    check_request,
    decode,
    encode_batch,
    encode_error,
    encode_notification,
    encode_params,
    encode_result,
)


def read(text: str | bytes) -> Message:
    message = decode(text.encode() if isinstance(text, str) else text)
    assert isinstance(message, Message)
    return message


@pytest.mark.parametrize("text", ["1.10", "-0", "1e400", '"a\\u0041"', "[1, 2]", '{"a" : 1}', "null", "true"])
def test_a_result_keeps_the_spelling_that_it_came_in(text: str) -> None:
    message = read(f'{{"jsonrpc": "2.0", "result": {text}, "id": 7}}')
    assert isinstance(message.result, Raw)
    assert bytes(message.result) == text.encode()
    assert answer_error(message) is None
    assert answer_id(message) == 7


@pytest.mark.parametrize(
    ("text", "number"),
    [("17", 17), ('"17"', 17), ('"x"', None), ("null", None), ('""', None), ('"-1"', None), ('"1.0"', None)],
)
def test_an_answer_id_may_be_an_integer_or_a_string_of_digits(text: str, number: int | None) -> None:
    assert answer_id(read(f'{{"result": 1, "id": {text}}}')) == number


def test_the_version_of_an_answer_does_not_matter() -> None:
    for version in ['"jsonrpc": "1.0",', '"jsonrpc": 2,', '"version": "1.1",', ""]:
        message = read(f'{{{version} "result": 1, "id": 1}}')
        assert answer_error(message) is None


def test_an_error_object_is_taken_apart_and_kept_as_text() -> None:
    error = answer_error(read('{"id": 1, "error": { "code": -32601, "message": "Method not found", "data": [1.10] }}'))
    assert error is not None
    assert error.text == b'{ "code": -32601, "message": "Method not found", "data": [1.10] }'
    assert (error.code, error.message, error.data) == (-32601, "Method not found", b"[1.10]")


def test_a_string_error_is_its_characters() -> None:
    error = answer_error(read('{"id": 1, "error": "no \\"such\\" user"}'))
    assert error is not None
    assert error.text == b'no "such" user'
    assert (error.code, error.message, error.data) == (None, 'no "such" user', None)


@pytest.mark.parametrize("text", ["5", "[1]", '{"code": "x", "message": 1}', "false", '{"code": 1.5}'])
def test_any_other_error_is_an_error_with_its_text(text: str) -> None:
    error = answer_error(read(f'{{"id": 1, "error": {text}}}'))
    assert error is not None
    assert (error.text, error.code, error.message) == (text.encode(), None, text)


def test_both_members_are_an_error_only_if_the_error_is_not_null() -> None:
    assert answer_error(read('{"id": 1, "result": 5, "error": null}')) is None
    error = answer_error(read('{"id": 1, "result": 5, "error": {"code": 1, "message": "m"}}'))
    assert error is not None
    assert error.code == 1


@pytest.mark.parametrize("text", ['{"id": 1}', '{"id": 1, "error": null}'])
def test_neither_member_is_an_internal_error(text: str) -> None:
    error = answer_error(read(text))
    assert error is not None
    assert error.code == -32603
    assert json.loads(error.text)["code"] == -32603


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", -32700),
        (b"x", -32700),
        (b'{"id": 1', -32700),
        (b'{"id": 1} x', -32700),
        (b'[{"id": 1}, {"id"]', -32700),
        (b'{"id": true, "result"', -32700),
        (b'{"method": "\xff"}', -32700),
        (b'{"id": NaN}', -32700),
        (b"{'id': 1}", -32700),
        (b"1", -32600),
        (b'"text"', -32600),
        (b"[]", -32600),
        (b"null", -32600),
        (b'{"id": true}', -32600),
        (b'{"id": [1]}', -32600),
        (b'{"id": 1, "method": 1}', -32600),
    ],
)
def test_what_is_no_message_is_refused_with_the_right_code(payload: bytes, code: int) -> None:
    with pytest.raises(JsonRpcParseError) as caught:
        decode(payload)
    assert caught.value.code == code


@given(st.one_of(st.binary(max_size=40), st.text(alphabet='[]{}":,01idmethodresult\\ud ', max_size=40).map(str.encode)))
def test_any_bytes_are_messages_or_refused(data: bytes) -> None:
    try:
        decoded = decode(data)
    except JsonRpcParseError as fault:
        decoded = [fault]
    for item in decoded if isinstance(decoded, list) else [decoded]:
        if isinstance(item, JsonRpcParseError):
            assert item.code in (-32700, -32600)
        else:
            answer_error(item)
            answer_id(item)
            check_request(item)


def test_strings_that_are_not_unicode_are_no_reason_to_fail() -> None:
    error = answer_error(read(b'{"id": 1, "error": "\xff"}'))
    assert error is not None
    assert error.message == '"\ufffd"'
    error = answer_error(read(b'{"id": 1, "error": {"code": 1, "message": "\xff"}}'))
    assert error is not None
    assert error.code is None
    with pytest.raises(JsonRpcParseError):
        decode(b'{"id": "\xff", "result": 1}')


def test_a_fault_knows_the_id_when_it_can_be_told() -> None:
    with pytest.raises(JsonRpcParseError) as caught:
        decode(b'{"id": 9, "method": 1}')
    assert caught.value.request_id == 9


def test_a_batch_has_each_element_or_its_fault() -> None:
    batch = decode(b'[{"id": 1, "result": 2}, 1, {"id": {}}]')
    assert isinstance(batch, list)
    assert [type(item) for item in batch] == [Message, JsonRpcParseError, JsonRpcParseError]


@pytest.mark.parametrize(
    "text",
    [
        '{"method": "m", "id": 1}',
        '{"jsonrpc": "1.0", "method": "m", "id": 1}',
        '{"jsonrpc": "2.0", "id": 1}',
        '{"jsonrpc": "2.0", "method": "m", "params": "bar", "id": 1}',
    ],
)
def test_a_wrong_request_is_named_and_keeps_its_id(text: str) -> None:
    fault = check_request(read(text))
    assert fault is not None
    assert (fault.code, fault.request_id) == (-32600, 1)


def test_a_right_request_has_no_fault() -> None:
    for params in ["", ', "params": []', ', "params": {}', ', "params": [1]']:
        assert check_request(read(f'{{"jsonrpc": "2.0", "method": "m"{params}}}')) is None


def test_a_null_id_is_not_an_absent_one() -> None:
    assert read('{"method": "m", "id": null}').id is None
    assert read('{"method": "m"}').id is UNSET


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (encode_notification("m", None), {"jsonrpc": "2.0", "method": "m"}),
        (encode_notification('"é', b"[1]"), {"jsonrpc": "2.0", "method": '"é', "params": [1]}),
        (encode_result(1, b"[1.10]"), {"jsonrpc": "2.0", "result": [1.10], "id": 1}),
        (encode_result(None, b"null"), {"jsonrpc": "2.0", "result": None, "id": None}),
        (encode_result('a"', b"1"), {"jsonrpc": "2.0", "result": 1, "id": 'a"'}),
        (encode_error(1, 5, 'a"b'), {"jsonrpc": "2.0", "error": {"code": 5, "message": 'a"b'}, "id": 1}),
        (
            encode_error("x", -1, "", b"[]"),
            {"jsonrpc": "2.0", "error": {"code": -1, "message": "", "data": []}, "id": "x"},
        ),
        (encode_batch([b"1", b"2"]), [1, 2]),
    ],
)
def test_messages_are_written_as_json(payload: bytes, expected: Any) -> None:
    assert json.loads(payload) == expected


def test_parameters_are_an_array_or_an_object() -> None:
    assert encode_params(None) is None
    assert encode_params((1, "a")) == b'[1,"a"]'
    assert encode_params({"a": None}) == b'{"a":null}'
    for wrong in ["text", 1, 1.5, True]:
        with pytest.raises(TypeError, match="array or an object"):
            encode_params(wrong)


def test_an_error_keeps_its_member_as_json_and_the_result_beside_it() -> None:
    for members, member, result in [
        ('"error": {"code": 1, "message": "m"}', b'{"code": 1, "message": "m"}', None),
        ('"error": "5", "result": [1]', b'"5"', b"[1]"),
        ('"error": 5, "result": null', b"5", b"null"),
    ]:
        error = answer_error(read(f'{{"id": 1, {members}}}'))
        assert error is not None
        assert (error.member, error.result) == (member, result)
    assert answer_error(read('{"id": 1}')) is NEITHER


def test_params_that_are_null_are_none() -> None:
    message = read('{"jsonrpc": "2.0", "method": "m", "params": null, "id": 1}')
    assert check_request(message) is None
    assert message.params is UNSET
