"""Entry point of the `sipwright` command: owns the list of subcommands and what a person sees of an error.

A mistake of a person is one message on stderr and exit status 1, never a traceback; a command line that cannot be
understood is argparse's usage message and status 2. A subcommand is a module of this package with `add_arguments` and
`main`; it is imported when it is asked for, so `sipwright rpc call` need not wait for the SIP server's modules.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import sipwright
from sipwright.errors import ConfigErrors, SipwrightError

COMMANDS = {
    "run": "run a SIP server on a routing script",
    "ctl": "ask or command a server that runs",
    "check": "check a routing script and list everything that is wrong with it",
    "rpc": "call, serve, describe, measure or record a JSON-RPC service",
    "send": "send one SIP request and print the replies",
    "demo": "show a server, a service and SIP requests at work, in this terminal",
}

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with its arguments (default: those of this process) and return the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What others sent is shown also where the terminal has no sign for it.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser(arguments).parse_args(arguments)
    try:
        status: int = options.main(options)
        sys.stdout.flush()
        return status
    except SipwrightError as error:
        # Each fault of a script begins with its file already.
        print(error if isinstance(error, ConfigErrors) else f"sipwright: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; nothing more can be said there, also not by Python at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sipwright",
        description="A SIP routing server that asks JSON-RPC services, and the tools around it.",
        epilog="'sipwright COMMAND -h' tells more about a command; 'sipwright demo' is a good start.",
    )
    parser.add_argument("--version", action="version", version=f"sipwright {sipwright.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            module = import_module(f"sipwright.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(main=module.main)
    return parser
