from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.script.loglevels import ALERT, NOTICE
from sipwright.sip.message import Request
from sipwright.sip.parse import parse
from sipwright.workers.logformat import Clock, Ids, JsonFormat, TextFormat

# 2026-11-25 13:31:02.456789 UTC
NOW = 1_795_613_462.456789
LIMIT = 4096


def request(call_id: str = "abc@host", branch: str = "z9hG4bK776", method: str = "INVITE") -> Request:
    message = parse(
        f"{method} sip:alice@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch={branch}\r\n"
        f"From: <sip:bob@example.org>;tag=1\r\nTo: <sip:alice@example.org>\r\nCall-ID: {call_id}\r\n"
        f"CSeq: 7 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n".encode("utf-8", "surrogateescape")
    )
    assert isinstance(message, Request)
    return message


def context(message: Request | None = None) -> Context:
    socket: Any = None
    return Context(message or request(), ("127.0.0.1", 5070), socket, RouteKind.REQUEST)


def record(message: str, *arguments: Any, level: int = logging.INFO, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("sipwright", level, "", 0, message, arguments, None)
    made.created = NOW
    made.__dict__.update(more)
    return made


def ids(
    handled: Context | None = None,
    *,
    worker: int | None = 1,
    prefix: Callable[[Context], str] | None = None,
    mode: int = 0,
) -> Ids:
    made = Ids(worker, prefix, mode)
    made.handling.context = handled
    return made


def text(of: Ids, *records: logging.LogRecord, limit: int = LIMIT) -> list[str]:
    """Return lines of text without their time."""
    form = TextFormat(of, limit, has_time=False)
    return [line.decode() for one in records for line in form.lines(one)]


def json(of: Ids, one: logging.LogRecord, flags: str = "", limit: int = LIMIT) -> dict[str, Any]:
    """Return the members of a JSON line."""
    [line] = JsonFormat(of, limit, flags=flags, pid=4711).lines(one)
    assert len(line) <= limit
    members: dict[str, Any] = msgspec.json.decode(line)
    return members


# Text


def test_a_line_begins_with_time_level_worker_call_id_and_transaction() -> None:
    [line] = TextFormat(ids(context()), LIMIT, has_time=True).lines(record("asked for %s", "alice"))
    time, _, rest = line.decode().partition(" INFO ")
    assert rest == "[w1 abc@host z9hG4bK776] asked for alice"
    assert time.endswith(":02.456")
    assert len(time) == len("2026-11-25 13:31:02.456")


def test_a_line_that_is_about_no_message_has_the_worker_only() -> None:
    assert text(ids(), record("connected", level=NOTICE)) == ["NOTICE [w1] connected"]
    assert text(ids(worker=None), record("restarted", level=ALERT)) == ["ALERT [main] restarted"]


def test_a_line_may_be_about_another_message_than_the_one_that_is_handled() -> None:
    other = request("other@host", "z9hG4bK9")
    of = ids(context())
    assert text(of, record("late", about=other), record("late", about=context(other))) == [
        "INFO [w1 other@host z9hG4bK9] late",
        "INFO [w1 other@host z9hG4bK9] late",
    ]
    assert text(ids(), record("late", about=other)) == ["INFO [w1 other@host z9hG4bK9] late"]


def test_the_log_prefix_of_a_script_stands_in_the_place_of_the_ids() -> None:
    def prefix(ctx: Context) -> str:
        return f"{{1 7 INVITE {ctx.message.call_id}}} "

    of = ids(context(), prefix=prefix)
    assert text(of, record("asked")) == ["INFO [w1] {1 7 INVITE abc@host} asked"]
    # What it was answered belongs to the same call.
    assert text(of, record("sent", about=request())) == ["INFO [w1] {1 7 INVITE abc@host} sent"]
    # No script handles these, so there is nothing that its variables could be read from.
    assert text(of, record("late", about=request("other@host"))) == ["INFO [w1 other@host z9hG4bK776] late"]
    assert text(ids(prefix=prefix), record("connected")) == ["INFO [w1] connected"]


@pytest.mark.parametrize(("mode", "expected"), [(0, ["1 ", "1 "]), (1, ["1 ", "2 "])])
def test_the_log_prefix_is_made_once_for_a_message_or_for_each_line(mode: int, expected: list[str]) -> None:
    count = iter(range(1, 9))
    of = ids(context(), prefix=lambda _ctx: f"{next(count)} ", mode=mode)
    assert text(of, record(""), record("")) == [f"INFO [w1] {prefix}" for prefix in expected]


def test_a_log_prefix_whose_variable_logs_something_ends_and_one_that_fails_is_shown_as_such() -> None:
    lines: list[str] = []

    def chatty(_ctx: Context) -> str:
        lines.extend(text(chatty_ids, record("inner")))
        return "p "

    chatty_ids = ids(context(), prefix=chatty)
    assert text(chatty_ids, record("outer")) == ["INFO [w1] p outer"]
    assert lines == ["INFO [w1] inner"]

    def fail(_ctx: Context) -> str:
        raise ValueError("no such thing")

    assert text(ids(context(), prefix=fail), record("x")) == ["INFO [w1] (log_prefix: no such thing) x"]


def test_each_line_of_a_text_is_a_line_of_its_own_with_the_whole_prefix() -> None:
    assert text(ids(context()), record("one\r\ntwo\n\nfour\n")) == [
        "INFO [w1 abc@host z9hG4bK776] one",
        "INFO [w1 abc@host z9hG4bK776] two",
        "INFO [w1 abc@host z9hG4bK776] ",
        "INFO [w1 abc@host z9hG4bK776] four",
    ]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\rb\x00c\x7f", "a\\rb\\x00c\\x7f"),
        ("caf\udce9", "caf\\xe9"),
        ("\u202eabc\u2028", "\\u202eabc\\u2028"),
        ("naïve\t東京 😀", "naïve\t東京 😀"),
    ],
)
def test_control_characters_and_bytes_that_are_not_utf_8_are_shown_as_escapes(message: str, shown: str) -> None:
    assert text(ids(), record(message)) == [f"INFO [w1] {shown}"]


def test_a_call_id_cannot_forge_a_line() -> None:
    of = ids(context(request("a\x1b\udcffb")))
    assert text(of, record("x")) == ["INFO [w1 a\\x1b\\xffb z9hG4bK776] x"]


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_a_line_that_is_too_long_is_cut_between_characters_and_says_how_much_is_missing(character: str) -> None:
    [line] = TextFormat(ids(), LIMIT, has_time=False).lines(record(character * 5000))
    assert LIMIT - 16 < len(line) <= LIMIT
    kept, _, note = line.decode().partition(" ... (")
    missing = int(note.removesuffix(" bytes more)"))
    assert len(kept.encode()) + missing == len("INFO [w1] ") + len(character.encode()) * 5000


def test_what_cannot_be_put_together_is_shown_as_it_is() -> None:
    assert text(ids(), record("%d calls", "many")) == [
        "INFO [w1] '%d calls' with ('many',) cannot be written: %d format: a real number is required, not str"
    ]


def test_the_traceback_of_an_exception_follows_line_by_line() -> None:
    made = record("fault")
    try:
        raise ValueError("wrong")
    except ValueError:
        made.exc_info = sys.exc_info()
    lines = text(ids(context()), made)
    assert lines[0] == "INFO [w1 abc@host z9hG4bK776] fault"
    assert lines[-1] == "INFO [w1 abc@host z9hG4bK776] ValueError: wrong"
    assert all(line.startswith("INFO [w1 abc@host z9hG4bK776] ") for line in lines)


def test_the_time_is_made_once_a_second_and_is_right_in_each() -> None:
    clock = Clock("%H:%M:%S", utc=True)
    assert [clock.second(NOW), clock.second(NOW + 0.1), clock.second(NOW + 1), clock.second(NOW)] == [
        "13:31:02",
        "13:31:02",
        "13:31:03",
        "13:31:02",
    ]


# JSON


def test_a_json_line_has_all_that_is_known() -> None:
    about = record("asked", rpc_id=17, event="rpc_ok", file="first.cfg", line=12)
    assert json(ids(context()), about) == {
        "time": "2026-11-25T13:31:02.456789Z",
        "level": "INFO",
        "worker": "w1",
        "pid": 4711,
        "message": "asked",
        "call_id": "abc@host",
        "cseq": 7,
        "method": "INVITE",
        "transaction": "z9hG4bK776",
        "rpc_id": 17,
        "event": "rpc_ok",
        "file": "first.cfg",
        "line": 12,
    }


def test_what_is_not_known_is_left_out_of_a_json_line() -> None:
    assert list(json(ids(worker=None), record("x", rpc_id=None))) == ["time", "level", "worker", "pid", "message"]
    assert "transaction" not in json(ids(context(request(branch=""))), record("x"))


def test_a_json_line_is_one_line_whatever_it_says_and_bytes_that_are_not_utf_8_survive_as_escapes() -> None:
    of = ids(context(request("caf\udce9@host")))
    members = json(of, record("one\ntwo \x1b \udcff \ud800"))
    assert members["message"] == "one\ntwo \x1b \\xff \\ud800"
    assert members["call_id"] == "caf\\xe9@host"


def test_the_log_prefix_is_a_member_of_its_own() -> None:
    of = ids(context(), prefix=lambda ctx: f"{{{ctx.message.call_id}}} ")
    members = json(of, record("x"))
    assert (members["logprefix"], members["call_id"]) == ("{abc@host} ", "abc@host")
    assert "logprefix" not in json(ids(prefix=lambda _ctx: "x"), record("x"))


def test_with_the_flag_p_the_log_prefix_is_further_members() -> None:
    of = ids(context(), prefix=lambda _ctx: ', "src_ip": "1.2.3.4", "n": 5, "level": "FORGED"')
    members = json(of, record("x"), "p")
    assert (members["src_ip"], members["n"], members["level"]) == ("1.2.3.4", 5, "INFO")
    assert "logprefix" not in members


@pytest.mark.parametrize("prefix", [', "open": "', "no members", ', "a": "\udce9"'])
def test_with_the_flag_p_a_log_prefix_that_is_none_is_text(prefix: str) -> None:
    shown = prefix.replace("\udce9", "\\xe9")
    assert json(ids(context(), prefix=lambda _ctx: prefix), record("x"), "p")["logprefix"] == shown


def test_with_the_flag_j_a_message_is_an_object() -> None:
    assert json(ids(), record('{"a": [1]}'), "j")["message"] == {"a": [1]}
    assert json(ids(), record("{not json"), "j")["message"] == {"text": "{not json"}
    assert json(ids(), record("caf\udce9"), "j")["message"] == {"text": "caf\\xe9"}


@pytest.mark.parametrize("character", ["x", "é", "\n", "\x01", "\udce9"])
@pytest.mark.parametrize("flags", ["", "j"])
def test_a_json_line_that_is_too_long_is_cut_and_still_json(character: str, flags: str) -> None:
    message = json(ids(context()), record(character * 5000), flags)["message"]
    kept = message["text"] if flags else message
    assert kept.endswith(" characters more)")
    assert len(kept) > 300


def test_a_json_object_that_is_too_long_becomes_text() -> None:
    message = json(ids(), record('{"a": "' + "x" * 5000 + '"}'), "j")["message"]
    assert message["text"].startswith('{"a":"xxx')


def test_ids_that_are_too_long_are_cut_before_the_message_is() -> None:
    members = json(ids(context(request("c" * 6000))), record("hello"))
    assert members["call_id"] == "c" * 256 + "..."
    assert members["message"] == "hello"


def test_members_of_a_log_prefix_that_are_too_long_are_left_out() -> None:
    of = ids(context(), prefix=lambda _ctx: ', "a": "' + "x" * 6000 + '"')
    assert json(of, record("hello"), "p")["message"] == "(this line would be too long)"
