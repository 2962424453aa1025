"""Commands as scripts write them: words are those of the script, whatever values there are in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Value, Variable
from sipwright.modules.ndb_redis.commands import Command, why_not


def variable(value: Value) -> Variable:
    return Variable("$x", lambda _context: value)


@pytest.mark.parametrize(
    ("parts", "arguments", "words"),
    [
        (["GET foo"], (), ["GET", "foo"]),
        (["  SET   a  b "], (), ["SET", "a", "b"]),
        (["SET a 'b c'"], (), ["SET", "a", "'b", "c'"]),
        (["SET\ta b"], (), ["SET\ta", "b"]),
        (["SET k ", variable("v 1")], (), ["SET", "k", "v 1"]),
        (["SET k:", variable("x\r\nDEL y"), ":z 1"], (), ["SET", "k:x\r\nDEL y:z", "1"]),
        (["SET k ", variable("")], (), ["SET", "k", ""]),
        (["SET k ", variable(None)], (), ["SET", "k", "<null>"]),
        (["SET ", variable("a"), variable(5), " v"], (), ["SET", "a5", "v"]),
        ([variable("get"), " k"], (), ["get", "k"]),
        (["SET %s %s"], ("a b", ""), ["SET", "a b", ""]),
        (["SET x%sy %s"], ("1", "%s"), ["SET", "x1y", "%s"]),
        (["SET ", variable("%s"), " %s"], ("v",), ["SET", "%s", "v"]),
        (["SET p 50%%"], (), ["SET", "p", "50%"]),
        (["GET k"], ("unused",), ["GET", "k"]),
        ([variable("SET k %s 100% %%")], ("a b",), ["SET", "k", "a b", "100%", "%"]),
        ([variable("SET  k v")], (), ["SET", "k", "v"]),
        ([variable("SET k %s")], (), ["SET", "k", "%s"]),
        ([variable("")], (), []),
    ],
)
def test_words(parts: Sequence[Any], arguments: tuple[str, ...], words: list[str]) -> None:
    assert Command(parts, len(arguments)).words(None, arguments) == words


@pytest.mark.parametrize(
    ("parts", "arguments", "message"),
    [
        ([""], 0, "the command is empty"),
        (["   "], 0, "the command is empty"),
        (["GET %s"], 0, "there are more %s in the command than arguments behind it (0)"),
        (["SET %s ", variable("x"), " %s"], 1, "there are more %s in the command than arguments behind it (1)"),
        (["GET %d"], 1, "'%d': only %s, for an argument, and %% can stand in a command"),
        (["GET 5%"], 0, "'%': only %s"),
        (["SELECT ", variable("x")], 0, "SELECT would change the connection for all messages"),
        (["subscribe news"], 0, "SUBSCRIBE would change the connection for all messages"),
        (["BLPOP list 5"], 0, "BLPOP would hold up all other messages"),
        (["XREAD BLOCK 5 STREAMS s 0"], 0, "XREAD would hold up all other messages"),
    ],
)
def test_faults_at_load(parts: Sequence[Any], arguments: int, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Command(parts, arguments)
    assert message in caught.value.message


def test_what_is_refused_is_refused_too_where_it_is_known_at_run_time_only() -> None:
    command = Command([variable("WATCH"), " k"], 0)
    assert why_not(command.words(None, ())) == "WATCH would change the connection for all messages"
    assert why_not(["XREAD", "STREAMS", "s", "0"]) is None
    assert why_not([]) == "the command is empty"
