"""Which transaction a message belongs to: RFC 3261 sections 17.1.3, 17.2.3, 9.2 and 13.3.1.4.

A key is bytes, made so that two messages have the same key when they belong to the same transaction.
Deviation: branches are compared byte for byte, though 7.3.1 lets their case differ; whoever sends a request again
copies its Via.
"""

from __future__ import annotations

from typing import TypeAlias

from sipwright.sip.message import Request, Response

MAGIC_COOKIE = b"z9hG4bK"

# Call-ID, the UAC's tag, the UAS's tag, CSeq number of the INVITE.
DialogKey: TypeAlias = tuple[str, str | None, str | None, int]

# An ACK belongs to its INVITE.
_METHODS = {
    "ACK": b"INVITE",
    "BYE": b"BYE",
    "CANCEL": b"CANCEL",
    "INFO": b"INFO",
    "INVITE": b"INVITE",
    "MESSAGE": b"MESSAGE",
    "NOTIFY": b"NOTIFY",
    "OPTIONS": b"OPTIONS",
    "PRACK": b"PRACK",
    "PUBLISH": b"PUBLISH",
    "REFER": b"REFER",
    "REGISTER": b"REGISTER",
    "SUBSCRIBE": b"SUBSCRIBE",
    "UPDATE": b"UPDATE",
}


def server_key(request: Request) -> bytes:
    """Return the key of the server transaction of a request (17.2.3); that of its INVITE for an ACK.

    An ACK without the magic cookie (RFC 2543) has the To tag of the response, which the INVITE may not have: look for
    `untagged_key` too, and compare the tags.
    """
    branch = request.branch
    if branch[:7] == MAGIC_COOKIE and len(branch) > 7:
        try:
            method = _METHODS[request.method]
        except KeyError:
            method = request.method.encode()
        # None of them holds a space. A third of the time of +, two thirds of that of %.
        return b" ".join((branch, request.sent_by, method))
    # A cookie with nothing behind it identifies nothing (RFC 4475 section 3.2.1): it is treated as RFC 2543.
    return _rfc2543_key(request, request.method, request.to_tag)


def cancelled_key(request: Request) -> bytes:
    """Return the key of the INVITE server transaction that a CANCEL is for (9.2)."""
    branch = request.branch
    if branch[:7] == MAGIC_COOKIE and len(branch) > 7:
        return b" ".join((branch, request.sent_by, b"INVITE"))
    return _rfc2543_key(request, "INVITE", request.to_tag)


def untagged_key(request: Request) -> bytes | None:
    """Return the key of an INVITE without a To tag for an RFC 2543 ACK with one; None when it is neither."""
    branch = request.branch
    if request.to_tag is None or (branch[:7] == MAGIC_COOKIE and len(branch) > 7):
        return None
    return _rfc2543_key(request, "INVITE", None)


def client_key(branch: bytes, method: str) -> bytes:
    """Return the key of the client transaction of a request; its method is the CSeq method (17.1.3)."""
    return b" ".join((branch, method.encode()))


def response_key(response: Response) -> bytes:
    """Return the key of the client transaction that a response belongs to (17.1.3)."""
    return client_key(response.branch, response.cseq_method)


def dialog_key(request: Request, to_tag: str | None) -> DialogKey:
    """Return what an INVITE that was answered 2xx with this To tag and the ACK of the 2xx have in common (13.2.2.4)."""
    return (request.call_id, request.from_tag, to_tag, request.cseq_number)


def _rfc2543_key(request: Request, method: str, to_tag: str | None) -> bytes:
    if method == "ACK":
        method = "INVITE"
    via = str(request.via)
    parts = (request.uri, to_tag or "", request.from_tag or "", request.call_id, str(request.cseq_number), method, via)
    return "\n".join(parts).encode("utf-8", "surrogateescape")
