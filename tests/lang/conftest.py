"""A small world to compile scripts for, without modules and SIP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import pytest

from sipwright.errors import ArgumentError, ConfigError, ConfigErrors
from sipwright.lang.compiler import Program, compile_script
from sipwright.lang.namespace import (
    ANY_ROUTE,
    FAILURE_ROUTE,
    READ_VARIABLE,
    ROUTE,
    UPDATED_VARIABLE,
    VARIABLE,
    FunctionSpec,
    NameClass,
    ParamKind,
    ParamSpec,
    Part,
    Route,
    RouteKind,
    Value,
    Variable,
)
from sipwright.lang.regex import compile_regex
from sipwright.lang.source import suggest


class FakeContext:
    """What a script runs on: its variables, and everything that it did."""

    def __init__(self, **readable: Value) -> None:
        self.vars: dict[str, Value] = {}
        self.avps: dict[str, Value] = {}
        self.readable: dict[str, Value] = {"ru": "sip:bob@example.com", "rm": "OPTIONS", "si": "10.1.2.3", **readable}
        self.table: dict[str, Value] = {"a": 1, "b": "text", "c": 3, "1": "one", "text": "b", "R": "DONE"}
        self.did: list[Any] = []
        self.dropped = False
        self.rc = 1
        self.kind = RouteKind.REQUEST


def to_text(value: Value) -> str:
    return "<null>" if value is None else str(value)


def to_int(value: Value) -> int:
    try:
        return int(to_text(value))
    except ValueError:
        raise ArgumentError(f"expected an integer, found {value!r}") from None


def to_json(value: Value) -> str:
    """Convert as a function would that knows where in its argument the fault is."""
    text = to_text(value)
    if "!" in text:
        raise ArgumentError("unexpected '!'", text.index("!"))
    return text


class Lines:
    """A prepared argument: parts that are joined when the function wants to."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)

    def __call__(self, context: FakeContext) -> str:
        return "".join(p if isinstance(p, str) else to_text(p.get(context)) for p in self.parts)


def check_name(owner: str, name: str) -> None:
    """Check as a function would that knows its module's parameters."""
    if name != owner:
        raise ArgumentError(f"there is no {name}", 0, owner)


def named_route(text: str) -> tuple[str, int] | None:
    """Find the route in `...>NAME`."""
    before, mark, name = text.partition(">")
    return (name, len(before) + 1) if mark else None


STR = ParamKind("string", "a string", convert=to_text, textual=True)
INT = ParamKind("integer", "an integer", convert=to_int)
REGEX = ParamKind("regex", "a regular expression", convert=lambda v: compile_regex(to_text(v)), lone_dollar=True)
JSON = ParamKind("json", "JSON", convert=to_json)
LAZY = ParamKind("lazy", "a string", prepare=Lines)
CHECKED = ParamKind("checked", "a name", convert=to_text, check=check_name)
OPTIONS = ParamKind("options", "options", convert=to_text, route=named_route)


def record(name: str, code: int = 1) -> Callable[..., int]:
    def run(context: FakeContext, *arguments: Any) -> int:
        context.did.append((name, *arguments))
        return code

    return run


def log(context: FakeContext, line: str) -> int:
    context.did.append(line)
    return 1


def lazy_log(context: FakeContext, line: Lines) -> int:
    context.did.append(line(context))
    return 1


def is_method(context: FakeContext, methods: str) -> int:
    return 1 if context.readable["rm"] in methods.split("|") else -1


def search(context: FakeContext, pattern: Any) -> int:
    return 1 if pattern.search(str(context.readable["ru"])) else -1


def set_failure_route(context: FakeContext, route: Route | None) -> int:
    context.did.append(("t_on_failure", route.name if route else None))
    return 1 if route else -1


def request(context: FakeContext, method: str, route: Route | None, result: Variable) -> int:
    context.did.append(("request", method, route.name if route else None))
    assert result.set is not None
    result.set(context, f"result of {method}")
    return 0 if route else -1


async def wait(context: FakeContext, line: str) -> int:
    await asyncio.sleep(0)
    context.did.append(f"waited {line}")
    return 1


def code(_context: FakeContext, number: int) -> int:
    return number


def is_set(context: FakeContext, variable: Variable) -> int:
    return 1 if variable.get(context) is not None else -1


def append(context: FakeContext, target: Variable, text: str) -> int:
    assert target.set is not None
    target.set(context, to_text(target.get(context)) + text)
    return 1


def is_loud(_context: FakeContext, level: str, _line: Lines) -> bool:
    return level == "loud"


def level_log(context: FakeContext, level: str, line: Lines) -> int:
    if is_loud(context, level, line):
        context.did.append(line(context))
    return 1


def _spec(name: str, call: Callable[..., Any], *params: ParamKind, **more: Any) -> FunctionSpec:
    optional = more.pop("optional", 0)
    first_optional = len(params) - optional
    named = tuple(ParamSpec(f"{kind.name}{i}", kind, i >= first_optional) for i, kind in enumerate(params))
    return FunctionSpec(name, more.pop("module", "fake"), call, named, **more)


FUNCTIONS = (
    _spec("log", log, STR),
    _spec("lazy_log", lazy_log, LAZY),
    _spec("xlog", lambda context, _level, line: log(context, line), STR, STR),
    _spec("is_method", is_method, STR),
    _spec("search", search, REGEX),
    _spec("reply", record("reply"), INT, STR, optional=1, routes=RouteKind.REQUEST | RouteKind.FAILURE),
    _spec("relay", record("relay"), routes=RouteKind.REQUEST | RouteKind.FAILURE),
    _spec("setflag", record("setflag"), STR, module="core"),
    _spec("send_json", record("send_json"), JSON),
    _spec("t_on_failure", set_failure_route, FAILURE_ROUTE),
    _spec("request", request, STR, ROUTE, VARIABLE),
    _spec("wait", wait, STR, suspends=True),
    _spec("fail", record("fail", -1)),
    _spec("end", record("end", 0)),
    _spec("code", code, INT),
    _spec("is_set", is_set, READ_VARIABLE),
    _spec("append", append, UPDATED_VARIABLE, STR),
    _spec("ask", record("ask"), CHECKED, OPTIONS, owner="service"),
    _spec("level_log", level_log, STR, LAZY, reads=is_loud),
    _spec("run_route", lambda context, route: route.run(context), ROUTE, runs_routes=True),
    _spec("in_event", record("in_event"), routes=RouteKind.EVENT),
    _spec("anywhere", record("anywhere"), routes=ANY_ROUTE),
)


class FakeNamespace:
    """Knows a module `fake`, the functions above and a handful of variables."""

    def __init__(self) -> None:
        self.modules: list[str] = []
        self.params: list[tuple[str, str, int | str]] = []
        self.globals: list[tuple[str, list[int | str]]] = []
        self.texts: dict[str, Lines] = {}
        self.targets: dict[str, Variable] = {}

    def load_module(self, name: str) -> None:
        if name.removesuffix(".so") not in ("fake", "other"):
            raise ArgumentError(f"unknown module '{name}'", suggestion=suggest(name, ["fake", "other"]))
        self.modules.append(name)

    def set_param(self, module: str, name: str, value: int | str) -> None:
        if module not in ("fake", "other"):
            raise ArgumentError(f"unknown module '{module}'", suggestion=suggest(module, ["fake", "other"]))
        if name not in ("servers", "timeout"):
            message = f"module {module} has no parameter '{name}'"
            raise ArgumentError(message, suggestion=suggest(name, ["servers", "timeout"]))
        if isinstance(value, str) and ";" in value:
            raise ArgumentError("unexpected ';'", value.index(";"))
        self.params.append((module, name, value))

    def set_global(self, name: str, value: Sequence[int | str]) -> str | None:
        if name == "childern":
            raise ArgumentError("unknown parameter 'childern'", suggestion="children")
        if name == "children" and not isinstance(value[0], int):
            raise ArgumentError("children is a number")
        self.globals.append((name, list(value)))
        return "mhomed has no effect" if name == "mhomed" else None

    def takes_variable(self, module: str, name: str) -> bool:
        return (module, name) == ("fake", "target")

    def set_param_variable(self, module: str, name: str, variable: Variable) -> None:
        self.targets[name] = variable

    def takes_variables(self, name: str) -> bool:
        return name == "motto"

    def set_global_text(self, name: str, parts: Sequence[Part]) -> None:
        self.texts[name] = Lines(parts)

    def functions(self, name: str) -> Sequence[FunctionSpec]:
        return [spec for spec in FUNCTIONS if spec.name == name]

    def variable(
        self, text: str, name: str, inner: Sequence[Part] | None, index: int | Variable | Literal["*"] | None
    ) -> Variable:
        if name in ("var", "avp"):
            return self._stored(text, name, inner)
        if name in ("near", "far"):
            return self._told(text, name, inner)
        if name == "sel":
            return Variable(text, lambda _c: f"select {(inner or [''])[0]}")
        if name in ("rc", "retcode", "?"):
            return Variable(text, lambda c: c.rc)
        if name == "arg":  # tells how it was written
            parts = "/".join(p if isinstance(p, str) else f"<{p.text}>" for p in inner or ())
            shown = index.text if isinstance(index, Variable) else index
            return Variable(text, lambda c: f"{parts}[{shown}]")
        if name == "said":
            lines = Lines(inner or ())
            return Variable(text, lambda c: f"{lines(c)}[{index.get(c) if isinstance(index, Variable) else index}]")
        if name in ("ru", "rm", "si", "proto", "fu", "sp", "ml", "af", "Ri", "Rp"):
            setter = (lambda c, v: c.readable.__setitem__("ru", v)) if name == "ru" else None
            return Variable(text, lambda c: c.readable.get(name), setter)
        raise ArgumentError(f"unknown variable ${name}", suggestion=suggest(name, ["ru", "rm", "var", "avp"]))

    def _stored(self, text: str, name: str, inner: Sequence[Part] | None) -> Variable:
        if not inner:
            raise ArgumentError(f"${name} needs a name")
        lines = Lines(inner)
        if name == "var":
            return Variable(
                text,
                lambda c: c.vars.get(lines(c), 0),
                lambda c, v: c.vars.__setitem__(lines(c), 0 if v is None else v),
            )
        return Variable(text, lambda c: c.avps.get(lines(c)), lambda c, v: c.avps.__setitem__(lines(c), v))

    # Two variables that tell of each reading and writing; they are alike, but that the far one waits.
    def _told(self, text: str, name: str, inner: Sequence[Part] | None) -> Variable:
        lines = Lines(inner or ())

        def get(context: FakeContext) -> Value:
            key = lines(context)
            context.did.append(f"read {key}")
            return context.table.get(key)

        async def fetch(context: FakeContext) -> Value:
            await asyncio.sleep(0)
            return get(context)

        def put(context: FakeContext, value: Value) -> None:
            key = lines(context)
            context.did.append(f"write {key}")
            context.table[key] = value

        return Variable(text, get, put) if name == "near" else Variable.waiting(text, fetch, put)

    def transformation(self, cls: str, name: str, params: Sequence[Sequence[Part]]) -> Callable[[Any, Value], Value]:
        if (cls, name) == ("s", "len"):
            return lambda _c, v: len(to_text(v)) if v is not None else 0
        if (cls, name) == ("s", "null"):
            return lambda _c, v: v
        if (cls, name) == ("s", "upper"):
            return lambda _c, v: to_text(v).upper()
        if (cls, name) in (("s", "params"), ("re", "subst")):
            joined = [Lines(p) for p in params]
            return lambda c, v: f"{v}:" + "|".join(p(c) for p in joined)
        raise ArgumentError(f"unknown transformation {cls}.{name}", suggestion=suggest(f"{cls}.{name}", ["s.len"]))

    def is_myself(self, context: FakeContext, uri: Value) -> bool:
        return "example.com" in to_text(uri)

    def event_routes(self) -> Iterable[str]:
        return ("fake:start", "tm:local-request")

    def event_route_note(self, name: str) -> str | None:
        return "it is switched off" if name == "tm:local-request" else None

    def elsewhere(self, what: NameClass, name: str) -> str | None:
        return "it is in module other, which is not loaded" if name == "other_function" else None

    def names(self, what: NameClass) -> Iterable[str]:
        if what == "function":
            return [spec.name for spec in FUNCTIONS]
        return {"module": ["fake", "other"], "global": ["children"]}.get(what, [])


class Script:
    """A compiled script, ready to run on fresh contexts."""

    def __init__(self, program: Program, namespace: FakeNamespace) -> None:
        self.program = program
        self.namespace = namespace
        self.reports: list[str] = []
        program.reporter.report = lambda _context, site, message: self.reports.append(f"{site}: {message}")
        self.context = FakeContext()
        self.code = 0

    def run(self, kind: RouteKind = RouteKind.REQUEST, name: str = "", **readable: Value) -> list[Any]:
        """Run a route and return what it did."""
        self.context = FakeContext(**readable)
        route = self.program.routes[kind, name]
        made = route.run(self.context)
        self.code = asyncio.run(made) if route.suspends else made
        return self.context.did


Compile = Callable[..., Script]
Faults = Callable[..., list[ConfigError]]


@pytest.fixture
def script() -> Compile:
    """Compile a script; `files` are what it may include."""

    def make(text: str, *, defines: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> Script:
        namespace = FakeNamespace()
        return Script(compile_script(text, namespace, "test.cfg", defines, _reader(files)), namespace)

    return make


@pytest.fixture
def body(script: Compile) -> Callable[..., list[Any]]:
    """Compile statements as a request route, run it, and return what it did."""

    def run(statements: str, **readable: Value) -> list[Any]:
        return script(f"request_route {{\n{statements}\n}}\n").run(RouteKind.REQUEST, "", **readable)

    return run


@pytest.fixture
def faults() -> Faults:
    """Compile a script that is wrong, and return what is wrong with it."""

    def collect(text: str, *, files: Mapping[str, str] | None = None) -> list[ConfigError]:
        with pytest.raises(ConfigErrors) as caught:
            compile_script(text, FakeNamespace(), "test.cfg", None, _reader(files))
        return caught.value.errors

    return collect


def _reader(files: Mapping[str, str] | None) -> Callable[[str], str]:
    def read(name: str) -> str:
        try:
            return (files or {})[name]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    return read
