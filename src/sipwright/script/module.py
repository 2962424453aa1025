"""How a module declares what it brings to scripts.

    class Maxfwd(Module):
        name = "maxfwd"
        max_limit = Param(int, 256, minimum=1)

        @function(routes=RouteKind.REQUEST)
        def mf_process_maxfwd_header(self, ctx: Context, limit: Int) -> int: ...

        @pvar("mf")
        def pv_mf(self, ctx: Context) -> Value: ...

        @transform("s.rev")
        def s_rev(self, value: Value) -> Value: ...

The annotations are the argument check at load (kinds.py), the arity check and the reference documentation at once.
Declarations only: the registry reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import ANY_ROUTE, Part, RouteKind, Setter, Value, Variable
from sipwright.script.store import Store

if TYPE_CHECKING:  # services names Module's users; a module only stores its services
    from sipwright.script.services import Services

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", int, str)

# The routes in which a request can be answered.
REPLYING = RouteKind.REQUEST | RouteKind.FAILURE | RouteKind.EVENT


class Param(Generic[T]):
    """A `modparam` of a module: its type (int or str), default and limits; reads as the value on the instance.

    A repeatable parameter or one that is checked as text has a `parse` function: it gets the module and the value
    and raises ArgumentError, with an offset into the value where it can.
    """

    def __init__(
        self,
        kind: type[T],
        default: T,
        *,
        minimum: int | None = None,
        maximum: int | None = None,
        choices: Sequence[str] = (),
        parse: Callable[[Any, Any], None] | None = None,
        doc: str = "",
    ) -> None:
        self.kind: type[T] = kind
        self.default: T = default
        self.minimum = minimum
        self.maximum = maximum
        self.choices = choices
        self.parse = parse
        self.doc = doc
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Param[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Param[T] | T:
        if instance is None:
            return self
        value: T = instance.__dict__.get(self.name, self.default)
        return value

    def __set__(self, instance: object, value: T) -> None:
        instance.__dict__[self.name] = value

    def take(self, module: Module, value: int | str) -> None:
        """Check a value that a script gives and store it. ArgumentError: wrong type, out of limits, not a choice."""
        if self.kind is int:
            if isinstance(value, str):
                try:
                    value = int(value)
                except ValueError:
                    raise ArgumentError(f"parameter '{self.name}' is an integer, not {value!r}") from None
            if self.minimum is not None and value < self.minimum:
                raise ArgumentError(f"parameter '{self.name}' must be at least {self.minimum}, not {value}")
            if self.maximum is not None and value > self.maximum:
                raise ArgumentError(f"parameter '{self.name}' must be at most {self.maximum}, not {value}")
        else:
            value = str(value)
            if self.choices and value not in self.choices:
                raise ArgumentError(f"parameter '{self.name}' is one of {', '.join(self.choices)}, not {value!r}")
        if self.parse is not None:
            self.parse(module, value)
        module.__dict__[self.name] = value


class VariableParam(Param[str]):
    """A `modparam` that names a variable to be written, `"$var(result)"`; reads as the `Variable` on the instance.

    `default` is the text of a variable with a fixed inner name.
    """

    def __init__(self, default: str, *, doc: str = "") -> None:
        super().__init__(str, default, doc=doc)

    @overload  # type: ignore[override]
    def __get__(self, instance: None, owner: type) -> VariableParam: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Variable: ...
    def __get__(self, instance: object | None, owner: type) -> VariableParam | Variable:
        if instance is None:
            return self
        variable: Variable = instance.__dict__[self.name]
        return variable

    def bind(self, module: Module, variable: Variable) -> None:
        """Store the variable."""
        module.__dict__[self.name] = variable


@dataclass(slots=True)
class VariableUse:
    """One place of a script that uses a variable: what a factory makes a `Variable` from.

    `$(name(inner)[index])`: `inner` is None without parentheses; `index` is an integer, a variable, `"*"` or None.
    """

    text: str
    name: str
    inner: Sequence[Part] | None
    index: int | Variable | str | None

    def check_plain(self) -> None:
        """Check that there is neither an inner name nor an index. ArgumentError: there is."""
        if self.inner is not None:
            raise ArgumentError(f"${self.name} takes no name in parentheses")
        if self.index is not None:
            raise ArgumentError(f"${self.name} takes no index")

    def fixed_inner(self) -> str:
        """Return the inner name when it has no variables in it; ArgumentError: none given, or not fixed."""
        if not self.inner:
            raise ArgumentError(f"${self.name} needs a name in parentheses, like ${self.name}(x)")
        if any(not isinstance(part, str) for part in self.inner):
            raise ArgumentError(f"the name in ${self.name}(...) cannot contain variables")
        return "".join(part for part in self.inner if isinstance(part, str)).strip()


@dataclass(frozen=True, slots=True)
class FunctionDeclaration:
    """What `@function` says of a method."""

    name: str
    routes: RouteKind
    suspends: bool | Callable[[Any], bool]
    runs_routes: bool = False
    reads: Callable[..., bool] | None = None


@dataclass(frozen=True, slots=True)
class PvarDeclaration:
    """What `@pvar` or `@pvar_factory` says of a method."""

    names: tuple[str, ...]
    setter: str | None
    factory: bool


def function(
    name: str | None = None,
    *,
    routes: RouteKind = ANY_ROUTE,
    suspends: bool | Callable[[Any], bool] = False,
    runs_routes: bool = False,
    reads: Callable[..., bool] | None = None,
) -> Callable[[F], F]:
    """Declare a script function: a method `(self, ctx, *arguments) -> int`, annotated with kinds.

    It is called by the method's name or by `name`; several methods may declare one name with different arities.
    A result below 0 is false, above 0 true, and 0 ends the script. With `suspends` the method is `async`; where that
    depends on the parameters of the module, it is a function of the module, asked once all of them are set, and the
    method returns an int, or where that function said yes an awaitable of one. With `runs_routes` it returns what
    running a route returned. `reads(module, ctx, *arguments)` tells whether it would read its `LazyStr` arguments.
    """

    def declare(method: F) -> F:
        declared = getattr(method, "script_functions", ())
        method.script_functions = (  # type: ignore[attr-defined]
            *declared,
            FunctionDeclaration(name or method.__name__, routes, suspends, runs_routes, reads),
        )
        return method

    return declare


def pvar(*names: str, setter: str | None = None) -> Callable[[F], F]:
    """Declare a variable without inner name: a method `(self, ctx) -> Value`.

    `setter` names a method `(self, ctx, value)` that makes it writable.
    """

    def declare(method: F) -> F:
        method.script_pvar = PvarDeclaration(names, setter, factory=False)  # type: ignore[attr-defined]
        return method

    return declare


def pvar_factory(*names: str) -> Callable[[F], F]:
    """Declare variables that have an inner name or an index: a method `(self, use: VariableUse) -> Variable`.

    It is called once for each place of a script that uses the variable. ArgumentError: inner or index are wrong.
    """

    def declare(method: F) -> F:
        method.script_pvar = PvarDeclaration(names, None, factory=True)  # type: ignore[attr-defined]
        return method

    return declare


def transform(name: str, *, of_null: bool = False) -> Callable[[F], F]:
    """Declare a transformation `{class.name,params}`: a method `(self, value, *params) -> Value`, params by kinds.

    Of `$null` it makes `$null`, without being called unless `of_null` is set.
    """

    def declare(method: F) -> F:
        method.script_transform = name  # type: ignore[attr-defined]
        method.transforms_null = of_null  # type: ignore[attr-defined]
        return method

    return declare


class Module:
    """A script module. Subclass it, give it a `name`, and declare what it brings.

    Its life: constructed at `loadmodule`; its parameters are set; `mod_init()` once the whole script was read and
    is good (ArgumentError: the configuration makes no sense), before the server has its workers; `child_init(services)`
    in each worker, with a running event loop; `ready()` in each worker; `leave()` and `destroy()` when the worker ends;
    and `mod_destroy(shared_store)` when the server ends. `event_routes` names the event routes it may run.
    """

    name: str = ""
    aliases: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    event_routes: tuple[str, ...] = ()
    # Parameters of Kamailio's module that have no meaning here: accepted, with a note.
    ignored_params: tuple[str, ...] = ()
    services: Services

    def __init__(self, require: Callable[[str], Any]) -> None:
        self.require = require

    def event_route_note(self, _name: str) -> str | None:
        """Say why an event route that the script has will not run, with the parameters that are set; None: it will."""
        return None

    def mod_init(self) -> None:
        """Check what can be checked once all parameters are known."""

    def child_init(self, services: Services) -> None:
        """Start what needs a running worker. Extend it; the default keeps the services."""
        self.services = services

    def listens(self) -> Sequence[str]:
        """Return the stream addresses that the module wants to accept on, `tcp:host:port` or `unix:/path`.

        Asked once the configuration is good. The sockets are `services.streams`, the same ones in all workers.
        """
        return ()

    def leave(self, is_replaced: bool) -> None:
        """Begin nothing new that comes from outside: the worker stops, or is replaced by another one.

        What is suspended goes on for a while; `destroy()` comes after that.
        """

    def ready(self) -> None:
        """Do what needs all modules to be started in the worker, such as running routes. No request has come yet."""

    async def destroy(self) -> None:
        """Let go what `child_init` started."""

    def mod_destroy(self, shared_store: Callable[[str], Store]) -> None:
        """Keep what is to outlive the server: called once, when all its workers have ended, or all but this one.

        It may be a process where the module has never been started; `shared_store` gives the stores that the workers
        shared. It may be called again, and by several processes at once, where the server did not end as it should.
        """


__all__ = [
    "F",
    "FunctionDeclaration",
    "Module",
    "Param",
    "PvarDeclaration",
    "Setter",
    "Value",
    "VariableParam",
    "VariableUse",
    "function",
    "pvar",
    "pvar_factory",
    "transform",
]
