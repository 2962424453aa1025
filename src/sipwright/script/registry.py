"""The names that a script can use: owns the loaded modules and answers the compiler's questions (lang.Namespace).

Modules are found by name: ours as `sipwright.modules.NAME`, a third party's through the entry-point group
`sipwright.modules` (the entry names a `Module` subclass). `core` is always loaded.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Literal, cast, get_type_hints

from sipwright.errors import ArgumentError, SipParseError
from sipwright.lang.namespace import (
    FunctionSpec,
    NameClass,
    ParamKind,
    ParamSpec,
    Part,
    Value,
    Variable,
)
from sipwright.lang.runtime import awaited
from sipwright.script.absent import said_of_function, said_of_module
from sipwright.script.kinds import prepare_text
from sipwright.script.module import (
    FunctionDeclaration,
    Module,
    Param,
    PvarDeclaration,
    VariableParam,
    VariableUse,
)
from sipwright.script.services import Services
from sipwright.script.settings import Settings
from sipwright.script.store import Store
from sipwright.sip.uri import parse_uri

BUILTIN = "sipwright.modules"
ALIASES = {"jsonrpc-c": "jsonrpc", "jsonrpcc": "jsonrpc"}

# Kamailio's modules that only serve its own management, or bring it what is built in here (SQLite, for tables on disk):
# scripts load them, nothing in a route needs them.
WITHOUT_EFFECT = frozenset(
    ["cfg_rpc", "corex", "ctl", "db_sqlite", "debugger", "jsonrpcs", "mi_datagram", "mi_fifo", "mi_rpc", "xmlrpc"]
)


class Registry:
    """The modules of one script, and everything they declare."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.modules: dict[str, Module] = {}
        self.notes: list[str] = []
        self._ignored: set[str] = set()
        # Each with what decides whether it suspends, where the parameters of its module do.
        self._functions: dict[str, list[tuple[FunctionSpec, Callable[[FunctionSpec], FunctionSpec] | None]]] = {}
        self._pvars: dict[str, tuple[Module, PvarDeclaration, Callable[..., Any]]] = {}
        self._transforms: dict[str, tuple[Module, Callable[..., Any], tuple[ParamSpec, ...]]] = {}
        self._services: Services | None = None
        self.load_module("core")

    # ---- life of the modules

    def mod_init(self) -> None:
        """Let every module check its configuration. ArgumentError: it makes no sense."""
        for module in self.modules.values():
            for param in params_of(type(module)).values():
                if isinstance(param, VariableParam) and param.name not in module.__dict__:
                    param.bind(module, self._default_variable(param, module.name))
            module.mod_init()

    def child_init(self, services: Services) -> None:
        """Start every module in a worker, in the order of loading."""
        self._services = services
        for module in self.modules.values():
            module.child_init(services)
        for module in self.modules.values():
            module.ready()

    def listens(self) -> list[str]:
        """Return the stream addresses that modules want to accept on, each once."""
        return list(dict.fromkeys(address for module in self.modules.values() for address in module.listens()))

    def leave(self, is_replaced: bool) -> None:
        """Have every module begin nothing new."""
        for module in self.modules.values():
            module.leave(is_replaced)

    async def destroy(self) -> None:
        """Let every module go, in the reverse order of loading."""
        for module in reversed(self.modules.values()):
            await module.destroy()

    def mod_destroy(self, shared_store: Callable[[str], Store]) -> None:
        """Let every module keep what is to outlive the server, in the order of loading.

        `shared_store` gives the stores that the workers shared. The last one of the server's processes calls it, or
        each worker that is left without the others; calling it again does no harm.
        """
        for module in self.modules.values():
            module.mod_destroy(shared_store)

    # ---- lang.Namespace

    def load_module(self, name: str) -> None:
        """Load a module by the name of a `loadmodule` line."""
        short = module_name(name)
        if short in self.modules:
            return
        if short in WITHOUT_EFFECT:
            self._ignored.add(short)
            self.notes.append(f"module {short} has no effect here")
            return
        kind = find_module(short)
        if kind is None:
            said = said_of_module(short)
            if said is not None:
                self._ignored.add(short)
                raise ArgumentError(said)
            raise ArgumentError(f"unknown module '{name}'", suggestion=_closest(short, builtin_module_names()))
        for other in kind.requires:
            if other not in self.modules:
                raise ArgumentError(f"module '{short}' needs module '{other}': load '{other}.so' before it")
        module = kind(self.require)
        self.modules[short] = module
        self._declare(module)

    def require(self, name: str) -> Module:
        """Return a loaded module; what modules call as `self.require("tm")`."""
        return self.modules[name]

    def set_param(self, module: str, name: str, value: int | str) -> None:
        """Set a module's parameter."""
        short = module_name(module)
        loaded = self.modules.get(short)
        if loaded is None:
            if short in self._ignored:
                return
            if find_module(short) is not None:
                raise ArgumentError(
                    f"module '{module}' is not loaded: put loadmodule \"{short}.so\" before its modparam"
                )
            raise ArgumentError(f"unknown module '{module}'", suggestion=_closest(short, self.modules))
        params = params_of(type(loaded))
        param = params.get(name)
        if param is not None:
            param.take(loaded, value)
        elif name in loaded.ignored_params:
            self.notes.append(f'parameter "{name}" of module {short} has no effect here')
        else:
            raise ArgumentError(
                f"module '{short}' has no parameter '{name}'",
                suggestion=_closest(name, [*params, *loaded.ignored_params]),
            )

    def takes_variable(self, module: str, name: str) -> bool:
        """Tell whether a module's parameter names a variable."""
        loaded = self.modules.get(module_name(module))
        return loaded is not None and isinstance(params_of(type(loaded)).get(name), VariableParam)

    def set_param_variable(self, module: str, name: str, variable: Variable) -> None:
        """Set a module's parameter that names a variable."""
        loaded = self.modules[module_name(module)]
        param = params_of(type(loaded))[name]
        assert isinstance(param, VariableParam)
        param.bind(loaded, variable)

    def _default_variable(self, param: VariableParam, module: str) -> Variable:
        name, _, inner = param.default.lstrip("$").rstrip(")").partition("(")
        try:
            return self.variable(param.default, name, [inner], None)
        except ArgumentError as error:
            raise ArgumentError(f"parameter '{param.name}' of module {module}: {error.message}") from None

    def set_global(self, name: str, value: Sequence[int | str]) -> str | None:
        """Set a global parameter: one of the server, or with a dot in its name one of the script's own."""
        if "." not in name or name in self.settings.names():
            return self.settings.set_global(name, value)
        if len(value) != 1 and (len(value) != 3 or value[1] != "desc"):
            raise ArgumentError(f'a global parameter of the script is written {name} = value desc "what it is"')
        core: Any = self.modules["core"]
        core.custom_globals[name] = value[0]
        return None

    def takes_variables(self, name: str) -> bool:
        """Tell whether a global parameter is a text with variables."""
        return name in self.settings.TEXTS

    def set_global_text(self, name: str, parts: Sequence[Part]) -> None:
        """Set a global parameter that is a text with variables."""
        self.settings.set_text(name, parts)

    def functions(self, name: str) -> Sequence[FunctionSpec]:
        """Return the declarations of a function."""
        return [spec if decide is None else decide(spec) for spec, decide in self._functions.get(name, ())]

    def variable(
        self, text: str, name: str, inner: Sequence[Part] | None, index: int | Variable | Literal["*"] | None
    ) -> Variable:
        """Resolve a variable."""
        found = self._pvars.get(name)
        if found is None:
            raise self._unknown("variable", f"${name}", name)
        module, declaration, method = found
        if declaration.factory:
            return cast("Variable", method(VariableUse(text, name, inner, index)))
        if inner is not None:
            raise ArgumentError(f"${name} takes no name in parentheses")
        if index is not None:
            raise ArgumentError(f"${name} takes no index")
        return Variable(text, method, getattr(module, declaration.setter) if declaration.setter else None)

    def transformation(self, cls: str, name: str, params: Sequence[Sequence[Part]]) -> Callable[[Any, Value], Value]:
        """Resolve a transformation."""
        full = f"{cls}.{name}"
        found = self._transforms.get(full)
        if found is None:
            raise self._unknown("transformation", f"{{{full}}}", full)
        _module, method, specs = found
        required = sum(not spec.optional for spec in specs)
        if not required <= len(params) <= len(specs):
            raise ArgumentError(f"{{{full}}} takes {_count(required, len(specs), 'parameter')}, found {len(params)}")
        of_null = getattr(method, "transforms_null", False)
        if not params:
            return lambda _context, value: None if value is None and not of_null else cast("Value", method(value))
        getters = [_parameter(spec.kind, part) for spec, part in zip(specs, params, strict=False)]

        def apply(context: Any, value: Value) -> Value:
            if value is None and not of_null:
                return None
            try:
                return cast("Value", method(value, *[get(context) for get in getters]))
            except ArgumentError as error:
                # Kamailio: a parameter that is wrong at run time is logged, and the value is missing.
                if self._services is not None:
                    self._services.log.error("{%s}: %s", full, error.message)
                return None

        return apply

    def is_myself(self, context: Any, uri: Value) -> bool:  # noqa: ARG002 - the Protocol gives the context
        """Tell whether a URI or an address is this server's."""
        if not isinstance(uri, str) or self._services is None:
            return False
        try:
            parsed = parse_uri(uri)
        except SipParseError:
            return self._services.is_myself(uri, 0)
        return self._services.is_myself(parsed.host, parsed.port or 0)

    def event_routes(self) -> Iterable[str]:
        """Return the event routes that loaded modules may run."""
        return [name for module in self.modules.values() for name in module.event_routes]

    def event_route_note(self, name: str) -> str | None:
        """Say why an event route will not run."""
        for module in self.modules.values():
            if name in module.event_routes and (note := module.event_route_note(name)) is not None:
                return note
        return None

    def names(self, what: NameClass) -> Iterable[str]:
        """Return all known names of a class, those of modules that are not loaded too. Only on the way to an error."""
        if what == "module":
            return builtin_module_names()
        if what == "global":
            return self.settings.names()
        kinds = {type(module) for module in self.modules.values()}
        kinds.update(kind for kind in map(find_module, builtin_module_names()) if kind is not None)
        return sorted(set[str]().union(*(_names_of(kind, what) for kind in kinds)))

    def elsewhere(self, what: NameClass, name: str) -> str | None:
        """Tell which module that is not loaded has a name. Only on the way to an error: it imports them all."""
        for other in builtin_module_names():
            kind = None if other in self.modules else find_module(other)
            if kind is not None and name in _names_of(kind, what):
                return f'it is in module {other}, which is not loaded: loadmodule "{other}.so"'
        return said_of_function(name) if what == "function" else None

    def _unknown(self, what: NameClass, shown: str, name: str) -> ArgumentError:
        """Return the fault of a name that is not loaded: with the module that has it, or else with the closest name."""
        elsewhere = self.elsewhere(what, name)
        if elsewhere is not None:
            return ArgumentError(f"unknown {what} '{shown}': {elsewhere}")
        closest = _closest(name, self.names(what))
        return ArgumentError(
            f"unknown {what} '{shown}'", suggestion=None if closest is None else shown.replace(name, closest)
        )

    # ---- reading declarations

    def _declare(self, module: Module) -> None:
        for declared in declarations(type(module)):
            method = getattr(module, declared.attribute)
            if isinstance(declared.what, FunctionDeclaration):
                what = declared.what
                spec = FunctionSpec(
                    what.name,
                    module.name,
                    method,
                    _param_specs(method, skip=1),
                    what.routes,
                    suspends=what.suspends is True,
                    runs_routes=what.runs_routes,
                    reads=None if what.reads is None else partial(what.reads, module),
                    owner=module,
                )
                decide = partial(_decided, module, what.suspends) if callable(what.suspends) else None
                self._functions.setdefault(what.name, []).append((spec, decide))
            elif isinstance(declared.what, PvarDeclaration):
                for pvar in declared.what.names:
                    self._pvars[pvar] = (module, declared.what, method)
            else:
                self._transforms[declared.what] = (module, method, _param_specs(method, skip=1))


def _decided(module: Module, suspends: Callable[[Module], bool], spec: FunctionSpec) -> FunctionSpec:
    """Return the declaration of a function that suspends if its module says so."""
    return replace(spec, suspends=True, call=awaited(spec.call)) if suspends(module) else spec


class Declared:
    """A method of a module class with what a decorator said of it."""

    __slots__ = ("attribute", "what")

    def __init__(self, attribute: str, what: FunctionDeclaration | PvarDeclaration | str) -> None:
        self.attribute = attribute
        self.what = what


def declarations(kind: type[Module]) -> list[Declared]:
    """Return everything that a module class declares, in the order of the class body."""
    found: list[Declared] = []
    for cls in reversed(kind.__mro__):
        for attribute, method in vars(cls).items():
            found += [Declared(attribute, what) for what in getattr(method, "script_functions", ())]
            for mark in ("script_pvar", "script_transform"):
                if hasattr(method, mark):
                    found.append(Declared(attribute, getattr(method, mark)))
    return found


def params_of(kind: type[Module]) -> dict[str, Param[Any]]:
    """Return the parameters that a module class declares, by name."""
    return {
        param.name: param for cls in reversed(kind.__mro__) for param in vars(cls).values() if isinstance(param, Param)
    }


def module_name(name: str) -> str:
    """Return the short name of what a `loadmodule` line names: without directory, `.so`, and as its main alias."""
    short = name.rsplit("/", 1)[-1].removesuffix(".so")
    return ALIASES.get(short, short)


def find_module(short: str) -> type[Module] | None:
    """Return the class of a module, ours or a third party's; None when there is none of that name."""
    path = f"{BUILTIN}.{short}"
    if short.isidentifier() and importlib.util.find_spec(path) is not None:
        python_module = importlib.import_module(path)
        for value in vars(python_module).values():
            if inspect.isclass(value) and issubclass(value, Module) and value.name == short:
                return value
    for entry in entry_points(group=BUILTIN):
        if entry.name == short:
            return cast("type[Module]", entry.load())
    return None


def builtin_module_names() -> list[str]:
    """Return the names of our own modules."""
    package = importlib.import_module(BUILTIN)
    return [info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_")]


def _names_of(kind: type[Module], what: str) -> set[str]:
    names: set[str] = set()
    for declared in declarations(kind):
        if isinstance(declared.what, FunctionDeclaration):
            if what == "function":
                names.add(declared.what.name)
        elif isinstance(declared.what, PvarDeclaration):
            if what == "variable":
                names.update(declared.what.names)
        elif what == "transformation":
            names.add(declared.what)
    return names


def _param_specs(method: Callable[..., Any], skip: int) -> tuple[ParamSpec, ...]:
    """Read the annotated parameters of a bound method behind its first `skip` ones."""
    hints = get_type_hints(method, include_extras=True)
    specs = []
    for parameter in list(inspect.signature(method).parameters.values())[skip:]:
        kind = _kind_of(hints.get(parameter.name))
        if kind is None:
            raise TypeError(f"{method.__qualname__}: parameter {parameter.name} is not annotated with a kind")
        is_optional = parameter.default is not inspect.Parameter.empty
        specs.append(ParamSpec(parameter.name, kind, is_optional, parameter.kind is parameter.VAR_POSITIONAL))
    return tuple(specs)


def _kind_of(annotation: Any) -> ParamKind | None:
    metadata = getattr(annotation, "__metadata__", ())
    return next((extra for extra in metadata if isinstance(extra, ParamKind)), None)


def _parameter(kind: ParamKind, parts: Sequence[Part]) -> Callable[[Any], object]:
    """Return a function of the context that gives a transformation's parameter."""
    if kind.prepare is not None:
        prepared = kind.prepare(parts)
        return lambda _context: prepared
    convert = kind.convert
    if convert is None:
        raise TypeError(f"a transformation cannot take a parameter of kind {kind.name}")
    if len(parts) == 1 and isinstance(parts[0], Variable):
        get = parts[0].get
        return lambda context: convert(get(context))
    text = prepare_text(parts)
    if all(isinstance(part, str) for part in parts):
        constant = convert("".join(part for part in parts if isinstance(part, str)))
        return lambda _context: constant
    return lambda context: convert(text(context))


def _closest(name: str, names: Iterable[str]) -> str | None:
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def _count(least: int, most: int, noun: str) -> str:
    if least == most:
        return f"{least} {noun}{'s' if least != 1 else ''}"
    return f"{least} to {most} {noun}s"
