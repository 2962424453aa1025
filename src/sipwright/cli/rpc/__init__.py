"""`sipwright rpc`: JSON-RPC from the command line, both sides of it.

`call` makes one call, `serve` makes the functions of a Python file callable, `discover` shows what a service offers,
`bench` measures it, and `proxy` records what a client and a service say, or answers from such a recording. They are the
quickest way to try a service without SIP, and SIP without having written a service. Each is a file of this package with
`add_arguments` and an `action`.
"""

from __future__ import annotations

import argparse
import asyncio

from sipwright.cli.rpc import bench, call, discover, proxy, serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of all actions."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for action in (call, serve, discover, bench, proxy):
        action.add_arguments(actions)


def main(options: argparse.Namespace) -> int:
    """Run the action that was chosen."""
    status: int = asyncio.run(options.action(options))
    return status
