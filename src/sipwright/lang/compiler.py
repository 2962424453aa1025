"""From the text of a script to a Program: owns the order of the stages, and nothing of what they do.

    lexer (with preprocess) -> parser -> bind (with variables, arguments) -> reach -> emit

Each stage goes on after a fault, so that all faults of a script are found at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial

from sipwright.errors import ConfigError, ConfigErrors
from sipwright.lang.bind import Binder, Settings
from sipwright.lang.constants import evaluate_tokens
from sipwright.lang.emit import compile_expression, emit_route
from sipwright.lang.lexer import Lexer, UnclosedError
from sipwright.lang.namespace import Namespace, Route, RouteKind
from sipwright.lang.parser import parse_script
from sipwright.lang.preprocess import Defines
from sipwright.lang.reach import trace
from sipwright.lang.runtime import Reporter
from sipwright.lang.source import Faults, SourceFile, Spot
from sipwright.lang.unit import Unit

DEFAULT_MAX_WHILE_LOOPS = 100


class Program:
    """A compiled script.

    `routes` has the route blocks by kind and name: `(RouteKind.REQUEST, "")` is request_route, `(RouteKind.REQUEST,
    "X")` is route[X], `(RouteKind.ONREPLY, "")` reply_route, `(RouteKind.EVENT, "htable:mod-init")` that event route.
    `settings` has the global parameters as they were read: for each name the values of each time it was set.
    `notes` lists what was accepted and has no effect, each with its place. `reporter` tells what goes wrong while
    routes run; set its `report`.
    """

    __slots__ = ("notes", "reporter", "routes", "settings")

    def __init__(
        self, routes: dict[tuple[RouteKind, str], Route], settings: Settings, notes: list[str], reporter: Reporter
    ) -> None:
        self.routes = routes
        self.settings = settings
        self.notes = notes
        self.reporter = reporter

    @property
    def request_route(self) -> Route:
        """The route that requests begin with."""
        return self.routes[RouteKind.REQUEST, ""]

    def find(self, kind: RouteKind, name: str) -> Route | None:
        """Return a route, None when the script has no such one."""
        return self.routes.get((kind, name))


def read_script(path: str) -> str:
    """Return the text of a script file. OSError: it cannot be read."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def compile_file(
    path: str,
    namespace: Namespace,
    defines: Mapping[str, str] | None = None,
    read: Callable[[str], str] = read_script,
) -> Program:
    """Compile the script in a file; see `compile_script`. ConfigErrors: also when the file cannot be read."""
    try:
        text = read(path)
    except OSError as error:
        raise ConfigErrors([ConfigError(f"cannot read the file: {error.strerror or error}", path, 0, 0)]) from None
    return compile_script(text, namespace, path, defines, read)


def compile_script(
    text: str,
    namespace: Namespace,
    name: str = "script.cfg",
    defines: Mapping[str, str] | None = None,
    read: Callable[[str], str] = read_script,
) -> Program:
    """Compile the text of a script.

    `name` is the file's name: messages and tracebacks show it, and included files are looked for beside it. `defines`
    are set before the script is read, as by `-A NAME=VALUE`. `read` returns the text of an included file (OSError: it
    cannot be read). ConfigErrors: everything that is wrong with the script.
    """
    faults = Faults()
    try:
        program = _compile(text, namespace, name, defines, read, faults)
    except RecursionError:
        faults.add(Spot(SourceFile(name, text), 0), "the script is nested too deeply")
    if faults.errors:
        raise ConfigErrors(_sorted(faults.errors, name))
    return program


def _compile(
    text: str,
    namespace: Namespace,
    name: str,
    defines: Mapping[str, str] | None,
    read: Callable[[str], str],
    faults: Faults,
) -> Program:
    table = Defines(defines, os.environ)
    lexer = Lexer(table, faults, read, partial(evaluate_tokens, faults=faults))
    try:
        lexer.read_file(os.fspath(name), text)
    except UnclosedError as unclosed:
        # What follows was not read: faults that were found so far are all that can be told.
        faults.errors[:] = [
            e for e in faults.errors if e.file != unclosed.spot.file.name or e.line <= unclosed.spot.line
        ]
        raise ConfigErrors(_sorted(faults.errors, name)) from None
    script = parse_script(lexer.finish(name), faults)
    reporter = Reporter()
    unit = Unit(namespace, reporter, {})

    binder = Binder(namespace, faults, table.values, partial(compile_expression, unit))
    unit.routes = binder.routes
    binder.bind(script)
    if (RouteKind.REQUEST, "") not in binder.routes and not faults.errors:
        faults.add(Spot(SourceFile(name, text), 0), "the script has no request_route")
    trace(script.blocks, faults)
    program = Program(binder.routes, binder.settings, binder.notes, reporter)
    if faults.errors:
        return program
    unit.reads_rc = binder.variables.reads_rc
    unit.max_loops = _max_loops(binder.settings)
    for block in script.blocks:
        assert block.route is not None
        emit_route(unit, block, block.route)
    return program


def _max_loops(settings: Settings) -> int:
    values = settings.get("max_while_loops")
    value = values[-1][0] if values and values[-1] else DEFAULT_MAX_WHILE_LOOPS
    return value if isinstance(value, int) else DEFAULT_MAX_WHILE_LOOPS


# In the order of the file; faults of included files after those of the script itself.
def _sorted(errors: list[ConfigError], name: str) -> list[ConfigError]:
    return sorted(errors, key=lambda e: (e.file != name, e.file, e.line, e.column))
