"""Suspensions: each ends exactly once, whoever comes first."""

from __future__ import annotations

from collections.abc import Callable

from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Address, Context
from sipwright.script.suspend import Suspension, Suspensions
from sipwright.sip.message import Request
from sipwright.sip.parse import parse

OPTIONS = (
    b"OPTIONS sip:a@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n"
    b"From: <sip:b@example.org>;tag=1\r\n"
    b"To: <sip:a@example.org>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


class Nowhere:
    proto = "udp"
    address = ("127.0.0.1", 5060)

    @property
    def send(self) -> Callable[[bytes, Address], object]:
        raise AssertionError("nothing is sent here")


class Recorded(Suspension):
    __slots__ = ("gone",)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.gone = 0

    def abandoned(self) -> None:
        self.gone += 1


def make_context() -> Context:
    message = parse(OPTIONS)
    assert isinstance(message, Request)
    return Context(message, ("127.0.0.1", 5061), Nowhere(), RouteKind.REQUEST)


def make_table(limit: int = 10, sweeps: int = 3) -> tuple[Suspensions, list[Context]]:
    overdue: list[Context] = []
    return Suspensions(overdue.append, limit, sweeps), overdue


def test_only_the_first_of_all_that_may_end_a_suspension_does() -> None:
    table, _ = make_table()
    suspension = Recorded(make_context())
    assert table.add(suspension)
    assert table.take(suspension)
    assert not table.take(suspension)
    assert not table.abandon(suspension)
    assert suspension.gone == 0
    assert len(table) == 0


def test_an_abandoned_suspension_lets_go_what_it_waited_for_once() -> None:
    table, _ = make_table()
    suspension = Recorded(make_context())
    table.add(suspension)
    assert table.abandon(suspension)
    assert not table.abandon(suspension)
    assert not table.take(suspension)
    assert suspension.gone == 1


def test_a_context_is_suspended_once_at_a_time() -> None:
    table, _ = make_table()
    context = make_context()
    first = Recorded(context)
    assert table.add(first)
    assert not table.add(Recorded(context))
    table.take(first)
    assert context.suspension is None
    assert table.add(Recorded(context))


def test_beyond_the_limit_nothing_is_suspended_and_nothing_changes() -> None:
    table, _ = make_table(limit=2)
    assert table.add(Recorded(make_context()))
    assert table.add(Recorded(make_context()))
    refused = Recorded(make_context())
    assert not table.add(refused)
    assert refused.context.suspension is None
    assert len(table) == 2


def test_only_what_has_waited_for_enough_sweeps_is_overdue() -> None:
    table, overdue = make_table(sweeps=3)
    early = Recorded(make_context())
    table.add(early)
    table.sweep()
    late = Recorded(make_context())
    table.add(late)
    table.sweep()
    table.sweep()
    assert overdue == []
    table.sweep()
    assert overdue == [early.context]
    assert (early.gone, late.gone) == (1, 0)
    table.sweep()
    assert overdue == [early.context, late.context]
    assert len(table) == 0


def test_what_waits_in_place_is_closed_when_it_is_abandoned() -> None:
    table, _ = make_table()
    suspension = Recorded(make_context())
    closed: list[bool] = []

    async def script() -> int:
        try:
            return await suspension
        finally:
            closed.append(True)

    coroutine = script()
    assert coroutine.send(None) is suspension
    suspension.coroutine = coroutine
    table.add(suspension)
    table.abandon(suspension)
    assert closed == [True]


def test_a_snapshot_of_all_suspensions_can_be_ended_while_it_is_walked() -> None:
    table, _ = make_table()
    for _ in range(3):
        table.add(Recorded(make_context()))
    for suspension in table:
        table.abandon(suspension)
    assert len(table) == 0
