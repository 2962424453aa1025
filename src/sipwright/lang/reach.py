"""Who calls whom: owns the call graph of the routes, and what follows from it.

A route suspends if it reads a variable that waits, or can reach, by calls, a function that suspends. A plain
`route[X]` is of no kind of its own: what it may call depends on the blocks that lead to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sipwright.lang.namespace import Route, RouteKind
from sipwright.lang.nodes import (
    Assign,
    Binary,
    Call,
    Evaluate,
    Expression,
    If,
    Return,
    RouteBlock,
    RouteCall,
    Statement,
    Switch,
    Unary,
    While,
)
from sipwright.lang.source import Faults
from sipwright.lang.traits import waits


@dataclass(slots=True)
class _Body:
    block: RouteBlock
    calls: list[Call] = field(default_factory=list)
    targets: list[Route] = field(default_factory=list)
    # routes that a function runs later, in the same kind
    continuations: list[Route] = field(default_factory=list)
    dynamic: bool = False
    waits: bool = False


def trace(blocks: list[RouteBlock], faults: Faults) -> None:
    """Set `suspends` of every route, and note functions that are called where they may not be."""
    bodies = [_collect(block) for block in blocks]
    _mark_suspending(bodies)
    _check_kinds(bodies, faults)


def _collect(block: RouteBlock) -> _Body:
    body = _Body(block)
    body.waits = any(_node_waits(node) for node in _nodes_of(block.body))
    for call in _calls_of(block.body):
        if isinstance(call, RouteCall):
            if call.route is not None:
                body.targets.append(call.route)
            else:
                body.dynamic = True
            continue
        body.calls.append(call)
        body.dynamic = body.dynamic or (call.spec is not None and call.spec.runs_routes)
        body.continuations += [a.continuation for a in call.arguments if a.continuation is not None]
    return body


def _mark_suspending(bodies: list[_Body]) -> None:
    for body in bodies:
        if body.block.route is not None:
            body.block.route.suspends = body.waits or any(
                call.spec is not None and call.spec.suspends for call in body.calls
            )
    changed = True
    while changed:
        changed = False
        plain = any(
            body.block.route.suspends
            for body in bodies
            if body.block.route is not None and body.block.keyword == "route"
        )
        for body in bodies:
            route = body.block.route
            if route is None or route.suspends:
                continue
            if any(target.suspends for target in body.targets) or (body.dynamic and plain):
                route.suspends = changed = True


def _check_kinds(bodies: list[_Body], faults: Faults) -> None:
    by_route = {id(body.block.route): body for body in bodies}
    reached: dict[int, RouteKind] = {}
    for body in bodies:
        route = body.block.route
        if route is None or (body.block.keyword == "route" and body.block.name):
            continue
        todo = [body]
        seen: set[int] = set()
        while todo:
            current = todo.pop()
            key = id(current.block.route)
            if key in seen:
                continue
            seen.add(key)
            reached[key] = reached.get(key, route.kind) | route.kind
            todo += [by_route[id(target)] for target in (*current.targets, *current.continuations)]
    for body in bodies:
        kinds = reached.get(id(body.block.route))
        if kinds is None:
            continue
        for call in body.calls:
            if call.spec is not None and not call.spec.routes & kinds:
                faults.add(call.at, _misplaced(call, body, kinds))


def _misplaced(call: Call, body: _Body, kinds: RouteKind) -> str:
    allowed = call.spec.routes if call.spec is not None else kinds
    where = _names(kinds)
    if body.block.keyword == "route" and body.block.name:
        where += f", which is what leads to route[{body.block.name}]"
    return f"{call.name} cannot be called from {where}; it can be from {_names(allowed)}"


def _names(kinds: RouteKind) -> str:
    return " or ".join(f"{kind.name.lower()}_route" for kind in kinds if kind.name)


def _calls_of(statements: list[Statement]) -> Iterator[Call | RouteCall]:
    for node in _nodes_of(statements):
        if not isinstance(node, Assign):
            yield from _calls_in(node)


# All expressions of statements, those of blocks inside too; assignments stand for their targets.
def _nodes_of(statements: list[Statement]) -> Iterator[Expression | Assign]:
    for node in statements:
        if isinstance(node, Assign):
            yield node.value
            yield node
        elif isinstance(node, Evaluate):
            yield node.call
        elif isinstance(node, If):
            yield node.condition
            yield from _nodes_of(node.then)
            yield from _nodes_of(node.orelse)
        elif isinstance(node, While):
            yield node.condition
            yield from _nodes_of(node.body)
        elif isinstance(node, Switch):
            yield node.subject
            for case in node.cases:
                yield from _nodes_of(case.body)
        elif isinstance(node, Return) and node.value is not None:
            yield node.value


def _node_waits(node: Expression | Assign) -> bool:
    if isinstance(node, Assign):
        return node.target.variable is not None and node.target.variable.locate is not None
    return waits(node)


def _calls_in(node: Expression) -> Iterator[Call | RouteCall]:
    if isinstance(node, (Call, RouteCall)):
        yield node
    elif isinstance(node, Unary):
        yield from _calls_in(node.operand)
    elif isinstance(node, Binary):
        yield from _calls_in(node.left)
        yield from _calls_in(node.right)
