from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sipwright.sip.message import Request, Response
from sipwright.sip.parse import parse
from sipwright.transaction.key import cancelled_key, client_key, response_key, server_key, untagged_key

MakeRequest = Callable[..., Request]


def test_retransmission_has_the_same_key(make_request: MakeRequest) -> None:
    assert server_key(make_request()) == server_key(make_request(call_id="only branch, sent-by and method count"[:4]))


@pytest.mark.parametrize("change", [{"branch": "z9hG4bK-2"}, {"sent_by": "192.0.2.2:5060"}, {"sent_by": "192.0.2.1"}])
def test_other_branch_or_sent_by_has_another_key(make_request: MakeRequest, change: dict[str, Any]) -> None:
    assert server_key(make_request()) != server_key(make_request(**change))


def test_host_of_sent_by_is_compared_without_case(make_request: MakeRequest) -> None:
    assert server_key(make_request(sent_by="Pc.Example.COM")) == server_key(make_request(sent_by="pc.example.com"))


@pytest.mark.parametrize("method", ["BYE", "CANCEL", "REGISTER", "INVITE", "NEWMETHOD"])
def test_each_method_has_its_own_key(make_request: MakeRequest, method: str) -> None:
    assert server_key(make_request(method)) != server_key(make_request("OPTIONS"))
    assert server_key(make_request(method)) == server_key(make_request(method))


@pytest.mark.parametrize("branch", ["z9hG4bK-1", None, "1"])
def test_ack_and_cancel_lead_to_their_invite(make_request: MakeRequest, branch: str | None) -> None:
    invite = server_key(make_request("INVITE", branch=branch))
    assert server_key(make_request("ACK", branch=branch)) == invite
    assert cancelled_key(make_request("CANCEL", branch=branch)) == invite
    assert server_key(make_request("CANCEL", branch=branch)) != invite
    assert cancelled_key(make_request("CANCEL", branch=branch, sent_by="192.0.2.9")) != invite


@pytest.mark.parametrize("branch", [None, "1", "z9hG4bK"])
@pytest.mark.parametrize(
    "change",
    [
        {"uri": "sip:carol@example.com"},
        {"from_tag": "mallory"},
        {"to_tag": "bob"},
        {"call_id": "call-2"},
        {"cseq": 2},
        {"sent_by": "192.0.2.2"},
        {"via": ";other=1"},
    ],
)
def test_without_the_magic_cookie_the_whole_request_counts(
    make_request: MakeRequest, branch: str | None, change: dict[str, Any]
) -> None:
    original = server_key(make_request("INVITE", branch=branch))
    assert server_key(make_request("INVITE", branch=branch)) == original
    assert server_key(make_request("INVITE", branch=branch, **change)) != original


def test_only_the_top_via_counts_without_the_magic_cookie(make_request: MakeRequest) -> None:
    below = ", SIP/2.0/UDP 198.51.100.7"
    assert server_key(make_request("INVITE", branch=None, via=below)) == server_key(make_request("ACK", branch=None))


def test_untagged_key_is_that_of_the_first_invite_of_a_dialog(make_request: MakeRequest) -> None:
    invite = server_key(make_request("INVITE", branch=None))
    assert untagged_key(make_request("ACK", branch=None, to_tag="bob")) == invite
    assert untagged_key(make_request("ACK", branch=None)) is None
    assert untagged_key(make_request("ACK", to_tag="bob")) is None


def test_response_has_the_key_of_its_request() -> None:
    response = parse(
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-7;received=192.0.2.9\r\n"
        b"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>;tag=2\r\nCall-ID: 1\r\nCSeq: 5 OPTIONS\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    assert isinstance(response, Response)
    assert response_key(response) == client_key(b"z9hG4bK-7", "OPTIONS")
    assert response_key(response) != client_key(b"z9hG4bK-7", "CANCEL")
