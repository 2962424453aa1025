from __future__ import annotations

import pytest

from sipwright.sip.message import Response
from sipwright.testing.recordinghost import RecordingHost
from sipwright.transaction.invite_client import InviteClientTransaction
from sipwright.transaction.state import State


def response(status: int) -> Response:
    made = Response()
    made.status = status
    return made


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost()


@pytest.fixture
def transaction(host: RecordingHost) -> InviteClientTransaction:
    made = InviteClientTransaction(host, b"key", b"INVITE", "peer")
    made.start()
    return made


def test_invite_is_repeated_at_doubled_intervals_until_timer_b(
    host: RecordingHost, transaction: InviteClientTransaction
) -> None:
    host.clock.run()
    assert host.sent_at(b"INVITE") == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert host.clock.now == 32.0
    assert host.timeouts == host.ended_transactions == [transaction]


def test_provisional_response_stops_the_repetition(host: RecordingHost, transaction: InviteClientTransaction) -> None:
    transaction.receive_response(response(180))
    transaction.receive_response(response(183))
    host.clock.advance(100.0)
    assert transaction.state is State.PROCEEDING
    assert host.sent == [b"INVITE"]
    assert [each.status for _, each in host.responses] == [180, 183]


def test_negative_final_response_is_acknowledged_each_time_and_passed_up_once(
    host: RecordingHost, transaction: InviteClientTransaction
) -> None:
    transaction.receive_response(response(486))
    host.clock.advance(1.0)
    transaction.receive_response(response(486))
    assert host.sent_at(host.ack_bytes) == [0.0, 1.0]
    assert len(host.responses) == 1
    host.clock.run()
    assert host.clock.now == 32.0
    assert host.ended_transactions == [transaction]


def test_every_2xx_is_passed_up_for_the_user_to_acknowledge(
    host: RecordingHost, transaction: InviteClientTransaction
) -> None:
    transaction.receive_response(response(200))
    transaction.receive_response(response(180))
    transaction.receive_response(response(200))
    transaction.receive_response(response(486))
    assert [each.status for _, each in host.responses] == [200, 200]
    assert host.sent == [b"INVITE"]
    host.clock.run()
    assert host.clock.now == 32.0
    assert host.ended_transactions == [transaction]


def test_over_a_reliable_transport_the_ack_ends_it(host: RecordingHost) -> None:
    transaction = InviteClientTransaction(host, b"key", b"INVITE", "peer", reliable=True)
    transaction.start()
    host.clock.advance(20.0)
    transaction.receive_response(response(603))
    assert host.sent == [b"INVITE", host.ack_bytes]
    assert [each.status for _, each in host.responses] == [603]
    assert host.ended_transactions == [transaction]
    assert len(host.clock.timers) == 0


def test_transport_error_ends_it_while_there_is_something_to_send(
    host: RecordingHost, transaction: InviteClientTransaction
) -> None:
    transaction.receive_response(response(180))
    transaction.transport_error()
    assert not host.transport_errors
    transaction.receive_response(response(486))
    transaction.transport_error()
    assert host.transport_errors == host.ended_transactions == [transaction]
