from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest

from sipwright.cli.rpc.recording import Recorder, Tap, read_recording
from sipwright.errors import CommandError
from sipwright.jsonrpc.framing import CONTENT_LENGTH, NETSTRING, NEWLINE, Framing

MESSAGE = b'{"id":1,"jsonrpc":"2.0","method":"add","params":[1.10, 2]}'


def recorded(*pieces: bytes, framing: Framing = NETSTRING) -> tuple[list[dict[str, Any]], bytes]:
    """Record what a client sends in pieces; return the lines behind the first one, parsed, and all as they are."""
    file = io.BytesIO()
    tap = Tap(Recorder(file, framing, "127.0.0.1:1"), 3, "client")
    for piece in pieces:
        tap.feed(piece)
    tap.end()
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert lines[0]["recording"] == "json-rpc"
    assert all(line.pop("connection") == 3 and line.pop("time") >= 0 for line in lines[1:])
    return lines[1:], file.getvalue()


@pytest.mark.parametrize("framing", [NETSTRING, NEWLINE, CONTENT_LENGTH])
def test_a_message_stands_in_one_line_as_it_came(framing: Framing) -> None:
    frame = framing.encode(MESSAGE)
    lines, text = recorded(frame[:5], frame[5:] + frame, framing=framing)
    assert [line["from"] for line in lines] == ["client"] * 2
    assert text.count(b'"message":' + MESSAGE + b"}\n") == 2


def test_line_ends_in_a_message_become_blanks() -> None:
    lines, _ = recorded(NETSTRING.encode(b'\r\n{"id":1,\n"result":"a\\nb"}\n'))
    assert lines == [{"from": "client", "message": {"id": 1, "result": "a\nb"}}]


def test_a_payload_that_is_no_json_is_kept_as_text_or_bytes() -> None:
    lines, _ = recorded(NETSTRING.encode(b"{nonsense"), NETSTRING.encode(b'{"a":"\xff"}'), NETSTRING.encode(b""))
    assert lines == [
        {"from": "client", "payload": "{nonsense"},
        {"from": "client", "base64": base64.b64encode(b'{"a":"\xff"}').decode()},
        {"from": "client", "payload": ""},
    ]


@pytest.mark.parametrize("cut", range(1, 80))
def test_a_fault_of_the_stream_is_kept_with_the_bytes_from_there_on(cut: int) -> None:
    stream = NETSTRING.encode(MESSAGE) + b"05:hello,and more"
    lines, _ = recorded(stream[:cut], stream[cut:], b"later")
    assert lines[0] == {"from": "client", "message": json.loads(MESSAGE)}
    assert "leading zero" in lines[1]["fault"]
    assert b"".join(base64.b64decode(line["base64"]) for line in lines[1:]) == b"05:hello,and morelater"


def test_a_message_whose_end_never_came_is_kept() -> None:
    lines, _ = recorded(NETSTRING.encode(MESSAGE) + b"10:hell")
    assert [base64.b64decode(line["base64"]) for line in lines[1:]] == [b"10:hell"]


def write(path: Path, *lines: str) -> Path:
    path.write_text('{"recording":"json-rpc","version":1,"framing":"newline"}\n' + "".join(lines))
    return path


def test_a_recording_is_read_again(tmp_path: Path) -> None:
    path = write(
        tmp_path / "file",
        '{"time":0.0,"connection":1,"event":"opened","peer":"x"}\n',
        '{"time":0.5,"connection":1,"from":"client","message":{"id":1,"method":"a","params":[1.10]}}\n',
        '{"time":0.6,"connection":1,"from":"server","payload":"no json"}\n',
        '{"time":0.7,"connection":1,"from":"server","message":{"id":1,"result":2}}\n',
        '{"time":0.8,"connec',
    )
    framing, lines = read_recording(path)
    assert framing is NEWLINE
    assert [(one.time, one.side, one.payload) for one in lines] == [
        (0.5, "client", b'{"id":1,"method":"a","params":[1.10]}'),
        (0.7, "server", b'{"id":1,"result":2}'),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ":1: this is no recording of `sipwright rpc proxy --record`"),
        ("{}\n", ":1: this is no recording"),
        ("[1]\n", ":1: this is no recording"),
        ('{"recording":"json-rpc","version":2,"framing":"newline"}\n', ":1: version 2 with framing 'newline'"),
        ('{"recording":"json-rpc","version":1,"framing":"x"}\n', ":1: version 1 with framing 'x' cannot be read"),
        ('{"recording":"json-rpc","version":1,"framing":"newline"}\n{"time":"x"}\n', ":2: Expected `float`"),
        ('{"recording":"json-rpc","version":1,"framing":"newline"}\nx\n{}\n', ":2: "),
    ],
)
def test_a_file_that_is_no_recording_is_explained(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    with pytest.raises(CommandError) as fault:
        read_recording(path)
    assert f"{path}{message}" in str(fault.value)


def test_a_file_that_is_not_there_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot read .*: No such file"):
        read_recording(tmp_path / "none")
