"""`sipwright rpc discover`: asks a service what it offers (`rpc.discover`, OpenRPC 1.x) and shows it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from sipwright.cli.rpc.call import add_timeout_argument, make_call
from sipwright.cli.rpc.openrpctext import describe
from sipwright.cli.rpc.options import ADDRESS_HELP, add_client_arguments
from sipwright.errors import CommandError
from sipwright.jsonrpc.messages import METHOD_NOT_FOUND

DISCOVER = "rpc.discover"


def add_arguments(actions: Any) -> None:
    """Declare the arguments of `rpc discover`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "discover",
        help="list the methods of a service",
        description="List the methods of a service that describes itself (rpc.discover, OpenRPC).",
    )
    parser.add_argument("server", metavar="ADDRESS", help=f"where the service listens: {ADDRESS_HELP}")
    parser.add_argument("--json", action="store_true", help="print the OpenRPC document as it is")
    add_timeout_argument(parser)
    add_client_arguments(parser)
    parser.set_defaults(action=discover)


async def discover(options: argparse.Namespace) -> int:
    """Ask for the document and print it."""
    call = await make_call(options, DISCOVER, None)
    if call.result is None:
        if call.error is not None and call.error.code == METHOD_NOT_FOUND:
            raise CommandError(f"{options.server} does not describe itself: it has no method {DISCOVER}")
        raise CommandError(str(call.exception()))
    document = call.value()
    if not isinstance(document, dict) or not isinstance(document.get("methods"), list):
        raise CommandError(f"{options.server} answers {DISCOVER} with something else than an OpenRPC document")
    try:
        print(json.dumps(document, indent=2, ensure_ascii=False) if options.json else describe(document))
    except RecursionError:
        raise CommandError(f"the document of {options.server} nests too deeply") from None
    return 0
