from __future__ import annotations

from collections.abc import Callable

import pytest

from sipwright.sip.message import Request
from sipwright.testing.recordinghost import RecordingHost
from sipwright.transaction.noninvite_server import NonInviteServerTransaction
from sipwright.transaction.state import State
from sipwright.transaction.timers import TimerSettings

MakeRequest = Callable[..., Request]


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost()


@pytest.fixture
def transaction(host: RecordingHost, make_request: MakeRequest) -> NonInviteServerTransaction:
    return NonInviteServerTransaction(host, b"key", make_request(), "peer")


def test_retransmission_in_trying_is_absorbed(
    host: RecordingHost, transaction: NonInviteServerTransaction, make_request: MakeRequest
) -> None:
    transaction.receive_retransmission(make_request())
    assert transaction.state is State.TRYING
    assert host.sent == []


def test_retransmission_in_proceeding_gets_the_last_provisional(
    host: RecordingHost, transaction: NonInviteServerTransaction, make_request: MakeRequest
) -> None:
    transaction.respond(100, b"100")
    transaction.respond(183, b"183")
    transaction.receive_retransmission(make_request())
    assert transaction.state is State.PROCEEDING
    assert host.sent == [b"100", b"183", b"183"]
    assert transaction.status == 183


def test_retransmissions_after_the_final_response_get_it_for_32_seconds(
    host: RecordingHost, transaction: NonInviteServerTransaction, make_request: MakeRequest
) -> None:
    assert transaction.respond(200, b"200")
    host.clock.advance(31.9)
    transaction.receive_retransmission(make_request())
    assert host.sends == [(0.0, transaction, b"200"), (31.9, transaction, b"200")]
    host.clock.advance(0.1)
    assert host.ended_transactions == [transaction]
    assert transaction.state is State.TERMINATED
    transaction.receive_retransmission(make_request())
    assert len(host.sends) == 2


def test_second_final_response_is_refused(host: RecordingHost, transaction: NonInviteServerTransaction) -> None:
    transaction.respond(404, b"404")
    assert not transaction.respond(200, b"200")
    assert not transaction.respond(100, b"100")
    assert host.sent == [b"404"]
    assert (transaction.status, transaction.last_response) == (404, b"404")


def test_completed_transaction_lets_go_of_all_but_what_retransmissions_need(
    transaction: NonInviteServerTransaction,
) -> None:
    transaction.user = object()
    transaction.to_tag = "tag"
    transaction.respond(200, b"200")
    assert [transaction.request, transaction.user, transaction.to_tag] == [None, None, None]
    assert (transaction.key, transaction.peer, transaction.last_response) == (b"key", "peer", b"200")


def test_reliable_transaction_ends_with_its_final_response(host: RecordingHost, make_request: MakeRequest) -> None:
    transaction = NonInviteServerTransaction(host, b"key", make_request(), "peer", reliable=True)
    transaction.respond(200, b"200")
    assert host.sent == [b"200"]
    assert host.ended_transactions == [transaction]
    assert len(host.clock.timers) == 0


def test_timer_j_can_be_set(make_request: MakeRequest) -> None:
    host = RecordingHost(timers=TimerSettings(wait=5.0))
    transaction = NonInviteServerTransaction(host, b"key", make_request(), "peer")
    transaction.respond(200, b"200")
    host.clock.advance(4.9)
    assert not host.ended_transactions
    host.clock.advance(0.1)
    assert host.ended_transactions == [transaction]


def test_transport_error_is_told_and_the_state_stays(
    host: RecordingHost, transaction: NonInviteServerTransaction
) -> None:
    transaction.respond(200, b"200")
    transaction.transport_error()
    assert transaction.state is State.COMPLETED
    assert host.transport_errors == [transaction]
    host.clock.advance(32.0)
    transaction.transport_error()
    assert host.transport_errors == [transaction]


@pytest.mark.parametrize("status", [None, 100, 200])
def test_terminated_transaction_ends_once_and_leaves_no_timer(
    host: RecordingHost, transaction: NonInviteServerTransaction, status: int | None
) -> None:
    if status is not None:
        transaction.respond(status, b"response")
    transaction.terminate()
    transaction.terminate()
    host.clock.advance(100.0)
    assert host.ended_transactions == [transaction]
    assert len(host.clock.timers) == 0
    assert not transaction.respond(200, b"200")
