"""The event log: what it says of a call, and of which one."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sipwright.engine.eventlog import EVENTS, MAX_ASKED, EventLog
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.sip.build import reply
from sipwright.sip.message import Message
from sipwright.sip.parse import parse

Requests = Callable[..., bytes]


@pytest.fixture
def asking(server: Any) -> Any:
    """A server that logs events, and whose script asks a service and answers 200 or 404."""
    server.log_events()
    found = server.route(lambda ctx: server.reply(ctx, 200), "FOUND")
    lost = server.route(lambda ctx: server.reply(ctx, 404, "Not Found"), "LOST")
    server.route(lambda ctx: server.ask(ctx, found, lost))
    return server


def about(record: logging.LogRecord) -> str | None:
    """Return the Call-ID that a line is about."""
    subject = record.__dict__.get("about")
    message = subject.message if isinstance(subject, Context) else subject
    return None if message is None else str(message.call_id)


def watched(server: Any, event: str, number: int | None = 1, **outcome: Any) -> None:
    """Tell the engine what a JSON-RPC client has seen, as a real one does."""
    call = server.client.calls[0] if event not in ("late", "doubled", "unknown") else None
    for name, value in outcome.items():
        setattr(call, name, value)
    server.client.watch(event, call, "test:1", number)


def test_a_call_is_told_in_order_from_its_request_to_the_end_of_its_transaction(
    asking: Any, request_bytes: Requests
) -> None:
    asking.receive(request_bytes(call_id="abc@host"))
    watched(asking, "request")
    watched(asking, "ok", result=b'{"a":1}')
    asking.client.calls[0].answer(b'{"a":1}')
    asking.clock.advance(33)
    assert asking.lines() == [
        "< receive OPTIONS sip:alice@example.org from 127.0.0.1:5070",
        "suspend",
        '> rpc_request 1 get_user {"id":1} to test:1',
        '< rpc_ok 1 from test:1 after 7 ms: {"a":1}',
        "resume FOUND",
        "> send 200 OK to 127.0.0.1:5070",
        "ended with 200",
    ]
    assert {about(record) for record in asking.records} == {"abc@host"}
    assert {record.levelno for record in asking.records} == {logging.DEBUG}
    assert [record.__dict__["event"] for record in asking.records[2:4]] == ["rpc_request", "rpc_ok"]
    assert [record.__dict__["rpc_id"] for record in asking.records] == [None, None, 1, 1, None, None, None]


def test_a_cancelled_invite_is_told_with_its_json_rpc_call(asking: Any, request_bytes: Requests) -> None:
    asking.receive(request_bytes("INVITE", call_id="abc@host"))
    asking.client.calls[0].id = 3
    asking.receive(request_bytes("CANCEL", call_id="abc@host"))
    asking.receive(request_bytes("ACK", call_id="abc@host", to_tag="tag-1"))
    asking.clock.advance(6)
    assert asking.lines() == [
        "< receive INVITE sip:alice@example.org from 127.0.0.1:5070",
        "suspend",
        "> send 100 Trying to 127.0.0.1:5070",
        "< receive CANCEL sip:alice@example.org from 127.0.0.1:5070",
        "> send 200 canceling to 127.0.0.1:5070",
        "< cancel",
        "> send 487 Request Terminated to 127.0.0.1:5070",
        "rpc_cancelled 3",
        "< absorb ACK from 127.0.0.1:5070",
        "ended with 487",
    ]
    assert {about(record) for record in asking.records} == {"abc@host"}


def test_a_late_answer_is_told_with_the_call_that_it_was_for(asking: Any, request_bytes: Requests) -> None:
    asking.receive(request_bytes(call_id="abc@host"))
    watched(asking, "request", 5)
    watched(asking, "timeout", 5, status="timeout")
    watched(asking, "late", 5)
    watched(asking, "unknown", None)
    assert asking.lines()[-3:] == [
        "rpc_timeout 5 from test:1 after 7 ms",
        "< rpc_late 5 from test:1: nobody waits for it",
        "< rpc_unknown None from test:1: nobody waits for it",
    ]
    assert [about(record) for record in asking.records[-3:]] == ["abc@host", "abc@host", None]


def test_a_retransmission_is_told_before_what_is_sent_again(server: Any, request_bytes: Requests) -> None:
    server.log_events()
    server.route(lambda ctx: server.reply(ctx, 200))
    server.receive(request_bytes())
    server.receive(request_bytes())
    assert server.lines()[2:] == ["< absorb OPTIONS from 127.0.0.1:5070", "> send 200 OK to 127.0.0.1:5070"]


def test_the_ack_of_a_2xx_is_not_told_as_absorbed(server: Any, request_bytes: Requests) -> None:
    server.log_events()
    server.route(lambda ctx: server.reply(ctx, 200) if ctx.message.method == "INVITE" else 1)
    server.receive(request_bytes("INVITE"))
    server.receive(request_bytes("ACK", to_tag="tag-1"))
    assert server.lines()[-1] == "< receive ACK sip:alice@example.org from 127.0.0.1:5070"


def test_what_a_script_leaves_is_told_as_released(server: Any, request_bytes: Requests) -> None:
    server.log_events()
    server.route(lambda ctx: server.core.services.new_transaction(ctx))
    server.receive(request_bytes(call_id="abc@host"))
    assert server.lines()[-2:] == ["release", "ended without an answer"]


def test_a_stateless_answer_is_told(server: Any, request_bytes: Requests) -> None:
    server.log_events()
    server.route(lambda ctx: server.core.services.reply_stateless(ctx, 302, "Moved"))
    server.receive(request_bytes())
    assert server.lines()[-1] == "> reply_stateless 302 Moved to 127.0.0.1:5070"


def test_what_is_suspended_for_too_long_is_told(asking: Any, request_bytes: Requests) -> None:
    asking.receive(request_bytes())
    asking.clock.advance(62.5)
    assert asking.lines()[-4:] == [
        "rpc_cancelled get_user",
        "overdue",
        "suspended for too long",
        "> send 408 Request Timeout to 127.0.0.1:5070",
    ]


def test_a_notification_is_told(server: Any, request_bytes: Requests) -> None:
    server.log_events()
    server.route(lambda ctx: server.notify(ctx) and server.reply(ctx, 200))
    server.receive(request_bytes())
    assert server.lines()[1] == '> rpc_notification seen {"id":1}'


def test_a_response_that_belongs_to_nothing_is_told(server: Any, request_bytes: Requests) -> None:
    server.log_events()
    server.route(lambda _ctx: 1)
    request: Any = parse(request_bytes(call_id="stray@host"))
    server.receive(reply(request, 200, "OK", source=("127.0.0.1", 5070)))
    assert server.lines() == ["< stray 200 OPTIONS from 127.0.0.1:5070 belongs to no transaction"]
    assert about(server.records[0]) == "stray@host"


def test_what_was_not_sent_anywhere_says_why(asking: Any, request_bytes: Requests) -> None:
    asking.receive(request_bytes())
    watched(asking, "failure", None, reason="no server is connected")
    watched(asking, "error", 2, error=SimpleNamespace(text=b'{"code":1}'))
    watched(asking, "doubled", 2)
    assert asking.lines()[-3:] == [
        "rpc_failure get_user: no server is connected",
        '< rpc_error 2 from test:1 after 7 ms: {"code":1}',
        "< rpc_doubled 2 from test:1: nobody waits for it",
    ]


def test_long_parameters_are_shown_in_part() -> None:
    call = SimpleNamespace(method="m", params=b'"' + "é".encode() * 600 + b'"')
    line = EVENTS["rpc_request"]({"id": 1, "call": call, "server": "h:1"})
    assert line == '> rpc_request 1 m "' + "é" * 511 + "... to h:1"


def test_requests_without_an_answer_are_remembered_up_to_a_bound(request_bytes: Requests) -> None:
    log = EventLog(logging.getLogger("sipwright.test.nothing"))
    message = parse(request_bytes())
    assert isinstance(message, Message)
    context: Any = SimpleNamespace(message=message)
    call = SimpleNamespace(method="m", params=None)
    for number in range(MAX_ASKED + 10):
        log("rpc_request", context, {"id": number, "call": call, "server": "h:1"})
    assert len(log._asked) == MAX_ASKED
    assert ("h:1", 9) not in log._asked


def test_events_are_told_while_the_level_of_the_log_is_debug(server: Any, request_bytes: Requests) -> None:
    server.route(lambda ctx: server.reply(ctx, 200))
    services = server.core.services
    assert services.trace is None
    server.receive(request_bytes(branch="z9hG4bK1"))
    services.set_log_level(logging.DEBUG)
    server.receive(request_bytes(branch="z9hG4bK2"))
    services.set_log_level(logging.INFO)
    server.receive(request_bytes(branch="z9hG4bK3"))
    assert server.lines() == [
        "< receive OPTIONS sip:alice@example.org from 127.0.0.1:5070",
        "> send 200 OK to 127.0.0.1:5070",
    ]
    assert server.client.watch is None


def test_a_trace_of_somebody_else_is_told_as_well(server: Any, request_bytes: Requests) -> None:
    events: list[str] = []
    server.route(lambda ctx: server.reply(ctx, 200))
    services = server.core.services
    services.set_trace(lambda event, _context, _detail: events.append(event))
    server.receive(request_bytes(branch="z9hG4bK1"))
    services.set_log_level(logging.DEBUG)
    server.receive(request_bytes(branch="z9hG4bK2"))
    services.set_trace(None)
    server.receive(request_bytes(branch="z9hG4bK3"))
    assert events == ["receive", "send"] * 2
    assert [record.__dict__["event"] for record in server.records] == ["receive", "send"] * 2


def test_the_ack_that_never_came_is_told_of_the_right_call(server: Any, request_bytes: Requests) -> None:
    server.route(lambda ctx: server.reply(ctx, 486, "Busy"))
    server.receive(request_bytes("INVITE", call_id="abc@host"))
    server.clock.advance(33)
    assert server.lines() == ["no ACK for the 486"]
    assert about(server.records[0]) == "abc@host"


def test_a_script_error_carries_file_and_line(server: Any, request_bytes: Requests) -> None:
    def fail(_ctx: Context) -> int:
        raise ValueError("wrong")

    server.route(fail)
    server.route(lambda _ctx: 1, "x:y", RouteKind.EVENT)
    server.receive(request_bytes())
    record = server.records[0]
    assert record.__dict__["file"] == __file__
    assert record.getMessage() == f"{__file__}:{record.__dict__['line']}: ValueError: wrong"


def test_every_event_that_the_source_traces_has_its_line_and_its_words() -> None:
    root = Path(__file__).parents[2]
    called = re.compile(r'trace\(\s*"([a-z_]+)"')
    traced = {name for path in (root / "src").rglob("*.py") for name in called.findall(path.read_text())}
    assert {"receive", "hand_over", "hold", "go_on"} <= traced <= EVENTS.keys()
    page = (root / "docs" / "operations.md").read_text()
    assert [name for name in EVENTS if not re.search(rf"`(?:[<>] )?{name}\b", page)] == []


def test_what_is_handed_to_another_worker_is_told(server: Any, request_bytes: Requests) -> None:
    server.route(lambda ctx: server.reply(ctx, 200))
    server.log.setLevel(logging.DEBUG)
    server.core.hand_over(lambda _message, _source, _socket: True)
    assert server.receive(request_bytes()) == []
    (record,) = [record for record in server.records if record.levelno == logging.DEBUG]
    assert record.getMessage() == "hand_over OPTIONS, which is another worker's"
    assert record.about.call_id == "call1"
