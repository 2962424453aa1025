"""The value of a constant expression: owns what `#!ifexp` and `#!defexp` calculate.

Operands are literals, defines, and names that are not defined, which are 0.
"""

from __future__ import annotations

from sipwright.errors import ArgumentError
from sipwright.lang import runtime
from sipwright.lang.cursor import Cursor, SyntaxFaultError
from sipwright.lang.expressions import parse_expression
from sipwright.lang.lexer import Token
from sipwright.lang.namespace import Value
from sipwright.lang.nodes import Binary, Expression, Number, Text, Unary, Word
from sipwright.lang.source import Faults

_COMPARE = {"<": (-1,), ">": (1,), "<=": (-1, 0), ">=": (1, 0)}


def evaluate_tokens(tokens: list[Token], faults: Faults) -> Value:
    """Return the value of the expression that some tokens are, 0 when it is none, which is noted."""
    cursor = Cursor(tokens, faults)
    try:
        node = parse_expression(cursor)
        if cursor.token.kind != "end":
            raise cursor.fault(f"unexpected {cursor.found()}")
        return evaluate(node)
    except SyntaxFaultError as fault:
        cursor.note(fault)
    except ArgumentError as error:
        faults.add(tokens[0].spot, error.message)
    return 0


def evaluate(node: Expression) -> Value:
    """Return the value of an expression. ArgumentError: it is not constant."""
    if isinstance(node, (Number, Text)):
        return node.value
    if isinstance(node, Word):
        return 0
    if isinstance(node, Unary):
        operand = runtime.to_int(evaluate(node.operand))
        if node.op == "!":
            return int(not operand)
        if node.op in ("-", "~"):
            return -operand if node.op == "-" else ~operand
    if isinstance(node, Binary):
        return _binary(node.op, evaluate(node.left), evaluate(node.right))
    raise ArgumentError("expressions of the preprocessor have numbers, strings and defined names only")


def _binary(op: str, left: Value, right: Value) -> Value:
    if op in ("==", "!="):
        return int(runtime.equal(left, right) == (op == "=="))
    if op == "+":
        return runtime.add(left, right)
    a, b = runtime.to_int(left), runtime.to_int(right)
    if op in ("&&", "||"):
        return int(bool(a and b) if op == "&&" else bool(a or b))
    if op in _COMPARE:
        return int((a > b) - (a < b) in _COMPARE[op])
    if op in ("-", "*", "&", "|"):
        return {"-": a - b, "*": a * b, "&": a & b, "|": a | b}[op]
    raise ArgumentError(f"'{op}' cannot be used in expressions of the preprocessor")
