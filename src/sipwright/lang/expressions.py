"""Parsing of expressions: owns the operators and their precedence, which are Kamailio's.

    ||   &&   |   &   ^   <<   >>   == != =~ !~ eq ne ieq ine   < > <= >=   + -   * / mod  ! ~ -  defined  (int) (str)

from loose to tight, those of two operands going to the left; `or`, `and`, `not` and `%` are other spellings.
"""

from __future__ import annotations

from sipwright.lang.cursor import Cursor, SyntaxFaultError
from sipwright.lang.lexer import Token
from sipwright.lang.nodes import (
    Binary,
    Call,
    Expression,
    Myself,
    Net,
    Number,
    RouteCall,
    Text,
    Unary,
    Var,
    Word,
)
from sipwright.lang.pvsyntax import Pv

_LEVELS = (
    ("||", "or"),
    ("&&", "and"),
    ("|",),
    ("&",),
    ("^",),
    ("<<",),
    (">>",),
    ("==", "!=", "=~", "!~", "eq", "ne", "ieq", "ine"),
    ("<", ">", "<=", ">="),
    ("+", "-"),
    ("*", "/", "mod", "%"),
)
_PRECEDENCE = {op: level for level, ops in enumerate(_LEVELS, 1) for op in ops}
_UNARY_LEVEL, _DEFINED_LEVEL, _CAST_LEVEL = 12, 13, 14
_SPELLING = {"or": "||", "and": "&&", "mod": "%", "not": "!"}
_WORD_OPERATORS = frozenset(op for op in _PRECEDENCE if op.isalpha())

# The conditions of old scripts, as the variables that they are.
_CONDITION_WORDS = {
    "method": "rm",
    "uri": "ru",
    "status": "rs",
    "from_uri": "fu",
    "to_uri": "tu",
    "src_ip": "si",
    "src_port": "sp",
    "dst_ip": "Ri",
    "dst_port": "Rp",
    "proto": "proto",
    "af": "af",
    "msg:len": "ml",
    "retcode": "rc",
}
_CONSTANT_WORDS = {"max_len": 65535, "INET": 2, "inet": 2, "INET6": 10, "inet6": 10}
_PROTOCOLS = frozenset(("udp", "tcp", "tls", "sctp", "ws", "wss"))


def parse_expression(cursor: Cursor, level: int = 1) -> Expression:
    """Parse an expression whose operators bind at least as tight as `level`."""
    first = cursor.token
    left = _parse_unary(cursor)
    while True:
        token = cursor.token
        if token.kind not in ("op", "word") or (precedence := _PRECEDENCE.get(token.text, 0)) < level:
            return left
        cursor.take()
        op = _SPELLING.get(token.text, token.text)
        if op in ("==", "!=") and cursor.sees("="):
            raise cursor.fault(f"'{op}' compares; there is no '{op}='")
        right = parse_expression(cursor, precedence + 1)
        if first.text == "method" and isinstance(left, Var) and isinstance(right, Word):
            right = Text(right.at, right.name)  # `method == INVITE`, as old scripts have it
        left = Binary(token.spot, op, left, right)


def parse_arguments(cursor: Cursor) -> list[Expression]:
    """Parse `(a, b, ...)`."""
    opened = cursor.expect("(", "before the arguments")
    arguments: list[Expression] = []
    if cursor.accept(")"):
        return arguments
    while True:
        if cursor.sees(",") or cursor.sees(")"):
            raise cursor.fault(f"an argument expected, found {cursor.found()}")
        arguments.append(parse_expression(cursor))
        if cursor.accept(","):
            continue
        if cursor.token.kind in ("string", "pv", "number") and not cursor.token.newline:
            raise cursor.surprise("',' or ')' expected between arguments")
        cursor.close(")", opened)
        return arguments


def _parse_unary(cursor: Cursor) -> Expression:
    token = cursor.token
    if token.kind == "op":
        if token.text in ("!", "~", "-", "+"):
            cursor.take()
            operand = parse_expression(cursor, _UNARY_LEVEL)
            if token.text == "+":
                return operand
            if token.text == "-" and isinstance(operand, Number):
                return Number(token.spot, -operand.value)
            return Unary(token.spot, token.text, operand)
        if token.text == "(" and (cast := _cast(cursor)):
            return Unary(token.spot, cast, parse_expression(cursor, _CAST_LEVEL))
    elif token.kind == "word":
        if token.text == "not":
            cursor.take()
            return Unary(token.spot, "!", parse_expression(cursor, _UNARY_LEVEL))
        if token.text == "defined":
            cursor.take()
            return Unary(token.spot, "defined", parse_expression(cursor, _DEFINED_LEVEL))
    return _parse_primary(cursor)


# Take `(int)` or `(str)` if it is there.
def _cast(cursor: Cursor) -> str | None:
    word, close = cursor.ahead(1), cursor.ahead(2)
    if word.kind == "word" and word.text in ("int", "str") and close.kind == "op" and close.text == ")":
        cursor.take()
        cursor.take()
        cursor.take()
        return word.text
    return None


def _parse_primary(cursor: Cursor) -> Expression:
    token = cursor.token
    if token.newline and cursor.at_route_block():
        raise SyntaxFaultError(cursor.before.end, "an expression expected, and a '}' before the next route")
    if token.kind == "word":
        return _parse_word(cursor)
    if token.kind == "net":
        return _parse_net(cursor)
    if isinstance(token.value, (Text, Var)):
        cursor.take()
        return token.value
    if isinstance(token.value, int):
        cursor.take()
        return Number(token.spot, token.value)
    if cursor.accept("("):
        expression = parse_expression(cursor)
        cursor.close(")", token)
        return expression
    if cursor.sees("@"):
        return _parse_select(cursor)
    if token.kind == "op" and token.text in (")", ";", "{", "}"):
        raise cursor.fault(f"an expression expected before {cursor.found()}")
    raise cursor.fault(f"an expression expected, found {cursor.found()}")


def _parse_word(cursor: Cursor) -> Expression:
    token = cursor.take()
    name = token.text
    called = cursor.sees("(")
    if name == "route":
        return _parse_route_call(cursor, token)
    if name in ("strlen", "strempty"):
        opened = cursor.expect("(", f"after {name}")
        operand = parse_expression(cursor)
        cursor.close(")", opened)
        return Unary(token.spot, name, operand)
    if called:
        arguments = parse_arguments(cursor)
        return Call(token.spot, name, arguments, cursor.before.end)
    if name in _CONDITION_WORDS:
        return variable(token, _CONDITION_WORDS[name])
    if name in _CONSTANT_WORDS:
        return Number(token.spot, _CONSTANT_WORDS[name])
    if name == "myself":
        return Myself(token.spot)
    if name.lower() in _PROTOCOLS:
        return Text(token.spot, name.lower())
    if name in _WORD_OPERATORS:
        cursor.faults.add(token.spot, f"an expression expected before '{name}'")
    if cursor.sees(".") and not cursor.token.space:
        return _parse_host(cursor, token)
    return Word(token.spot, name)


# A host name without quotes, as old scripts have it: `src_ip == proxy.example.com`.
def _parse_host(cursor: Cursor, token: Token) -> Text:
    name = token.text
    while not cursor.token.space and cursor.token.text in (".", "-") and cursor.ahead().kind in ("word", "number"):
        name += cursor.take().text + cursor.take().text
    return Text(token.spot, name)


# `@from.uri.host`, `@via[1].port`: the variable $sel(...) of that name.
def _parse_select(cursor: Cursor) -> Var:
    token = cursor.take()
    name = ""
    while not (cursor.token.space or cursor.token.newline) and (
        cursor.token.kind in ("word", "number", "string") or (cursor.token.text in (".", "[", "]", "-") and name)
    ):
        part = cursor.take()
        name += part.value.value if isinstance(part.value, Text) else part.text
    if not name:
        raise cursor.fault(f"the name of a select expected after '@', found {cursor.found()}")
    return Var(token.spot, Pv(f"@{name}", "sel", [name], None, [], 0, 0), Text(token.spot, f"@{name}"))


def variable(token: Token, name: str) -> Var:
    """Make the node of a variable that a keyword stands for."""
    return Var(token.spot, Pv("$" + name, name, None, None, [], 0, 0), Text(token.spot, "$" + name))


def _parse_route_call(cursor: Cursor, token: Token) -> RouteCall:
    opened = cursor.expect("(", "after route")
    if cursor.sees(")"):
        raise cursor.fault("route() needs the name of a route")
    target = parse_expression(cursor)
    cursor.close(")", opened)
    return RouteCall(token.spot, target)


def _parse_net(cursor: Cursor) -> Net:
    token = cursor.take()
    following = cursor.ahead()
    if cursor.sees("/") and not cursor.token.space and following.kind in ("number", "net"):
        cursor.take()
        cursor.take()
        return Net(token.spot, f"{token.text}/{following.text}")
    return Net(token.spot, token.text)
