"""Binding of calls: owns the choice of a function by name and number of arguments, and the check of each argument."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, Protocol

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import (
    BRANCH_ROUTE,
    FAILURE_ROUTE,
    ONREPLY_ROUTE,
    READ_VARIABLE,
    ROUTE,
    UPDATED_VARIABLE,
    VARIABLE,
    FunctionSpec,
    Namespace,
    ParamKind,
    Route,
    RouteKind,
    Value,
    Variable,
)
from sipwright.lang.nodes import Argument, Call, Expression, Net, Number, RouteCall, Text, Var, Word
from sipwright.lang.source import Faults, Spot, suggest
from sipwright.lang.traits import has_calls, waits
from sipwright.lang.variables import Part, Variables
from sipwright.lang.waiting import keeps_of, waiting_variable

# The route kinds among the arguments: which blocks they name, and how such a block is written.
ROUTE_KINDS: Mapping[str, tuple[RouteKind, str]] = {
    ROUTE.name: (RouteKind.REQUEST, "route"),
    FAILURE_ROUTE.name: (RouteKind.FAILURE, "failure_route"),
    ONREPLY_ROUTE.name: (RouteKind.ONREPLY, "onreply_route"),
    BRANCH_ROUTE.name: (RouteKind.BRANCH, "branch_route"),
}


class ExpressionBinder(Protocol):
    """What arguments need of the binder of expressions."""

    def bind_expression(self, node: Expression) -> None:
        """Bind everything in an expression."""

    def compile_expression(self, node: Expression) -> Callable[[Any], Any]:
        """Compile a bound expression to a function of the context; to a coroutine function if it waits."""


class Arguments:
    """Binds calls and their arguments."""

    __slots__ = ("_binder", "_faults", "_namespace", "_routes", "_variables")

    def __init__(
        self,
        namespace: Namespace,
        faults: Faults,
        variables: Variables,
        routes: Mapping[tuple[RouteKind, str], Route],
        binder: ExpressionBinder,
    ) -> None:
        self._namespace = namespace
        self._faults = faults
        self._variables = variables
        self._routes = routes
        self._binder = binder

    def bind_call(self, call: Call) -> None:
        """Find the function of a call and bind its arguments to its parameters."""
        specs = self._namespace.functions(call.name)
        if not specs:
            self._note_unknown(call)
            return
        count = len(call.args)
        spec = next((s for s in specs if _required(s) <= count <= _most(s)), None)
        if spec is None:
            self._faults.add(call.at, f"{call.name} takes {_arity(specs)}, not {count}")
            return
        call.spec = spec
        params = chain(spec.params, repeat(spec.params[-1])) if spec.params else ()
        for number, (param, expression) in enumerate(zip(params, call.args, strict=False), 1):
            argument = self._bind_argument(spec, Argument(param, expression, number=number), expression)
            if argument is not None:
                call.arguments.append(argument)

    def _note_unknown(self, call: Call) -> None:
        elsewhere = self._namespace.elsewhere("function", call.name)
        if elsewhere is not None:
            self._faults.add_unknown(call.at, f"unknown function '{call.name}': {elsewhere}")
            return
        # A statement of one word may be a mistyped keyword.
        keywords = () if call.args else ("exit", "drop", "return", "break")
        close = suggest(call.name, keywords) or suggest(call.name, self._namespace.names("function"))
        self._faults.add_unknown(call.at, f"unknown function '{call.name}'", close)

    def bind_route_call(self, call: RouteCall) -> None:
        """Find the route that `route(...)` calls, or bind the name that is found at run time."""
        target = self._unquoted(call.target)
        parts = self._route_name(target)
        if parts is None:
            if has_calls(target):
                self._faults.add(target.at, "the name of a route cannot be the result of a function")
                return
            self._binder.bind_expression(target)
            call.target = target
        elif all(isinstance(part, str) for part in parts):
            call.route = self._find_route("".join(str(part) for part in parts), ROUTE, target.at)
        else:
            call.parts = parts

    def _bind_argument(self, spec: FunctionSpec, argument: Argument, expression: Expression) -> Argument | None:
        kind = argument.spec.kind
        if kind.name in ROUTE_KINDS and kind.convert is None and kind.prepare is None:
            return self._bind_route(argument, self._unquoted(expression))
        if isinstance(expression, Word):
            if spec.module != "core":
                self._faults.add(expression.at, "a string is written in quotes", f'"{expression.name}"')
                return None
            expression = argument.expression = Text(expression.at, expression.name)
        if has_calls(expression):
            self._faults.add(
                expression.at, "an argument cannot be the result of a function; store it in a variable first"
            )
            return None
        if kind in (VARIABLE, UPDATED_VARIABLE, READ_VARIABLE):
            return self._bind_variable(argument, spec, expression)
        if kind.prepare is not None:
            return self._prepare(argument, spec, kind.prepare, expression)
        return self._bind_value(argument, spec, expression)

    def _bind_route(self, argument: Argument, expression: Expression) -> Argument | None:
        kind = argument.spec.kind
        parts = self._route_name(expression)
        if parts is not None and all(isinstance(part, str) for part in parts):
            name = "".join(str(part) for part in parts)
            argument.constant = self._find_route(name, kind, expression.at)
            argument.is_constant = True
            if kind is ROUTE:
                argument.continuation = argument.constant
            return argument
        argument.route_kind = kind.name
        if parts is not None:
            argument.parts = parts
        else:
            self._binder.bind_expression(expression)
            argument.expression = expression
        return argument

    # The parts of a route's name where it is a string, a word or a number; None: an expression gives it.
    def _route_name(self, expression: Expression) -> list[Part] | None:
        if isinstance(expression, (Word, Number)):
            return [expression.name if isinstance(expression, Word) else str(expression.value)]
        if isinstance(expression, Text):
            return self._variables.bind_text(expression, lone_dollar=False)
        return None

    def _find_route(self, name: str, kind: ParamKind, spot: Spot) -> Route | None:
        route_kind, keyword = ROUTE_KINDS[kind.name]
        route = self._routes.get((route_kind, name))
        if route is None or not name:
            close = suggest(name, [known for k, known in self._routes if k is route_kind])
            self._faults.add(spot, f"{keyword}[{name}] is not defined", close)
        return route

    def _bind_variable(self, argument: Argument, spec: FunctionSpec, expression: Expression) -> Argument | None:
        kind = argument.spec.kind
        variable: Part | None = None
        if isinstance(expression, Var):
            self._variables.bind_var(expression)
            variable = expression.variable
            if variable is None:
                return None
        elif isinstance(expression, Text):
            parts = self._variables.bind_text(expression, lone_dollar=False)
            if not parts and expression.value:
                return None
            variable = parts[0] if len(parts) == 1 else None
        if not isinstance(variable, Variable):
            self._faults.add(expression.at, f"{_place(spec, argument)} is {kind.expects}, like $var(x)")
            return None
        if kind is not READ_VARIABLE and variable.set is None:
            self._faults.add(expression.at, f"{variable.text} cannot be written to")
            return None
        argument.constant = variable
        argument.is_constant = True
        keep = variable.locate if kind is VARIABLE else variable.keep
        if keep is not None:
            argument.keeps.append(keep)
        return argument

    def _prepare(
        self,
        argument: Argument,
        spec: FunctionSpec,
        prepare: Callable[[Sequence[Part]], object],
        expression: Expression,
    ) -> Argument | None:
        parts = self._parts(argument.spec.kind, expression)
        if parts is None:
            return None
        try:
            argument.constant = prepare(parts)
            self._check(spec, argument, expression)
        except ValueError as error:
            self._argument_fault(spec, argument, expression, error)
            return None
        argument.is_constant = True
        argument.keeps = keeps_of(parts)
        return argument

    # Any argument as parts: what is no string is one variable that gives its value.
    def _parts(self, kind: ParamKind, expression: Expression) -> list[Part] | None:
        if isinstance(expression, Text):
            parts = self._variables.bind_text(expression, lone_dollar=kind.lone_dollar)
            return parts if parts or not expression.value else None
        if isinstance(expression, Number):
            return [str(expression.value)]
        if isinstance(expression, Net):
            return [expression.text]
        self._binder.bind_expression(expression)
        if isinstance(expression, Var):
            if expression.variable is not None:
                return [expression.variable]
            return None if expression.constant is None else [expression.constant]
        if self._faults.errors:
            return [Variable("(expression)", _nothing)]
        evaluate = self._binder.compile_expression(expression)
        return [waiting_variable("(expression)", evaluate) if waits(expression) else Variable("(expression)", evaluate)]

    def _bind_value(self, argument: Argument, spec: FunctionSpec, expression: Expression) -> Argument | None:
        value: Value
        if isinstance(expression, Text):
            parts = self._variables.bind_text(expression, lone_dollar=argument.spec.kind.lone_dollar)
            if not parts and expression.value:
                return None
            if any(not isinstance(part, str) for part in parts):
                argument.parts = parts
                return argument
            value = str(parts[0]) if parts else ""
        elif isinstance(expression, Number):
            value = expression.value
        elif isinstance(expression, Net):
            value = expression.text
        else:
            self._binder.bind_expression(expression)
            return argument
        convert = argument.spec.kind.convert
        try:
            argument.constant = value if convert is None else convert(value)
            self._check(spec, argument, expression)
        except ValueError as error:
            self._argument_fault(spec, argument, expression, error)
            return None
        argument.is_constant = True
        return argument

    # What the kind of a constant argument wants to be checked besides. ArgumentError: it is wrong.
    def _check(self, spec: FunctionSpec, argument: Argument, expression: Expression) -> None:
        kind = argument.spec.kind
        if kind.check is not None:
            kind.check(spec.owner, argument.constant)
        named = None if kind.route is None else kind.route(argument.constant)
        if named is not None:
            name, offset = named
            spot = expression.spot(offset) if isinstance(expression, Text) else expression.at
            argument.continuation = self._find_route(name, ROUTE, spot)

    def _argument_fault(
        self, spec: FunctionSpec, argument: Argument, expression: Expression, error: ValueError
    ) -> None:
        message, suggestion, spot = str(error), None, expression.at
        if isinstance(error, ArgumentError):
            message, suggestion = error.message, error.suggestion
            if isinstance(expression, Text):
                spot = expression.spot(error.offset)
        else:
            message = f"expected {argument.spec.kind.expects}: {message}"
        self._faults.add(spot, f"{_place(spec, argument)}: {message}", suggestion)

    # $def(NAME) of a route's name and the like are strings.
    def _unquoted(self, expression: Expression) -> Expression:
        if isinstance(expression, Var) and expression.pv.name in ("def", "defn"):
            self._variables.bind_var(expression)
            return Text(expression.at, expression.constant or "")
        return expression


def _required(spec: FunctionSpec) -> int:
    return sum(1 for param in spec.params if not param.optional)


def _most(spec: FunctionSpec) -> float:
    return math.inf if spec.params and spec.params[-1].repeats else len(spec.params)


def _arity(specs: Sequence[FunctionSpec]) -> str:
    if math.inf in map(_most, specs):
        return f"at least {min(map(_required, specs))} arguments"
    counts = sorted({n for spec in specs for n in range(_required(spec), len(spec.params) + 1)})
    if counts == [0]:
        return "no arguments"
    *most, last = [str(count) for count in counts]
    numbers = f"{', '.join(most)} or {last}" if most else last
    return f"{numbers} argument{'' if counts == [1] else 's'}"


def _place(spec: FunctionSpec, argument: Argument) -> str:
    return f"argument {argument.number} ({argument.spec.name}) of {spec.name}"


def _nothing(_context: Any) -> Value:
    return None
