"""`sipwright rpc`: JSON-RPC over TCP with netstrings from the command line, both sides of it.

`call` makes one call and prints its result as JSON; `serve` makes the functions of a Python file callable. They are the
quickest way to try a service without SIP, and SIP without having written a service.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import inspect
import logging
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from sipwright.errors import ArgumentError, CommandError, JsonParseError, RpcError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, parse_address
from sipwright.jsonrpc.calls import PendingCall
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.dispatch import Dispatcher, Method
from sipwright.jsonrpc.lenient import to_json
from sipwright.jsonrpc.server import Server

DEFAULT_LISTEN = "127.0.0.1:9999"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `rpc call` and `rpc serve`."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    call = actions.add_parser(
        "call",
        help="call a method and print its result",
        description="Call a method and print its result as JSON. Exit status 0 for a result, 1 for anything else.",
    )
    call.add_argument("server", metavar="HOST:PORT", help="where the service listens")
    call.add_argument("method", metavar="METHOD")
    call.add_argument(
        "params",
        metavar="PARAMS",
        nargs="?",
        default="",
        help="an array or an object; written as in scripts, so {'id': 1234} will do",
    )
    call.add_argument("--notify", action="store_true", help="send a notification: no answer is awaited")
    call.add_argument(
        "--timeout", type=int, default=5000, metavar="MS", help="milliseconds to wait for the answer (default: 5000)"
    )
    call.set_defaults(action=call_method)
    serve = actions.add_parser(
        "serve",
        help="serve the functions of a Python file",
        description="Serve the public functions of a Python file, plain and async ones, each under its own name. "
        "Parameters come by position or by name.",
    )
    serve.add_argument("file", metavar="FILE.py", nargs="?", help="the file with the functions")
    serve.add_argument("--echo", action="store_true", help="answer every method with its own parameters instead")
    serve.add_argument(
        "--listen",
        default=DEFAULT_LISTEN,
        metavar="HOST:PORT",
        help=f"where to listen; port 0 takes a free one (default: {DEFAULT_LISTEN})",
    )
    serve.set_defaults(action=serve_functions)


def main(options: argparse.Namespace) -> int:
    """Run `rpc call` or `rpc serve`."""
    status: int = asyncio.run(options.action(options))
    return status


# rpc call


async def call_method(options: argparse.Namespace) -> int:
    """Make one call or send one notification."""
    server = _address(options.server)
    params = _params(options.params)
    if options.timeout < 1:
        raise CommandError("--timeout is a number of milliseconds, at least 1")
    # What the client has to say of the connection is part of the error below.
    logging.getLogger("sipwright.jsonrpc").setLevel(logging.CRITICAL)
    client = Client([ServerSpec(server, 1)], timeout=options.timeout / 1000, max_conn_attempts=0)
    client.start()
    try:
        if options.notify:
            await client.connected(client.timeout)
            client.submit_notification(_encodable(options.method), params)
            return 0
        ended = asyncio.Event()
        call = client.submit(_encodable(options.method), params, lambda *_: ended.set())
        await ended.wait()
        return _show_outcome(call)
    except RpcError as error:
        raise CommandError(f"{options.method}: {error}") from None
    finally:
        await client.close()


def _show_outcome(call: PendingCall) -> int:
    if call.result is not None:
        print(call.result.decode("utf-8", "replace"))
        return 0
    if call.error is None:
        raise CommandError(str(call.exception()))
    # As the server wrote it, and on stderr: stdout has results only.
    print(call.error.text.decode("utf-8", "replace"), file=sys.stderr)
    return 1


def _params(text: str) -> bytes | None:
    try:
        params = to_json(text)
    except JsonParseError as error:
        raise CommandError(f"PARAMS is not JSON: {error}") from None
    if params and params[:1] not in (b"[", b"{"):
        raise CommandError(f"PARAMS has to be an array or an object, such as [1, 2] or {{'id': 1}}, not {text}")
    return params or None


def _encodable(method: str) -> str:
    # Arguments that are not in the locale's encoding have surrogates in them.
    if not method.isprintable():
        raise CommandError(f"METHOD is not a text: {method!r}")
    return method


def _address(text: str, any_port: bool = False) -> ServerAddress:
    host, _, port = text.rpartition(":")
    try:
        if any_port and port == "0":
            return ServerAddress(parse_address(f"{host}:1").host, 0)
        return parse_address(text)
    except ArgumentError as error:
        raise CommandError(f"'{text}' is not HOST:PORT: {error.message}") from None


# rpc serve


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
    address = _address(options.listen, any_port=True)
    if options.echo == (options.file is not None):
        raise CommandError("name either a FILE.py with functions to serve, or --echo")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    server = Server()
    if options.echo:
        server.dispatcher = EchoDispatcher()
        names = "echo of every method"
    else:
        functions = public_functions(load_file(Path(options.file)))
        if not functions:
            raise CommandError(
                f"{options.file} has no public functions: those that it defines itself, without a leading _"
            )
        for name, function in functions.items():
            server.add_method(name, function)
        names = ", ".join(functions)
    await server.start(address.host, address.port)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    print(f"ready on {ServerAddress(address.host, server.port)}: {names}", file=sys.stderr, flush=True)
    await stopped.wait()
    await server.close()
    return 0


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
        if error.filename != str(path):
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
