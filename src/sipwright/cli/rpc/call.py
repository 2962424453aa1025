"""`sipwright rpc call`: makes one call and prints its result, or sends one notification."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from sipwright.cli.rpc.options import ADDRESS_HELP, add_client_arguments, connected_client, read_method, read_params
from sipwright.errors import CommandError
from sipwright.jsonrpc.calls import PendingCall


def add_arguments(actions: Any) -> None:
    """Declare the arguments of `rpc call`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "call",
        help="call a method and print its result",
        description="Call a method and print its result as JSON. Exit status 0 for a result, 1 for anything else.",
    )
    add_call_arguments(parser)
    parser.add_argument("--notify", action="store_true", help="send a notification: no answer is awaited")
    add_timeout_argument(parser)
    add_client_arguments(parser)
    parser.set_defaults(action=call_method)


def add_call_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which method of which service is called, and with what."""
    parser.add_argument("server", metavar="ADDRESS", help=f"where the service listens: {ADDRESS_HELP}")
    parser.add_argument("method", metavar="METHOD")
    parser.add_argument(
        "params",
        metavar="PARAMS",
        nargs="?",
        default="",
        help="an array or an object; written as in scripts, so {'id': 1234} will do",
    )


def add_timeout_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--timeout`."""
    parser.add_argument(
        "--timeout", type=int, default=5000, metavar="MS", help="milliseconds to wait for an answer (default: 5000)"
    )


def read_timeout(options: argparse.Namespace) -> float:
    """Return `--timeout` in seconds."""
    if options.timeout < 1:
        raise CommandError("--timeout is a number of milliseconds, at least 1")
    return float(options.timeout / 1000)


async def call_method(options: argparse.Namespace) -> int:
    """Make one call or send one notification."""
    method, params = read_method(options.method), read_params(options.params)
    if options.notify:
        return await _notify(options, method, params)
    return _show_outcome(await make_call(options, method, params))


async def make_call(options: argparse.Namespace, method: str, params: bytes | None) -> PendingCall:
    """Connect, make one call, and return it once it has ended."""
    async with connected_client(options, read_timeout(options)) as client:
        ended = asyncio.Event()
        call = client.submit(method, params, lambda *_: ended.set())
        await ended.wait()
        return call


async def _notify(options: argparse.Namespace, method: str, params: bytes | None) -> int:
    async with connected_client(options, read_timeout(options)) as client:
        client.submit_notification(method, params)
    return 0


def _show_outcome(call: PendingCall) -> int:
    if call.result is not None:
        print(call.result.decode("utf-8", "replace"))
        return 0
    if call.error is None:
        raise CommandError(str(call.exception()))
    # As the server wrote it, and on stderr: stdout has results only.
    print(call.error.text.decode("utf-8", "replace"), file=sys.stderr)
    return 1
