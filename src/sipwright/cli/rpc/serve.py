"""`sipwright rpc serve`: makes the functions of a Python file callable, or answers every method with its parameters."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from sipwright.cli.rpc.options import add_framing_argument, read_listen_address
from sipwright.cli.rpc.streams import stop_signals
from sipwright.errors import ArgumentError, CommandError
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.dispatch import Dispatcher, Method
from sipwright.jsonrpc.server import Server
from sipwright.jsonrpc.tls import Tls

DEFAULT_LISTEN = "127.0.0.1:9999"


def add_arguments(actions: Any) -> None:
    """Declare the arguments of `rpc serve`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "serve",
        help="serve the functions of a Python file",
        description="Serve the public functions of a Python file, plain and async ones, each under its own name. "
        "Parameters come by position or by name.",
    )
    parser.add_argument("file", metavar="FILE.py", nargs="?", help="the file with the functions")
    parser.add_argument("--echo", action="store_true", help="answer every method with its own parameters instead")
    parser.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help="where to listen: HOST:PORT, tls:HOST:PORT or unix:/PATH; port 0 takes a free one; may be given several "
        f"times (default: {DEFAULT_LISTEN})",
    )
    parser.add_argument("--token", metavar="TOKEN", help="let only clients in that show this token (rpc.auth)")
    add_framing_argument(parser)
    tls = parser.add_argument_group("TLS")
    tls.add_argument("--cert", metavar="FILE", help="the certificate")
    tls.add_argument("--key", metavar="FILE", help="its key, if it is not in the same file")
    tls.add_argument("--cafile", metavar="FILE", help="let only clients in that have a certificate of this authority")
    parser.set_defaults(action=serve_functions)


class EchoMethod(Method):
    """Returns its parameters."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(lambda: None)

    def invoke(self, params: Raw | UnsetType, connection: Any = None) -> Any:  # noqa: ARG002  asked by nobody
        """Return the parameters, None for none."""
        return None if params is UNSET else msgspec.Raw(bytes(params))


class EchoDispatcher(Dispatcher):
    """Has every method: the result is the parameters."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        method = EchoMethod()
        self.find = lambda _name: method


async def serve_functions(options: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    addresses = [read_listen_address(text) for text in options.listen or [DEFAULT_LISTEN]]
    if options.echo == (options.file is not None):
        raise CommandError("name either a FILE.py with functions to serve, or --echo")
    if options.token == "":
        raise CommandError("--token is empty: anybody would be let in")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    tls = _tls(options, addresses)
    if options.echo:
        server = Server(framing=options.framing, tls=tls, auth=options.token)
        server.dispatcher = EchoDispatcher()
        names = "echo of every method"
    else:
        module = load_file(Path(options.file))
        functions = public_functions(module)
        if not functions:
            raise CommandError(
                f"{options.file} has no public functions: those that it defines itself, without a leading _"
            )
        version = str(getattr(module, "__version__", "1.0.0"))
        server = Server(framing=options.framing, tls=tls, auth=options.token, title=module.__name__, version=version)
        for name, function in functions.items():
            server.add_method(name, function)
        names = ", ".join(functions)
    with stop_signals() as stopped:
        try:
            for address in addresses:
                await server.listen(address)
            places = ", ".join(map(str, server.addresses))
            print(f"ready on {places}: {names}", file=sys.stderr, flush=True)
            await stopped.wait()
        finally:
            await server.close()
    return 0


def _tls(options: argparse.Namespace, addresses: list[ServerAddress]) -> Tls | None:
    is_wanted = any(address.kind == "tls" for address in addresses)
    if not (options.cert or options.key or options.cafile):
        if is_wanted:
            raise CommandError("to listen with TLS, name a certificate: --cert FILE [--key FILE]")
        return None
    if not is_wanted:
        raise CommandError("--cert, --key and --cafile are for --listen tls:HOST:PORT")
    try:
        tls = Tls(certfile=options.cert, keyfile=options.key, cafile=options.cafile)
        tls.server_context()
    except ArgumentError as error:
        raise CommandError(f"TLS: {error.message}") from None
    return tls


def load_file(path: Path) -> ModuleType:
    """Run a Python file as a module; its neighbours can be imported by it. Raises CommandError."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if path.is_dir() or spec is None or spec.loader is None:
        raise CommandError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # As Python does for a script, and so that dataclasses and the like find their module.
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except OSError as error:
        if error.filename is None or Path(error.filename).resolve() != path.resolve():
            raise CommandError(_what_happened(path, error)) from None
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    except SyntaxError as error:
        raise CommandError(f"{error.filename}:{error.lineno}: {error.msg}") from None
    except Exception as error:  # the boundary to the file's own code
        raise CommandError(_what_happened(path, error)) from None
    return module


def public_functions(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """Return the functions that a module defines itself and whose names have no leading underscore, in its order."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__
    }


def _what_happened(path: Path, error: Exception) -> str:
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = f":{own[-1].lineno}" if own else ""
    return f"{path}{line}: {type(error).__name__}: {error}"
