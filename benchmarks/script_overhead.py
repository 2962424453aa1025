"""What the compiled form of a small route costs, beside the same calls written in Python by hand.

python benchmarks/script_overhead.py
"""

from __future__ import annotations

import timeit
from collections.abc import Sequence
from typing import Any

from sipwright.lang.compiler import compile_script
from sipwright.lang.namespace import FunctionSpec, ParamKind, ParamSpec, Variable

SCRIPT = """
request_route {
    if (is_method("OPTIONS")) {
        $var(x) = 1;
        ask("get_user", "{'id': 1234}", "$var(result)");
        exit;
    }
}
"""
TEXT = ParamKind("string", "a string", convert=str, textual=True)
ROUNDS = 200_000


class Context:
    """As much of a context as the script uses."""

    def __init__(self) -> None:
        self.vars: dict[str, Any] = {}
        self.dropped = False


def is_method(_context: Context, _methods: str) -> int:
    """Return true."""
    return 1


def ask(_context: Context, _method: str, _params: str, _result: str) -> int:
    """End the script."""
    return 0


def set_x(context: Context, value: Any) -> None:
    """Set `$var(x)`."""
    context.vars["x"] = value


FUNCTIONS = (
    FunctionSpec("is_method", "bench", is_method, (ParamSpec("methods", TEXT),)),
    FunctionSpec("ask", "bench", ask, tuple(ParamSpec(name, TEXT) for name in ("method", "params", "result"))),
)


class World:
    """The namespace: two functions and a variable."""

    def functions(self, name: str) -> Sequence[FunctionSpec]:
        """Return the functions of a name."""
        return [spec for spec in FUNCTIONS if spec.name == name]

    def variable(self, text: str, *_: Any) -> Variable:
        """Return `$var(x)`."""
        return Variable(text, lambda context: context.vars.get("x", 0), set_x)


def by_hand(context: Context) -> int:
    """Do what the script does."""
    if is_method(context, "OPTIONS") > 0:
        set_x(context, 1)
        ask(context, "get_user", "{'id': 1234}", str(context.vars.get("result", 0)))
        return 0
    return 1


def main() -> None:
    """Print nanoseconds per run."""
    route = compile_script(SCRIPT, World()).request_route  # type: ignore[arg-type]
    context = Context()
    for name, run in (("compiled script", route.run), ("by hand", by_hand)):
        seconds = min(timeit.repeat(lambda run=run: run(context), number=ROUNDS, repeat=5))  # type: ignore[misc]
        print(f"{name:16} {seconds / ROUNDS * 1e9:6.0f} ns")


if __name__ == "__main__":
    main()
