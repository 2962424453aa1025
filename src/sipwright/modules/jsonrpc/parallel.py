"""Several calls at once: `NAME=METHOD;OPTIONS:PARAMS`, one argument of the script for each.

The transaction is suspended once, and goes on when all calls have ended, or as soon as one has failed that is not
`optional`; the others are given up then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from sipwright.errors import ArgumentError, JsonParseError
from sipwright.lang.namespace import ParamKind, Part, Route
from sipwright.modules.jsonrpc.options import CallOptions, check_group, read_options
from sipwright.modules.jsonrpc.outcomes import FAILED, LAST, NAME, PARTS, keep
from sipwright.script.context import Context
from sipwright.script.rpc import ParamsText
from sipwright.script.suspend import Suspension

_WORDS = ("idempotent", "strict", "optional")
_FORM = "expected NAME=METHOD:PARAMS, such as user=get_user:{'id': 1}"


class NamedCall:
    """One of several calls, as one place of the script has it."""

    __slots__ = ("method", "name", "options", "params")

    def __init__(self, name: str, method: str, options: CallOptions, params: ParamsText) -> None:
        self.name = name
        self.method = method
        self.options = options
        self.params = params


def prepare_call(parts: Sequence[Part]) -> NamedCall:
    """Compile one call. ArgumentError: it is malformed; the offset is its place in the argument."""
    head = parts[0] if parts and isinstance(parts[0], str) else ""
    before, colon, params = head.partition(":")
    if not colon and any(not isinstance(part, str) for part in parts):
        raise ArgumentError(f"the name, the method and the options of a call cannot contain variables: {_FORM}", 0)
    name, equals, asked = before.partition("=")
    method, semicolon, options = asked.partition(";")
    if not equals or not method.strip():
        raise ArgumentError(f"'{before}' is no call: {_FORM}", 0)
    if not NAME.fullmatch(name.strip()):
        raise ArgumentError(f"'{name}' is no name of a call, which has letters, digits and _", 0)
    place = len(name) + len(equals) + len(method) + len(semicolon)
    try:
        read = read_options(options, _WORDS)
        place = len(before) + len(colon)
        text = ParamsText([params, *parts[1:]] if params or len(parts) > 1 else [])
    except ArgumentError as error:
        raise ArgumentError(error.message, place + (error.offset or 0)) from None
    except JsonParseError as error:
        raise ArgumentError(f"bad JSON-RPC parameters: {error.message}", place + error.offset) from None
    return NamedCall(name.strip(), method.strip(), read, text)


def _check_call(module: Any, call: NamedCall) -> None:
    check_group(module, call.options)


Calls = Annotated[NamedCall, ParamKind("call", "a call, NAME=METHOD:PARAMS", prepare=prepare_call, check=_check_call)]


class ParallelSuspension(Suspension):
    """A transaction that waits for several calls. `finish(suspension, failed)` is called once, when it is to go on.

    `failed` is the call that has failed, None when none has that matters.
    """

    __slots__ = ("_calls", "_finish", "_left", "error_route", "return_route")

    def __init__(
        self,
        context: Context,
        return_route: Route | None,
        error_route: Route | None,
        finish: Callable[[ParallelSuspension, Any], object],
    ) -> None:
        super().__init__(context)
        self.return_route = return_route
        self.error_route = error_route
        self._finish = finish
        # Each call, with its name and whether its failure does not matter.
        self._calls: dict[Any, tuple[str, bool]] = {}
        self._left = 0

    def add(self, call: Any, name: str, is_optional: bool) -> None:
        """Wait for a call, too. It has not ended yet."""
        self._calls[call] = name, is_optional
        self._left += 1

    def abandoned(self) -> None:
        """Give up those that have not ended."""
        for call in self._calls:
            call.cancel()

    def call_ended(self, call: Any) -> None:
        """Take the end of a call (its `done`)."""
        if self.ended:
            return
        self._left -= 1
        name, is_optional = self._calls[call]
        has_failed = call.status != "ok" and not is_optional
        if not has_failed and self._left:
            return
        self.abandoned()
        keep(self.context, PARTS, {name: one for one, (name, _) in self._calls.items()})
        keep(self.context, LAST, call)
        keep(self.context, FAILED, name if has_failed else None)
        self._finish(self, call if has_failed else None)
