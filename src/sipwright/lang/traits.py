"""What is known of an expression before it is emitted: owns its type, and whether and where it calls or waits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from sipwright.lang.namespace import Variable
from sipwright.lang.nodes import Argument, Binary, Call, Expression, Net, Number, RouteCall, Text, Unary, Var, Word

Kind = Literal["int", "str", "any"]


def kind_of(node: Expression) -> Kind:
    """Return what is known of an expression's type."""
    if isinstance(node, (Number, Call, RouteCall)):
        return "int"
    if isinstance(node, (Text, Net, Word)):
        return "str"
    if isinstance(node, Var):
        return "any" if node.constant is None else "str"
    if isinstance(node, Unary):
        return "str" if node.op == "str" else "int"
    if isinstance(node, Binary):
        if node.op == "+":
            return kind_of(node.left)
        return "any" if node.op in ("/", "%") else "int"
    return "any"


def has_calls(node: Expression) -> bool:
    """Tell whether evaluating an expression calls a function or route."""
    if isinstance(node, (Call, RouteCall)):
        return True
    if isinstance(node, Unary):
        return has_calls(node.operand)
    if isinstance(node, Binary):
        return has_calls(node.left) or has_calls(node.right)
    return False


def waits(node: Expression) -> bool:
    """Tell whether evaluating an expression, once it is bound, waits for a variable; the called ones not counted."""
    if isinstance(node, Var):
        return node.variable is not None and node.variable.fetch is not None
    if isinstance(node, Unary):
        return waits(node.operand)
    if isinstance(node, Binary):
        return waits(node.left) or waits(node.right)
    if isinstance(node, RouteCall):
        return node.route is None and (_any_waits(node.parts) if node.parts is not None else waits(node.target))
    return isinstance(node, Call) and any(argument_waits(argument) for argument in node.arguments)


def argument_waits(argument: Argument) -> bool:
    """Tell whether an argument waits for a variable."""
    if argument.is_constant:
        return bool(argument.keeps)
    return _any_waits(argument.parts) if argument.parts is not None else waits(argument.expression)


def _any_waits(parts: Iterable[str | Variable]) -> bool:
    return any(isinstance(part, Variable) and part.fetch is not None for part in parts)


def begins_with_call(node: Expression) -> bool:
    """Tell whether the first thing that a condition evaluates is a call, which sets `rc`."""
    while isinstance(node, (Unary, Binary)):
        node = node.operand if isinstance(node, Unary) else node.left
    return isinstance(node, (Call, RouteCall))


def in_place(node: Expression) -> bool:
    """Tell whether all calls of a condition can be emitted in place: they are operands of `! && ||` only."""
    if isinstance(node, (Call, RouteCall)):
        return True
    if isinstance(node, Unary) and node.op == "!":
        return in_place(node.operand)
    if isinstance(node, Binary) and node.op in ("&&", "||"):
        return in_place(node.left) and in_place(node.right)
    return not has_calls(node)
