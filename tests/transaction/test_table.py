from __future__ import annotations

from collections.abc import Callable

import pytest

from sipwright.sip.message import Request
from sipwright.testing.recordinghost import RecordingHost
from sipwright.transaction.invite_server import InviteServerTransaction
from sipwright.transaction.noninvite_server import NonInviteServerTransaction
from sipwright.transaction.state import State
from sipwright.transaction.table import AnyServerTransaction, TransactionTable

MakeRequest = Callable[..., Request]


@pytest.fixture
def table() -> TransactionTable:
    return TransactionTable()


@pytest.fixture
def host(table: TransactionTable) -> RecordingHost:
    return RecordingHost(table=table)


def created(table: TransactionTable, host: RecordingHost, request: Request) -> AnyServerTransaction:
    transaction = table.create(host, request, "peer")
    assert transaction is not None
    return transaction


def test_new_request_is_not_absorbed_and_its_retransmission_is(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    assert not table.receive(make_request())
    transaction = created(table, host, make_request())
    assert isinstance(transaction, NonInviteServerTransaction)
    transaction.respond(200, b"200")
    assert table.receive(make_request())
    assert host.sent == [b"200", b"200"]
    assert table.absorbed == 1


def test_counts_tell_what_was_created_what_lives_and_what_has_ended(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    for number in range(3):
        created(table, host, make_request(branch=f"z9hG4bK-{number}")).respond(200, b"200")
        host.clock.advance(1.0)
    assert (table.created, table.live, table.ended) == (3, 3, 0)
    host.clock.advance(29.0)
    assert (table.created, table.live, table.ended) == (3, 2, 1)
    host.clock.run()
    assert (table.created, table.live, table.ended) == (3, 0, 3)
    assert not table.receive(make_request(branch="z9hG4bK-0"))


def test_request_that_has_a_transaction_gets_no_second_one(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    transaction = created(table, host, make_request())
    assert table.create(host, make_request(), "peer") is None
    assert table.match(make_request()) is transaction
    assert table.created == 1


def test_ack_of_a_negative_response_is_absorbed(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    transaction = created(table, host, make_request("INVITE"))
    transaction.respond(486, b"486")
    assert table.match(make_request("ACK", to_tag="bob")) is transaction
    assert table.receive(make_request("ACK", to_tag="bob"))
    assert transaction.state is State.CONFIRMED
    assert table.absorbed == 1


def test_ack_that_belongs_to_nothing_is_new(table: TransactionTable, make_request: MakeRequest) -> None:
    assert not table.receive(make_request("ACK"))
    assert table.match(make_request("ACK")) is None


def test_ack_with_the_key_of_no_invite_is_not_given_to_another_transaction(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    created(table, host, make_request("OPTIONS"))
    assert not table.receive(make_request("ACK"))


def test_ack_of_an_rfc_2543_client_is_matched_by_the_tag_of_our_response(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    transaction = created(table, host, make_request("INVITE", branch=None))
    transaction.to_tag = "bob"
    transaction.respond(486, b"486")
    assert not table.receive(make_request("ACK", branch=None, to_tag="carol"))
    assert table.receive(make_request("ACK", branch=None, to_tag="bob"))
    assert transaction.state is State.CONFIRMED


def test_ack_of_an_rfc_2543_client_within_a_dialog_is_matched(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    transaction = created(table, host, make_request("INVITE", branch=None, to_tag="bob"))
    transaction.respond(486, b"486")
    assert table.receive(make_request("ACK", branch=None, to_tag="bob"))
    assert transaction.state is State.CONFIRMED


def test_cancel_is_new_and_finds_its_invite(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    invite = created(table, host, make_request("INVITE"))
    cancel = make_request("CANCEL")
    assert not table.receive(cancel)
    assert table.match_cancel(cancel) is invite
    assert isinstance(created(table, host, cancel), NonInviteServerTransaction)
    assert table.receive(cancel)
    assert table.match_cancel(make_request("CANCEL", branch="z9hG4bK-other")) is None


def test_cancel_finds_no_request_but_invite(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    created(table, host, make_request("OPTIONS"))
    assert table.match_cancel(make_request("CANCEL")) is None


def test_transactions_may_end_while_the_table_is_walked(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    created(table, host, make_request("INVITE"))
    created(table, host, make_request("OPTIONS"))
    for transaction in table:
        transaction.terminate()
    assert table.live == 0


def test_reliable_is_passed_on(table: TransactionTable, host: RecordingHost, make_request: MakeRequest) -> None:
    transaction = table.create(host, make_request("INVITE"), "peer", reliable=True)
    assert isinstance(transaction, InviteServerTransaction)
    assert transaction.reliable
    assert transaction.peer == "peer"


def test_transactions_are_made_in_another_order_than_their_requests_came(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    first, second = make_request("OPTIONS", branch="z9hG4bKfirst"), make_request("OPTIONS", branch="z9hG4bKsecond")
    assert not table.receive(first)
    assert not table.receive(second)
    made = [table.create(host, request, peer=None) for request in (first, second)]
    assert [table.match(first), table.match(second)] == made
    assert made[0] is not made[1]


def test_retransmissions_of_a_request_that_is_held_are_absorbed(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    request = make_request()
    assert not table.receive(request)
    key = table.hold(request, "user")
    assert key is not None
    assert table.receive(make_request())
    assert not table.receive(make_request(branch="z9hG4bK-other"))
    assert (table.live, table.created, table.ended, table.absorbed) == (0, 0, 0, 1)
    table.let_go(key)
    assert not table.receive(make_request())
    assert table.create(host, request, "peer") is not None


def test_request_with_a_transaction_is_not_held(
    table: TransactionTable, host: RecordingHost, make_request: MakeRequest
) -> None:
    created(table, host, make_request())
    assert table.hold(make_request(), "user") is None


def test_cancel_finds_the_invite_that_is_held(table: TransactionTable, make_request: MakeRequest) -> None:
    table.hold(make_request("INVITE"), "user")
    table.hold(make_request("OPTIONS", branch="z9hG4bK-other"), "another")
    assert table.held_for_cancel(make_request("CANCEL")) == "user"
    assert table.held_for_cancel(make_request("CANCEL", branch="z9hG4bK-other")) is None
