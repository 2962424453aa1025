"""What one compiled script is made of while it is emitted: owns its global names and the making of Python ast nodes.

Constants and functions that the code uses are bound once, as globals of the compiled functions: a global is as fast as
a closure cell, and nothing is looked up by attribute while a script runs.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import FunctionType
from typing import Any

from sipwright.lang import runtime
from sipwright.lang.namespace import Namespace, Route, RouteKind
from sipwright.lang.runtime import Reporter, Site
from sipwright.lang.source import Spot

CONTEXT = "ctx"
_PLACED = (ast.expr, ast.stmt, ast.arg, ast.excepthandler)
_SIMPLE = (int, str, type(None))


class Unit:
    """The globals of a script's functions, and what emission has to know of the whole script."""

    def __init__(
        self,
        namespace: Namespace,
        reporter: Reporter,
        routes: dict[tuple[RouteKind, str], Route],
        *,
        reads_rc: bool = False,
        max_loops: int = 100,
    ) -> None:
        self.namespace = namespace
        self.reporter = reporter
        self.routes = routes
        self.reads_rc = reads_rc
        self.max_loops = max_loops
        self.globals: dict[str, Any] = {"__builtins__": {"ValueError": ValueError, "str": str, "int": int}}
        self._names: dict[int, str] = {}
        # Objects are found by identity, so they must outlive the names.
        self._bound: list[object] = []
        self._route_names: dict[int, str] = {}
        self._routes_of_kind: dict[RouteKind, dict[str, Route]] = {}

    def bind(self, value: object, hint: str) -> ast.expr:
        """Return an expression for a value: a literal, or a global name."""
        if value.__class__ in _SIMPLE:
            return ast.Constant(value)
        name = self._names.get(id(value))
        if name is None:
            name = f"{hint}_{len(self._bound)}"
            self._names[id(value)] = name
            self._bound.append(value)
            self.globals[name] = value
        return load(name)

    def runtime(self, function: Callable[..., Any]) -> ast.expr:
        """Return the name of a function of `runtime`."""
        name = function.__name__
        self.globals.setdefault(name, getattr(runtime, name))
        return load(name)

    def site(self, spot: Spot, what: str) -> ast.expr:
        """Return a global for a place that may have something to report."""
        return self.bind(Site(spot.file.name, spot.line, what, self.reporter), "site")

    def route_name(self, route: Route) -> str:
        """Return the global name of a route's function; it may not be there yet."""
        return self._route_names.setdefault(id(route), f"_route_{len(self._route_names)}")

    def routes_of(self, kind: RouteKind) -> dict[str, Route]:
        """Return the named routes of a kind, by name."""
        found = self._routes_of_kind.get(kind)
        if found is None:
            found = {name: route for (k, name), route in self.routes.items() if k is kind and name}
            self._routes_of_kind[kind] = found
        return found

    def route_finder(self, kind: RouteKind) -> ast.expr:
        """Return a global: the function that finds a named route of a kind, or None."""
        name = f"find_{(kind.name or '').lower()}_route"
        self.globals.setdefault(name, self.routes_of(kind).get)
        return load(name)

    def define(self, function: ast.FunctionDef | ast.AsyncFunctionDef, spot: Spot, shown: str) -> FunctionType:
        """Compile a function among the globals; `shown` is its name in tracebacks."""
        place(function, spot)
        module = ast.Module([function], [])
        code = compile(module, spot.file.name, "exec", dont_inherit=True)
        exec(code, self.globals)  # noqa: S102  # the one place where compiled scripts come to life
        made: FunctionType = self.globals[function.name]
        made.__code__ = made.__code__.replace(co_name=shown, co_qualname=shown)
        made.__name__ = made.__qualname__ = shown
        return made


def load(name: str) -> ast.Name:
    """Return a name that is read."""
    return ast.Name(name, ast.Load())


def context() -> ast.Name:
    """Return the context argument."""
    return load(CONTEXT)


def constant(value: object) -> ast.Constant:
    """Return a literal."""
    return ast.Constant(value)  # type: ignore[arg-type]


def call(function: ast.expr, *arguments: ast.expr) -> ast.Call:
    """Return a call."""
    return ast.Call(function, list(arguments), [])


def compare(left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.Compare:
    """Return a comparison."""
    return ast.Compare(left, [op], [right])


def negate(node: ast.expr) -> ast.expr:
    """Return `not node`."""
    return ast.UnaryOp(ast.Not(), node)


def walrus(name: str, value: ast.expr) -> ast.NamedExpr:
    """Return `(name := value)`."""
    return ast.NamedExpr(ast.Name(name, ast.Store()), value)


def assign(name: str, value: ast.expr) -> ast.stmt:
    """Return `name = value`."""
    return ast.Assign([ast.Name(name, ast.Store())], value)


def give(value: ast.expr | int) -> ast.stmt:
    """Return a `return` statement."""
    return ast.Return(constant(value) if isinstance(value, int) else value)


def function(name: str, body: list[ast.stmt], *, waits: bool) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """Return the definition of a function of the context."""
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg(CONTEXT)], kwonlyargs=[], kw_defaults=[], defaults=[], vararg=None, kwarg=None
    )
    kind = ast.AsyncFunctionDef if waits else ast.FunctionDef
    made = kind(name=name, args=arguments, body=body, decorator_list=[], returns=None)
    if "type_params" in kind._fields:
        made.type_params = []  # type: ignore[union-attr,unused-ignore]
    return made


def place(node: ast.AST, spot: Spot) -> None:
    """Give a node, and all below it that have no place yet, the place of a spot."""
    line, column = spot.file.place(spot.offset)
    for part in ast.walk(node):
        if isinstance(part, _PLACED) and not hasattr(part, "lineno"):
            vars(part).update(lineno=line, end_lineno=line, col_offset=column - 1, end_col_offset=column)
