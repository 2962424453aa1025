"""Tokens to the syntax tree: owns the top level of a script; statements and expressions have files of their own.

The parser finds as many faults as it can: after one it goes on at the next statement or declaration.
"""

from __future__ import annotations

from sipwright.lang.cursor import ROUTE_KEYWORDS, Cursor, SyntaxFaultError
from sipwright.lang.lexer import Token
from sipwright.lang.nodes import LoadModule, ModParam, Number, RouteBlock, Script, Setting, Text
from sipwright.lang.source import Faults, Spot, suggest
from sipwright.lang.statements import parse_block

_PROTOCOLS = frozenset(("udp", "tcp", "tls", "sctp", "ws", "wss", "UDP", "TCP", "TLS", "SCTP", "WS", "WSS"))
_NAMELESS = frozenset(("request_route", "reply_route", "onsend_route"))
_NAMED = frozenset(("failure_route", "branch_route", "event_route"))
_DECLARATIONS = ("loadmodule", "modparam", "include_file", "import_file", *ROUTE_KEYWORDS)


def parse_script(tokens: list[Token], faults: Faults) -> Script:
    """Parse a whole script; what cannot be read is noted in `faults` and left out."""
    cursor = Cursor(tokens, faults)
    script = Script([], [])
    while cursor.token.kind != "end":
        cursor.unclosed = False
        cursor.askew = None
        try:
            _parse_top(cursor, script)
        except SyntaxFaultError as fault:
            cursor.note(fault)
            cursor.skip_declaration()
    return script


def _parse_top(cursor: Cursor, script: Script) -> None:
    token = cursor.token
    if cursor.accept(";"):
        return
    if token.kind != "word":
        if cursor.sees("}"):
            raise cursor.fault("this '}' closes nothing: the block ended before")
        if token.kind == "pv":
            raise cursor.fault("an assignment stands outside of a route block")
        raise cursor.fault(f"a global parameter, loadmodule, modparam or a route expected, found {cursor.found()}")
    if cursor.at_route_block():
        script.blocks.append(_parse_route_block(cursor))
        return
    following = cursor.ahead()
    if token.text in ("loadmodule", "loadmodulex"):
        script.declarations.append(_parse_loadmodule(cursor))
    elif token.text in ("modparam", "modparamx"):
        script.declarations.append(_parse_modparam(cursor))
    elif token.text in ("flags", "bool", "avpflags") and not (following.kind == "op" and following.text == "="):
        script.declarations.append(_parse_flags(cursor))
    elif following.kind == "op" and following.text in ("=", "."):
        script.declarations.append(_parse_setting(cursor))
    elif token.text in ("loadpath", "mpath", "cfgengine"):
        cursor.take()
        script.declarations.append(Setting(token.spot, token.text, _parse_values(cursor), cursor.before.spot))
    elif token.text in ROUTE_KEYWORDS:
        cursor.take()
        raise cursor.fault(f"'[' or '{{' expected after {token.text}, found {cursor.found()}")
    elif token.text in ("if", "while", "switch", "return", "exit", "drop", "else"):
        raise cursor.fault(f"'{token.text}' stands outside of a route block{_ended(cursor, script)}")
    elif following.kind == "op" and following.text == "(":
        raise cursor.fault(f"the call of {token.text} stands outside of a route block{_ended(cursor, script)}")
    else:
        raise _unknown_declaration(cursor)


# The block that ended just before, as a hint that it may have ended too early.
def _ended(cursor: Cursor, script: Script) -> str:
    if cursor.before.text != "}" or not script.blocks:
        return ""
    return f": the one before ended in line {cursor.before.spot.line}"


def _unknown_declaration(cursor: Cursor) -> SyntaxFaultError:
    token = cursor.take()
    close = suggest(token.text, _DECLARATIONS)
    if close is not None:
        return SyntaxFaultError(token.spot, f"unknown word '{token.text}'", close)
    return cursor.fault(f"'=' expected after {token.text}, found {cursor.found()}")


def _parse_loadmodule(cursor: Cursor) -> LoadModule:
    token = cursor.take()
    opened = cursor.token
    bracket = cursor.accept("(")
    name = _expect_text(cursor, f'{token.text} needs the name of a module in quotes: {token.text} "tm.so"')
    if bracket:
        if cursor.accept(","):
            _expect_text(cursor, "options of a module are a string")
        cursor.close(")", opened)
    return LoadModule(token.spot, name)


def _parse_modparam(cursor: Cursor) -> ModParam:
    token = cursor.take()
    opened = cursor.expect("(", f"after {token.text}")
    usage = 'modparam is written modparam("module", "parameter", value)'
    module = _expect_text(cursor, usage)
    cursor.expect(",", "after the module's name")
    name = _expect_text(cursor, usage)
    cursor.expect(",", "after the parameter's name")
    minus = cursor.accept("-")
    value_token = cursor.token
    value: Number | Text
    if isinstance(value_token.value, int):
        value = Number(value_token.spot, -value_token.value if minus else value_token.value)
    elif isinstance(value_token.value, Text) and not minus:
        value = value_token.value
    elif value_token.kind == "word":
        raise cursor.fault(
            f"'{value_token.text}' is not defined; a string is written in quotes", f'"{value_token.text}"'
        )
    else:
        raise cursor.fault(f"a parameter's value is a number or a string, found {cursor.found()}")
    cursor.take()
    cursor.close(")", opened)
    return ModParam(token.spot, module, name, value)


def _expect_text(cursor: Cursor, usage: str) -> Text:
    value = cursor.token.value
    if not isinstance(value, Text):
        raise cursor.fault(f"{usage}, found {cursor.found()}")
    cursor.take()
    return value


def _parse_setting(cursor: Cursor) -> Setting:
    token = cursor.take()
    name = token.text
    while cursor.accept("."):
        if cursor.token.kind != "word":
            raise cursor.fault(f"a name expected after '.', found {cursor.found()}")
        name += "." + cursor.take().text
    cursor.expect("=", f"after {name}")
    first = cursor.token
    values = _parse_values(cursor)
    if not values:
        cursor.faults.add(cursor.before.end, f"{name} needs a value")
    text = first.value if isinstance(first.value, Text) and values == [first.value.value] else None
    return Setting(token.spot, name, values, first.spot, text)


# The values of a setting: words that stand on its line, each made of the tokens that stand together.
def _parse_values(cursor: Cursor) -> list[int | str]:
    values: list[int | str] = []
    line_end = False
    while cursor.token.kind != "end" and not line_end:
        if cursor.accept(";"):
            break
        following = cursor.ahead()
        if cursor.token.newline and not (
            cursor.token.text in _PROTOCOLS and following.kind == "op" and following.text == ":"
        ):
            break
        values.append(_parse_word(cursor))
    return values


def _parse_word(cursor: Cursor) -> int | str:
    tokens = [cursor.take()]
    depth = tokens[0].text == "("
    while cursor.token.kind != "end" and not cursor.sees(";"):
        if not depth and (cursor.token.space or cursor.token.newline):
            break
        token = cursor.take()
        tokens.append(token)
        if token.text == ")":
            depth = False
    first = tokens[0]
    if len(tokens) == 1:
        if isinstance(first.value, int):
            return first.value
        if isinstance(first.value, Text):
            return first.value.value
    if len(tokens) == 2 and first.text == "-" and isinstance(tokens[1].value, int):
        return -tokens[1].value
    return "".join(token.value.value if isinstance(token.value, Text) else token.text for token in tokens)


# `flags NAME:1, NAME;`
def _parse_flags(cursor: Cursor) -> Setting:
    token = cursor.take()
    values_at = cursor.token.spot
    values: list[int | str] = []
    while True:
        name = cursor.token
        if name.kind not in ("word", "string"):
            raise cursor.fault(f"the name of a flag expected, found {cursor.found()}")
        values.append(_parse_flag(cursor))
        if not cursor.accept(","):
            return Setting(token.spot, token.text, values, values_at)


def _parse_flag(cursor: Cursor) -> str:
    token = cursor.take()
    name = token.value.value if isinstance(token.value, Text) else token.text
    if cursor.accept(":"):
        name += ":" + cursor.take().text
    return name


def _parse_route_block(cursor: Cursor) -> RouteBlock:
    token = cursor.take()
    name, name_at = "", token.spot
    if cursor.sees("["):
        name, name_at = _parse_route_name(cursor, token)
        if token.text in _NAMELESS:
            cursor.faults.add(name_at, f"{token.text} takes no name")
    elif token.text in _NAMED:
        example = "tm:local-request" if token.text == "event_route" else "NAME"
        cursor.faults.add(token.end, f"{token.text} needs a name: {token.text}[{example}]")
    if not cursor.sees("{"):
        raise cursor.fault(f"'{{' expected after {token.text}{f'[{name}]' if name else ''}, found {cursor.found()}")
    return RouteBlock(token.spot, token.text, name, name_at, parse_block(cursor))


def _parse_route_name(cursor: Cursor, keyword: Token) -> tuple[str, Spot]:
    cursor.take()
    name_at = cursor.token.spot
    pieces: list[str] = []
    while not cursor.accept("]"):
        if cursor.token.kind == "end" or cursor.sees("{") or cursor.token.newline:
            raise cursor.fault(f"']' expected after the name of the {keyword.text}, found {cursor.found()}")
        token = cursor.take()
        pieces.append(token.value.value if isinstance(token.value, Text) else token.text)
    if not pieces:
        cursor.faults.add(name_at, f"{keyword.text}[] has no name")
    return "".join(pieces), name_at
