"""Binding of variables: owns the look-up of a variable with its index, inner name and transformations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Getter, Keep, Namespace, Value, Variable
from sipwright.lang.nodes import Text, Var
from sipwright.lang.pvsyntax import Pv, TextPart, split_text
from sipwright.lang.source import Faults, Spot
from sipwright.lang.waiting import Transformation, fetched, keeps_of, transformed, waiting_variable

SpotOf = Callable[[int | None], Spot]
Part = str | Variable

_RC_NAMES = frozenset(("rc", "retcode", "?"))
_DEFINE_NAMES = frozenset(("def", "defn"))


class Variables:
    """Looks variables up. `reads_rc` becomes true once the script uses `$rc`. `route` is what `$cfg(route)` gives."""

    __slots__ = ("_defines", "_faults", "_namespace", "reads_rc", "route")

    def __init__(self, namespace: Namespace, faults: Faults, defines: dict[str, str]) -> None:
        self._namespace = namespace
        self._faults = faults
        self._defines = defines
        self.reads_rc = False
        self.route = ""

    def bind_var(self, var: Var) -> None:
        """Bind a variable of the code: its `variable`, or its `constant` (`$def(NAME)`)."""
        spot_of = var.origin.spot if var.origin is not None else lambda at: _in_file(var.at, at)
        bound = self._bind(var.pv, spot_of)
        if isinstance(bound, str):
            var.constant = bound
        else:
            var.variable = bound

    def bind_text(self, text: Text, *, lone_dollar: bool) -> list[Part]:
        """Split a string into literal pieces and bound variables."""
        try:
            parts = split_text(text.value, lone_dollar=lone_dollar)
        except ArgumentError as error:
            self._faults.add(text.spot(error.offset), error.message, error.suggestion)
            return []
        return self._bind_parts(parts, text.spot)

    def _bind_parts(self, parts: Sequence[TextPart], spot_of: SpotOf) -> list[Part]:
        bound: list[Part] = []
        for part in parts:
            piece = part if isinstance(part, str) else self._bind(part, spot_of)
            if isinstance(piece, str) and bound and isinstance(bound[-1], str):
                bound[-1] += piece
            elif piece is not None:
                bound.append(piece)
        return bound

    def _bind(self, pv: Pv, spot_of: SpotOf) -> Variable | str | None:
        if pv.name == "null" and pv.inner is None:
            return Variable("$null", _null)
        if pv.name in _RC_NAMES:
            self.reads_rc = True
        inner = None if pv.inner is None else self._bind_parts(pv.inner, spot_of)
        if pv.name in _DEFINE_NAMES and not pv.transforms:
            return self._define(pv, inner, spot_of)
        if pv.name == "cfg" and not pv.transforms:
            return self._place(pv, inner, spot_of)
        index: int | Variable | Literal["*"] | None = None
        if isinstance(pv.index, Pv):
            found = self._bind(pv.index, spot_of)
            index = found if isinstance(found, Variable) else None
        else:
            index = pv.index
        try:
            variable = self._namespace.variable(pv.text, pv.name, inner, index)
        except ArgumentError as error:
            self._faults.add_unknown(spot_of(pv.start), error.message, error.suggestion)
            return None
        steps = self._transformations(pv, spot_of)
        if steps is None:
            return None
        names = keeps_of([*(inner or ()), index])
        if names or variable.fetch is not None or any(keeps for keeps, _transform in steps):
            return self._waiting(pv, variable, names, steps)
        if not steps:
            return variable
        get = variable.get
        for _keeps, transform in steps:
            get = _transformed(get, transform)
        return Variable(pv.text, get, missing="")

    # The transformations, each with what its parameters wait for; None: one of them is wrong.
    def _transformations(self, pv: Pv, spot_of: SpotOf) -> list[tuple[list[Keep], Transformation]] | None:
        steps: list[tuple[list[Keep], Transformation]] = []
        for transform in pv.transforms:
            params = [self._bind_parts(param, spot_of) for param in transform.params]
            try:
                found = self._namespace.transformation(transform.cls, transform.name, params)
            except ArgumentError as error:
                self._faults.add_unknown(spot_of(transform.start), error.message, error.suggestion)
                return None
            steps.append((keeps_of(part for param in params for part in param), found))
        return steps

    def _waiting(
        self, pv: Pv, variable: Variable, names: list[Keep], steps: list[tuple[list[Keep], Transformation]]
    ) -> Variable:
        fetch = fetched(variable, names)
        if steps:
            return waiting_variable(pv.text, transformed(fetch, steps), missing="")
        return waiting_variable(pv.text, fetch, variable.set, names, variable.missing)

    def _define(self, pv: Pv, inner: list[Part] | None, spot_of: SpotOf) -> str | None:
        name = inner[0] if inner and isinstance(inner[0], str) else ""
        value = self._defines.get(name.strip())
        if value is None and pv.name == "def":
            self._faults.add(spot_of(pv.start), f"'{name}' is not defined by #!define")
            return None
        return value or ""

    # `$cfg(name)`, `$cfg(line)`, `$cfg(route)`: where in the script this is.
    def _place(self, pv: Pv, inner: list[Part] | None, spot_of: SpotOf) -> str | None:
        spot = spot_of(pv.start)
        places = {"name": spot.file.name, "line": str(spot.line), "route": self.route}
        name = inner[0] if inner and isinstance(inner[0], str) else ""
        if name not in places:
            self._faults.add(spot, "$cfg needs one of these in parentheses: name, line, route")
        return places.get(name)


def _null(_context: Any) -> Value:
    return None


def _transformed(get: Getter, transform: Callable[[Any, Value], Value]) -> Getter:
    def value(context: Any) -> Value:
        return transform(context, get(context))

    return value


def _in_file(spot: Spot, offset: int | None) -> Spot:
    return spot if offset is None else Spot(spot.file, offset)
