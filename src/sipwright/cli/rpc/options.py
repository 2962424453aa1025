"""What the actions of `sipwright rpc` have in common: addresses, framings, TLS files, and the mistakes in them."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from sipwright.errors import (
    ArgumentError,
    CommandError,
    JsonParseError,
    RpcAnswerError,
    RpcConnectionError,
    RpcError,
)
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, parse_address
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.framing import FRAMINGS
from sipwright.jsonrpc.lenient import to_json
from sipwright.jsonrpc.listeners import parse_listen
from sipwright.jsonrpc.messages import METHOD_NOT_FOUND
from sipwright.jsonrpc.tls import Tls

AUTH = "rpc.auth"
"""The method that a connection shows its token with."""

ADDRESS_HELP = "HOST:PORT, tls:HOST:PORT, unix:/PATH or srv:_SERVICE._PROTO.DOMAIN"


def add_framing_argument(parser: argparse.ArgumentParser, default: str | None = "netstring") -> None:
    """Declare `--framing`."""
    parser.add_argument(
        "--framing",
        choices=FRAMINGS,
        default=default,
        help="how messages are told apart in the stream (default: netstring)",
    )


def add_client_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what says how to connect to a service: framing, TLS and token."""
    add_framing_argument(parser)
    add_client_tls_arguments(parser)
    parser.add_argument("--token", metavar="TOKEN", help="the token that the service asks its clients for")


def add_client_tls_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what says whom to trust, and who we are, in TLS."""
    tls = parser.add_argument_group("TLS")
    tls.add_argument("--cafile", metavar="FILE", help="whose signature the service has to have (default: the system's)")
    tls.add_argument("--cert", metavar="FILE", help="our own certificate, if the service asks for one")
    tls.add_argument("--key", metavar="FILE", help="the key of --cert, if it is not in the same file")
    tls.add_argument("--server-name", metavar="NAME", help="the name that the service's certificate has to have")
    tls.add_argument("--insecure", action="store_true", help="take any certificate of the service")


def client_tls(options: argparse.Namespace) -> Tls | None:
    """Return the TLS settings of `add_client_tls_arguments`, None when nothing is set."""
    if not (options.cafile or options.cert or options.key or options.server_name or options.insecure):
        return None
    try:
        return Tls(
            certfile=options.cert,
            keyfile=options.key,
            cafile=options.cafile,
            verify=not options.insecure,
            server_name=options.server_name,
        )
    except ArgumentError as error:
        raise CommandError(f"TLS: {error.message}") from None


def make_client(options: argparse.Namespace, timeout: float, **settings: Any) -> Client:
    """Return a client, not started, of the one service at `options.server`."""
    address = read_address(options.server)
    tls = client_tls(options)
    if address.kind in ("tls", "srv"):
        tls = tls or Tls()
    elif tls is not None:
        raise CommandError(f"options of TLS are for an address like tls:{address}")
    return Client(
        [ServerSpec(address, 1)], timeout=timeout, max_conn_attempts=0, framing=options.framing, tls=tls, **settings
    )


@contextlib.asynccontextmanager
async def connected_client(options: argparse.Namespace, timeout: float, **settings: Any) -> AsyncIterator[Client]:
    """Connect to the service at `options.server`, show it the token if there is one, and give the client."""
    # What the client has to say of the connection is part of the error.
    logging.getLogger("sipwright.jsonrpc").setLevel(logging.CRITICAL)
    async with make_client(options, timeout, **settings) as client:
        try:
            await client.connected(timeout)
        except RpcConnectionError as error:
            raise CommandError(str(error)) from None
        if options.token is not None:
            await _show_token(client, options)
        yield client


async def _show_token(client: Client, options: argparse.Namespace) -> None:
    try:
        await client.call(AUTH, {"token": options.token})
    except RpcAnswerError as error:
        if error.code == METHOD_NOT_FOUND:
            raise CommandError(f"{options.server} asks for no token: it has no method {AUTH}") from None
        raise CommandError(f"{options.server} does not take the token: {error}") from None
    except RpcError as error:
        raise CommandError(f"{options.server} does not take the token: {error}") from None


def read_address(text: str) -> ServerAddress:
    """Read the address of a service."""
    try:
        return parse_address(text)
    except ArgumentError as error:
        raise CommandError(f"'{text}' is no address of a service ({ADDRESS_HELP}): {error.message}") from None


def read_listen_address(text: str) -> ServerAddress:
    """Read an address to listen on, in which port 0 takes a free one."""
    try:
        address = parse_listen(text)
    except ArgumentError as error:
        message = f"'{text}' is no address to listen on (HOST:PORT, tls:HOST:PORT, unix:/PATH): {error.message}"
        raise CommandError(message) from None
    return address


def read_params(text: str) -> bytes | None:
    """Read PARAMS; None for none."""
    try:
        params = to_json(text)
    except JsonParseError as error:
        raise CommandError(f"PARAMS is not JSON: {error}") from None
    if params and params[:1] not in (b"[", b"{"):
        raise CommandError(f"PARAMS has to be an array or an object, such as [1, 2] or {{'id': 1}}, not {text}")
    return params or None


def read_method(method: str) -> str:
    """Check METHOD; arguments that are not in the locale's encoding have surrogates in them."""
    if not method.isprintable():
        raise CommandError(f"METHOD is not a text: {method!r}")
    return method
