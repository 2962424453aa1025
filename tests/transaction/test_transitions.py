"""Each machine does what its TRANSITIONS say, and nothing else, in any order of events and at any time."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.sip.message import Request, Response
from sipwright.testing.clock import FakeClock
from sipwright.testing.recordinghost import RecordingHost
from sipwright.timerqueue import Timer
from sipwright.transaction import invite_client, invite_server, noninvite_client, noninvite_server
from sipwright.transaction.state import State, Transition

Step = tuple[str, Any]
MACHINES = {
    "invite_server": (invite_server, invite_server.InviteServerTransaction),
    "noninvite_server": (noninvite_server, noninvite_server.NonInviteServerTransaction),
    "invite_client": (invite_client, invite_client.InviteClientTransaction),
    "noninvite_client": (noninvite_client, noninvite_client.NonInviteClientTransaction),
}
STATUSES = st.sampled_from([100, 180, 183, 199, 200, 202, 299, 300, 404, 487, 503, 603, 699])
ADVANCES = st.tuples(st.just("advance"), st.sampled_from([0.1, 0.5, 1.0, 4.0, 5.0, 33.0]))
SERVER_STEPS = st.one_of(
    st.tuples(st.just("respond"), STATUSES),
    st.tuples(st.sampled_from(["receive_retransmission", "receive_ack", "transport_error"]), st.none()),
    ADVANCES,
    st.tuples(st.just("terminate"), st.none()),
)
CLIENT_STEPS = st.one_of(
    st.tuples(st.just("receive_response"), STATUSES), st.tuples(st.just("transport_error"), st.none()), ADVANCES
)


class Watch(RecordingHost):
    """Runs every event of one transaction and compares what happens with the table."""

    def __init__(self, table: Sequence[Transition]) -> None:
        super().__init__(FakeClock())
        self.rows = {(row.state, row.event): row for row in table}
        assert len(self.rows) == len(table), "two rows for one state and event"
        self.start_timer = self._start_timer
        self.changes: list[State] = []
        self.seen: set[Transition] = set()
        self.returned: object = None

    def _start_timer(self, delay: float, callback: Callable[[Any], object], argument: Any) -> Timer:
        assert delay > 0
        return self.clock.start_timer(delay, self._fired, (callback, argument))

    def _fired(self, timer: tuple[Callable[[Any], object], Any]) -> None:
        callback, transaction = timer
        assert (transaction.state, callback.__name__) in self.rows, "a timer ended that should have been cancelled"
        self.run(transaction, callback.__name__, callback, transaction)

    def run(self, transaction: Any, event: str, call: Callable[..., object], *arguments: Any) -> Transition | None:
        before: State = transaction.state
        sent_before = self.sent
        self.changes.clear()
        self.returned = call(*arguments)
        changes, sent = list(self.changes), self.sent[len(sent_before) :]
        row = self.rows.get((before, event))
        if row is None:
            assert (changes, sent) == ([], [])
            return None
        self.seen.add(row)
        if row.next is not before:
            assert changes.pop(0) is row.next
        self._check_zero_timers(transaction, row.next, changes)
        last = [data for data in sent_before if not data.startswith(b"ACK")][-1:]
        expected = {
            "": [],
            "new": [arguments[-1]] if arguments else [],
            "last": last,
            "100": [self.trying_bytes],
            "ACK": [self.ack_bytes],
        }[row.sends]
        assert sent == expected
        if transaction.state is State.TERMINATED:
            assert self.ended_transactions == [transaction]
            assert len(self.clock.timers) == 0
        return row

    def _check_zero_timers(self, transaction: Any, state: State, changes: list[State]) -> None:
        # Over a reliable transport some timers are zero seconds: they end within the event that starts them.
        for change in changes:
            assert transaction.reliable
            rows = [row for row in self.rows.values() if row.state is state and row.next is change]
            rows = [row for row in rows if row.event.startswith("timer_")]
            assert len(rows) == 1
            self.seen.add(rows[0])
            state = change


@functools.cache
def watched(cls: type) -> Any:
    """Return the machine with a `state` whose changes its host sees."""
    slot: Any = vars(cls)["state"]

    def set_state(transaction: Any, state: State) -> None:
        if state is not getattr(transaction, "state", None):
            transaction._host.changes.append(state)
        slot.__set__(transaction, state)

    return type(cls.__name__, (cls,), {"__slots__": (), "state": property(slot.__get__, set_state)})


def event_class(host: Watch, event: str, status: int) -> str:
    """Return the event's name as the machine's table has it: "respond 2xx" or "respond 2xx-6xx"."""
    names = {event for _, event in host.rows}
    span = "1xx" if status < 200 else "2xx" if status < 300 else "3xx-6xx"
    return f"{event} {span}" if f"{event} {span}" in names else f"{event} 2xx-6xx"


def run_server(host: Watch, transaction: Any, steps: Sequence[Step]) -> None:
    for number, (what, argument) in enumerate(steps):
        if what == "advance":
            host.clock.advance(argument)
        elif what == "respond":
            data = b"response %d" % number
            row = host.run(transaction, event_class(host, what, argument), transaction.respond, argument, data)
            assert host.returned is (row is not None)
        elif what == "receive_retransmission":
            host.run(transaction, what, transaction.receive_retransmission, Request())
        elif what == "receive_ack":
            if hasattr(transaction, "receive_ack"):
                host.run(transaction, what, transaction.receive_ack, Request())
                assert host.returned is (transaction.state is not State.ACCEPTED)
        else:
            host.run(transaction, what, getattr(transaction, what))
        check_memory(transaction)


def check_memory(transaction: Any) -> None:
    if transaction.status >= 200 or transaction.state is State.TERMINATED:
        assert transaction.request is None
        assert transaction.user is None


def run_client(host: Watch, transaction: Any, steps: Sequence[Step]) -> None:
    transaction.start()
    assert host.sent == [b"request"]
    for what, argument in steps:
        if what == "advance":
            host.clock.advance(argument)
        elif what == "receive_response":
            response = Response()
            response.status = argument
            host.run(transaction, event_class(host, what, argument), transaction.receive_response, response)
        else:
            host.run(transaction, what, transaction.transport_error)
    check_responses(host)


def check_responses(host: Watch) -> None:
    statuses = [response.status for _, response in host.responses]
    finals = [status for status in statuses if status >= 200]
    assert statuses == sorted(statuses, key=lambda status: status >= 200), "a provisional after a final response"
    assert len(finals) <= 1 or all(status < 300 for status in finals)


def run(name: str, reliable: bool, steps: Sequence[Step]) -> set[Transition]:
    """Take a new transaction through the steps and return the arrows that it took."""
    module, cls = MACHINES[name]
    host = Watch(module.TRANSITIONS)
    if name.endswith("server"):
        transaction = watched(cls)(host, b"key", Request(), "peer", reliable)
        transaction.user = "user"
        run_server(host, transaction, steps)
    else:
        run_client(host, watched(cls)(host, b"key", b"request", "peer", reliable), steps)
    return host.seen


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("reliable", [False, True])
def test_machine_follows_its_table_in_any_order_of_events(name: str, reliable: bool) -> None:
    @given(st.lists(SERVER_STEPS if name.endswith("server") else CLIENT_STEPS, max_size=12))
    def follows(steps: list[Step]) -> None:
        run(name, reliable, steps)

    follows()


@pytest.mark.parametrize("name", MACHINES)
def test_every_arrow_of_a_table_is_taken_by_some_three_events(name: str) -> None:
    steps: list[Step] = [("transport_error", None), ("advance", 0.5), ("advance", 33.0)]
    if name.endswith("server"):
        steps += [("terminate", None), ("receive_retransmission", None), ("receive_ack", None)]
    steps += [("respond" if name.endswith("server") else "receive_response", status) for status in (180, 200, 486)]
    seen = set().union(*(run(name, reliable=False, steps=order) for order in itertools.product(steps, repeat=3)))
    assert seen == set(MACHINES[name][0].TRANSITIONS)
