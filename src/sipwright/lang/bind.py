"""Names to meanings: owns the walk over the whole tree that gives the Namespace its declarations and asks it for names.

Declarations come first, in their order, then the route blocks are made known, then their bodies are bound; so a route
may be called before it is written, and a module's parameters are known when the first variable of it is looked up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from sipwright.errors import ArgumentError
from sipwright.lang.arguments import Arguments
from sipwright.lang.namespace import Namespace, Route, RouteKind, Variable
from sipwright.lang.nodes import (
    Assign,
    Binary,
    Call,
    Evaluate,
    Expression,
    If,
    LoadModule,
    ModParam,
    Myself,
    Net,
    Number,
    Return,
    RouteBlock,
    RouteCall,
    Script,
    Setting,
    Statement,
    Switch,
    Text,
    Unary,
    Var,
    While,
    Word,
)
from sipwright.lang.regex import compile_regex
from sipwright.lang.runtime import parse_int
from sipwright.lang.source import Faults, Spot, suggest
from sipwright.lang.variables import Variables

_KINDS = {
    "route": RouteKind.REQUEST,
    "request_route": RouteKind.REQUEST,
    "failure_route": RouteKind.FAILURE,
    "onreply_route": RouteKind.ONREPLY,
    "reply_route": RouteKind.ONREPLY,
    "branch_route": RouteKind.BRANCH,
    "onsend_route": RouteKind.ONSEND,
    "event_route": RouteKind.EVENT,
}
# The names that `$cfg(route)` has for blocks without one.
_NAMELESS = dict.fromkeys(("route", "request_route"), "DEFAULT_ROUTE") | dict.fromkeys(
    ("reply_route", "onreply_route"), "DEFAULT_ONREPLY"
)
_NUMBER_OPERATORS = frozenset(("-", "*", "/", "%", "&", "|", "^", "<<", ">>", "<", ">", "<=", ">=", "ieq", "ine"))

Settings = dict[str, list[tuple[int | str, ...]]]


class Binder:
    """Binds a script. What it found is in `routes`, `settings`, `notes` and `variables.reads_rc`."""

    def __init__(
        self,
        namespace: Namespace,
        faults: Faults,
        defines: dict[str, str],
        compile_expression: Callable[[Expression], Callable[[Any], Any]],
    ) -> None:
        self.routes: dict[tuple[RouteKind, str], Route] = {}
        self.settings: Settings = {}
        self.notes: list[str] = []
        self.variables = Variables(namespace, faults, defines)
        self._namespace = namespace
        self._faults = faults
        self._defines = defines
        self._arguments = Arguments(namespace, faults, self.variables, self.routes, self)
        self.compile_expression = compile_expression

    def bind(self, script: Script) -> None:
        """Bind a whole script."""
        texts: list[Setting | ModParam] = []
        for declaration in script.declarations:
            if isinstance(declaration, LoadModule):
                self._bind_loadmodule(declaration)
            elif isinstance(declaration, ModParam):
                if self._namespace.takes_variable(declaration.module.value, declaration.name.value):
                    texts.append(declaration)
                else:
                    self._bind_modparam(declaration)
            elif self._namespace.takes_variables(declaration.name):
                texts.append(declaration)
            else:
                self._bind_setting(declaration)
        for declaration in texts:
            # Its variables may belong to modules that are loaded after it.
            if isinstance(declaration, ModParam):
                self._bind_variable_param(declaration)
            else:
                self._bind_text_setting(declaration)
        for block in script.blocks:
            self._bind_block(block)
        for block in script.blocks:
            self.variables.route = block.name or _NAMELESS.get(block.keyword, block.keyword)
            self._bind_statements(block.body)

    def _bind_loadmodule(self, node: LoadModule) -> None:
        try:
            self._namespace.load_module(node.name.value)
        except ArgumentError as error:
            self._faults.add(node.name.spot(error.offset), error.message, error.suggestion)
            if error.suggestion is not None:
                # What was meant is loaded, or else every use of it would be one more fault.
                with contextlib.suppress(ArgumentError):
                    self._namespace.load_module(error.suggestion)

    def _bind_modparam(self, node: ModParam) -> None:
        value = node.value.value
        if isinstance(value, str) and "$def(" in value:
            for name, text in self._defines.items():
                value = value.replace(f"$def({name})", text)
        for module in node.module.value.split("|"):
            try:
                self._namespace.set_param(module, node.name.value, value)
            except ArgumentError as error:
                self._faults.add(self._modparam_spot(node, error), error.message, error.suggestion)

    def _bind_variable_param(self, node: ModParam) -> None:
        text, name = node.value, node.name.value
        parts = self.variables.bind_text(text, lone_dollar=False) if isinstance(text, Text) else []
        variable = parts[0] if len(parts) == 1 else None
        if isinstance(text, Text) and text.value and not parts:
            return
        if not isinstance(variable, Variable):
            self._faults.add(text.at, f"parameter '{name}' is one writable variable, in quotes, like \"$var(x)\"")
        elif variable.set is None:
            self._faults.add(text.at, f"{variable.text} cannot be written to")
        elif variable.locate is not None:
            self._faults.add(text.at, f"{variable.text} cannot be used here: its name has to be waited for")
        else:
            self._namespace.set_param_variable(node.module.value, name, variable)

    # An offset is into the value; otherwise the message tells what is wrong by its first word.
    def _modparam_spot(self, node: ModParam, error: ArgumentError) -> Spot:
        if error.offset is not None and isinstance(node.value, Text):
            return node.value.spot(error.offset)
        if "has no parameter" in error.message:
            return node.name.at
        return node.module.at if error.message.startswith(("module", "unknown module")) else node.value.at

    def _bind_setting(self, node: Setting) -> None:
        self.settings.setdefault(node.name, []).append(tuple(node.values))
        try:
            note = self._namespace.set_global(node.name, node.values)
        except ArgumentError as error:
            known = node.name in self._namespace.names("global")
            self._faults.add(node.values_at if known else node.at, error.message, error.suggestion)
            return
        if note:
            self.notes.append(f"{node.at}: {note}")

    def _bind_text_setting(self, node: Setting) -> None:
        self.settings.setdefault(node.name, []).append(tuple(node.values))
        if node.text is None:
            self._faults.add(node.values_at, f"{node.name} is one string, in quotes")
            return
        parts = self.variables.bind_text(node.text, lone_dollar=False)
        if parts or not node.text.value:
            self._namespace.set_global_text(node.name, parts)

    def _bind_block(self, block: RouteBlock) -> None:
        kind = _KINDS[block.keyword]
        if block.name == "0" and kind in (RouteKind.REQUEST, RouteKind.ONREPLY):
            block.name = ""  # an old way to write the block without a name
        key = kind, block.name
        written = f"{block.keyword}[{block.name}]" if block.name else block.keyword
        known = self.routes.get(key)
        if known is not None:
            self._faults.add(block.name_at, f"{written} is defined twice; first in {known.file}:{known.line}")
        if kind is RouteKind.EVENT:
            self._check_event_route(block)
        block.route = Route(block.name, kind, block.at.file.name, block.at.line)
        self.routes.setdefault(key, block.route)

    def _check_event_route(self, block: RouteBlock) -> None:
        known = set(self._namespace.event_routes())
        if block.name in known or not block.name:
            note = self._namespace.event_route_note(block.name)
            if note is not None:
                self.notes.append(f"{block.at}: {note}")
            return
        close = suggest(block.name, known)
        if close is not None:
            self._faults.add(block.name_at, f"nothing runs event_route[{block.name}]", close)
        else:
            self.notes.append(f"{block.at}: nothing runs event_route[{block.name}]")

    def _bind_statements(self, statements: list[Statement]) -> None:
        for node in statements:
            if isinstance(node, Assign):
                self._bind_assign(node)
            elif isinstance(node, Evaluate):
                self.bind_expression(node.call)
            elif isinstance(node, If):
                self.bind_expression(node.condition)
                self._bind_statements(node.then)
                self._bind_statements(node.orelse)
            elif isinstance(node, While):
                self.bind_expression(node.condition)
                self._bind_statements(node.body)
            elif isinstance(node, Switch):
                self._bind_switch(node)
            elif isinstance(node, Return) and node.value is not None:
                self.bind_expression(node.value)

    def _bind_assign(self, node: Assign) -> None:
        if node.target.pv.transforms:
            self._faults.add(node.at, "a variable with transformations cannot be assigned to")
        else:
            self.variables.bind_var(node.target)
            variable = node.target.variable
            if (variable is not None and variable.set is None) or node.target.constant is not None:
                self._faults.add(node.at, f"{node.target.pv.text} cannot be written to")
        self.bind_expression(node.value)

    def _bind_switch(self, node: Switch) -> None:
        self.bind_expression(node.subject)
        for case in node.cases:
            if case.is_regex and isinstance(case.value, Text):
                self._check_regex(case.value)
            self._bind_statements(case.body)

    def bind_expression(self, node: Expression) -> None:
        """Bind everything in an expression."""
        if isinstance(node, Var):
            self.variables.bind_var(node)
        elif isinstance(node, Call):
            self._arguments.bind_call(node)
        elif isinstance(node, RouteCall):
            self._arguments.bind_route_call(node)
        elif isinstance(node, Unary):
            self.bind_expression(node.operand)
            if node.op in ("!", "~", "-"):
                self._check_number(node.op, node.operand)
        elif isinstance(node, Binary):
            self._bind_binary(node)
        elif isinstance(node, Word):
            self._bind_word(node)
        elif isinstance(node, Myself):
            self._faults.add(node.at, "'myself' can only be compared: uri == myself")

    def _bind_binary(self, node: Binary) -> None:
        for operand in (node.left, node.right):
            if not isinstance(operand, Myself):
                self.bind_expression(operand)
            elif node.op not in ("==", "!="):
                self._faults.add(operand.at, "'myself' can only be compared with == and !=")
            if isinstance(operand, Net) and "/" in operand.text and node.op not in ("==", "!=", "=~", "!~"):
                self._faults.add(operand.at, "a network can only be compared: src_ip == 10.0.0.0/8")
            if node.op in _NUMBER_OPERATORS:
                self._check_number(node.op, operand)
        if node.op in ("=~", "!~") and isinstance(node.right, Text):
            self._check_regex(node.right)
        if node.op in ("/", "%") and isinstance(node.right, Number) and not node.right.value:
            self._faults.add(node.right.at, "division by zero")

    def _bind_word(self, node: Word) -> None:
        if self._namespace.functions(node.name):
            self._faults.add(node.at, f"{node.name} is a function: it is called with ()")
            return
        message = f"unknown word '{node.name}': a variable begins with '$', a string is written in quotes"
        self._faults.add_unknown(node.at, message, suggest(node.name, self._defines) or f'"{node.name}"')

    def _check_number(self, op: str, operand: Expression) -> None:
        if isinstance(operand, Text) and parse_int(operand.value) is None:
            self._faults.add(operand.at, f"'{op}' works on numbers, not on a string")

    def _check_regex(self, node: Text) -> None:
        try:
            compile_regex(node.value)
        except ArgumentError as error:
            self._faults.add(node.spot(error.offset), error.message)
