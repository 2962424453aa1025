from __future__ import annotations

import pytest

from sipwright.sip.message import Response
from sipwright.testing.recordinghost import RecordingHost
from sipwright.transaction.noninvite_client import NonInviteClientTransaction
from sipwright.transaction.state import State


def response(status: int) -> Response:
    made = Response()
    made.status = status
    return made


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost()


@pytest.fixture
def transaction(host: RecordingHost) -> NonInviteClientTransaction:
    made = NonInviteClientTransaction(host, b"key", b"OPTIONS", "peer")
    made.start()
    return made


def test_request_is_repeated_up_to_t2_until_timer_f_tells_that_nobody_answers(
    host: RecordingHost, transaction: NonInviteClientTransaction
) -> None:
    host.clock.run()
    assert host.sent_at(b"OPTIONS") == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert host.clock.now == 32.0
    assert host.timeouts == host.ended_transactions == [transaction]


def test_after_a_provisional_response_the_request_is_repeated_every_t2(
    host: RecordingHost, transaction: NonInviteClientTransaction
) -> None:
    host.clock.advance(0.1)
    provisional = response(100)
    transaction.receive_response(provisional)
    assert transaction.state is State.PROCEEDING
    host.clock.advance(10.0)
    # The interval that runs is not shortened or lengthened: Timer E is reset to T2 when it ends (17.1.2.2).
    assert host.sent_at(b"OPTIONS") == [0.0, 0.5, 4.5, 8.5]
    assert host.responses == [(transaction, provisional)]


def test_final_response_stops_the_repetition_and_later_ones_are_absorbed(
    host: RecordingHost, transaction: NonInviteClientTransaction
) -> None:
    final = response(200)
    transaction.receive_response(final)
    transaction.receive_response(response(200))
    assert host.responses == [(transaction, final)]
    host.clock.run()
    assert host.clock.now == 5.0
    assert host.sent == [b"OPTIONS"]
    assert host.ended_transactions == [transaction]
    assert not host.timeouts


def test_over_a_reliable_transport_the_request_is_sent_once(host: RecordingHost) -> None:
    transaction = NonInviteClientTransaction(host, b"key", b"OPTIONS", "peer", reliable=True)
    transaction.start()
    host.clock.advance(31.0)
    assert host.sent == [b"OPTIONS"]
    transaction.receive_response(response(404))
    assert host.ended_transactions == [transaction]
    assert len(host.clock.timers) == 0


def test_transport_error_ends_it(host: RecordingHost, transaction: NonInviteClientTransaction) -> None:
    transaction.transport_error()
    assert host.transport_errors == host.ended_transactions == [transaction]
    assert len(host.clock.timers) == 0
