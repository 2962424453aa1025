"""The exceptions as their catchers and other processes get them."""

from __future__ import annotations

import copy
import pickle

import pytest

from sipwright import errors

ONE_OF_EACH: list[errors.SipwrightError] = [
    errors.NetstringParseError("no comma", [b"a", b"b"]),
    errors.JsonParseError("expected ':'", 3, "{'a'}"),
    errors.JsonRpcParseError("no method", -32600, "7"),
    errors.SipParseError("no Via", 400),
    errors.ArgumentError("no such route", 2, "ROUTE"),
    errors.ConfigError("unknown", "a.cfg", 1, 2, "x;", "y"),
    errors.ConfigErrors([errors.ConfigError("unknown", "a.cfg", 1, 2), errors.ConfigError("other", "a.cfg", 0, 0)]),
    errors.StartError("busy"),
    errors.RpcAnswerError(404, "no user", {"id": 1}),
    errors.RpcResultError("get_user", "$.id", "Expected `int`, got `str`", b'{"id":"7"}'),
    errors.RpcTimeoutError("no answer"),
    errors.RpcConnectionError("refused"),
    errors.RpcClosedError("closed"),
]


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_an_error_comes_whole_out_of_another_process(error: errors.SipwrightError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (str(other), repr(other)) == (str(error), repr(error))
        assert vars(other).keys() == vars(error).keys()


def test_an_error_answer_shows_what_the_server_said() -> None:
    error = errors.RpcAnswerError(404, "no user", {"id": 1})
    assert str(error) == "no user (404): {'id': 1}"
    assert str(errors.RpcAnswerError(404, "no user")) == "no user (404)"
    assert str(errors.RpcAnswerError(-32602, "Invalid params", "missing 'b'")) == "Invalid params (-32602): missing 'b'"
    assert len(str(errors.RpcAnswerError(1, "much", "x" * 10_000))) < 250
    assert repr(error) == "RpcAnswerError(404, 'no user', {'id': 1})"
    assert (error.code, error.message, error.data) == (404, "no user", {"id": 1})


def test_a_result_of_another_shape_says_what_of_what_and_where() -> None:
    error = errors.RpcResultError("get_user", "$.id", "Expected `int`, got `str`", b'{"id":"7"}')
    assert str(error) == "the result of 'get_user' is not what was expected, at $.id: Expected `int`, got `str`"
    assert isinstance(error, errors.RpcError)
