"""From a script file to what a worker runs: compiles it against a registry of modules and checks the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sipwright.errors import ArgumentError, ConfigError, ConfigErrors
from sipwright.lang.compiler import Program, compile_file, compile_script, read_script
from sipwright.lang.namespace import Route, RouteKind
from sipwright.lang.runtime import Reporter
from sipwright.script.registry import Registry
from sipwright.script.settings import Settings


@dataclass(slots=True)
class Script:
    """A script that was read and is good.

    `files` are all files that it was read from, `notes` what was accepted without having an effect. What goes wrong in
    a function's arguments while routes run is told to `reporter.report`.
    """

    path: str
    files: frozenset[str]
    request_route: Route
    routes: dict[tuple[RouteKind, str], Route]
    registry: Registry
    settings: Settings
    reporter: Reporter
    notes: list[str]


def load_script(path: str | Path, defines: Mapping[str, str] | None = None) -> Script:
    """Read and check a script file.

    `defines` are as from `#!define` before its first line. ConfigErrors: everything that is wrong with it, file, line
    and column each; a file that cannot be read is one of them.
    """
    name = str(path)
    return _load(name, lambda registry, read: compile_file(name, registry, defines, read))


def load_text(text: str, name: str = "script.cfg", defines: Mapping[str, str] | None = None) -> Script:
    """Check a script that is given as text; `name` stands for its file in messages and include paths."""
    return _load(name, lambda registry, read: compile_script(text, registry, name, defines, read))


def _load(name: str, compile_: Callable[[Registry, Callable[[str], str]], Program]) -> Script:
    registry = Registry(Settings())
    files = {name}

    def read(path: str) -> str:
        text = read_script(path)
        files.add(path)
        return text

    program = compile_(registry, read)
    try:
        registry.mod_init()
    except ArgumentError as error:
        raise ConfigErrors([ConfigError(error.message, name, 0, 0, suggestion=error.suggestion)]) from None
    return Script(
        path=name,
        files=frozenset(files),
        request_route=program.request_route,
        routes=program.routes,
        registry=registry,
        settings=registry.settings,
        reporter=program.reporter,
        notes=[*program.notes, *registry.notes],
    )
