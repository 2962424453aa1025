"""What the compiler asks of the world it compiles for.

The compiler knows no module, no SIP message and no server: each name in a script (function, variable,
transformation, parameter) is looked up once, at load, in a Namespace that it is given. What it gets back says how
to emit code for the name. A lookup that fails raises `ArgumentError`, with a suggestion where there is one.

Values are `int`, `str` or None (`$null`); the context that compiled code passes around is opaque here.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

Value: TypeAlias = int | str | None
Getter: TypeAlias = Callable[[Any], Value]
Setter: TypeAlias = Callable[[Any, Value], None]
Fetch: TypeAlias = Callable[[Any], Awaitable[Value]]
Keep: TypeAlias = Callable[[Any], Awaitable[None]]


class RouteKind(enum.Flag):
    """The kinds of route blocks. A function declares in which of them it may be called."""

    REQUEST = enum.auto()
    FAILURE = enum.auto()
    ONREPLY = enum.auto()
    BRANCH = enum.auto()
    ONSEND = enum.auto()
    EVENT = enum.auto()


ANY_ROUTE = (
    RouteKind.REQUEST | RouteKind.FAILURE | RouteKind.ONREPLY | RouteKind.BRANCH | RouteKind.ONSEND | RouteKind.EVENT
)


@dataclass(slots=True)
class Variable:
    """A pseudo-variable as one place of a script uses it, name and index resolved: `text` is how it is written.

    `missing` stands for its `$null` in a string.

    A variable that waits, because its value has to come from elsewhere, has `fetch`: `await fetch(context)` gives the
    value. The namespace makes it with `Variable.waiting`. The compiler adds what it needs for those who read or write
    it without waiting: `get` gives what `await keep(context)` has left, and `set` finds its place after `await
    locate(context)`, which is None where no name inside of it waits.
    """

    text: str
    get: Getter
    set: Setter | None = None
    missing: str = field(default="<null>", kw_only=True)
    fetch: Fetch | None = field(default=None, kw_only=True)
    keep: Keep | None = field(default=None, kw_only=True)
    locate: Keep | None = field(default=None, kw_only=True)

    @classmethod
    def waiting(cls, text: str, fetch: Fetch, set_: Setter | None = None) -> Variable:
        """Return a variable that waits. Writing it does not: `set_` may send the value on its way, in order."""
        return cls(text, _not_fetched, set_, fetch=fetch)


def _not_fetched(_context: Any) -> Value:
    raise RuntimeError("the variable was read before it was fetched")


# A string with variables in it is a sequence of these: literal text and variables by turns.
Part: TypeAlias = str | Variable


@dataclass(frozen=True, slots=True)
class ParamKind:
    """What an argument of a script function may be, and how it reaches the function.

    Two ways: with `convert`, the argument's value is passed, converted at load when it is constant and at each call
    when it is not (ValueError or ArgumentError: at load a fault of the script; at run time the function returns -1).
    With `prepare`, the argument's parts are prepared once, at load, and the prepared object itself is passed.
    `expects` completes the sentence "expected ...".

    With `textual`, `convert` never fails and leaves text as it is, so it can be left out for what is text already.
    With `lone_dollar`, a `$` in a string that begins no variable stands for itself (regular expressions); otherwise it
    is a fault, and a dollar is written `$$`.

    Two more checks at load, of what is passed when it is constant: `check(owner, passed)` knows the module whose
    function it is (ArgumentError: a fault of the script); `route(passed)` tells the `route[NAME]` that is named in it,
    with the offset of the name, which must exist, and where the script goes on later.
    """

    name: str
    expects: str
    convert: Callable[[Value], object] | None = None
    prepare: Callable[[Sequence[Part]], object] | None = None
    textual: bool = False
    lone_dollar: bool = False
    check: Callable[[Any, Any], None] | None = None
    route: Callable[[Any], tuple[str, int] | None] | None = None


# Kinds that the compiler itself resolves. The route kinds pass a `Route` (below), or None when a dynamic name is
# unknown at run time; VARIABLE passes a `Variable` to be written, UPDATED_VARIABLE one to be read and written,
# READ_VARIABLE any `Variable`.
ROUTE = ParamKind("route", "the name of a route")
FAILURE_ROUTE = ParamKind("failure_route", "the name of a failure_route")
ONREPLY_ROUTE = ParamKind("onreply_route", "the name of an onreply_route")
BRANCH_ROUTE = ParamKind("branch_route", "the name of a branch_route")
VARIABLE = ParamKind("variable", "one writable variable")
UPDATED_VARIABLE = ParamKind("updated_variable", "one writable variable")
READ_VARIABLE = ParamKind("read_variable", "one variable")


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """One parameter of a script function. The last one may be one that `repeats`: one argument or more."""

    name: str
    kind: ParamKind
    optional: bool = False
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A script function: `call(context, *arguments) -> int`; missing optional arguments are not passed.

    With `suspends`, `call` returns an awaitable of an int, and every route that may reach it becomes a coroutine.
    With `runs_routes`, it returns what running some `route[NAME]` returned: an int, or a coroutine of one.
    `reads(context, *arguments)` tells whether a call would look at its prepared arguments at all; where it says no,
    nothing is fetched for them. Without it they are always fetched. `owner` is what declared it, for the checks of
    its kinds.
    """

    name: str
    module: str
    call: Callable[..., Any]
    params: tuple[ParamSpec, ...] = ()
    routes: RouteKind = ANY_ROUTE
    suspends: bool = False
    runs_routes: bool = False
    reads: Callable[..., bool] | None = None
    owner: Any = None


class Route:
    """A compiled route block.

    `run(context)` runs it and returns its code (0: the script ended); where `suspends` is true it returns a coroutine
    of that code. `file` and `line` are where the block starts.
    """

    __slots__ = ("file", "kind", "line", "name", "run", "suspends")

    def __init__(self, name: str, kind: RouteKind, file: str, line: int) -> None:
        self.name = name
        self.kind = kind
        self.file = file
        self.line = line
        self.suspends = False
        self.run: Callable[[Any], Any] = _not_compiled

    def __repr__(self) -> str:
        return f"<Route {self.kind.name} {self.name!r} {self.file}:{self.line}>"


def _not_compiled(_context: Any) -> int:
    raise RuntimeError("the route was called before it was compiled")


NameClass: TypeAlias = Literal["function", "variable", "module", "transformation", "global"]


class Namespace(Protocol):
    """The world that a script is compiled for. All methods are called at load only, in the order of the file."""

    def load_module(self, name: str) -> None:
        """Load a module by the name written in `loadmodule`. ArgumentError: unknown, or what it needs is not loaded."""

    def set_param(self, module: str, name: str, value: int | str) -> None:
        """Take a `modparam`. ArgumentError: unknown module or parameter, wrong value (with an offset into it)."""

    def takes_variable(self, module: str, name: str) -> bool:
        """Tell whether a `modparam` names a variable to be written; such a one is given to `set_param_variable`."""

    def set_param_variable(self, module: str, name: str, variable: Variable) -> None:
        """Take a `modparam` that names a variable, once all modules are loaded."""

    def set_global(self, name: str, value: Sequence[int | str]) -> str | None:
        """Take a global parameter with its values. Return a note when it has no effect. ArgumentError: wrong."""

    def takes_variables(self, name: str) -> bool:
        """Tell whether a global parameter is a text with variables; such a one is given to `set_global_text`."""

    def set_global_text(self, name: str, parts: Sequence[Part]) -> None:
        """Take a global parameter that is a text with variables, once all modules are loaded."""

    def functions(self, name: str) -> Sequence[FunctionSpec]:
        """Return the functions of that name, one for each arity that is declared apart; empty when unknown."""

    def variable(
        self, text: str, name: str, inner: Sequence[Part] | None, index: int | Variable | Literal["*"] | None
    ) -> Variable:
        """Resolve `$name`, `$name(inner)`, `$(name(inner)[index])`. ArgumentError: unknown, or inner or index wrong."""

    def transformation(self, cls: str, name: str, params: Sequence[Sequence[Part]]) -> Callable[[Any, Value], Value]:
        """Resolve `{cls.name,params...}` to a function of context and value. ArgumentError: unknown or wrong params."""

    def is_myself(self, context: Any, uri: Value) -> bool:
        """Tell at run time whether a URI's or address's host and port are this server's (`uri == myself`)."""

    def event_routes(self) -> Iterable[str]:
        """Return the names of the event routes that something may run, `"tm:local-request"` for one."""

    def event_route_note(self, name: str) -> str | None:
        """Say why one of these event routes will not run all the same, with the parameters that were taken."""

    def elsewhere(self, what: NameClass, name: str) -> str | None:
        """Say where else an unknown name is, `it is in module xlog, which is not loaded ...`; None: nowhere."""

    def names(self, what: NameClass) -> Iterable[str]:
        """Return all known names of a class, for suggestions."""
