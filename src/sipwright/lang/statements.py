"""Parsing of what stands in a route block: owns statements, blocks, and how the parser goes on after a fault in one."""

from __future__ import annotations

from sipwright.lang.cursor import Cursor, SyntaxFaultError
from sipwright.lang.expressions import parse_arguments, parse_expression
from sipwright.lang.lexer import Token
from sipwright.lang.nodes import (
    Assign,
    Break,
    Call,
    Case,
    Evaluate,
    Exit,
    Expression,
    If,
    Number,
    Return,
    RouteCall,
    Statement,
    Switch,
    Text,
    Var,
    While,
)


def parse_block(cursor: Cursor) -> list[Statement]:
    """Parse `{ ... }`."""
    opened = cursor.expect("{", "to begin a block")
    body: list[Statement] = []
    while not cursor.closes_block(opened, "block"):
        _parse_into(cursor, body)
    return body


# One statement, and the way on if it cannot be read.
def _parse_into(cursor: Cursor, body: list[Statement]) -> None:
    before = cursor.token
    try:
        body += parse_statement(cursor)
    except SyntaxFaultError as fault:
        cursor.note(fault)
        cursor.skip_statement()
        if cursor.token is before:
            cursor.take()


def parse_statement(cursor: Cursor) -> list[Statement]:
    """Parse one statement or block; an empty one gives no node."""
    token = cursor.token
    if token.kind == "word":
        parse = _KEYWORDS.get(token.text)
        if parse is not None:
            cursor.take()
            return [parse(cursor, token)]
        return [_parse_call(cursor, token)]
    if token.kind == "pv":
        return [_parse_assign(cursor)]
    if cursor.accept(";"):
        return []
    if cursor.sees("{"):
        return parse_block(cursor)
    if cursor.sees("("):
        raise cursor.fault("a statement cannot begin with '('")
    if cursor.sees(")"):
        raise cursor.fault("this ')' closes nothing: there is one too many")
    raise cursor.fault(f"a statement expected, found {cursor.found()}")


def _end_statement(cursor: Cursor, what: str) -> None:
    """Take the `;`. A missing one is noted at the end of the statement, and the parser goes on."""
    if cursor.accept(";"):
        return
    token = cursor.token
    if token.newline or token.kind in ("word", "pv", "end") or cursor.sees("}"):
        cursor.faults.add(cursor.before.end, f"';' is missing after {what}")
        return
    raise cursor.surprise(f"';' expected after {what}")


def _parse_assign(cursor: Cursor) -> Statement:
    token = cursor.take()
    assert isinstance(token.value, Var)
    target = token.value
    if cursor.accept("="):
        value = parse_expression(cursor)
        _end_statement(cursor, "the assignment")
        return Assign(token.spot, target, value)
    if cursor.token.kind == "op" and cursor.token.text in ("+=", "-=", ":="):
        op = cursor.token.text
        written = "=" if op == ":=" else f"= {target.pv.text} {op[0]}"
        raise cursor.fault(f"there is no operator '{op}'", f"{target.pv.text} {written} ...")
    if cursor.sees("=="):
        raise cursor.fault("'==' compares; to assign, write one '='")
    following = cursor.ahead()
    if cursor.token.text in ("+", "-") and following.text == cursor.token.text:
        op = following.text
        raise cursor.fault(f"there is no operator '{op}{op}'", f"{target.pv.text} = {target.pv.text} {op} 1")
    if cursor.sees("["):
        index = following.text if following.kind in ("number", "pv") else "0"
        written = f"$({target.pv.text[1:]}[{index}])"
        raise cursor.fault("an index is written in the brackets of the variable", written)
    raise cursor.fault(f"'=' expected after {target.pv.text}, found {cursor.found()}")


def _parse_call(cursor: Cursor, token: Token) -> Statement:
    following = cursor.ahead()
    if following.kind == "op" and following.text == "(":
        cursor.take()
        call: Call | RouteCall
        if token.text == "route":
            arguments = parse_arguments(cursor)
            if len(arguments) != 1:
                cursor.faults.add(token.spot, "route() takes one argument, the name of a route")
                arguments = [Text(token.spot, "")]
            call = RouteCall(token.spot, arguments[0])
        else:
            arguments = parse_arguments(cursor)
            call = Call(token.spot, token.text, arguments, cursor.before.end)
        _end_statement(cursor, f"{token.text}(...)")
        return Evaluate(token.spot, call)
    cursor.take()
    if cursor.sees("="):
        raise cursor.fault(
            f"'{token.text}' is no variable: one begins with '$', and a global parameter stands outside of routes"
        )
    if cursor.sees(";") or cursor.sees("}") or cursor.token.newline:
        _end_statement(cursor, token.text)
        return Evaluate(token.spot, Call(token.spot, token.text, [], token.end))
    raise cursor.fault(f"'(' expected after {token.text}, found {cursor.found()}")


def _parse_condition(cursor: Cursor, keyword: Token) -> Expression:
    if cursor.sees("{") or cursor.sees(";"):
        raise cursor.fault(f"a condition expected after {keyword.text}")
    condition = parse_expression(cursor)
    if cursor.sees("="):
        raise cursor.fault("'=' assigns; to compare, write '=='")
    return condition


def _parse_if(cursor: Cursor, token: Token) -> Statement:
    condition = _parse_condition(cursor, token)
    then = _parse_branch(cursor, "if")
    orelse: list[Statement] = []
    if cursor.sees_word("else"):
        cursor.take()
        orelse = _parse_branch(cursor, "else")
    return If(token.spot, condition, then, orelse)


def _parse_branch(cursor: Cursor, keyword: str) -> list[Statement]:
    if cursor.sees("}") or cursor.token.kind == "end":
        raise cursor.fault(f"a statement or block expected after {keyword}")
    return parse_statement(cursor)


def _parse_while(cursor: Cursor, token: Token) -> Statement:
    condition = _parse_condition(cursor, token)
    return While(token.spot, condition, _parse_branch(cursor, "while"))


def _parse_switch(cursor: Cursor, token: Token) -> Statement:
    subject = _parse_condition(cursor, token)
    opened = cursor.expect("{", "after switch (...)")
    cases: list[Case] = []
    default = False
    while not cursor.closes_block(opened, "switch"):
        label = cursor.token
        if not cursor.sees_word("case", "default"):
            cursor.note(cursor.fault(f"'case' or 'default' expected in switch, found {cursor.found()}"))
            while not (cursor.sees_word("case", "default") or cursor.sees("}") or cursor.token.kind == "end"):
                if cursor.at_route_block():
                    break
                cursor.skip_statement()
            continue
        case = _parse_case(cursor)
        if case.value is None:
            if default:
                cursor.faults.add(label.spot, "a second 'default' in one switch")
            default = True
        cases.append(case)
    _check_labels(cursor, cases)
    return Switch(token.spot, subject, cases)


def _parse_case(cursor: Cursor) -> Case:
    keyword = cursor.take()
    value: Number | Text | None = None
    is_regex = False
    if keyword.text == "case":
        is_regex = cursor.accept("/")
        label = parse_expression(cursor, 9) if not is_regex else _parse_regex_label(cursor)
        if isinstance(label, (Number, Text)):
            value = label
        else:
            cursor.faults.add(label.at, "a case label is a number or a string")
            value = Number(label.at, 0)
    if not cursor.accept(":"):
        cursor.faults.add(cursor.before.end, f"':' is missing after {keyword.text}")
    body: list[Statement] = []
    while not (cursor.sees("}") or cursor.sees_word("case", "default") or cursor.token.kind == "end"):
        if cursor.at_route_block():
            break
        _parse_into(cursor, body)
    return Case(keyword.spot, value, is_regex, body)


def _parse_regex_label(cursor: Cursor) -> Text:
    value = cursor.token.value
    if not isinstance(value, Text):
        raise cursor.fault('a regular expression in case is written /"expression"')
    cursor.take()
    cursor.accept("/")
    return value


def _check_labels(cursor: Cursor, cases: list[Case]) -> None:
    kinds = {isinstance(case.value, Number) for case in cases if case.value is not None}
    if len(kinds) > 1:
        first = cases[0].value
        for case in cases:
            if case.value is not None and first is not None and type(case.value) is not type(first):
                cursor.faults.add(case.at, "numbers and strings cannot be mixed as case labels of one switch")
                return


def _parse_return(cursor: Cursor, token: Token) -> Statement:
    return Return(token.spot, _parse_value(cursor, "return"))


def _parse_exit(cursor: Cursor, token: Token) -> Statement:
    _parse_value(cursor, token.text)
    return Exit(token.spot, token.text == "drop")


def _parse_value(cursor: Cursor, keyword: str) -> Expression | None:
    value: Expression | None = None
    following = cursor.ahead()
    if cursor.sees("(") and following.kind == "op" and following.text == ")":
        cursor.take()
        cursor.take()
    elif not (cursor.sees(";") or cursor.sees("}") or cursor.token.newline):
        value = parse_expression(cursor)
    _end_statement(cursor, keyword)
    return value


def _parse_break(cursor: Cursor, token: Token) -> Statement:
    _end_statement(cursor, "break")
    return Break(token.spot)


def _parse_stray(_cursor: Cursor, token: Token) -> Statement:
    raise SyntaxFaultError(token.spot, f"'{token.text}' without {'if' if token.text == 'else' else 'switch'}")


def _parse_else_if(cursor: Cursor, token: Token) -> Statement:
    cursor.faults.add(token.spot, f"there is no '{token.text}'", "else if")
    return _parse_if(cursor, token)


def _parse_loop(cursor: Cursor, token: Token) -> Statement:
    cursor.skip_brackets()
    raise SyntaxFaultError(token.spot, f"there is no '{token.text}': loops are written while (condition) {{ ... }}")


def _parse_negated(_cursor: Cursor, token: Token) -> Statement:
    raise SyntaxFaultError(token.spot, f"'{token.text}' cannot begin a statement")


_KEYWORDS = {
    "if": _parse_if,
    "while": _parse_while,
    "switch": _parse_switch,
    "return": _parse_return,
    "exit": _parse_exit,
    "drop": _parse_exit,
    "break": _parse_break,
    "else": _parse_stray,
    "elseif": _parse_else_if,
    "elsif": _parse_else_if,
    "elif": _parse_else_if,
    "for": _parse_loop,
    "foreach": _parse_loop,
    "case": _parse_stray,
    "default": _parse_stray,
    "not": _parse_negated,
    "defined": _parse_negated,
    "strlen": _parse_negated,
    "strempty": _parse_negated,
    "loadmodule": _parse_negated,
    "modparam": _parse_negated,
}
