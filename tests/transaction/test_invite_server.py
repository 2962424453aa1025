from __future__ import annotations

from collections.abc import Callable

import pytest

from sipwright.sip.message import Request
from sipwright.testing.recordinghost import RecordingHost
from sipwright.transaction.invite_server import InviteServerTransaction
from sipwright.transaction.state import State

MakeRequest = Callable[..., Request]


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost()


@pytest.fixture
def invite(make_request: MakeRequest) -> Request:
    return make_request("INVITE")


@pytest.fixture
def ack(make_request: MakeRequest) -> Request:
    return make_request("ACK", to_tag="bob")


@pytest.fixture
def transaction(host: RecordingHost, invite: Request) -> InviteServerTransaction:
    return InviteServerTransaction(host, b"key", invite, "peer")


def test_100_is_sent_when_the_user_is_silent_for_200_ms(
    host: RecordingHost, transaction: InviteServerTransaction, invite: Request
) -> None:
    host.clock.advance(0.19)
    assert host.sent == []
    host.clock.advance(10.0)
    assert host.sends == [(0.2, transaction, host.trying_bytes)]
    assert transaction.status == 100
    transaction.receive_retransmission(invite)
    assert host.sent == [host.trying_bytes, host.trying_bytes]


@pytest.mark.parametrize("status", [100, 180, 200, 486])
def test_no_100_is_sent_after_a_response(
    host: RecordingHost, transaction: InviteServerTransaction, status: int
) -> None:
    host.clock.advance(0.1)
    transaction.respond(status, b"response")
    host.clock.advance(0.3)
    assert host.sent == [b"response"]


def test_retransmission_in_proceeding_gets_the_last_provisional_if_any(
    host: RecordingHost, transaction: InviteServerTransaction, invite: Request
) -> None:
    transaction.receive_retransmission(invite)
    assert host.sent == []
    transaction.respond(180, b"180")
    transaction.respond(183, b"183")
    transaction.receive_retransmission(invite)
    assert host.sent == [b"180", b"183", b"183"]
    assert transaction.status == 183


def test_negative_final_response_is_sent_until_the_ack_comes(
    host: RecordingHost, transaction: InviteServerTransaction, ack: Request
) -> None:
    transaction.respond(486, b"486")
    assert transaction.status == 486
    host.clock.advance(5.0)
    # Timer G: T1, doubled each time.
    assert host.sent_at(b"486") == [0.0, 0.5, 1.5, 3.5]
    assert transaction.receive_ack(ack)
    assert transaction.state is State.CONFIRMED
    host.clock.advance(4.9)
    assert transaction.receive_ack(ack)
    assert not host.ended_transactions
    host.clock.advance(0.1)
    assert len(host.sends) == 4
    assert host.ended_transactions == [transaction]
    assert not host.timeouts


def test_without_an_ack_the_transaction_ends_after_32_seconds_and_tells(
    host: RecordingHost, transaction: InviteServerTransaction
) -> None:
    transaction.respond(486, b"486")
    host.clock.run()
    assert host.sent_at(b"486") == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert host.clock.now == 32.0
    assert host.timeouts == [transaction]
    assert host.ended_transactions == [transaction]


def test_retransmission_after_a_negative_final_response_gets_it_and_none_after_the_ack(
    host: RecordingHost, transaction: InviteServerTransaction, invite: Request, ack: Request
) -> None:
    transaction.respond(486, b"486")
    transaction.receive_retransmission(invite)
    assert host.sent == [b"486", b"486"]
    transaction.receive_ack(ack)
    transaction.receive_retransmission(invite)
    assert len(host.sends) == 2


def test_2xx_is_not_repeated_and_retransmissions_are_absorbed(
    host: RecordingHost, transaction: InviteServerTransaction, invite: Request
) -> None:
    transaction.respond(200, b"200")
    transaction.receive_retransmission(invite)
    assert transaction.state is State.ACCEPTED
    assert transaction.status == 200
    host.clock.advance(31.9)
    assert not host.ended_transactions
    host.clock.run()
    assert host.sends == [(0.0, transaction, b"200")]
    assert host.clock.now == 32.0
    assert host.ended_transactions == [transaction]
    assert not host.timeouts


def test_further_2xx_are_sent_and_other_responses_refused(
    host: RecordingHost, transaction: InviteServerTransaction
) -> None:
    transaction.respond(200, b"200")
    assert transaction.respond(202, b"202")
    assert not transaction.respond(180, b"180")
    assert not transaction.respond(300, b"300")
    assert host.sent == [b"200", b"202"]
    assert (transaction.status, transaction.last_response) == (202, b"202")


def test_ack_of_a_2xx_is_the_users(transaction: InviteServerTransaction, ack: Request) -> None:
    transaction.respond(200, b"200")
    assert not transaction.receive_ack(ack)
    assert transaction.state is State.ACCEPTED


def test_ack_before_a_final_response_is_absorbed(
    host: RecordingHost, transaction: InviteServerTransaction, ack: Request
) -> None:
    assert transaction.receive_ack(ack)
    assert transaction.state is State.PROCEEDING
    assert host.sent == []


def test_over_a_reliable_transport_nothing_is_repeated_and_the_ack_ends_it(
    host: RecordingHost, invite: Request, ack: Request
) -> None:
    transaction = InviteServerTransaction(host, b"key", invite, "peer", reliable=True)
    transaction.respond(486, b"486")
    host.clock.advance(20.0)
    assert host.sent == [b"486"]
    transaction.receive_ack(ack)
    assert host.ended_transactions == [transaction]
    assert len(host.clock.timers) == 0


def test_over_a_reliable_transport_a_missing_ack_times_out_too(host: RecordingHost, invite: Request) -> None:
    transaction = InviteServerTransaction(host, b"key", invite, "peer", reliable=True)
    transaction.respond(486, b"486")
    host.clock.run()
    assert host.clock.now == 32.0
    assert host.timeouts == [transaction]


def test_final_response_lets_go_of_request_and_user_but_keeps_the_tag(transaction: InviteServerTransaction) -> None:
    transaction.user = object()
    transaction.to_tag = "bob"
    transaction.respond(486, b"486")
    assert (transaction.request, transaction.user, transaction.to_tag) == (None, None, "bob")


@pytest.mark.parametrize("status", [None, 100, 200, 486])
def test_terminated_transaction_ends_once_and_leaves_no_timer(
    host: RecordingHost, transaction: InviteServerTransaction, status: int | None
) -> None:
    if status is not None:
        transaction.respond(status, b"response")
    transaction.terminate()
    transaction.terminate()
    assert len(host.clock.timers) == 0
    assert host.ended_transactions == [transaction]
    assert not transaction.respond(200, b"200")


def test_transport_error_is_told_and_the_response_is_tried_again(
    host: RecordingHost, transaction: InviteServerTransaction
) -> None:
    transaction.respond(486, b"486")
    transaction.transport_error()
    assert host.transport_errors == [transaction]
    host.clock.advance(0.5)
    assert host.sent_at(b"486") == [0.0, 0.5]
