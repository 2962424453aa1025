"""What the modules that ask JSON-RPC services share: the params argument, and a transaction that waits for an answer.

The client, the choice of server and the timeouts are `sipwright.jsonrpc`; which functions there are, what becomes of an
outcome and where the script goes on is each module's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from sipwright.errors import ArgumentError, JsonParseError
from sipwright.jsonrpc.template import Template, compile_template
from sipwright.lang.namespace import ParamKind, Part, Variable
from sipwright.script.context import Context
from sipwright.script.services import Services
from sipwright.script.suspend import Suspension


class ParamsText:
    """The params argument as one place of the script has it: compiled once, filled at each call."""

    __slots__ = ("_constant", "_getters", "_parts", "_strict", "_template")

    def __init__(self, parts: Sequence[Part], *, strict: bool = False) -> None:
        self._parts = parts
        self._template: Template = compile_template(parts, strict=strict)
        self._constant = self._template.constant
        self._getters = tuple(slot.get for slot in self._template.slots if isinstance(slot, Variable))
        self._strict: ParamsText | None = self if strict else None

    @property
    def constant(self) -> bytes | None:
        """The params as strict JSON where they have no variables, empty for none; None: they have."""
        return self._constant

    def fill(self, context: Context) -> bytes:
        """Return the params as strict JSON, empty for none. ArgumentError, JsonParseError: a value does not fit."""
        if self._constant is not None:
            return self._constant
        return self._template.fill([get(context) for get in self._getters])

    def strict(self) -> ParamsText:
        """Return the same params read as strict JSON."""
        if self._strict is None:
            self._strict = ParamsText(self._parts, strict=True)
        return self._strict


def prepare_params(parts: Sequence[Part]) -> ParamsText:
    """Compile a params argument. ArgumentError: it is no JSON; the offset is its place in the argument."""
    try:
        return ParamsText(parts)
    except JsonParseError as error:
        raise ArgumentError(f"bad JSON-RPC parameters: {error.message}", error.offset) from None


# `Params`: JSON with variables in it, whose values cannot change what it means around them.
Params = Annotated[ParamsText, ParamKind("params", "JSON, in a string", prepare=prepare_params)]


class RpcSuspension(Suspension):
    """A transaction that waits for the answer to a call. `result` is the variable that the answer goes to."""

    __slots__ = ("call", "result", "services")

    def __init__(self, context: Context, services: Services, result: Variable) -> None:
        # Written out, not super().__init__(): one of these is made per call, and the call costs 100 ns.
        self.context = context
        self.ended = False
        self.sweep = 0
        self.coroutine = None
        self.services = services
        self.result = result
        self.call: Any = None

    def abandoned(self) -> None:
        """Give the call up: its answer will be counted as late."""
        if self.call is not None:
            self.call.cancel()

    def give(self, text: str) -> bool:
        """Store a text in the result variable. False: the script is not to go on, it ended or the variable failed."""
        if self.ended:
            return False
        handling = self.services.handling
        handling.context = self.context
        try:
            set_result = self.result.set
            assert set_result is not None  # checked at load
            set_result(self.context, text)
        except Exception as error:  # the boundary to the variable's module
            self.services.fail(self, error)
            return False
        finally:
            handling.context = None
        return True


def parse_retry_codes(text: str) -> tuple[range, ...]:
    """Parse `"-32603, -32000..-32099"`: numbers and ranges, which may be written from either end.

    Raises ArgumentError with the offset into the text.
    """
    ranges = []
    offset = 0
    for item in text.split(","):
        if item.strip():
            start, dots, end = item.partition("..")
            first = _code(start, offset)
            last = _code(end, offset + len(start) + len(dots)) if dots else first
            ranges.append(range(min(first, last), max(first, last) + 1))
        offset += len(item) + 1
    return tuple(ranges)


def _code(text: str, offset: int) -> int:
    digits = text.strip()
    at = offset + len(text) - len(text.lstrip())
    number = digits[1:] if digits[:1] in ("-", "+") else digits
    if not (number.isascii() and number.isdecimal() and len(number) < 11):
        raise ArgumentError(f"expected an error code, or a range of them like -32000..-32099, found '{digits}'", at)
    return int(digits)
