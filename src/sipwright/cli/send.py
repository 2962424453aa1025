"""`sipwright send`: sends one SIP request over UDP and prints the replies as they come.

The replies go to stdout as they are; what was sent where, and how long each reply took, goes to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time

from sipwright.cli.sipclient import Outgoing, SipClient
from sipwright.errors import ArgumentError, CommandError, SipParseError
from sipwright.script.settings import split_host_port
from sipwright.sip.grammar import is_token
from sipwright.sip.headers import parse_name_addr
from sipwright.sip.message import Response
from sipwright.sip.uri import Uri, parse_uri

DEFAULT_PORT = 5060
# Requests that set up a dialog have to say where we are (RFC 3261 section 8.1.1.8).
NEED_CONTACT = frozenset(("INVITE", "SUBSCRIBE", "REFER", "NOTIFY", "UPDATE"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `send`."""
    parser.description = (
        "Send one SIP request over UDP, repeat it as RFC 3261 wants, and print the replies. Exit status 0 for a 2xx, "
        "1 for any other final reply or none. An INVITE that is accepted is acknowledged and ended with a BYE at once."
    )
    parser.add_argument("method", metavar="METHOD", help="OPTIONS, INVITE, MESSAGE, REGISTER ...")
    parser.add_argument("uri", metavar="URI", help="whom to ask, such as sip:alice@127.0.0.1:5060; it is sent there")
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a further header; may be given several times",
    )
    parser.add_argument("--from", dest="from_", metavar="ADDRESS", help="the From header (default: sip:sipwright@...)")
    parser.add_argument("--to", metavar="ADDRESS", help="the To header (default: the URI)")
    parser.add_argument("--body", default="", metavar="TEXT", help="the body")
    parser.add_argument(
        "--content-type", default="text/plain", metavar="TYPE", help="of the body (default: text/plain)"
    )
    parser.add_argument(
        "--timeout", type=float, default=32.0, metavar="S", help="seconds to wait for the final reply (default: 32)"
    )
    parser.add_argument("-l", "--local", metavar="HOST[:PORT]", help="the local address to send from (default: any)")


def main(options: argparse.Namespace) -> int:
    """Send the request; 0 when the final reply is a 2xx."""
    return asyncio.run(send(options))


async def send(options: argparse.Namespace) -> int:
    """Send the request and print the replies."""
    if not options.timeout > 0:
        raise CommandError("--timeout is a number of seconds above 0")
    method = options.method.upper() if options.method.islower() else options.method
    if not is_token(method):
        raise CommandError(f"'{method}' is not a SIP method")
    if method == "ACK":
        raise CommandError("an ACK is never answered; send INVITE, its ACK follows by itself")
    local = None if options.local is None else _host_port(options.local, "--local", 0)
    client = SipClient(target_of(options.uri), local=local, timeout=options.timeout)
    try:
        outgoing = _outgoing(method, options, client.sent_by)
        print(f"> {method} {options.uri} from {client.sent_by}", file=sys.stderr, flush=True)
        began = time.monotonic()

        def show(reply: Response) -> None:
            ms = (time.monotonic() - began) * 1000
            print(f"< {reply.status} {reply.reason} after {ms:.1f} ms", file=sys.stderr, flush=True)
            print(reply.data.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n") + "\n", flush=True)

        final = await client.exchange(outgoing, show)
    finally:
        client.close()
    return 0 if 200 <= final.status < 300 else 1


def target_of(text: str) -> tuple[str, int]:
    """Return host and port that a request to a URI is sent to. CommandError: it is not one that can be asked."""
    try:
        uri = parse_uri(text)
        params = uri.params
    except SipParseError as error:
        hint = "" if text.startswith("sip:") else f"; did you mean sip:{text}?"
        raise CommandError(f"'{text}' is not a SIP URI: {error.reason}{hint}") from None
    if uri.scheme != "sip":
        raise CommandError(f"'{text}' cannot be asked over UDP: only sip: URIs can" + _guess(uri, text))
    transport = params.get("transport") or "udp"
    if transport.lower() != "udp":
        raise CommandError(f"transport '{transport}' is not supported yet, only udp")
    host = params.get("maddr") or uri.host
    return host.strip("[]"), uri.port or DEFAULT_PORT


def _guess(uri: Uri, text: str) -> str:
    # alice@host:5060 and host:5060 read as a scheme and something opaque.
    return "" if uri.scheme in ("sips", "tel") else f"; did you mean sip:{text}?"


def _outgoing(method: str, options: argparse.Namespace, sent_by: str) -> Outgoing:
    headers = [_header(text) for text in options.header]
    given = {line.partition(":")[0].strip().lower() for line in headers}
    if method in NEED_CONTACT and not given & {"contact", "m"}:
        headers.append(f"Contact: <sip:sipwright@{sent_by}>")
    if options.body and not given & {"content-type", "c"}:
        headers.append(f"Content-Type: {options.content_type}")
    return Outgoing(
        method,
        options.uri,
        _tagged(_address(options.from_ or f"sip:sipwright@{sent_by}", "--from")),
        _address(options.to or options.uri, "--to"),
        headers,
        options.body.encode("utf-8", "surrogateescape"),
    )


def _header(text: str) -> str:
    name, colon, value = text.partition(":")
    if not colon or not is_token(name.strip()) or "\r" in text or "\n" in text:
        raise CommandError(f"--header {text!r} is not of the form 'Name: value'")
    return f"{name.strip()}: {value.strip()}"


def _address(text: str, option: str) -> str:
    value = text if "<" in text else f"<{text}>"
    try:
        parse_uri(parse_name_addr(value).uri)
    except SipParseError as error:
        raise CommandError(f"{option} '{text}' is not a SIP address: {error.reason}") from None
    return value


def _tagged(value: str) -> str:
    return value if parse_name_addr(value).tag else f"{value};tag={secrets.token_hex(5)}"


def _host_port(text: str, option: str, default: int) -> tuple[str, int]:
    try:
        host, port = split_host_port(text)
    except ArgumentError as error:
        raise CommandError(f"{option} '{text}': {error.message}") from None
    return host, default if port is None else port
