"""When a request is sent again, and to whom: the client is a list of what was submitted, time is moved by hand."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from sipwright.jsonrpc.messages import NEITHER, Error
from sipwright.jsonrpc.outcome import CLOSED
from sipwright.lang.namespace import Route, RouteKind, Variable
from sipwright.modules.janssonrpcc.options import parse_options
from sipwright.modules.janssonrpcc.requests import Request, Requests, Waiting
from sipwright.script.context import Handling
from sipwright.testing.clock import FakeClock

FIRST, SECOND = "10.0.0.1:1", "10.0.0.2:1"


class Submitted:
    """A call that was submitted, when and with what; a test says how it ends."""

    def __init__(self, time: float, method: str, params: bytes | None, done: Any, argument: Any, how: Any) -> None:
        self.time, self.method, self.params, self.done, self.argument, self.how = (
            time,
            method,
            params,
            done,
            argument,
            how,
        )
        self.avoid = list(how["avoid"])
        self.id = 9
        self.server, self.tries, self.reason = "", 0, ""
        self.status: str | None = None
        self.result: bytes | None = None
        self.error: Error | None = None
        self.cancelled = False

    def end(self, status: str, server: str = FIRST, *, reason: str = "", tries: int = 1, error: Any = None) -> None:
        self.status, self.server, self.reason, self.tries = status, server, reason, tries if server else 0
        self.result = b"1" if status == "ok" else None
        self.error = error
        self.done(self.argument, self)

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """The requests of a worker, and what became of them: text and reason of each that ended."""

    def __init__(self, retry_codes: tuple[range, ...] = ()) -> None:
        self.clock = FakeClock()
        self.services: Any = SimpleNamespace(timers=self.clock.timers, handling=Handling())
        self.sent: list[Submitted] = []
        self.ended: list[tuple[Any, str]] = []
        self.requests = Requests(self.services, self.submit, retry_codes, self.take)

    def submit(self, method: str, params: bytes | None, done: Any, argument: Any, **how: Any) -> Submitted:
        self.sent.append(Submitted(self.clock.now, method, params, done, argument, how))
        return self.sent[-1]

    def take(self, _request: Request, text: str, why: str) -> None:
        self.ended.append((json.loads(text), why))

    def send(self, options: str = "", waiting: Waiting | None = None) -> Request:
        context: Any = None
        request = Request(self.requests, context, "conn", "m", b"[1]", parse_options(options), waiting)
        request.send()
        return request

    def waiting(self) -> Waiting:
        context: Any = None
        return Waiting(
            context, self.services, Variable("$var(x)", lambda _: None), Route("R", RouteKind.REQUEST, "", 0)
        )

    @property
    def codes(self) -> list[int]:
        """The codes of the internal errors in which requests have ended."""
        return [text["internal_error"]["code"] for text, _ in self.ended]

    def pauses(self, most: float) -> list[float]:
        """Let each try time out at once; return how long the next one was waited for, to the tenth."""
        pauses, began = list[float](), self.clock.now
        while not self.ended and self.clock.now < began + most:
            count = len(self.sent)
            if self.sent[-1].status is None:
                self.sent[-1].end("timeout")
                began_rest = self.clock.now
            while len(self.sent) == count and not self.ended and self.clock.now < began + most:
                self.clock.advance(0.01)
            if len(self.sent) > count:
                pauses.append(round(self.clock.now - began_rest, 1))
        return pauses


def failed(code: int | None) -> Error:
    text = b'{"code":%d}' % (code or 0)
    return Error(text, code, "no", None, text)


def test_a_request_is_submitted_with_its_own_limit_for_each_try() -> None:
    world = World()
    world.send("timeout=200")
    (sent,) = world.sent
    assert (sent.method, sent.params, sent.how) == (
        "m",
        b"[1]",
        {"timeout": 0.2, "retry": 0, "group": "conn", "avoid": []},
    )
    sent.end("ok")
    assert world.ended == [({"result": 1}, "")]


def test_the_pauses_between_tries_grow_with_the_square_of_their_number_up_to_a_minute() -> None:
    world = World()
    world.send("timeout=100;retry=4")
    assert world.pauses(100) == [0.1, 0.4, 0.9, 1.6]
    assert world.codes == [-100]
    world = World()
    world.send("timeout=20000;retry=3")
    assert world.pauses(1000) == [20.0, 60.0, 60.0]


def test_a_request_without_retry_ends_with_its_first_try() -> None:
    world = World()
    for status, server, code in [("timeout", FIRST, -100), ("failure", "", -50), ("failure", FIRST, -75)]:
        world.send()
        world.sent[-1].end(status, server, reason="why")
        assert world.codes[-1] == code
    assert [why for _, why in world.ended] == [f"no answer from {FIRST}", "why", "why"]


def test_a_request_that_is_tried_for_ever_is_given_up_never() -> None:
    world = World()
    world.send("timeout=1;retry=-1")
    assert len(world.pauses(30)) > 30
    assert world.ended == []


def test_the_last_try_says_what_was_wrong() -> None:
    world = World()
    world.send("timeout=100;retry=1")
    world.sent[0].end("timeout")
    world.clock.advance(0.1)
    world.sent[1].end("failure", "", reason="nobody is there")
    assert world.codes == [-50]
    assert world.ended[0][0]["internal_error"]["data"] == {"jsonrpc": "2.0", "method": "m", "params": [1]}


def test_a_server_that_did_not_answer_is_avoided_until_all_were_asked() -> None:
    world = World()
    world.send("timeout=100;retry=-1")
    for server in (FIRST, SECOND, FIRST, SECOND):
        world.sent[-1].end("timeout", server)
        world.clock.advance(60)
    assert [sent.avoid for sent in world.sent] == [[], [FIRST], [FIRST, SECOND], [FIRST], [FIRST, SECOND]]


def test_calls_that_the_client_moved_from_lost_connections_count_as_tries() -> None:
    world = World()
    world.send("timeout=100;retry=3")
    assert world.sent[0].how["retry"] == 3
    world.sent[0].end("timeout", SECOND, tries=2)
    world.clock.advance(0.39)
    assert len(world.sent) == 1
    world.clock.advance(0.02)
    assert world.sent[1].how["retry"] == 1


def test_a_code_is_retried_only_where_no_route_waits() -> None:
    codes = (range(-32099, -31999),)
    world = World(codes)
    world.send("timeout=100;retry=1")
    world.sent[0].end("error", error=failed(-32050))
    world.clock.advance(0.1)
    world.sent[1].end("error", error=failed(-32050))
    assert world.ended == [({"error": {"code": -32050}}, 'the answer is an error: {"code":-32050}')]
    world = World(codes)
    world.send("timeout=100;retry=1", world.waiting())
    world.sent[0].end("error", error=failed(-32050))
    assert world.ended[0][0] == {"error": {"code": -32050}}


@pytest.mark.parametrize("error", [failed(-31999), failed(None), NEITHER])
def test_other_errors_are_not_retried(error: Error) -> None:
    world = World((range(-32700, -31999),))
    world.send("retry=1")
    world.sent[0].end("error", error=error)
    assert len(world.ended) == 1


def test_a_request_that_was_stopped_is_not_sent_again_and_ends_nothing() -> None:
    world = World()
    waiting = world.waiting()
    world.send("timeout=100;retry=1", waiting)
    waiting.abandoned()
    assert world.sent[0].cancelled
    world.sent[0].end("ok")
    resting = world.waiting()
    world.send("timeout=100;retry=1", resting)
    world.sent[1].end("timeout")
    assert len(world.requests.resting) == 1
    resting.abandoned()
    world.clock.advance(10)
    assert (len(world.sent), world.ended, len(world.requests.resting), len(world.clock.timers)) == (2, [], 0, 0)


def test_at_the_stop_of_the_server_nothing_is_tried_again() -> None:
    world = World()
    world.send("timeout=100;retry=5")
    world.sent[0].end("timeout")
    world.send("retry=5")
    world.send("retry=5")
    world.requests.close()
    world.sent[1].end("failure", FIRST, reason=CLOSED)
    world.sent[2].end("failure", "", reason=CLOSED)
    assert world.codes == [-5, -75, -5]
    world.clock.advance(60)
    assert len(world.sent) == 3


def test_an_ended_request_holds_nothing_that_holds_it() -> None:
    world = World()
    waiting = world.waiting()
    world.send("", waiting)
    held = [waiting.request, waiting.call]
    assert None not in held
    world.sent[0].end("ok")
    assert [waiting.request, waiting.call] == [None, None]
