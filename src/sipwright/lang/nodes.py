"""The syntax tree of a script: what the parser makes, what binding completes and what emission reads.

Each node has `at`, the spot where it begins. Fields below the `bound` mark are None until binding filled them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sipwright.lang.namespace import FunctionSpec, Keep, ParamSpec, Route, Variable
from sipwright.lang.pvsyntax import Pv
from sipwright.lang.source import Spot


@dataclass(slots=True)
class Number:
    """An integer; `yes`, `no` and their like are 1 and 0."""

    at: Spot
    value: int


@dataclass(slots=True)
class Text:
    """A string, escapes resolved. `spots` tells where each character was written, None: after a substitution."""

    at: Spot
    value: str
    spots: list[int] | None = None

    def spot(self, offset: int | None) -> Spot:
        """Return where the character at an offset of the value was written."""
        if offset is None or self.spots is None or not 0 <= offset <= len(self.spots):
            return self.at
        if offset == len(self.spots):
            return Spot(self.at.file, self.spots[-1] + 1) if self.spots else self.at
        return Spot(self.at.file, self.spots[offset])


@dataclass(slots=True)
class Word:
    """A bare identifier: the name of a route or a flag, a protocol."""

    at: Spot
    name: str


@dataclass(slots=True)
class Net:
    """An IP address or network, as written."""

    at: Spot
    text: str


@dataclass(slots=True)
class Var:
    """A variable. `origin` is the string it was written in, where it was."""

    at: Spot
    pv: Pv
    origin: Text | None = None
    # bound; a name that is fixed at load ($def) is a constant instead
    variable: Variable | None = None
    constant: str | None = None


@dataclass(slots=True)
class Myself:
    """`myself`, in a comparison."""

    at: Spot


@dataclass(slots=True)
class Argument:
    """An argument of a call, bound: exactly one of the three ways in which it reaches the function."""

    spec: ParamSpec
    expression: Expression
    # a prepared object or converted constant
    constant: Any = None
    is_constant: bool = False
    # parts of a string with variables in it, joined at each call; None: the value of `expression`
    parts: list[str | Variable] | None = None
    # a route that is looked up by name at each call: the kind's name
    route_kind: str | None = None
    # what has to be awaited before the function can read a prepared object
    keeps: list[Keep] = field(default_factory=list)
    # where the script goes on later, if the argument says so
    continuation: Route | None = None
    # its place among the arguments, from 1
    number: int = 0


@dataclass(slots=True)
class Call:
    """A call of a script function, or of a keyword that stands for one."""

    at: Spot
    name: str
    args: list[Expression]
    end: Spot
    # bound
    spec: FunctionSpec | None = None
    arguments: list[Argument] = field(default_factory=list)


@dataclass(slots=True)
class RouteCall:
    """`route(NAME)`."""

    at: Spot
    target: Expression
    # bound: the route, or how its name is found at run time
    route: Route | None = None
    parts: list[str | Variable] | None = None


@dataclass(slots=True)
class Unary:
    """An operator with one operand: `! ~ - int str defined strlen strempty`."""

    at: Spot
    op: str
    operand: Expression


@dataclass(slots=True)
class Binary:
    """An operator with two operands."""

    at: Spot
    op: str
    left: Expression
    right: Expression


Expression: TypeAlias = Number | Text | Word | Net | Var | Myself | Call | RouteCall | Unary | Binary


@dataclass(slots=True)
class Assign:
    """`$name = value;`."""

    at: Spot
    target: Var
    value: Expression


@dataclass(slots=True)
class Evaluate:
    """A call as a statement."""

    at: Spot
    call: Call | RouteCall


@dataclass(slots=True)
class If:
    """`if (condition) ... else ...`."""

    at: Spot
    condition: Expression
    then: list[Statement]
    orelse: list[Statement]


@dataclass(slots=True)
class While:
    """`while (condition) ...`."""

    at: Spot
    condition: Expression
    body: list[Statement]


@dataclass(slots=True)
class Case:
    """A label of a switch and what follows it. `value` is None for `default`."""

    at: Spot
    value: Number | Text | None
    is_regex: bool
    body: list[Statement]


@dataclass(slots=True)
class Switch:
    """`switch (subject) { ... }`."""

    at: Spot
    subject: Expression
    cases: list[Case]


@dataclass(slots=True)
class Return:
    """`return`, with a value or without."""

    at: Spot
    value: Expression | None


@dataclass(slots=True)
class Exit:
    """`exit` or, with `drop`, `drop`."""

    at: Spot
    drop: bool


@dataclass(slots=True)
class Break:
    """`break`."""

    at: Spot


Statement: TypeAlias = Assign | Evaluate | If | While | Switch | Return | Exit | Break


@dataclass(slots=True)
class LoadModule:
    """`loadmodule "name"`."""

    at: Spot
    name: Text


@dataclass(slots=True)
class ModParam:
    """`modparam("module", "name", value)`."""

    at: Spot
    module: Text
    name: Text
    value: Number | Text


@dataclass(slots=True)
class Setting:
    """A global parameter, `name=value ...`; `text` is the value where that is one string."""

    at: Spot
    name: str
    values: list[int | str]
    values_at: Spot
    text: Text | None = None


@dataclass(slots=True)
class RouteBlock:
    """A route block: the keyword that it began with, its name (empty: it has none) and its body."""

    at: Spot
    keyword: str
    name: str
    name_at: Spot
    body: list[Statement]
    # bound
    route: Route | None = None


Declaration: TypeAlias = LoadModule | ModParam | Setting


@dataclass(slots=True)
class Script:
    """A whole script: declarations in the order of the file, and the route blocks."""

    declarations: list[Declaration]
    blocks: list[RouteBlock]
