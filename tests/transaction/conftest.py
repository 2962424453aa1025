from __future__ import annotations

from collections.abc import Callable

import pytest

from sipwright.sip.message import Request
from sipwright.sip.parse import parse


def _make_request(
    method: str = "OPTIONS",
    *,
    branch: str | None = "z9hG4bK-1",
    sent_by: str = "192.0.2.1:5060",
    uri: str = "sip:bob@example.com",
    from_tag: str = "alice",
    to_tag: str | None = None,
    call_id: str = "call-1",
    cseq: int = 1,
    via: str = "",
) -> Request:
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/UDP {sent_by}{f';branch={branch}' if branch is not None else ''}{via}",
        f"From: <sip:alice@example.com>;tag={from_tag}",
        f"To: <sip:bob@example.com>{f';tag={to_tag}' if to_tag else ''}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        "Max-Forwards: 70",
        "Content-Length: 0",
    ]
    request = parse("\r\n".join([*lines, "", ""]).encode())
    assert isinstance(request, Request)
    return request


@pytest.fixture
def make_request() -> Callable[..., Request]:
    return _make_request
