from __future__ import annotations

from collections.abc import Callable

import pytest

from sipwright.sip.message import Request
from sipwright.testing.recordinghost import RecordingHost
from sipwright.transaction.host import ServerTransaction
from sipwright.transaction.invite_server import InviteServerTransaction
from sipwright.transaction.table import TransactionTable

MakeRequest = Callable[..., Request]


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost(table=TransactionTable())


@pytest.fixture
def accepted(host: RecordingHost, make_request: MakeRequest) -> ServerTransaction:
    """Return an INVITE transaction that was answered 200 by a user agent of ours."""
    invite = make_request("INVITE", cseq=7)
    transaction = host.table.create(host, invite, "peer")
    assert isinstance(transaction, InviteServerTransaction)
    transaction.to_tag = "bob"
    transaction.respond(200, b"200")
    host.table.retransmit_2xx(host, transaction, invite)
    return transaction


def test_2xx_is_repeated_until_its_ack_which_is_the_users(
    host: RecordingHost, accepted: ServerTransaction, make_request: MakeRequest
) -> None:
    host.clock.advance(4.0)
    assert host.sent_at(b"200") == [0.0, 0.5, 1.5, 3.5]
    assert not host.table.receive(make_request("ACK", branch="z9hG4bK-other", cseq=7, to_tag="bob"))
    assert host.table._unacknowledged == {}
    host.clock.run()
    assert len(host.sends) == 4
    assert not host.timeouts
    assert host.table.live == 0


@pytest.mark.parametrize("change", [{"cseq": 8}, {"to_tag": "carol"}, {"call_id": "other"}, {"from_tag": "other"}])
def test_ack_of_another_dialog_or_invite_does_not_stop_it(
    host: RecordingHost, accepted: ServerTransaction, make_request: MakeRequest, change: dict[str, object]
) -> None:
    ack = {"branch": "z9hG4bK-other", "cseq": 7, "to_tag": "bob", **change}
    assert not host.table.receive(make_request("ACK", **ack))
    host.clock.advance(0.5)
    assert host.sent_at(b"200") == [0.0, 0.5]


def test_ack_with_the_branch_of_the_invite_stops_it_too(
    host: RecordingHost, accepted: ServerTransaction, make_request: MakeRequest
) -> None:
    assert not host.table.receive(make_request("ACK", cseq=7, to_tag="bob"))
    host.clock.advance(0.5)
    assert host.sent_at(b"200") == [0.0]


def test_without_an_ack_it_gives_up_after_32_seconds_and_tells(
    host: RecordingHost, accepted: ServerTransaction, make_request: MakeRequest
) -> None:
    host.clock.run()
    assert host.sent_at(b"200") == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert host.clock.now == 32.0
    assert host.timeouts == [accepted]
    assert host.table._unacknowledged == {}
    assert not host.table.receive(make_request("ACK", branch="z9hG4bK-other", cseq=7, to_tag="bob"))


def accept(host: RecordingHost, invite: Request, to_tag: str, data: bytes) -> None:
    transaction = host.table.create(host, invite, "peer")
    assert isinstance(transaction, InviteServerTransaction)
    transaction.to_tag = to_tag
    transaction.respond(200, data)
    host.table.retransmit_2xx(host, transaction, invite)


def test_one_2xx_more_than_may_be_repeated_ends_the_repetition_of_the_oldest(
    host: RecordingHost, make_request: MakeRequest
) -> None:
    host.table.max_unacknowledged = 2
    for number in range(3):
        accept(host, make_request("INVITE", branch=f"z9hG4bK{number}", cseq=number), "bob", b"2xx %d" % number)
    assert len(host.table._unacknowledged) == 2
    assert host.table.given_up == 1
    host.clock.advance(1.5)
    assert [len(host.sent_at(b"2xx %d" % number)) for number in range(3)] == [1, 3, 3]
    assert host.timeouts == []


def test_of_two_2xx_with_one_ack_only_the_later_one_is_repeated(host: RecordingHost, make_request: MakeRequest) -> None:
    for branch in ("z9hG4bKa", "z9hG4bKb"):
        accept(host, make_request("INVITE", branch=branch, cseq=7, to_tag="bob"), "bob", branch.encode())
    host.clock.advance(1.5)
    assert [len(host.sent_at(data)) for data in (b"z9hG4bKa", b"z9hG4bKb")] == [1, 3]
    assert not host.table.receive(make_request("ACK", branch="z9hG4bK-other", cseq=7, to_tag="bob"))
    host.clock.run()
    assert len(host.sends) == 4
    assert host.table.given_up == 0
