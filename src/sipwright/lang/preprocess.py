"""The preprocessor's state: owns defines, substitutions and the nesting of conditional parts; the lexer drives it.

    #!define NAME [value]   #!trydef   #!redefine   #!subst "/regex/text/flags"   #!substdef   #!substdefs
    #!defenv [NAME=]VARIABLE   #!defenvs   #!trydefenv   #!trydefenvs   #!defexp NAME expression   #!defexps
    #!ifdef NAME   #!ifndef NAME   #!ifexp expression   #!else   #!endif

`!!` may stand for `#!`. Defines replace identifiers in code; substitutions work on strings and variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sipwright.errors import ArgumentError
from sipwright.lang.source import Faults, Spot

DIRECTIVES = (
    "define",
    "defenvs",
    "defenv",
    "defexps",
    "defexp",
    "def",
    "trydefenvs",
    "trydefenv",
    "trydefine",
    "trydef",
    "redefine",
    "redef",
    "substdefs",
    "substdef",
    "subst",
    "ifdef",
    "ifndef",
    "ifexp",
    "else",
    "endif",
    "include_file",
    "import_file",
)
# Comments that name the dialect of a script; all are the same one here.
DIALECTS = ("KAMAILIO", "OPENSER", "SER", "MAXCOMPAT", "ALL")

# Kamailio defines its version, so that scripts can tell what they may use; this is the language that we speak.
PREDEFINED = {"KAMAILIO_5": "", "KAMAILIO_5_6": "", "KAMAILIO_VERSION": "5006000", "SIPWRIGHT": ""}

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_DEFINE = re.compile(r"[ \t]*([A-Za-z_]\w*)(?:[ \t]+|\Z|(?=[^\w-]))")
_ESCAPED_LINE_END = re.compile(r"\\\r?\n")


@dataclass(slots=True)
class Substitution:
    """`/regex/text/flags`: what is replaced in strings."""

    pattern: re.Pattern[str]
    replacement: str
    count: int


class Defines:
    """Names that the script or the command line defined, and substitutions. `environment` is what `#!defenv` reads."""

    __slots__ = ("_environment", "substitutions", "values")

    def __init__(self, values: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.values: dict[str, str] = {**PREDEFINED, **(values or {})}
        self.substitutions: list[Substitution] = []
        self._environment = environment or {}

    def define(self, directive: str, text: str) -> None:
        """Take `NAME [value]`, lines joined already. ArgumentError: no name, or one with another value already."""
        match = _DEFINE.match(text)
        if match is None:
            raise ArgumentError(f"#!{directive} needs a name of letters, digits and underscores")
        self._set(directive, match[1], text[match.end() :].strip())

    def define_environment(self, directive: str, text: str) -> None:
        """Take `NAME=VARIABLE` or `VARIABLE` of `#!defenv`, or of `#!defenvs`, with quotes. ArgumentError: not set."""
        name, equals, variable = text.strip().partition("=")
        name, variable = name.strip(), (variable if equals else name).strip()
        if _NAME.fullmatch(name) is None or not variable:
            raise ArgumentError(f"#!{directive} is written #!{directive} NAME=VARIABLE, or with the VARIABLE alone")
        value = self._environment.get(variable)
        if value is not None:
            self._set(directive, name, quoted(value) if directive.endswith("s") else value)
        elif not directive.startswith("try"):
            raise ArgumentError(f"the environment has no variable {variable}; #!trydefenv leaves {name} undefined then")

    def define_module(self, name: str) -> None:
        """Define `MOD_name` for a module that the script loads."""
        short = name.rpartition("/")[2].removesuffix(".so")
        self.values.setdefault(f"MOD_{short.replace('-', '_')}", "1")

    def _set(self, directive: str, name: str, value: str) -> None:
        if name in self.values:
            if directive.startswith("try") or self.values[name] == value:
                return
            if not directive.startswith("redef"):
                raise ArgumentError(f"'{name}' is defined already; #!redefine changes it")
        self.values[name] = value

    def substitute(self, directive: str, text: str) -> None:
        """Take the string of `#!subst`, `#!substdef` (defines the text too) or `#!substdefs` (in quotes)."""
        delimiter = text[:1]
        parts = text[1:].split(delimiter) if delimiter else []
        if len(parts) != 3 or not parts[0]:
            raise ArgumentError(f'#!{directive} is written "/regular expression/text/flags", with any first character')
        source, replacement, flags = parts
        if directive != "subst":
            self.values[source] = f'"{replacement}"' if directive == "substdefs" else replacement
        try:
            pattern = re.compile(source, re.IGNORECASE if "i" in flags else 0)
        except re.error as error:
            raise ArgumentError(f"bad regular expression: {error.msg}") from None
        self.substitutions.append(Substitution(pattern, replacement, 0 if "g" in flags else 1))

    def apply(self, text: str) -> str:
        """Return a string of the script after all substitutions."""
        for substitution in self.substitutions:
            text = substitution.pattern.sub(lambda _m, s=substitution: s.replacement, text, substitution.count)  # type: ignore[misc]
        return text


@dataclass(slots=True)
class _Condition:
    at: Spot
    directive: str
    active: bool
    taken: bool
    has_else: bool = False


def quoted(value: str) -> str:
    """Return a text as a string of the script."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class Conditions:
    """The open `#!ifdef`s of one file. `active` tells whether text is wanted here."""

    __slots__ = ("_faults", "_stack", "active")

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._stack: list[_Condition] = []
        self.active = True

    def open(self, at: Spot, directive: str, holds: bool) -> None:
        """Begin a conditional part."""
        self._stack.append(_Condition(at, directive, holds and self.active, holds))
        self.active = self.active and holds

    def otherwise(self, at: Spot) -> None:
        """Take `#!else`."""
        if not self._stack:
            self._faults.add(at, "#!else without #!ifdef")
            return
        condition = self._stack[-1]
        if condition.has_else:
            self._faults.add(at, f"a second #!else for the #!{condition.directive} of line {condition.at.line}")
            return
        condition.has_else = True
        condition.active = not condition.taken
        self.active = all(outer.active for outer in self._stack)

    def close(self, at: Spot) -> None:
        """Take `#!endif`."""
        if not self._stack:
            self._faults.add(at, "#!endif without #!ifdef")
            return
        self._stack.pop()
        self.active = all(outer.active for outer in self._stack)

    def finish(self) -> None:
        """Note every part that was not closed when the file ended."""
        for condition in self._stack:
            self._faults.add(condition.at, f"#!{condition.directive} without #!endif")


def directive_line(text: str, start: int) -> tuple[str, int]:
    """Return the rest of a directive's line, continued lines joined, and the offset after it."""
    at = start
    while True:
        end = text.find("\n", at)
        if end < 0:
            end = len(text)
        if not text[at:end].rstrip("\r").endswith("\\"):
            break
        at = end + 1
    return _ESCAPED_LINE_END.sub("", text[start:end]).rstrip(), end
