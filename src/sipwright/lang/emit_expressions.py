"""Expressions to Python ast: owns the code for operators, variables and calls.

Each function takes the Scope of the function that is being emitted and a bound node. What is known about the types of
operands is used: a comparison with a literal is one Python comparison, arithmetic on numbers one Python operator.

A call that returns 0 ends the script. In a condition, calls are emitted in place, as `(rc := f(ctx)) > 0`, and written
so that after a 0 nothing more is evaluated and the condition is false; the statement around it then tests `rc`.
Everywhere else a call is emitted before the statement, into a temporary name.

A variable that waits is awaited where it stands. What a function reads on its own, prepared arguments, is awaited
where the argument stands: `await keep(ctx) or argument`, since `keep` gives None.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from ipaddress import ip_network

from sipwright.lang import runtime
from sipwright.lang.arguments import ROUTE_KINDS
from sipwright.lang.namespace import RouteKind, Variable
from sipwright.lang.nodes import (
    Argument,
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
)
from sipwright.lang.regex import compile_regex
from sipwright.lang.traits import has_calls, kind_of, waits
from sipwright.lang.unit import (
    Unit,
    assign,
    call,
    compare,
    constant,
    context,
    function,
    give,
    load,
    negate,
    place,
    walrus,
)

RC = "rc"
_Emit = Callable[["Scope", Expression], ast.expr]
_COMPARISONS: dict[str, type[ast.cmpop]] = {
    "==": ast.Eq,
    "!=": ast.NotEq,
    "<": ast.Lt,
    ">": ast.Gt,
    "<=": ast.LtE,
    ">=": ast.GtE,
    "eq": ast.Eq,
    "ne": ast.NotEq,
    "ieq": ast.Eq,
    "ine": ast.NotEq,
}
_ARITHMETIC: dict[str, type[ast.operator]] = {
    "-": ast.Sub,
    "&": ast.BitAnd,
    "|": ast.BitOr,
    "^": ast.BitXor,
}
_TRUTHS = frozenset((*_COMPARISONS, "=~", "!~", "&&", "||"))


class Scope:
    """One function that is being emitted: where statements go, and its temporary names."""

    __slots__ = ("_temps", "body", "unit", "waits")

    def __init__(self, unit: Unit, *, waits: bool) -> None:
        self.unit = unit
        self.waits = waits
        self.body: list[ast.stmt] = []
        self._temps = 0

    def temp(self) -> str:
        """Return a new temporary name."""
        self._temps += 1
        return f"t{self._temps}"


def emit_value(scope: Scope, node: Expression) -> ast.expr:
    """Emit an expression as a value: int, str or None."""
    if isinstance(node, Number):
        return constant(node.value)
    if isinstance(node, (Text, Net)):
        return constant(node.value if isinstance(node, Text) else node.text)
    if isinstance(node, Var):
        return _emit_var(scope, node)
    if isinstance(node, (Call, RouteCall)):
        return load(emit_hoisted_call(scope, node))
    if isinstance(node, Binary):
        if node.op == "+":
            return _emit_plus(scope, node)
        if node.op in ("/", "%"):
            return _emit_division(scope, node)
    if kind_of(node) == "str":
        return emit_text(scope, node)
    return emit_integer(scope, node)


def emit_integer(scope: Scope, node: Expression) -> ast.expr:
    """Emit an expression as a number. A call counts as 1 or 0 here, as in Kamailio."""
    if isinstance(node, Number):
        return constant(node.value)
    if isinstance(node, Text):
        return constant(runtime.to_int(node.value))
    if isinstance(node, (Call, RouteCall)):
        return _as_number(compare(load(emit_hoisted_call(scope, node)), ast.Gt(), constant(0)))
    if isinstance(node, Unary):
        return _emit_unary_integer(scope, node)
    if isinstance(node, Binary):
        if node.op in _TRUTHS:
            return _as_number(emit_hoisted_condition(scope, node))
        if node.op == "+" and kind_of(node) == "int":
            return _emit_plus(scope, node)
        if node.op in ("/", "%"):
            return ast.BoolOp(ast.Or(), [_emit_division(scope, node), constant(0)])
        if node.op != "+":
            return _emit_arithmetic(scope, node)
    return _checked(scope, emit_value(scope, node), "int", runtime.to_int)


def emit_text(scope: Scope, node: Expression) -> ast.expr:
    """Emit an expression as text; None is empty."""
    if isinstance(node, (Text, Net)):
        return constant(node.value if isinstance(node, Text) else node.text)
    if isinstance(node, Number):
        return constant(str(node.value))
    if isinstance(node, Unary) and node.op == "str":
        return emit_text(scope, node.operand)
    if isinstance(node, Binary) and node.op == "+" and kind_of(node) == "str":
        return _emit_plus(scope, node)
    if kind_of(node) == "int":
        return call(load("str"), emit_integer(scope, node))
    return _checked(scope, emit_value(scope, node), "str", runtime.as_text)


def emit_parts(scope: Scope, parts: list[str | Variable]) -> ast.expr:
    """Emit a string with variables in it."""
    pieces: list[ast.expr] = []
    for part in parts:
        if isinstance(part, str):
            pieces.append(constant(part))
        else:
            convert = runtime.as_parameter if part.missing else runtime.as_text
            value = _checked(scope, _emit_read(scope, part), "str", convert)
            pieces.append(ast.FormattedValue(value, -1, None))
    if len(pieces) == 1 and isinstance(pieces[0], ast.FormattedValue):
        return pieces[0].value
    return ast.JoinedStr(pieces)


def emit_call(scope: Scope, node: Call | RouteCall) -> ast.expr:
    """Emit a call: an expression of its return code."""
    made = _emit_route_call(scope, node) if isinstance(node, RouteCall) else _emit_function_call(scope, node)
    # Kamailio: functions of its core (setflag, seturi ...) leave $rc as it was.
    if scope.unit.reads_rc and not (isinstance(node, Call) and node.spec is not None and node.spec.module == "core"):
        made = call(scope.unit.runtime(runtime.store_rc), context(), made)
    place(made, node.at)
    return made


def emit_hoisted_call(scope: Scope, node: Call | RouteCall) -> str:
    """Emit a call before the statement, and the end of the script if it returns 0; return the name of its code."""
    name = scope.temp()
    scope.body += [assign(name, emit_call(scope, node)), ast.If(negate(load(name)), [give(0)], [])]
    return name


def emit_test(scope: Scope, node: Expression) -> ast.expr:
    """Emit the condition of `if` and `while`, without calls: numbers above 0 are true."""
    if (isinstance(node, Binary) and node.op in _TRUTHS) or (isinstance(node, Unary) and node.op in _TRUTH_UNARY):
        return emit_condition(scope, node)
    return compare(emit_integer(scope, node), ast.Gt(), constant(0))


_TRUTH_UNARY = frozenset(("!", "defined", "strempty"))


def emit_condition(scope: Scope, node: Expression, *, inverted: bool = False) -> ast.expr:
    """Emit an operand of `! && ||` as a Python truth; calls are emitted in place. Numbers other than 0 are true."""
    if isinstance(node, (Call, RouteCall)):
        return compare(walrus(RC, emit_call(scope, node)), ast.Lt() if inverted else ast.Gt(), constant(0))
    if isinstance(node, Unary) and node.op == "!":
        return emit_condition(scope, node.operand, inverted=not inverted)
    if isinstance(node, Binary) and node.op in ("&&", "||"):
        left = emit_condition(scope, node.left, inverted=inverted)
        right = emit_condition(scope, node.right, inverted=inverted)
        if (node.op == "&&") != inverted:
            return ast.BoolOp(ast.And(), [left, right])
        if has_calls(node.left):  # a 0 ends the script: nothing more may be evaluated
            right = ast.BoolOp(ast.And(), [load(RC), right])
        return ast.BoolOp(ast.Or(), [left, right])
    truth = _emit_truth(scope, node)
    return negate(truth) if inverted else truth


def emit_hoisted_condition(scope: Scope, node: Expression) -> ast.expr:
    """Emit a condition; where it has calls, as statements before, which leave the truth in a temporary name."""
    if not has_calls(node):
        return emit_condition(scope, node)
    name = scope.temp()
    if isinstance(node, Unary) and node.op == "!":
        scope.body.append(assign(name, negate(emit_hoisted_condition(scope, node.operand))))
    elif isinstance(node, Binary) and node.op in ("&&", "||"):
        scope.body.append(assign(name, emit_hoisted_condition(scope, node.left)))
        outer, scope.body = scope.body, []
        scope.body.append(assign(name, emit_hoisted_condition(scope, node.right)))
        outer.append(ast.If(load(name) if node.op == "&&" else negate(load(name)), scope.body, []))
        scope.body = outer
    elif isinstance(node, (Call, RouteCall)):
        scope.body.append(assign(name, compare(load(emit_hoisted_call(scope, node)), ast.Gt(), constant(0))))
    else:
        scope.body.append(assign(name, _emit_truth(scope, node)))
    return load(name)


# The truth of what is no call and no logical operator.
def _emit_truth(scope: Scope, node: Expression) -> ast.expr:
    if isinstance(node, Binary):
        if node.op in ("==", "!="):
            return _emit_equality(scope, node)
        if node.op in ("=~", "!~"):
            return _emit_match(scope, node)
        if node.op in ("eq", "ne"):
            left, right = _operands(scope, node, emit_text)
            return compare(left, _COMPARISONS[node.op](), right)
        if node.op in _COMPARISONS:
            left, right = _operands(scope, node, emit_integer)
            return compare(left, _COMPARISONS[node.op](), right)
    if isinstance(node, Unary):
        if node.op == "defined":
            return _is_none(emit_value(scope, node.operand), equal=False)
        if node.op == "strempty":
            return negate(emit_text(scope, node.operand))
    return emit_integer(scope, node)


def _emit_var(scope: Scope, node: Var) -> ast.expr:
    if node.constant is not None:
        return constant(node.constant)
    if node.variable is None or node.pv.name == "null":
        return constant(None)
    made = _emit_read(scope, node.variable)
    place(made, node.at)
    return made


def _emit_read(scope: Scope, variable: Variable) -> ast.expr:
    if variable.fetch is not None:
        return ast.Await(call(scope.unit.bind(variable.fetch, "fetch"), context()))
    return call(scope.unit.bind(variable.get, "get"), context())


# The operands, in order: if the right one calls something, the left one is evaluated before.
def _operands(scope: Scope, node: Binary, emit: _Emit) -> tuple[ast.expr, ast.expr]:
    left = emit(scope, node.left)
    if has_calls(node.right) and not isinstance(left, ast.Constant):
        name = scope.temp()
        scope.body.append(assign(name, left))
        left = load(name)
    return left, emit(scope, node.right)


def _emit_plus(scope: Scope, node: Binary) -> ast.expr:
    kind = kind_of(node.left)
    if kind == "any":
        left, right = _operands(scope, node, emit_value)
        return call(scope.unit.runtime(runtime.add), left, right)
    left, right = _operands(scope, node, emit_integer if kind == "int" else emit_text)
    return ast.BinOp(left, ast.Add(), right)


def _emit_division(scope: Scope, node: Binary) -> ast.expr:
    left, right = _operands(scope, node, emit_integer)
    divide = runtime.quotient if node.op == "/" else runtime.remainder
    return call(scope.unit.runtime(divide), context(), scope.unit.site(node.at, node.op), left, right)


def _emit_arithmetic(scope: Scope, node: Binary) -> ast.expr:
    left, right = _operands(scope, node, emit_integer)
    if node.op == "*":
        return call(scope.unit.runtime(runtime.wrap), ast.BinOp(left, ast.Mult(), right))
    if node.op in ("<<", ">>"):
        shift = runtime.shift_left if node.op == "<<" else runtime.shift_right
        return call(scope.unit.runtime(shift), left, right)
    return ast.BinOp(left, _ARITHMETIC[node.op](), right)


def _emit_unary_integer(scope: Scope, node: Unary) -> ast.expr:
    if node.op == "-":
        return ast.UnaryOp(ast.USub(), emit_integer(scope, node.operand))
    if node.op == "~":
        return ast.UnaryOp(ast.Invert(), emit_integer(scope, node.operand))
    if node.op == "int":
        return emit_integer(scope, node.operand)
    if node.op == "strlen":
        scope.unit.globals.setdefault("len", len)
        return call(load("len"), emit_text(scope, node.operand))
    if node.op == "str":
        return _checked(scope, emit_text(scope, node.operand), "int", runtime.to_int)
    return _as_number(emit_hoisted_condition(scope, node))


def _emit_equality(scope: Scope, node: Binary) -> ast.expr:
    equal = node.op == "=="
    left, right = node.left, node.right
    if isinstance(right, Var) and right.pv.name == "null":  # x == $null asks whether x is defined
        return _is_none(emit_value(scope, left), equal)
    if isinstance(left, Myself) or isinstance(right, Myself):
        value = emit_value(scope, left if isinstance(right, Myself) else right)
        made = call(scope.unit.bind(scope.unit.namespace.is_myself, "is_myself"), context(), value)
        return made if equal else negate(made)
    if isinstance(right, Net):
        return _emit_network(scope, left, right, equal)
    if isinstance(right, (Text, Number)) and kind_of(left) == "any":
        return _emit_equal_constant(scope, left, right, equal)
    kinds = kind_of(left), kind_of(right)
    if kinds[0] == kinds[1] != "any":
        left_code, right_code = _operands(scope, node, emit_integer if kinds[0] == "int" else emit_text)
        return compare(left_code, ast.Eq() if equal else ast.NotEq(), right_code)
    left_code, right_code = _operands(scope, node, emit_operand)
    made = call(scope.unit.runtime(runtime.equal), left_code, right_code)
    return made if equal else negate(made)


def emit_operand(scope: Scope, node: Expression) -> ast.expr:
    """Emit an operand of a comparison as a value; a call counts as 1 or 0."""
    return emit_integer(scope, node) if isinstance(node, (Call, RouteCall)) else emit_value(scope, node)


# A variable equals a literal if it is the literal, as number or as text; None equals 0 and "".
def _emit_equal_constant(scope: Scope, left: Expression, right: Text | Number, equal: bool) -> ast.expr:
    value = emit_value(scope, left)
    allowed: tuple[int | str | None, ...]
    if isinstance(right, Number):
        allowed = (right.value, str(right.value)) if right.value else (0, "0", None)
    elif not right.value:
        allowed = ("", None)
    else:
        number = runtime.parse_int(right.value)
        if number is None:
            return compare(value, ast.Eq() if equal else ast.NotEq(), constant(right.value))
        allowed = (right.value, number)
    return compare(value, ast.In() if equal else ast.NotIn(), constant(allowed))


def _emit_network(scope: Scope, left: Expression, right: Net, equal: bool) -> ast.expr:
    network = scope.unit.bind(ip_network(right.text, strict=False), "network")
    made = call(scope.unit.runtime(runtime.in_network), emit_text(scope, left), network)
    return made if equal else negate(made)


def _emit_match(scope: Scope, node: Binary) -> ast.expr:
    found = node.op == "=~"
    if isinstance(node.right, Net):
        return _emit_network(scope, node.left, node.right, found)
    if isinstance(node.right, Text):
        search = scope.unit.bind(compile_regex(node.right.value).search, "search")
        made = call(search, emit_text(scope, node.left))
        return compare(made, ast.IsNot() if found else ast.Is(), constant(None))
    left, right = _operands(scope, node, emit_text)
    site = scope.unit.site(node.at, node.op)
    matched = call(scope.unit.runtime(runtime.matches), context(), site, left, right)
    return matched if found else negate(matched)


def _emit_route_call(scope: Scope, node: RouteCall) -> ast.expr:
    unit = scope.unit
    if node.route is not None:
        made: ast.expr = call(load(unit.route_name(node.route)), context())
        return ast.Await(made) if node.route.suspends else made
    name = emit_parts(scope, node.parts) if node.parts is not None else emit_text(scope, node.target)
    routes = unit.routes_of(RouteKind.REQUEST)
    run = runtime.call_route_waiting if scope.waits else runtime.call_route
    made = call(unit.runtime(run), context(), unit.site(node.at, "route"), unit.bind(routes, "routes"), name)
    return ast.Await(made) if scope.waits else made


def _emit_finished(scope: Scope, made: ast.expr) -> ast.expr:
    return ast.Await(call(scope.unit.runtime(runtime.finished), made))


def _emit_function_call(scope: Scope, node: Call) -> ast.expr:
    spec = node.spec
    assert spec is not None
    unit = scope.unit
    if any(_may_fail(argument) for argument in node.arguments) or _fetches_on_demand(node):
        made: ast.expr = call(load(_define_guarded(unit, node)), context())
        if spec.runs_routes and scope.waits:
            return _emit_finished(scope, made)
        return ast.Await(made) if spec.suspends or waits(node) else made
    arguments = [_emit_argument(scope, argument) for argument in node.arguments]
    made = call(unit.bind(spec.call, node.name), context(), *arguments)
    if spec.runs_routes and scope.waits:
        return _emit_finished(scope, made)
    return ast.Await(made) if spec.suspends else made


# Whether what prepared arguments wait for is only to be fetched if the function says so.
def _fetches_on_demand(node: Call) -> bool:
    return node.spec is not None and node.spec.reads is not None and any(a.keeps for a in node.arguments)


def _may_fail(argument: Argument) -> bool:
    kind = argument.spec.kind
    if argument.is_constant or argument.route_kind is not None or kind.convert is None:
        return False
    return not kind.textual


def _emit_argument(scope: Scope, argument: Argument) -> ast.expr:
    unit = scope.unit
    kind = argument.spec.kind
    if argument.is_constant:
        made = unit.bind(argument.constant, argument.spec.name)
        return ast.BoolOp(ast.Or(), [*_emit_keeps(unit, argument), made]) if argument.keeps else made
    if argument.route_kind is not None:
        name = emit_parts(scope, argument.parts) if argument.parts else emit_text(scope, argument.expression)
        return call(unit.route_finder(ROUTE_KINDS[argument.route_kind][0]), name)
    convert = kind.convert
    if argument.parts is not None:
        single = argument.parts[0] if len(argument.parts) == 1 else None
        if convert is None or (kind.textual and single is None):
            return emit_parts(scope, argument.parts)
        if isinstance(single, Variable):
            value = _emit_read(scope, single)
            if kind.textual:
                return _checked(scope, value, "str", convert if single.missing else runtime.as_text)
        else:
            value = emit_parts(scope, argument.parts)
        return call(unit.bind(convert, "convert"), value)
    value = emit_value(scope, argument.expression)
    if convert is None or (kind.textual and kind_of(argument.expression) == "str"):
        return value
    if kind.textual:
        return _checked(scope, value, "str", convert)
    return call(unit.bind(convert, "convert"), value)


# A call whose arguments may turn out to be wrong, as a function of its own: -1 and a report if they are.
def _define_guarded(unit: Unit, node: Call) -> str:
    spec = node.spec
    assert spec is not None
    scope = Scope(unit, waits=spec.suspends or waits(node))
    name = f"_call_{node.name}_{len(unit.globals)}"
    names: list[ast.expr] = []
    on_demand = _fetches_on_demand(node)
    for position, argument in enumerate(node.arguments):
        if argument.is_constant and (on_demand or not argument.keeps):
            names.append(unit.bind(argument.constant, argument.spec.name))
            continue
        scope.body.append(assign(f"a{position}", _emit_argument(scope, argument)))
        names.append(load(f"a{position}"))
    report = call(unit.runtime(runtime.bad_argument), context(), unit.site(node.at, node.name), load("error"))
    handler = ast.ExceptHandler(load("ValueError"), "error", [give(report)])
    made: ast.expr = call(unit.bind(spec.call, node.name), context(), *names)
    if spec.runs_routes and scope.waits:
        made = _emit_finished(scope, made)
    elif spec.suspends:
        made = ast.Await(made)
    body: list[ast.stmt] = [ast.Try(scope.body, [handler], [], [])] if scope.body else []
    if on_demand:
        keeps: list[ast.stmt] = [ast.Expr(k) for argument in node.arguments for k in _emit_keeps(unit, argument)]
        body.append(ast.If(call(unit.bind(spec.reads, "reads"), context(), *names), keeps, []))
    unit.define(function(name, [*body, give(made)], waits=scope.waits), node.at, node.name)
    return name


def _emit_keeps(unit: Unit, argument: Argument) -> list[ast.expr]:
    return [ast.Await(call(unit.bind(keep, "keep"), context())) for keep in argument.keeps]


# `value if (t := value).__class__ is int else to_int(t)`: most values have the right type already, and a test in
# place costs 15 ns where a call costs 45.
def _checked(scope: Scope, value: ast.expr, kind: str, convert: object) -> ast.expr:
    if isinstance(value, ast.Constant):
        value = constant(value.value)
    name = scope.temp()
    test = compare(ast.Attribute(walrus(name, value), "__class__", ast.Load()), ast.Is(), load(kind))
    return ast.IfExp(test, load(name), call(scope.unit.bind(convert, "convert"), load(name)))


def _as_number(truth: ast.expr) -> ast.expr:
    return ast.IfExp(truth, constant(1), constant(0))


def _is_none(value: ast.expr, equal: bool) -> ast.expr:
    if isinstance(value, ast.Constant):
        return constant((value.value is None) == equal)
    return compare(value, ast.Is() if equal else ast.IsNot(), constant(None))
