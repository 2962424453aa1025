"""The datagram parser: bytes in, one Request or Response out, or a SipParseError.

Most messages have the common form: usual names with one space after the colon, no folds, well-known values. One
compiled expression takes those: it checks them strictly and finds all that a message has at hand. Whatever it does
not match, right or wrong, goes to the general parser, which knows all of RFC 3261's forms (section 7.3) and says what
is wrong. The two agree on everything that the first one accepts (a test holds them to it).

Measured (benchmarks/parse.py): 1.7 us in the expression, 10 lines; splitting the head into lines and looking at their
names costs 1.6 before any value has been looked at, a `find` for each of six headers 1.6 without any checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from sipwright.errors import SipParseError
from sipwright.sip.grammar import (
    HOST,
    POSSESSIVE_GROUPS_ARE_RIGHT,
    TOKEN,
    is_token,
    parse_host_port,
    without_possessive_groups,
)
from sipwright.sip.headers import Via, parse_contacts, parse_cseq, parse_name_addr, parse_number, parse_vias
from sipwright.sip.message import Field, Message, Request, Response, split_head
from sipwright.sip.uri import parse_uri


def parse(data: bytes) -> Request | Response:
    """Parse a datagram that holds one SIP message.

    SipParseError: it does not; for a request, `error.request` tells whether it may be answered
    (`sipwright.sip.build.refusal`), with `error.status` and `error.reason`. Nothing else is ever raised.
    """
    match = _match_request(data)
    if match is None:
        return _parse_other(data)
    parts = match.groups()
    method, uri, _, _, sent_by, _, branch, _, from_tag, _, to_tag, call_id, cseq, _, length, _ = parts
    end = match.end()
    if length is None:
        body = data[end:]
    else:
        size = int(length)
        if len(data) - end < size:
            return _parse_general(data)
        body = data[end : end + size]
    request = _new(Request)
    request.data = data
    request.head_end = end - 4
    request.parts = parts
    request.shared = None
    request.body = body
    request.method = request.cseq_method = method.decode()
    request.uri = uri.decode()
    request.branch = branch or b""
    request.sent_by = sent_by.lower()
    request.cseq_number = int(cseq)
    request.call_id = call_id.decode()
    request.from_tag = None if from_tag is None else from_tag.decode()
    request.to_tag = None if to_tag is None else to_tag.decode()
    return request


_new = object.__new__

_NAME_ADDR = r"""(?:"[^"\\\r\n]*+"[ ]?+|[\w\-.!%*+`'~ ]*+)<(?:sips?|tel):[!#-;=?-~]++>"""
# As in Contact, without parameters: those after it are of the header (RFC 3261 section 20).
_ADDR_SPEC = r"sips?:[!#-+\--:=@-~]++"
_PARAM = r"""[\w\-]++(?:=[!#-+\--:@-~]*+)?+"""
# A port over 59999 or with leading zeros is left to the general parser, which knows numbers.
_HOST_PORT = rf"{HOST}(?::(?!0)[1-5]?[0-9]{{1,4}})?+"
_URI = rf"sips?:(?:[!#-;=?A-~]++@)?+{_HOST_PORT}(?:;[!#-:=@-~]++)*+"
# Groups after the two of the start line: 3 further Via lines (the last), 4 Via, 5 sent-by, 6 its parameters, 7 branch,
# 8 From, 9 its tag, 10 To, 11 its tag, 12 Call-ID, 13 CSeq number, 14 its method, 15 Content-Length, 16 Max-Forwards
# (empty). A header that may come once fails the match at its second line. Names that begin like one of those that
# are looked at, or may be compact, are taken only when they are listed.
_HEADERS = rf"""
(?:\r\n(?:
  Via:[ ](?(4)(SIP/2\.0/[A-Z]++[ ]{_HOST_PORT}(?:;{_PARAM})*+)
    |(SIP/2\.0/[A-Z]++[ ]({_HOST_PORT})((?:;(?:branch=(?(7)(?!)|([!#-+\--:@-~]++))|(?!branch){_PARAM}))*+)))
 |From:[ ](?(8)(?!)|((?:{_NAME_ADDR}|{_ADDR_SPEC})(?:;tag=({TOKEN}))?+))
 |To:[ ](?(10)(?!)|((?:{_NAME_ADDR}|{_ADDR_SPEC})(?:;tag=({TOKEN}))?+))
 |Call-ID:[ ](?(12)(?!)|([!-~]++))
 |CSeq:[ ](?(13)(?!)|([0-9]{{1,9}}+)[ ](METHOD))
 |Content-Length:[ ]++(?(15)(?!)|([0-9]{{1,9}}+))
 |Max-Forwards:[ ](?(16)(?!)|()[0-9]{{1,2}}+)
 |Contact:[ ](?:{_NAME_ADDR}|{_ADDR_SPEC})(?:;{_PARAM})*+
 |(?:[ABDEG-LN-QSUW-Z][\w\-]++|Content-(?:Type|Disposition|Encoding|Language|Transfer-Encoding)|Route|Record-Route|MIME-Version
   |Re(?:quire|ason|ply-To|fer-To|ferred-By)|Min-Expires):[^\r\n]*+
)(?=\r\n))++
\r\n\r\n(?(4)(?(8)(?(10)(?(12)(?(13)|(?!))|(?!))|(?!))|(?!))|(?!))
"""


def _compile(start_line: str, method: str) -> re.Pattern[bytes]:
    text = start_line.replace(" ", "[ ]") + _HEADERS.replace("METHOD", method)
    if not POSSESSIVE_GROUPS_ARE_RIGHT:
        # They make a message 0.4 us cheaper, and match what plain ones match.
        text = without_possessive_groups(text)
    return re.compile(text.encode(), re.VERBOSE)


_match_request = _compile(rf"([A-Z]++) ({_URI}) SIP/2\.0", r"\1").match
_match_response = _compile(r"SIP/2\.0 ([1-6][0-9]{2}) ([^\r\n]*+)", TOKEN).match


def _parse_other(data: bytes) -> Request | Response:
    match = _match_response(data)
    if match is None:
        return _parse_general(data)
    parts = match.groups()
    status, reason, _, _, sent_by, _, branch, _, from_tag, _, to_tag, call_id, cseq, method, length, _ = parts
    end = match.end()
    size = len(data) - end if length is None else int(length)
    if len(data) - end < size:
        return _parse_general(data)
    response = Response()
    response.data = data
    response.head_end = end - 4
    response.parts = parts
    response.shared = None
    response.body = data[end : end + size]
    response.status = int(status)
    response.reason = reason.decode("utf-8", "surrogateescape")
    response.branch = branch or b""
    response.sent_by = sent_by.lower()
    response.cseq_number = int(cseq)
    response.cseq_method = method.decode()
    response.call_id = call_id.decode()
    response.from_tag = None if from_tag is None else from_tag.decode()
    response.to_tag = None if to_tag is None else to_tag.decode()
    return response


# ---- the general parser ----

_find_head_end = re.compile(rb"\r?\n\r?\n").search
_match_request_line = re.compile(rf"({TOKEN}) ([^\s<>\"]++) ([A-Za-z]++/[0-9]++\.[0-9]++)", re.ASCII).fullmatch
# Deviation: the space before an empty reason may be missing.
_match_status_line = re.compile(r"(?i:SIP/2\.0) ([0-9]{3,10})(?: (.*))?", re.ASCII | re.DOTALL).fullmatch
_match_sent_by = re.compile(
    rf"\s*SIP\s*/\s*[^\s/]+\s*/\s*\w+\s+({HOST}\s*(?::\s*[0-9]{{1,5}})?)", re.IGNORECASE | re.ASCII
).match

_METHODS = frozenset(
    (
        *("ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER"),
        *("REGISTER", "SUBSCRIBE", "UPDATE"),
    )
)

# Headers that are one value and come at most once (RFC 3261 section 7.3.1).
_SINGLE = {
    name.lower(): name for name in ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Content-Type")
}

_T = TypeVar("_T")


def _parse_general(data: bytes) -> Request | Response:
    # RFC 3261 section 7.5: line ends before the start line are ignored.
    data = data.lstrip(b"\r\n")
    match = _find_head_end(data)
    head_end, body_start = match.span() if match else (len(data), len(data))
    start_line, fields = split_head(data[:head_end])
    if start_line[:4].upper() == "SIP/":
        response = Response()
        _take_status_line(response, start_line)
        _take(response, data, head_end, data[body_start:], fields)
        return response
    request = Request()
    try:
        _take_request_line(request, start_line)
        _take(request, data, head_end, data[body_start:], fields)
        if request.cseq_method != request.method:
            # RFC 4475 section 3.1.2.18: for an unknown method 501 is better than 400.
            raise SipParseError("Method Mismatch", 400 if request.method in _METHODS else 501)
        if match is None:
            raise SipParseError("No empty line after the headers")
    except SipParseError as error:
        error.request = _answerable(start_line, [field for field in fields if field is not None])
        raise
    return request


def _take_status_line(response: Response, line: str) -> None:
    match = _match_status_line(line)
    if match is None:
        raise SipParseError("Malformed status line")
    response.status = int(match[1])
    response.reason = match[2] or ""
    if not 100 <= response.status <= 699:
        raise SipParseError("Status out of range")


def _take_request_line(request: Request, line: str) -> None:
    match = _match_request_line(line)
    if match is None:
        raise SipParseError("Malformed request line")
    method, uri, version = match.groups()
    if version.upper() != "SIP/2.0":
        raise SipParseError("Version Not Supported", 505)
    if parse_uri(uri).headers_text:
        # RFC 3261 section 19.1.1, table 1.
        raise SipParseError("Headers in the Request-URI")
    request.method = method
    request.uri = uri


def _take(message: Message, data: bytes, head_end: int, body: bytes, fields: list[Field | None]) -> None:
    message.data = data
    message.head_end = head_end
    message.parts = None
    message.shared = None
    values: dict[str, list[str]] = {}
    for field in fields:
        if field is None or not is_token(field[1]):
            raise SipParseError("Malformed header line")
        values.setdefault(field[0], []).append(field[2])
    message._fields = [field for field in fields if field is not None]
    for name, spelling in _SINGLE.items():
        if name in values and len(values[name]) > 1:
            raise SipParseError(f"Several {spelling} headers")
    try:
        vias, from_, to, call_id, cseq = (values[name] for name in ("via", "from", "to", "call-id", "cseq"))
    except KeyError as missing:
        raise SipParseError(f"No {_SINGLE.get(missing.args[0], 'Via')} header") from None
    message.vias = [via for value in vias for via in _typed("Via", parse_vias, value)]
    message.via = via = message.vias[0]
    if via.protocol != "SIP/2.0":
        raise SipParseError("Unknown protocol in Via")
    message.branch = via.branch.encode("utf-8", "surrogateescape")
    message.sent_by = via.sent_by.encode()
    message.from_ = _typed("From", parse_name_addr, from_[0])
    message.from_tag = message.from_.tag
    message.to = _typed("To", parse_name_addr, to[0])
    message.to_tag = message.to.tag
    message.call_id = call_id[0]
    if not message.call_id or len(message.call_id.split()) > 1:
        raise SipParseError("Malformed Call-ID")
    message.cseq_number, message.cseq_method = _typed("CSeq", parse_cseq, cseq[0])
    message.contacts = [
        contact for value in values.get("contact", ()) for contact in _typed("Contact", parse_contacts, value)
    ]
    if "max-forwards" in values:
        message.max_forwards = _typed("Max-Forwards", parse_number, values["max-forwards"][0])
        if message.max_forwards > 255:
            raise SipParseError("Max-Forwards out of range")
    message.body = _body(body, values.get("content-length"))


def _typed(name: str, parse_value: Callable[[str], _T], text: str) -> _T:
    try:
        return parse_value(text)
    except SipParseError as error:
        raise SipParseError(f"{name}: {error.reason}") from None


def _body(rest: bytes, content_length: list[str] | None) -> bytes:
    # RFC 3261 section 18.3: bytes beyond the body are discarded; a body that ends too early is an error.
    if content_length is None:
        return rest
    size = _typed("Content-Length", parse_number, content_length[0])
    if size > len(rest):
        raise SipParseError("Body shorter than Content-Length")
    return rest[:size]


def _answerable(start_line: str, fields: list[Field]) -> Request | None:
    # A reply copies whole lines, so it can be made for a request whose lines are malformed or missing, as long as its
    # sender can be reached and can match it (RFC 3261 section 17.1.3; RFC 4475 section 3.3.1 asks for a 400 even
    # without From, To and Call-ID). An ACK is never answered.
    first = {field[0]: field[2] for field in reversed(fields)}
    method = start_line.partition(" ")[0]
    match = _match_sent_by(first.get("via", ""))
    if match is None or "cseq" not in first or "ACK" in (method, first["cseq"].rpartition(" ")[2]):
        return None
    request = Request()
    request.data = b""
    request.head_end = 0
    request.parts = None
    request.shared = None
    request._fields = fields
    request.method, _, request.uri = start_line.rpartition(" ")[0].partition(" ")
    request.call_id = first.get("call-id", "")
    try:
        request.via = parse_vias(first["via"])[0]
    except SipParseError:
        try:
            request.via = Via("SIP/2.0", "UDP", *parse_host_port(match[1]), {})
        except SipParseError:
            return None
    try:
        request.to_tag = parse_name_addr(first["to"]).tag if "to" in first else ""
    except SipParseError:
        request.to_tag = None
    return request
