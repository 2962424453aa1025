"""`sipwright ctl`: commands a running server through its control interface.

Without a command it lists those that the server has. Results are shown as tables where they have that form; `--json`
prints them as they came.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sipwright.errors import CommandError, FramingParseError, JsonParseError, JsonRpcParseError
from sipwright.jsonrpc.lenient import to_json
from sipwright.jsonrpc.messages import NOT_JSON, Message, answer_error, decode, decode_json, encode_json, request_head
from sipwright.netstring import Decoder, encode
from sipwright.workers.socketfile import find_sockets

MAX_ANSWER = 64 << 20
REQUEST_ID = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ctl`."""
    parser.add_argument(
        "--control",
        type=Path,
        metavar="PATH",
        help="the socket of the server, or the directory that it is in (default: that of the one server that runs)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, on one line")
    parser.add_argument(
        "--timeout", type=int, default=65_000, metavar="MS", help="milliseconds to wait for the answer (default: 65000)"
    )
    parser.add_argument("method", metavar="METHOD", nargs="?", help="the command; without it, those that there are")
    parser.add_argument(
        "params",
        metavar="PARAMS",
        nargs="*",
        help="what the command takes: words, or one JSON array or object, written as in scripts",
    )


def main(options: argparse.Namespace) -> int:
    """Ask the server and show what it answers."""
    if options.timeout < 1:
        raise CommandError("--timeout is a number of milliseconds, at least 1")
    path = find_server(options.control)
    if options.method is None:
        document = call(path, "rpc.discover", None, options.timeout / 1000)
        _show(document if options.json else _commands(document), options.json)
        return 0
    result = call(path, options.method, read_words(options.params), options.timeout / 1000)
    _show(result, options.json)
    return 0


# ---- which server


def find_server(given: Path | None) -> Path:
    """Return the socket of the server that is meant. Raises CommandError: none runs, or several do."""
    if given is not None and not given.is_dir():
        return given
    found = find_sockets(os.environ, given)
    if len(found) == 1:
        return found[0]
    where = "" if given is None else f" in {given}"
    if not found:
        raise CommandError(
            f"no server runs{where} that this user can see: name its socket with --control, as `sipwright run` was told"
        )
    listed = "\n".join(f"  --control {path}  {_described(path)}" for path in found)
    raise CommandError(f"{len(found)} servers run{where}, say which one is meant:\n{listed}")


def _described(path: Path) -> str:
    try:
        return f"({call(path, 'core.version', None, 1.0)['script']})"
    except CommandError as error:
        return f"({error})"


# ---- the call


def read_words(words: Sequence[str]) -> bytes | None:
    """Return the params of a command line: JSON as it is given, words as an array of numbers and strings."""
    if not words:
        return None
    if len(words) == 1 and words[0].lstrip()[:1] in ("[", "{"):
        try:
            return to_json(words[0])
        except JsonParseError as error:
            raise CommandError(f"PARAMS is not JSON: {error}") from None
    for word in words:
        if not word.isprintable():
            # Arguments that are not in the locale's encoding have surrogates in them.
            raise CommandError(f"PARAMS is not a text: {word!r}")
    return encode_json([_number(word) for word in words])


def _number(word: str) -> int | str:
    digits = word.removeprefix("-")
    return int(word) if digits.isascii() and digits.isdigit() and len(digits) < 19 else word


def call(path: Path, method: str, params: bytes | None, timeout: float) -> Any:
    """Call a method of a server, and return its result. Raises CommandError, which says what is wrong."""
    if not method.isprintable():
        raise CommandError(f"METHOD is not a text: {method!r}")
    members = b"" if params is None else b',"params":%b' % params
    request = b'{"id":%d%b%b}' % (REQUEST_ID, request_head(method), members)
    until = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise CommandError(_cannot_connect(path, error)) from None
        try:
            connection.sendall(encode(request))
            payload = _receive(connection, until)
        except TimeoutError:
            raise CommandError(f"{method}: the server at {path} has not answered within {timeout:g} s") from None
        except (OSError, FramingParseError) as error:
            raise CommandError(f"{method}: the connection to {path} was lost: {error}") from None
    return _result(method, payload)


def _cannot_connect(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"no server has its control socket at {path}"
    if isinstance(error, ConnectionRefusedError) and not path.is_socket():
        return f"{path} is no socket"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens at {path}: the server that made it has died"
    if isinstance(error, PermissionError):
        return f"this user may not command the server at {path}: permission denied"
    return f"cannot connect to {path}: {error.strerror or error}"


def _receive(connection: socket.socket, until: float) -> bytes:
    decoder = Decoder(MAX_ANSWER)
    while True:
        connection.settimeout(max(until - time.monotonic(), 0.001))
        data = connection.recv(1 << 16)
        if not data:
            raise ConnectionError("closed by the server")
        payloads = decoder.feed(data)
        if payloads:
            return payloads[0]


def _result(method: str, payload: bytes) -> Any:
    try:
        message = decode(payload)
    except JsonRpcParseError as error:
        raise CommandError(f"{method}: what was answered is no JSON-RPC: {error}") from None
    if not isinstance(message, Message):
        raise CommandError(f"{method}: the answer is a batch")
    fault = answer_error(message)
    if fault is not None:
        raise CommandError(f"{method}: {_said(fault.message, fault.data)}")
    return decode_json(message.result)  # type: ignore[arg-type]


def _said(message: str, data: bytes | None) -> str:
    try:
        more = None if data is None else decode_json(data)
    except NOT_JSON:
        return message
    if not isinstance(more, str):
        # That of workers: the message names them already.
        return message
    # The usual message of an error in the parameters says nothing that its data does not.
    return more if message in ("Invalid params", "Method not found") else f"{message}: {more}"


# ---- what is shown


def _show(result: Any, as_json: bool) -> None:
    if as_json:
        print(encode_json(result).decode())
        return
    for line in lines_of(result):
        print(line)
    sys.stdout.flush()


def lines_of(result: Any) -> Iterator[str]:
    """Show a result: an object as names and values, a list of objects as a table."""
    if _is_by_worker(result):
        yield from _by_worker(result)
    elif _is_table(result):
        yield from table_of(result)
    elif isinstance(result, Mapping):
        width = max((len(name) for name in result), default=0)
        for name, value in result.items():
            yield f"{name:<{width}}  {_text(value)}"
    elif isinstance(result, list):
        yield from (_text(item) for item in result)
    elif isinstance(result, str):
        yield from result.splitlines()
    elif result is not None:
        yield _text(result)


def table_of(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lay rows out in columns, named after their members; numbers stand on the right."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_text(row.get(name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[at]) for line in cells)) for at, name in enumerate(names)]
    numbers = [all(_is_number(row.get(name)) for row in rows) for name in names]
    for line in [names, *cells]:
        aligned = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(line, widths, numbers, strict=True)
        )
        yield "  ".join(aligned).rstrip()


def _by_worker(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Show what each worker has answered; answers that are tables or objects become one table."""
    rows: list[dict[str, Any]] = []
    for part in parts:
        result: Any = part.get("result")
        if "error" in part:
            rows.append({"worker": part["worker"], "error": _error_text(part["error"])})
        elif _is_table(result):
            rows += [{"worker": part["worker"], **row} for row in result]
        elif isinstance(result, Mapping):
            rows.append({"worker": part["worker"], **result})
        elif result != []:
            rows.append({"worker": part["worker"], "result": result})
    if rows:
        yield from table_of(rows)


def _error_text(error: Mapping[str, Any]) -> str:
    data = error.get("data")
    return _said(str(error.get("message")), None if data is None else encode_json(data))


def _is_by_worker(result: Any) -> bool:
    return _is_table(result) and all("worker" in row and ("result" in row or "error" in row) for row in result)


def _is_table(result: Any) -> bool:
    return isinstance(result, list) and bool(result) and all(isinstance(row, Mapping) and row for row in result)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else str(value) if _is_number(value) else encode_json(value).decode()


def _commands(document: Any) -> list[str]:
    """Return the list of commands of an OpenRPC document, as lines."""
    methods = document.get("methods", []) if isinstance(document, Mapping) else []
    named = [(_usage(method), str(method.get("summary", ""))) for method in methods]
    width = max((len(usage) for usage, _ in named), default=0)
    return [f"{usage:<{width}}  {summary}".rstrip() for usage, summary in named]


def _usage(method: Mapping[str, Any]) -> str:
    words = [str(method.get("name", ""))]
    for param in method.get("params", []):
        name = str(param.get("name", "")).upper()
        words.append(name if param.get("required") else f"[{name}]")
    return " ".join(words)
