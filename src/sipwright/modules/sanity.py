"""Module sanity: checks of a request that the parser leaves to scripts.

A malformed request never reaches a script: start line, Via, From, To, Call-ID, CSeq, Max-Forwards and Content-Length
have been checked by then. The bits of Kamailio's `sanity_check()` that ask for these are accepted and always pass. A
failed check answers the request and ends the script, as in Kamailio; its parameter `autodrop` changes the latter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sipwright.errors import SipParseError
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.script.kinds import Int
from sipwright.script.module import Module, Param, function
from sipwright.script.uris import parsed_uri
from sipwright.sip.grammar import split_values
from sipwright.sip.headers import parse_number
from sipwright.sip.message import Request

# Bits of the first argument.
URI_SCHEME, CONTENT_LENGTH, EXPIRES, PROXY_REQUIRE, URIS = 2, 128, 256, 512, 1024
# Bits of the second one.
REQUEST_URI, FROM_URI, TO_URI, CONTACT_URI = 1, 2, 4, 8

ROUTES = RouteKind.REQUEST | RouteKind.FAILURE | RouteKind.ONREPLY | RouteKind.EVENT

# Status, reason, header to add.
Refusal = tuple[int, str, str | None]


class Sanity(Module):
    """Checks of requests."""

    name = "sanity"
    default_checks = Param(int, 999, doc="bits of the checks that sanity_check() makes")
    uri_checks = Param(int, 7, doc="bits of the URIs that are checked: 1 Request-URI, 2 From, 4 To, 8 Contact")
    proxy_require = Param(str, "", doc="option tags of Proxy-Require that are understood, with commas between")
    noreply = Param(int, 0, minimum=0, maximum=1, doc="1: only sanity_reply() answers")
    autodrop = Param(int, 1, minimum=0, maximum=1, doc="1: a failed check ends the script; 0: it gives -1")

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        self._supported: set[str] = set()

    def mod_init(self) -> None:
        """Take the option tags apart."""
        self._supported = {tag.strip().lower() for tag in self.proxy_require.split(",") if tag.strip()}

    @function(routes=ROUTES)
    def sanity_check(self, ctx: Context, checks: Int = -1, uri_checks: Int = -1) -> int:
        """Check the request: 1 when it is good; when not it is answered and the script ends, or -1 (`autodrop`)."""
        refusal = self._check(
            ctx.message,
            self.default_checks if checks < 0 else checks,
            self.uri_checks if uri_checks < 0 else uri_checks,
        )
        if refusal is None:
            return 1
        if self.noreply:
            if ctx.extra is None:
                ctx.extra = {}
            ctx.extra["sanity"] = refusal
            return -1
        self._reply(ctx, refusal)
        return 0 if self.autodrop else -1

    @function(routes=ROUTES)
    def sanity_reply(self, ctx: Context) -> int:
        """Answer as the failed check wants it, where `noreply` is set."""
        refusal = ctx.extra.get("sanity") if ctx.extra is not None else None
        if refusal is None:
            return -1
        self._reply(ctx, refusal)
        return 1

    def _reply(self, ctx: Context, refusal: Refusal) -> None:
        status, reason, header = refusal
        if header is not None:
            ctx.reply_headers = [*(ctx.reply_headers or ()), header]
        reply = self.services.reply if ctx.transaction is not None else self.services.reply_stateless
        reply(ctx, status, reason)

    def _check(self, message: Request, checks: int, uri_checks: int) -> Refusal | None:
        if checks & URI_SCHEME:
            uri = parsed_uri(message.uri)
            if uri is None or uri.opaque is not None:
                return 416, "Unsupported URI Scheme", None
        if checks & CONTENT_LENGTH and _has_more_than_its_length(message):
            return 400, "Content-Length mis-match", None
        if checks & EXPIRES and not _is_number(message.header("Expires")):
            return 400, "Malformed Expires", None
        if checks & PROXY_REQUIRE:
            missing = self._unsupported(message)
            if missing:
                return 420, "Bad Extension", f"Unsupported: {', '.join(missing)}"
        return _check_uris(message, uri_checks) if checks & URIS else None

    def _unsupported(self, message: Request) -> list[str]:
        try:
            tags = [tag for line in message.headers("Proxy-Require") if line for tag in split_values(line)]
        except SipParseError:
            return message.headers("Proxy-Require")
        return [tag for tag in tags if tag.lower() not in self._supported]


def _check_uris(message: Request, checks: int) -> Refusal | None:
    if checks & REQUEST_URI and parsed_uri(message.uri) is None:
        return 400, "Bad Request URI", None
    if checks & FROM_URI and parsed_uri(message.from_.uri) is None:
        return 400, "Bad From header", None
    if checks & TO_URI and parsed_uri(message.to.uri) is None:
        return 400, "Bad To header", None
    if checks & CONTACT_URI and any(c.uri != "*" and parsed_uri(c.uri) is None for c in message.contacts):
        return 400, "Bad Contact header", None
    return None


def _has_more_than_its_length(message: Request) -> bool:
    """Tell whether there are bytes behind the body, which RFC 3261 section 18.3 has dropped."""
    end = message.data.find(b"\r\n\r\n")
    return end >= 0 and len(message.data) - end - 4 > len(message.body)


def _is_number(value: str | None) -> bool:
    if value is None:
        return True
    try:
        parse_number(value)
    except SipParseError:
        return False
    return True
