"""What is known of an expression before it is emitted: owns its type, and whether and where it calls something."""

from __future__ import annotations

from typing import Literal

from sipwright.lang.nodes import Binary, Call, Expression, Net, Number, RouteCall, Text, Unary, Var, Word

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
