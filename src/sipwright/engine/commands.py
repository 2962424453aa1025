"""The commands of a worker: owns their table, the check of their parameters, and what an error of one becomes.

A command is a JSON-RPC method of the server's control interface that runs in every worker. Who listens there, and how
the answers of the workers become one, is in `workers/`.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from sipwright.errors import ArgumentError, RpcAnswerError, SipwrightError
from sipwright.jsonrpc.messages import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, NOT_JSON, decode_json

# all: a list with the answer of each worker. sum: objects whose numbers are added. first: all say the same.
Join: TypeAlias = Literal["all", "sum", "first"]
Handler: TypeAlias = Callable[[Any], Any]

# What a command could not do, though it was asked well (JSON-RPC 2.0 section 5.1: -32000 to -32099 are the server's).
COMMAND_FAILED = -32000
# Workers that did not answer.
NO_ANSWER = -32001


class CommandInfo(msgspec.Struct, frozen=True):
    """What is known of a command elsewhere: `params` are names, with `?` behind those that may be left out."""

    name: str
    doc: str = ""
    join: Join = "all"
    params: list[str] | None = None


class Commands:
    """The commands of one worker, by name."""

    __slots__ = ("_handlers", "_infos")

    def __init__(self) -> None:
        self._infos: dict[str, CommandInfo] = {}
        self._handlers: dict[str, Handler] = {}

    def add(
        self,
        name: str,
        handler: Handler,
        doc: str = "",
        join: Join = "all",
        params: Sequence[str] | None = None,
    ) -> None:
        """Add a command; see `Services.add_command`. ArgumentError: the name is taken, or is none."""
        if not name or not name.isprintable() or " " in name:
            raise ArgumentError(f"{name!r} is no name of a command")
        if name in self._infos:
            raise ArgumentError(f"there is a command '{name}' already")
        self._infos[name] = CommandInfo(name, doc, join, None if params is None else list(params))
        self._handlers[name] = handler

    def __iter__(self) -> Iterator[CommandInfo]:
        """Give what is to be known of each."""
        return iter(self._infos.values())

    def call(self, name: str, params: bytes | None) -> Any:
        """Run a command with its params, JSON or None, and return what it returns: JSON-able, or an awaitable of it.

        Raises RpcAnswerError when there is no such command or the params do not fit; whatever the command raises.
        """
        info = self._infos.get(name)
        if info is None:
            raise unknown_command(name, self._infos)
        return self._handlers[name](read_params(info, params))


def unknown_command(name: str, names: Iterator[str] | Sequence[str] | dict[str, CommandInfo]) -> RpcAnswerError:
    """Return the error of a command that does not exist, with the closest one that does."""
    close = difflib.get_close_matches(name, list(names), n=1)
    data = f"there is no command '{name}'" + (f": did you mean '{close[0]}'?" if close else "")
    return RpcAnswerError(METHOD_NOT_FOUND, "Method not found", data)


def read_params(info: CommandInfo, params: bytes | None) -> Any:
    """Decode the params of a command: by name where it has names, else as they are.

    Raises RpcAnswerError -32602 when they do not fit.
    """
    try:
        given = None if params is None else decode_json(params)
    except NOT_JSON as error:
        raise invalid_params(str(error)) from None
    if info.params is None:
        return given
    names = [name.removesuffix("?") for name in info.params]
    usage = " ".join(f"[{name[:-1]}]" if name.endswith("?") else name for name in info.params) or "nothing"
    if isinstance(given, dict):
        unknown = sorted(given.keys() - set(names))
        if unknown:
            raise invalid_params(f"'{info.name}' has no parameter '{unknown[0]}', it takes {usage}")
    else:
        values = given or []
        if len(values) > len(names):
            raise invalid_params(f"'{info.name}' takes {usage}, not {len(values)} parameters")
        given = dict(zip(names, values, strict=False))
    missing = [name for name in info.params if not name.endswith("?") and name not in given]
    if missing:
        raise invalid_params(f"'{info.name}' needs the parameter '{missing[0]}': it takes {usage}")
    return given


def invalid_params(what: str) -> RpcAnswerError:
    """Return the error of params that do not fit; `what` is for a person."""
    return RpcAnswerError(INVALID_PARAMS, "Invalid params", what)


def command_error(name: str, error: Exception, log: logging.Logger) -> RpcAnswerError:
    """Return what is answered when a command raised something; what is a fault of its code is logged."""
    if isinstance(error, RpcAnswerError):
        return error
    if isinstance(error, ArgumentError):
        hint = f": did you mean '{error.suggestion}'?" if error.suggestion else ""
        return invalid_params(error.message + hint)
    if isinstance(error, SipwrightError):
        return RpcAnswerError(COMMAND_FAILED, str(error))
    log.error("fault in the command %s", name, exc_info=error)
    return RpcAnswerError(INTERNAL_ERROR, "Internal error", "the log says more")
