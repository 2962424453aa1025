"""Microseconds per parse and per reply of common SIP messages; best of several rounds.

python benchmarks/parse.py
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

from sipwright.sip.build import reply, reply_target
from sipwright.sip.message import Request
from sipwright.sip.parse import parse
from sipwright.sip.uri import parse_uri

BODY = (
    b"v=0\r\no=user1 53655765 2353687637 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 6000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)
SOURCE = ("127.0.0.1", 5061)


def message(method: str, body: bytes = b"", via: str = "", extra: str = "") -> bytes:
    """Return a request as SIPp writes it."""
    head = (
        f"{method} sip:service@127.0.0.1:5060 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bK-1234-1-0{via}\r\n"
        "From: sipp <sip:sipp@127.0.0.1:5061>;tag=1234SIPpTag001\r\n"
        "To: service <sip:service@127.0.0.1:5060>\r\n"
        "Call-ID: 1-1234@127.0.0.1\r\n"
        f"CSeq: 1 {method}\r\n"
        "Contact: sip:sipp@127.0.0.1:5061\r\n"
        "Max-Forwards: 70\r\n"
        f"Subject: Performance Test\r\n{extra}"
        f"Content-Type: application/sdp\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


MESSAGES = {
    "INVITE with SDP": message("INVITE", BODY),
    "OPTIONS": message("OPTIONS"),
    "OPTIONS with rport": message("OPTIONS", via=";rport"),
    "OPTIONS through a proxy": message("OPTIONS", extra="Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK2\r\n"),
    "OPTIONS, compact names (general parser)": message("OPTIONS").replace(b"Via:", b"v:").replace(b"From:", b"f:"),
}


def measure(name: str, function: Callable[[], object], count: int = 20_000) -> None:
    """Print the time of one call."""
    seconds = min(timeit.repeat(function, number=count, repeat=7)) / count
    print(f"{seconds * 1e6:8.2f} us  {name}")


def first_reply(request: Request) -> bytes:
    """Reply as if it were the first time."""
    request.shared = None
    return reply(request, 200, "OK", source=SOURCE, to_tag="0123456789")


def main() -> None:
    """Measure all."""
    for name, data in MESSAGES.items():
        request = parse(data)
        assert isinstance(request, Request)
        measure(f"parse {name}, {len(data)} bytes", lambda data=data: parse(data))  # type: ignore[misc]
        measure("  its first reply and where it goes", lambda r=request: (first_reply(r), reply_target(r, SOURCE)))  # type: ignore[misc]
        measure("  another reply", lambda r=request: reply(r, 200, "OK", source=SOURCE, to_tag="0123456789"))  # type: ignore[misc]
    data = MESSAGES["OPTIONS"]
    measure("parse and one header by name", lambda: parse(data).header("User-Agent"))
    measure("parse and the typed From", lambda: parse(data).from_)
    measure("parse_uri", lambda: parse_uri("sip:service@127.0.0.1:5060"))


if __name__ == "__main__":
    main()
