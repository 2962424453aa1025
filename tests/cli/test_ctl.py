"""`sipwright ctl`: how words become params, and results tables. That it commands a server is tests/scenarios."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sipwright.cli.ctl import lines_of, read_words
from sipwright.errors import CommandError
from sipwright.netstring import Decoder, encode

Command = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "params"),
    [
        ([], None),
        (["127.0.0.1:9999,2", "users"], ["127.0.0.1:9999,2", "users"]),
        (["3"], [3]),
        (["-1", "08x", "-"], [-1, "08x", "-"]),
        (["{'group': 'users', x: 1}".replace(", x: 1", "")], {"group": "users"}),
        (["[1, 'a',]"], [1, "a"]),
        (["[1]", "2"], ["[1]", 2]),
    ],
)
def test_words_are_params_by_position_and_json_is_taken_as_it_is(words: list[str], params: Any) -> None:
    encoded = read_words(words)
    assert (None if encoded is None else json.loads(encoded)) == params


@pytest.mark.parametrize("words", [["{x}"], ["[1"], ["a\udc80"]])
def test_params_that_are_no_text_or_no_json_are_a_mistake(words: list[str]) -> None:
    with pytest.raises(CommandError, match="PARAMS is"):
        read_words(words)


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (None, []),
        ("pong", ["pong"]),
        (17, ["17"]),
        (["a", 1], ["a", "1"]),
        ({"a": 1, "long": "x", "deep": {"b": [1]}}, ["a     1", "long  x", 'deep  {"b":[1]}']),
        ([{"name": "x", "n": 5}, {"name": "yy", "n": 10}], ["name   n", "x      5", "yy    10"]),
        (
            [
                {"worker": 0, "pid": 7, "result": [{"server": "h:1", "on": True}, {"server": "h:2", "on": False}]},
                {"worker": 1, "pid": None, "error": {"code": -32001, "message": "no answer within 5 s"}},
            ],
            [
                "worker  server  on   error",
                "     0  h:1     yes",
                "     0  h:2     no",
                "     1               no answer within 5 s",
            ],
        ),
        (
            [{"worker": 0, "pid": 7, "result": {"a": 1}}, {"worker": 1, "pid": 8, "result": {"a": 2}}],
            ["worker  a", "     0  1", "     1  2"],
        ),
        ([{"worker": 0, "pid": 7, "result": "x"}], ["worker  result", "     0  x"]),
        ([{"worker": 0, "pid": 7, "result": []}], []),
    ],
)
def test_results_are_shown_as_what_they_are(result: Any, lines: list[str]) -> None:
    assert list(lines_of(result)) == lines


class Answering:
    """A control socket where one request gets one answer, whatever it is; None: it is closed instead."""

    def __init__(self, path: Path, answer: bytes | None) -> None:
        self.path = path
        self.asked: list[Any] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client:
            self.asked += map(json.loads, Decoder().feed(client.recv(1 << 16)))
            if self._answer is not None:
                client.sendall(encode(self._answer))

    def close(self) -> None:
        self._thread.join(5)
        self._listener.close()


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[bytes | None], Answering]]:
    made: list[Answering] = []

    def make(answer: bytes | None) -> Answering:
        made.append(Answering(tmp_path / "control.sock", answer))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_result_is_printed_and_the_status_is_0(command: Command, answering: Callable[..., Answering]) -> None:
    server = answering(b'{"jsonrpc":"2.0","id":1,"result":{"a":1}}')
    output = command("ctl", "--control", str(server.path), "x.y", "1", "two", "--json")
    assert (output.status, output.out, output.err) == (0, '{"a":1}\n', "")
    assert server.asked == [{"id": 1, "jsonrpc": "2.0", "method": "x.y", "params": [1, "two"]}]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'{"id":1,"error":{"code":-32602,"message":"Invalid params","data":"no x"}}', "x.y: no x"),
        (
            b'{"id":1,"error":{"code":-32000,"message":"worker 1: silent","data":{"workers":[]}}}',
            "x.y: worker 1: silent",
        ),
        (b'{"id":1,"error":{"code":1,"message":"bad","data":"very"}}', "x.y: bad: very"),
        (b"{}}", "x.y: what was answered is no JSON-RPC: "),
        (None, "x.y: the connection to "),
    ],
)
def test_anything_else_is_told_on_stderr_and_the_status_is_1(
    command: Command, answering: Callable[..., Answering], answer: bytes | None, said: str
) -> None:
    output = command("ctl", "--control", str(answering(answer).path), "x.y")
    assert (output.status, output.out) == (1, "")
    assert output.err.startswith(f"sipwright: {said}")


def test_a_server_that_is_silent_is_not_waited_for_longer_than_that(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        output = command("ctl", "--control", str(path), "--timeout", "100", "x.y")
    assert (output.status, output.err) == (1, f"sipwright: x.y: the server at {path} has not answered within 0.1 s\n")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no server has its control socket at {path}"),
        (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "nobody listens at {path}: the server that made"),
        (lambda path: path.write_text("x"), "{path} is no socket"),
        (lambda path: path.mkdir(), "no server runs in {path} that this user can see"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_where_no_server_is_that_is_said(
    command: Command, tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "c.sock"
    make(path)
    output = command("ctl", "--control", str(path), "core.ps")
    assert output.status == 1
    assert output.err.startswith(f"sipwright: {said.format(path=path)}")


@pytest.mark.parametrize(
    ("arguments", "said"), [(("--timeout", "0", "x"), "--timeout is"), (("x\udc80",), "METHOD is")]
)
def test_a_command_line_that_cannot_be_meant_is_told(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    output = command("ctl", "--control", str(tmp_path / "c.sock"), *arguments)
    assert (output.status, output.err.startswith(f"sipwright: {said}")) == (1, True)
