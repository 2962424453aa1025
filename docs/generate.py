"""Writes the pages that are made from the code: modules.md and state-machines.md.

    python docs/generate.py            # write them
    python docs/generate.py --check    # exit 1 when what is there is not what would be written

`make docs` writes them, and tests/test_docs.py holds the committed pages to the code. What a page says is in the
declarations: names, annotations, docstrings and `doc` texts of the modules, TRANSITIONS of the transaction machines.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import ANY_ROUTE, FunctionSpec, ParamKind, ParamSpec, RouteKind
from sipwright.script.module import FunctionDeclaration, Module, Param, PvarDeclaration, VariableParam
from sipwright.script.registry import (
    ALIASES,
    WITHOUT_EFFECT,
    Declared,
    Registry,
    builtin_module_names,
    declarations,
    find_module,
    params_of,
)
from sipwright.script.settings import Settings
from sipwright.transaction import invite_client, invite_server, noninvite_client, noninvite_server
from sipwright.transaction.state import State, Transition

HERE = Path(__file__).resolve().parent
WRITTEN_BY = "<!-- Written by docs/generate.py from the code: change what it says there, then run `make docs`. -->\n"

# Loaded before those that need them.
FIRST = ("core", "pv", "tm")


# ---- modules.md


def modules_page() -> str:
    """Return the reference of all modules."""
    names = [*FIRST, *(name for name in builtin_module_names() if name not in FIRST)]
    registry = Registry(Settings())
    for name in names:
        registry.load_module(name)
    registry.set_param("htable", "htable", "a=>size=4;autoexpire=10")  # so that a variable can be tried
    kinds = {name: kind for name in names if (kind := find_module(name)) is not None}
    lines = [WRITTEN_BY, *MODULES_INTRO.splitlines(), ""]
    for name, kind in kinds.items():
        lines += _module(name, kind, registry)
    lines += ["## Modules without an effect", ""]
    lines += [
        "These modules of Kamailio serve its own management, or bring it what is built in here (SQLite). `loadmodule`",
        f"takes them, with a note, and `modparam` takes their parameters: {_list(sorted(WITHOUT_EFFECT))}.",
        "",
    ]
    return "\n".join(lines)


MODULES_INTRO = """\
# Modules

What each module brings to scripts. `loadmodule "tm.so"` loads a module; the directory and the `.so` do not matter.
`core` needs no loading.

How to read it: an argument in brackets may be left out. A function gives a number: below 0 is false, above 0 is true,
and 0 ends the script. Unless something else is said, it gives 1 when what its description says was done or is so,
and -1 when not, and may be called in every kind of route. What a module of Kamailio has and is not listed here does
not exist: a script that uses it is refused when it is loaded.

Every argument may contain variables, unless it is written otherwise. Names of routes that are written out are checked
when the script is loaded.
"""


def _module(name: str, kind: type[Module], registry: Registry) -> list[str]:
    lines = [f"## {name}", "", *_about(kind)]
    other_names = [alias for alias, target in ALIASES.items() if target == name]
    if other_names:
        lines += [f"Also loaded as {_list(other_names)}.", ""]
    if kind.requires:
        lines += [f"Needs {_list(kind.requires)} to be loaded before it.", ""]
    if kind.event_routes:
        lines += [f"Event routes that a script may have: {_list(kind.event_routes)}.", ""]
    lines += _params(kind)
    declared = declarations(kind)
    lines += _functions(name, [d for d in declared if isinstance(d.what, FunctionDeclaration)], kind, registry)
    lines += _variables(name, [d for d in declared if isinstance(d.what, PvarDeclaration)], kind, registry)
    lines += _transformations(name, [d for d in declared if isinstance(d.what, str)], kind)
    return lines


def _about(kind: type[Module]) -> list[str]:
    """Return what the docstrings of file and class say to those who write scripts."""
    text = re.sub(r"^Module [\w-]+: (\w)", lambda match: match[1].upper(), _file_text(kind.__module__))
    more = _text(kind.__doc__)
    return [text, "", *([more, ""] if len(more.split()) > MERE_TITLE and more not in text else [])]


# A docstring of no more words than this only names the class.
MERE_TITLE = 6
_ABOUT_THE_CODE = re.compile(r"\bfile\b|\.py\b|`sipwright\.|`_|\bContext\b")


def _file_text(module: str) -> str:
    """Return the docstring of a file without the sentences that are about the code."""
    paragraphs = _text(inspect.getdoc(sys.modules[module])).split("\n\n")
    kept = [
        paragraph
        if paragraph.startswith("    ")
        else " ".join(s for s in _sentences(paragraph) if not _ABOUT_THE_CODE.search(s))
        for paragraph in paragraphs
    ]
    return "\n\n".join(paragraph for paragraph in kept if paragraph)


def _sentences(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.:]) (?=[A-Z`$])", paragraph)


def _params(kind: type[Module]) -> list[str]:
    params = params_of(kind)
    lines: list[str] = []
    if params:
        lines += [f"### Parameters of {kind.name}", ""]
        lines += ["| parameter | type | default | meaning |", "|---|---|---|---|"]
        for param in params.values():
            about = _cell(_sentence(param.doc))
            lines.append(f"| `{param.name}` | {_param_type(param)} | {_default(param)} | {about} |")
        lines.append("")
    if kind.ignored_params:
        lines += [f"Accepted without an effect: {_list(sorted(kind.ignored_params))}.", ""]
    return lines


def _param_type(param: Param[Any]) -> str:
    if param.choices:
        return " or ".join(f"`{choice}`" for choice in param.choices)
    if isinstance(param, VariableParam):
        return "variable"
    name = "integer" if param.kind is int else "string"
    if param.minimum is not None and param.maximum is not None:
        return f"{name}, {param.minimum} to {param.maximum}"
    return name if param.minimum is None else f"{name}, at least {param.minimum}"


def _default(param: Param[Any]) -> str:
    return "" if param.default == "" else f"`{param.default}`"


def _functions(module: str, declared: Sequence[Declared], kind: type[Module], registry: Registry) -> list[str]:
    if not declared:
        return []
    lines = [f"### Functions of {module}", ""]
    grouped: dict[str, list[str]] = {}
    for one in declared:
        grouped.setdefault(one.attribute, []).append(one.what.name)  # type: ignore[union-attr]
    for attribute, names in grouped.items():
        spec = next(spec for spec in registry.functions(names[0]) if spec.call.__name__ == attribute)
        lines += _function(spec, sorted(names, key=lambda name: name != attribute), getattr(kind, attribute))
    return lines


def _function(spec: FunctionSpec, names: Sequence[str], method: Any) -> list[str]:
    lines = [f"#### `{names[0]}({_signature(spec)})`", "", _text(method.__doc__), ""]
    if len(names) > 1:
        lines += [f"Other names: {_list(names[1:])}.", ""]
    for param in spec.params:
        lines.append(f"- `{param.name}`: {param.kind.expects}{_how_often(param)}")
    if spec.params:
        lines.append("")
    if spec.suspends:
        lines += ["Waits in place: the route is suspended here and goes on with the next statement.", ""]
    if spec.routes != ANY_ROUTE:
        lines += [f"Only in {_routes(spec.routes)}.", ""]
    return lines


def _how_often(param: ParamSpec) -> str:
    return ", one or more" if param.repeats else ", optional" if param.optional else ""


def _signature(spec: FunctionSpec) -> str:
    text = ", ".join(f"{param.name}{', ...' if param.repeats else ''}" for param in spec.params if not param.optional)
    optional = [param.name for param in spec.params if param.optional]
    for name in optional:
        text += f"[, {name}" if text else f"[{name}"
    return text + "]" * len(optional)


_ROUTE_WORDS = {
    RouteKind.REQUEST: "request routes",
    RouteKind.FAILURE: "failure routes",
    RouteKind.ONREPLY: "onreply routes",
    RouteKind.BRANCH: "branch routes",
    RouteKind.ONSEND: "onsend_route",
    RouteKind.EVENT: "event routes",
}


def _routes(routes: RouteKind) -> str:
    words = [word for kind, word in _ROUTE_WORDS.items() if kind in routes]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _variables(module: str, declared: Sequence[Declared], kind: type[Module], registry: Registry) -> list[str]:
    lines = [f"### Variables of {module}", ""] if declared else []
    for title, part in _parts(declared, kind):
        lines += [*title, "| variable | writable | meaning |", "|---|---|---|"]
        for one in part:
            what = one.what
            assert isinstance(what, PvarDeclaration)
            names = ", ".join(f"`${name}{'(...)' if what.factory else ''}`" for name in what.names)
            writable = _is_writable(what.names[0], registry) if what.factory else what.setter is not None
            about = _cell(_text(getattr(kind, one.attribute).__doc__))
            lines.append(f"| {names} | {'yes' if writable else 'no'} | {about} |")
        lines.append("")
    return lines


# What may stand in the parentheses of variables: for each of them something fits.
_SAMPLES = (
    *("x", "a=>b", "a=>value", "a=>^x", "a=>==x", "key", "s"),
    *("hour", "full", "min", "id_index", "status", "rpl_str", "from.uri"),
)


def _is_writable(name: str, registry: Registry) -> bool:
    """Tell whether some use of a variable can be assigned to, by trying."""
    stack = registry.variable("$avp(x)", "avp", ["x"], None)
    made = []
    for inner in (None, *([sample] for sample in _SAMPLES), [stack]):
        with contextlib.suppress(ArgumentError):
            made.append(registry.variable(f"${name}", name, inner, None))
    assert made, f"no sample fits ${name}(...): add one to _SAMPLES"
    return any(variable.set is not None for variable in made)


def _transformations(module: str, declared: Sequence[Declared], kind: type[Module]) -> list[str]:
    lines = [f"### Transformations of {module}", ""] if declared else []
    for title, part in _parts(declared, kind):
        lines += [*title, "| transformation | gives |", "|---|---|"]
        for one in part:
            method = getattr(kind, one.attribute)
            lines.append(f"| `{{{one.what}{_transform_params(method)}}}` | {_cell(_text(method.__doc__))} |")
        lines.append("")
    return lines


def _transform_params(method: Any) -> str:
    hints = get_type_hints(method, include_extras=True)
    text = ""
    for parameter in inspect.signature(method).parameters.values():
        if any(isinstance(extra, ParamKind) for extra in getattr(hints.get(parameter.name), "__metadata__", ())):
            optional = parameter.default is not inspect.Parameter.empty
            text += f"[,{parameter.name}]" if optional else f",{parameter.name}"
    return text


def _parts(declared: Sequence[Declared], kind: type[Module]) -> Iterable[tuple[list[str], list[Declared]]]:
    """Group declarations by the file that has them, in the order of the bases, with a title for other files."""
    grouped: dict[str, list[Declared]] = {}
    for owner in kind.__mro__:
        part = [one for one in declared if one.attribute in vars(owner)]
        if part:
            grouped.setdefault(owner.__module__, []).extend(part)
    for module, part in grouped.items():
        yield ([_file_text(module), ""] if module != kind.__module__ else []), part


# ---- state-machines.md


MACHINES_INTRO = """\
# Transaction machines

The state machines of RFC 3261 section 17, as RFC 6026 mends them. Each is one class without I/O in
`src/sipwright/transaction/`, with a table TRANSITIONS beside it; the pictures are drawn from those tables, and a test
(`tests/transaction/test_transitions.py`) holds the code to them.

An arrow has the method that takes the event, with the class of the response where there is one. After the slash stands
what is sent: `new` what the event brings, `last` what was sent before, `100` a 100 Trying, `ACK` the ACK. What does not
stand in a box or at an arrow changes nothing and sends nothing in that state.

Timers have the letters of RFC 3261 and RFC 6026. Their delays follow from T1, T2 and T4
(`src/sipwright/transaction/timers.py`); module `tm` sets them (`retr_timer1`, `retr_timer2`, `wt_timer`).
"""

MACHINES = (
    ("INVITE server transaction", invite_server),
    ("Non-INVITE server transaction", noninvite_server),
    ("INVITE client transaction", invite_client),
    ("Non-INVITE client transaction", noninvite_client),
)


def machines_page() -> str:
    """Return the diagrams of the transaction machines."""
    lines = [WRITTEN_BY, *MACHINES_INTRO.splitlines(), ""]
    for title, module in MACHINES:
        first = _text(inspect.getdoc(module)).partition("\n")[0]
        file = f"{module.__name__.replace('.', '/')}.py"
        lines += [f"## {title}", "", first, "", f"In `src/{file}`:", ""]
        lines += ["```text", *_machine(module.TRANSITIONS), "```", ""]
    lines += [MACHINES_END]
    return "\n".join(lines)


MACHINES_END = """\
The client machines are used by `sipwright send` and the demonstration; the server relays nothing, so it has no client
transactions of its own.
"""


def _machine(transitions: Sequence[Transition]) -> list[str]:
    """Draw the states one below the other, each a box with what does not change it, then its arrows."""
    states = list(dict.fromkeys(state for t in transitions for state in (t.state, t.next)))
    states.sort(key=list(State).index)
    lines: list[str] = []
    for state in states:
        stays = [_label(t) for t in transitions if t.state is state and t.next is state]
        leaves = [t for t in transitions if t.state is state and t.next is not state]
        width = max(len(text) for text in (state.value, *stays))
        lines += [f"┌─{'─' * width}─┐", f"│ {state.value.upper():{width}} │"]
        lines += [f"│ {text:{width}} │" for text in stays]
        lines.append(f"└─{('┬' if leaves else '─') + '─' * (width - 1)}─┘")
        longest = max((len(_label(t)) for t in leaves), default=0)
        for number, one in enumerate(leaves, 1):
            corner = "├" if number < len(leaves) else "└"
            lines.append(f"  {corner}─ {_label(one)} {'─' * (longest - len(_label(one)))}──▶ {one.next.value}")
        lines.append("")
    return lines[:-1]


def _label(transition: Transition) -> str:
    event = transition.event.replace("timer_", "Timer ").replace("Timer 100", "timer of the 100")
    event = re.sub(r"Timer ([a-z])$", lambda match: f"Timer {match[1].upper()}", event)
    return f"{event} / {transition.sends}" if transition.sends else event


# ---- texts


def _text(doc: str | None) -> str:
    """Return a docstring with each paragraph on one line; indented ones are code and stay as they are."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(doc or ""))
    return "\n\n".join(
        paragraph if paragraph.startswith("    ") else " ".join(line.strip() for line in paragraph.splitlines())
        for paragraph in paragraphs
    )


def _cell(text: str) -> str:
    return text.replace("\n\n", " ").replace("|", "\\|")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." if text and text[-1] != "." else text


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


PAGES = {"modules.md": modules_page, "state-machines.md": machines_page}


def main(arguments: Sequence[str]) -> int:
    """Write or check all pages."""
    stale = []
    for name, make in PAGES.items():
        path = HERE / name
        text = make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
    if "--check" in arguments and stale:
        sys.stderr.write(f"not up to date, run python docs/generate.py: {', '.join(stale)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
