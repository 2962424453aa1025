"""`sipwright check`: reads and checks a routing script, and lists everything that is wrong with it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from sipwright.errors import CommandError
from sipwright.script.loader import Script, load_script

_DEFINE = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `check`."""
    parser.add_argument("file", metavar="FILE", help="the script")
    add_defines(parser)


def add_defines(parser: argparse.ArgumentParser) -> None:
    """Declare `-A`."""
    parser.add_argument(
        "-A",
        dest="defines",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="define a name for the script's preprocessor, as a #!define in its first line would",
    )


def main(options: argparse.Namespace) -> int:
    """Check the script: 0 when it is good."""
    return report(load_script(options.file, parse_defines(options.defines)))


def report(script: Script) -> int:
    """Say that a script is good, and on stderr what of it has no effect here."""
    for note in script.notes:
        print(f"note: {note}", file=sys.stderr)
    print("config file ok")
    return 0


def parse_defines(texts: Sequence[str]) -> dict[str, str]:
    """Return the names of `-A` options with their values, empty where there is none. CommandError: no name."""
    defines = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not _DEFINE.fullmatch(name):
            raise CommandError(f"-A '{text}' is not NAME or NAME=VALUE")
        defines[name] = value
    return defines
