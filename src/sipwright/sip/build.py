"""Messages written: replies to a request (RFC 3261 section 8.2.6), where they go (18.2.2), and requests of a client.

A reply copies the request's own header lines as they came. What all replies to one request have in common is made
once and kept with the request, so the later ones cost a join.
"""

from __future__ import annotations

from typing import Any

from sipwright.errors import SipParseError
from sipwright.sip.grammar import split_values
from sipwright.sip.headers import Via, parse_via
from sipwright.sip.message import Request

# A source or destination: (host, port) and, for IPv6, what a socket adds to it.
Address = tuple[Any, ...]

REASONS = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    417: "Unknown Resource-Priority",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    428: "Use Identity Header",
    429: "Provide Referrer Identity",
    430: "Flow Failed",
    433: "Anonymity Disallowed",
    436: "Bad Identity-Info",
    437: "Unsupported Certificate",
    438: "Invalid Identity Header",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    469: "Bad Info Package",
    470: "Consent Needed",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}

_STATUS_LINES = {(status, reason): f"SIP/2.0 {status} {reason}\r\n".encode() for status, reason in REASONS.items()}
_DIALOG_METHODS = frozenset(("INVITE", "SUBSCRIBE", "REFER"))
_NO_BODY = b"Content-Length: 0\r\n\r\n"


def reply(
    request: Request,
    status: int,
    reason: str,
    *,
    source: Address,
    to_tag: str | None = None,
    headers: bytes = b"",
    body: bytes = b"",
) -> bytes:
    r"""Return the bytes of a reply.

    `source` is where the request came from, always the same for one request. `to_tag` is added when the request's To
    has none and the status is not 100; every reply of a transaction needs the same one. `headers` are further complete
    lines, each with its `\r\n` (Content-Type among them when there is a body). Never raises.
    """
    shared = request.shared or _share(request, source)
    line = _STATUS_LINES.get((status, reason))
    if line is None:
        # A reason may be another's text, which must not be able to end the line.
        reason = reason.replace("\r", " ").replace("\n", " ")
        line = f"SIP/2.0 {status} {reason}\r\n".encode("utf-8", "surrogateescape")
    if to_tag is None or request.to_tag is not None or status == 100:
        top = shared[0]
    else:
        top = shared[0] + b";tag=" + to_tag.encode()
    if status < 300 and (status == 100 or request.method in _DIALOG_METHODS):
        headers = _copied(request, status) + headers
    if body:
        return b"%b%b%b%bContent-Length: %d\r\n\r\n%b" % (line, top, shared[1], headers, len(body), body)
    return line + top + shared[1] + headers + _NO_BODY


def refusal(error: SipParseError, source: Address, to_tag: str) -> tuple[bytes, Address] | None:
    """Return the reply to a malformed request and where it goes; None when it must not or cannot be answered."""
    request = error.request
    if request is None:
        return None
    return reply(request, error.status, error.reason, source=source, to_tag=to_tag), reply_target(request, source)


def reply_target(request: Request, source: Address) -> Address:
    """Return where replies go (RFC 3261 section 18.2.2, RFC 3581): to the source's host, and to no other.

    It is `source` itself where the port is the same.
    """
    return (request.shared or _share(request, source))[2]


def _share(request: Request, source: Address) -> tuple[bytes, bytes, Address]:
    # Make what all replies have in common: the lines up to To, the rest after the tag of To, and the target.
    parts = request.parts
    if parts is None:
        return _share_general(request, source)
    _, _, more, via, sent_by, params, _, from_, _, to, _, call_id, cseq, method, _, _ = parts
    host = source[0].encode()
    if b"maddr" in params or b"received" in params or b":" in host or sent_by[0] == 0x5B:  # [
        # IPv6, or something that is in the way.
        return _share_general(request, source)
    name, _, port = sent_by.partition(b":")
    target = source
    if b"rport" in params:
        if not (params.endswith(b";rport") or b";rport;" in params):
            return _share_general(request, source)
        # RFC 3581 section 4: with rport, received is added even when the address is that of sent-by.
        params = (params + b";").replace(b";rport;", b";rport=%d;received=%b;" % (source[1], host), 1)
        via = via[: -len(parts[5])] + params[:-1]
    else:
        if name != host:
            via += b";received=" + host
        number = int(port) if port else 5060
        if number != source[1]:
            target = (source[0], number, *source[2:])
    if more is not None:
        for line in request.data[: request.head_end].split(b"\r\nVia: ")[2:]:
            via += b"\r\nVia: " + line.partition(b"\r\n")[0]
    request.shared = shared = (
        b"Via: %b\r\nFrom: %b\r\nTo: %b" % (via, from_, to),
        b"\r\nCall-ID: %b\r\nCSeq: %b %b\r\n" % (call_id, cseq, method),
        target,
    )
    return shared


def _share_general(request: Request, source: Address) -> tuple[bytes, bytes, Address]:
    lines: dict[str, list[str]] = {"via": [], "from": [], "to": [], "call-id": [], "cseq": []}
    for key, _, value, line in request.fields():
        if key in lines:
            if key == "via" and not lines[key]:
                line = _mark_source(value, source) or line
            lines[key].append(line.rstrip())
    via, from_, to, call_id, cseq = lines.values()
    # Only a malformed request has none of one or several; the first counts.
    top = "\r\n".join([*via, *from_[:1], *to[:1]])
    rest = "\r\n".join(["", *call_id[:1], *cseq[:1], ""])
    request.shared = shared = (
        top.encode("utf-8", "surrogateescape"),
        rest.encode("utf-8", "surrogateescape"),
        _target(request.via, source),
    )
    return shared


def _mark_source(value: str, source: Address) -> str | None:
    # RFC 3261 section 18.2.1, RFC 3581 section 4: the top Via line with received and rport, None: as it came.
    try:
        values = split_values(value)
        via = parse_via(values[0])
    except SipParseError:
        return None
    host, port = source[:2]
    host = host.partition("%")[0]
    if via.rport is None and via.host.strip("[]") == host and via.received is None:
        return None
    if via.rport is not None:
        via.params["rport"] = str(port)
    via.params["received"] = host
    return "Via: " + ", ".join([str(via), *values[1:]])


def _target(via: Via, source: Address) -> Address:
    # Deviation: a maddr is not followed (18.2.2 would send there). It is for multicast, which nobody uses with SIP any
    # more, and it lets whoever sends a datagram have the reply sent to a third party.
    if via.rport is not None:
        return source
    port = via.port or 5060
    return source if port == source[1] else (source[0], port, *source[2:])


def _copied(request: Request, status: int) -> bytes:
    # RFC 3261 section 8.2.6.1: Timestamp into a 100; section 12.1.1: Record-Route into what makes a dialog.
    if request.parts is not None and (
        status == 100 or request.data.find(b"\r\nRecord-Route:", 0, request.head_end) < 0
    ):
        # A message of the common form has no Timestamp, and Record-Route in this spelling only.
        return b""
    key = "timestamp" if status == 100 else "record-route"
    lines = [line + "\r\n" for name, _, _, line in request.fields() if name == key]
    return "".join(lines).encode("utf-8", "surrogateescape")


def request(
    method: str,
    uri: str,
    *,
    via: str,
    branch: str,
    from_: str,
    to: str,
    call_id: str,
    cseq: int,
    transport: str = "UDP",
    rport: bool = True,
    max_forwards: int = 70,
    headers: bytes = b"",
    body: bytes = b"",
) -> bytes:
    r"""Return the bytes of a client's request.

    `via` is the sent-by, `host:port`; `from_` and `to` are whole header values (`<sip:a@b>;tag=1`); `headers` are
    further complete lines, each with its `\r\n` (Contact, Content-Type, ...). Values are written as they are given.
    """
    head = (
        f"{method} {uri} SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {via};branch={branch}{';rport' if rport else ''}\r\n"
        f"Max-Forwards: {max_forwards}\r\n"
        f"From: {from_}\r\n"
        f"To: {to}\r\n"
        f"Call-ID: {call_id}\r\n"
        f"CSeq: {cseq} {method}\r\n"
    )
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (head.encode("utf-8", "surrogateescape"), headers, len(body), body)
