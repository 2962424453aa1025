"""Statements and routes to Python functions: owns the control flow of compiled scripts.

A route is a function of the context that returns its code. Control flow is by return value: a call that returns 0 ends
the script, so each one is followed by `return 0` for that case. A route without `return` has the value of its last
action: 1 for an assignment or a condition that was false, -1 for a `break` (Kamailio's 0, which does not end the
script there).
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from itertools import repeat
from typing import Any

from sipwright.lang import runtime
from sipwright.lang.emit_expressions import (
    RC,
    Scope,
    emit_call,
    emit_condition,
    emit_hoisted_condition,
    emit_integer,
    emit_test,
    emit_text,
    emit_value,
)
from sipwright.lang.namespace import Route
from sipwright.lang.nodes import (
    Assign,
    Binary,
    Break,
    Call,
    Case,
    Evaluate,
    Exit,
    Expression,
    If,
    Number,
    Return,
    RouteBlock,
    RouteCall,
    Statement,
    Switch,
    Text,
    While,
)
from sipwright.lang.regex import compile_regex
from sipwright.lang.traits import begins_with_call, has_calls, in_place, waits
from sipwright.lang.unit import Unit, assign, call, compare, constant, context, function, give, load, negate, place

# Where the value of a block's last action goes: nowhere, out of the route, or into a name.
RETURNED = "return"
Sink = str | None


def emit_route(unit: Unit, block: RouteBlock, route: Route) -> None:
    """Compile a route block to `route.run`."""
    emitter = _Emitter(Scope(unit, waits=route.suspends))
    body = emitter.block(block.body, RETURNED)
    shown = f"{block.keyword}[{block.name}]" if block.name else block.keyword
    name = unit.route_name(route)
    route.run = unit.define(function(name, body, waits=route.suspends), block.at, shown)


def compile_expression(unit: Unit, node: Expression) -> Callable[[Any], Any]:
    """Compile an expression without calls to a function of the context; to a coroutine function if it waits."""
    scope = Scope(unit, waits=waits(node))
    value = emit_value(scope, node)
    name = f"_expression_{len(unit.globals)}"
    made: Callable[[Any], Any] = unit.define(
        function(name, [*scope.body, give(value)], waits=scope.waits), node.at, "expression"
    )
    return made


class _Emitter:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.unit = scope.unit
        # What `break` does, innermost last: the sink of the loop or switch around it.
        self.loops: list[Sink] = []

    def block(self, statements: list[Statement], sink: Sink) -> list[ast.stmt]:
        """Emit statements; the last one's value goes to the sink."""
        outer, self.scope.body = self.scope.body, []
        last = len(statements) - 1
        for position, statement in enumerate(statements):
            first = len(self.scope.body)
            self._statement(statement, sink if position == last else None)
            for made in self.scope.body[first:]:
                place(made, statement.at)
            if isinstance(statement, (Return, Exit, Break)):
                break
        if not statements:
            self._finish(sink, 1)
        body, self.scope.body = self.scope.body, outer
        return body or [ast.Pass()]

    def _statement(self, node: Statement, sink: Sink) -> None:
        if isinstance(node, Evaluate):
            self._evaluate(node.call, sink)
        elif isinstance(node, Assign):
            self._assign(node, sink)
        elif isinstance(node, If):
            self._if(node, sink)
        elif isinstance(node, While):
            self._while(node, sink)
        elif isinstance(node, Switch):
            self._switch(node, sink)
        elif isinstance(node, Return):
            self._return(node)
        elif isinstance(node, Break):
            self._break()
        else:
            self._exit(node)

    def _add(self, *statements: ast.stmt) -> None:
        self.scope.body += statements

    def _finish(self, sink: Sink, value: ast.expr | int) -> None:
        if sink == RETURNED:
            self._add(give(value))
        elif sink is not None:
            self._add(assign(sink, constant(value) if isinstance(value, int) else value))

    def _evaluate(self, node: Call | RouteCall, sink: Sink) -> None:
        made = emit_call(self.scope, node)
        if sink == RETURNED:
            self._add(give(made))
        elif sink is not None:
            self._add(assign(sink, made), ast.If(negate(load(sink)), [give(0)], []))
        else:
            self._add(ast.If(negate(made), [give(0)], []))

    def _assign(self, node: Assign, sink: Sink) -> None:
        variable = node.target.variable
        assert variable is not None
        assert variable.set is not None
        value = emit_value(self.scope, node.value)
        setter = self.unit.bind(variable.set, "set")
        divides = isinstance(node.value, Binary) and node.value.op in ("/", "%")
        located: list[ast.stmt] = []
        if variable.locate is not None:
            located.append(ast.Expr(ast.Await(call(self.unit.bind(variable.locate, "locate"), context()))))
        if divides or located:
            # First the value, then the place where it goes to.
            name = self.scope.temp()
            self._add(assign(name, value))
            value = load(name)
        stored = [*located, ast.Expr(call(setter, context(), value))]
        if divides:
            # A division by zero leaves the variable as it was.
            self._add(ast.If(compare(load(name), ast.IsNot(), constant(None)), stored, []))
        else:
            self._add(*stored)
        self._finish(sink, 1)

    def _if(self, node: If, sink: Sink) -> None:
        test, ends = self._test(node.condition, emit_test)
        then = self.block(node.then, sink)
        orelse = self.block(node.orelse, sink) if node.orelse or sink is not None else []
        if ends:
            orelse = [ast.If(negate(load(RC)), [give(0)], orelse)]
        self._add(ast.If(test, then, orelse))

    # The condition of if and while, and whether `rc` must be tested for 0 where it is false. Without calls, numbers
    # above 0 are true for if, numbers other than 0 for while.
    def _test(self, node: Expression, emit: Callable[[Scope, Expression], ast.expr]) -> tuple[ast.expr, bool]:
        if not has_calls(node):
            return emit(self.scope, node), False
        if in_place(node):
            if not begins_with_call(node):
                self._add(assign(RC, constant(1)))
            return emit_condition(self.scope, node), True
        if isinstance(node, Binary) and node.op not in ("&&", "||", "==", "!=", "=~", "!~"):
            return compare(emit_integer(self.scope, node), ast.Gt(), constant(0)), False
        return emit_hoisted_condition(self.scope, node), False

    def _while(self, node: While, sink: Sink) -> None:
        """A loop is a `for` over as many rounds as it may take; what its condition needs is evaluated inside."""
        value = self._loop_value(sink)
        limit = self.unit.max_loops
        rounds: object = range(limit) if limit > 0 else repeat(None)
        outer, self.scope.body = self.scope.body, []
        test, ends = self._test(node.condition, emit_condition)
        self.loops.append(value)
        body = self.block(node.body, value)
        self.loops.pop()
        stop: list[ast.stmt] = [ast.Break()]
        if ends:
            stop = [ast.If(negate(load(RC)), [give(0)], stop)]
        self._add(ast.If(test, body, stop))
        inside, self.scope.body = self.scope.body, outer
        runaway: list[ast.stmt] = []
        if limit > 0:
            site = self.unit.site(node.at, "while")
            told = call(self.unit.runtime(runtime.runaway), context(), site, constant(limit))
            runaway.append(ast.Expr(told))
            if value is not None:
                runaway.append(assign(value, constant(-1)))
        self._add(ast.For(ast.Name("_", ast.Store()), self.unit.bind(rounds, "rounds"), inside, runaway))
        if sink == RETURNED and value is not None:
            self._add(give(load(value)))

    # Loops and switches that end a route leave its value in a name, which is 1 as long as nothing happened.
    def _loop_value(self, sink: Sink) -> Sink:
        if sink is None:
            return None
        value = self.scope.temp() if sink == RETURNED else sink
        self._add(assign(value, constant(1)))
        return value

    def _break(self) -> None:
        if not self.loops:
            self._add(give(-1))
            return
        value = self.loops[-1]
        if value is not None:
            self._add(assign(value, constant(-1)))
        self._add(ast.Break())

    def _return(self, node: Return) -> None:
        if node.value is None:
            self._add(give(1))
        elif isinstance(node.value, (Call, RouteCall)):
            # Kamailio: `return f()` gives 1 or 0 there, so a false one ends the script; here it is the code of f().
            self._add(give(emit_call(self.scope, node.value)))
        else:
            self._add(give(emit_integer(self.scope, node.value)))

    def _exit(self, node: Exit) -> None:
        if node.drop:
            dropped = ast.Attribute(context(), "dropped", ast.Store())
            self._add(ast.Assign([dropped], constant(True)))
        self._add(give(0))

    def _switch(self, node: Switch, sink: Sink) -> None:
        numbers = any(isinstance(case.value, Number) for case in node.cases)
        emit = emit_integer if numbers else emit_text
        name = self.scope.temp()
        self._add(assign(name, emit(self.scope, node.subject)))
        groups = _groups(node.cases)
        if not groups:
            self._finish(sink, 1)
        elif all(
            _ends(body) or position == len(groups) - 1 for position, (_labels, body) in enumerate(groups)
        ) and not any(_breaks_inside(body) for _labels, body in groups):
            self._switch_chain(name, groups, sink)
        else:
            self._switch_falling(name, groups, sink)

    # No case runs into the next one: an if/elif chain.
    def _switch_chain(self, name: str, groups: list[_Group], sink: Sink) -> None:
        tests: list[tuple[ast.expr, list[ast.stmt]]] = []
        default: list[ast.stmt] | None = None
        for labels, body in groups:
            if body and isinstance(body[-1], Break):
                made = self.block(body[:-1], None) if len(body) > 1 else []
                outer, self.scope.body = self.scope.body, made
                self._finish(sink, -1)
                self.scope.body = outer
                made = made or [ast.Pass()]
            else:
                made = self.block(body, sink)
            if any(label.value is None for label in labels):
                default = made
            else:
                tests.append((self._labels_test(name, labels), made))
        chain = default if default is not None else self.block([], sink)
        for test, made in reversed(tests):
            chain = [ast.If(test, made, [] if len(chain) == 1 and isinstance(chain[0], ast.Pass) else chain)]
        self._add(*chain)

    # The first case that holds is found, then it and those after it run, in a loop of one round for `break`.
    def _switch_falling(self, name: str, groups: list[_Group], sink: Sink) -> None:
        value = self._loop_value(sink)
        start = self.scope.temp()
        default = next(
            (i for i, (labels, _body) in enumerate(groups) if any(label.value is None for label in labels)), len(groups)
        )
        found: list[ast.stmt] = [assign(start, constant(default))]
        for position, (labels, _body) in reversed(list(enumerate(groups))):
            valued = [label for label in labels if label.value is not None]
            if valued:
                found = [ast.If(self._labels_test(name, valued), [assign(start, constant(position))], found)]
        self._add(*found)
        self.loops.append(value)
        inside: list[ast.stmt] = []
        for position, (_labels, body) in enumerate(groups):
            reached = compare(load(start), ast.LtE(), constant(position))
            inside.append(ast.If(reached, self.block(body, value), []))
        self.loops.pop()
        self._add(ast.For(ast.Name("_", ast.Store()), constant((None,)), inside, []))
        if sink == RETURNED and value is not None:
            self._add(give(load(value)))

    def _labels_test(self, name: str, labels: list[Case]) -> ast.expr:
        tests: list[ast.expr] = []
        for label in labels:
            if label.is_regex and isinstance(label.value, Text):
                search = self.unit.bind(compile_regex(label.value.value, ignore_case=False).search, "search")
                tests.append(compare(call(search, load(name)), ast.IsNot(), constant(None)))
            elif label.value is not None:
                tests.append(compare(load(name), ast.Eq(), constant(label.value.value)))
        return tests[0] if len(tests) == 1 else ast.BoolOp(ast.Or(), tests)


_Group = tuple[list[Case], list[Statement]]


# Labels that share a body: those without one belong to the next.
def _groups(cases: list[Case]) -> list[_Group]:
    groups: list[_Group] = []
    waiting: list[Case] = []
    for case in cases:
        waiting.append(case)
        if case.body:
            groups.append((waiting, case.body))
            waiting = []
    if waiting:
        groups.append((waiting, []))
    return groups


def _ends(body: list[Statement]) -> bool:
    return any(isinstance(statement, (Break, Return, Exit)) for statement in body)


# Whether a `break` of this switch stands deeper than at the end of a case.
def _breaks_inside(body: list[Statement], *, top: bool = True) -> bool:
    for position, statement in enumerate(body):
        if isinstance(statement, Break) and not (top and position == len(body) - 1):
            return True
        if isinstance(statement, If) and (
            _breaks_inside(statement.then, top=False) or _breaks_inside(statement.orelse, top=False)
        ):
            return True
    return False
