"""The table of a worker's commands."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sipwright.engine.commands import CommandInfo, Commands, command_error
from sipwright.errors import ArgumentError, RpcAnswerError, StoreError


def with_commands() -> Commands:
    commands = Commands()
    commands.add("a.raw", lambda params: params, "As it came.")
    commands.add("a.named", lambda params: params, params=["server", "group?"], join="first")
    commands.add("a.nothing", lambda params: params, params=[])
    return commands


@pytest.mark.parametrize(
    ("name", "params", "seen"),
    [
        ("a.raw", None, None),
        ("a.raw", b"[1,[2]]", [1, [2]]),
        ("a.raw", b'{"x":null}', {"x": None}),
        ("a.named", b'["h:1"]', {"server": "h:1"}),
        ("a.named", b'["h:1","g"]', {"server": "h:1", "group": "g"}),
        ("a.named", b'{"group":"g","server":"h:1"}', {"server": "h:1", "group": "g"}),
        ("a.nothing", None, {}),
        ("a.nothing", b"[]", {}),
    ],
)
def test_params_come_as_they_were_given_or_by_their_names(name: str, params: bytes | None, seen: Any) -> None:
    assert with_commands().call(name, params) == seen


@pytest.mark.parametrize(
    ("name", "params", "code", "said"),
    [
        ("a.nmaed", None, -32601, "there is no command 'a.nmaed': did you mean 'a.named'?"),
        ("a.named", None, -32602, "'a.named' needs the parameter 'server': it takes server [group]"),
        ("a.named", b'{"group":"g"}', -32602, "'a.named' needs the parameter 'server': it takes server [group]"),
        ("a.named", b"[1,2,3]", -32602, "'a.named' takes server [group], not 3 parameters"),
        ("a.named", b'{"server":1,"grop":2}', -32602, "'a.named' has no parameter 'grop', it takes server [group]"),
        ("a.nothing", b"[1]", -32602, "'a.nothing' takes nothing, not 1 parameters"),
        ("a.raw", b"[1", -32602, "Input data was truncated"),
    ],
)
def test_what_cannot_be_carried_out_is_told(name: str, params: bytes | None, code: int, said: str) -> None:
    with pytest.raises(RpcAnswerError) as caught:
        with_commands().call(name, params)
    assert (caught.value.code, caught.value.data) == (code, said)


def test_what_there_is_can_be_listed() -> None:
    assert list(with_commands()) == [
        CommandInfo("a.raw", "As it came."),
        CommandInfo("a.named", join="first", params=["server", "group?"]),
        CommandInfo("a.nothing", params=[]),
    ]


@pytest.mark.parametrize("name", ["a.raw", "", "a b", "a\n"])
def test_a_name_is_a_word_and_taken_once(name: str) -> None:
    with pytest.raises(ArgumentError):
        with_commands().add(name, lambda _: None)


@pytest.mark.parametrize(
    ("raised", "answered"),
    [
        (RpcAnswerError(7, "no", [1]), (7, "no", [1])),
        (ArgumentError("no 'x'", suggestion="y"), (-32602, "Invalid params", "no 'x': did you mean 'y'?")),
        (StoreError("full"), (-32000, "full", None)),
        (KeyError("secret"), (-32603, "Internal error", "the log says more")),
    ],
)
def test_each_kind_of_error_has_its_answer(
    raised: Exception, answered: tuple[int, str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    error = command_error("a.raw", raised, logging.getLogger("test"))
    assert (error.code, error.message, error.data) == answered
    # Only what is nobody's mistake is for the log.
    assert [record.getMessage() for record in caplog.records] == (
        ["fault in the command a.raw"] if answered[0] == -32603 else []
    )
