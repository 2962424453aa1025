"""The documentation is true: generated pages are those of the code, names are there, what is shown runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from sipwright.cli.main import COMMANDS, main
from sipwright.engine.eventlog import EVENTS
from sipwright.errors import ConfigErrors
from sipwright.lang.preprocess import DIRECTIVES
from sipwright.script.loader import load_text
from sipwright.script.module import FunctionDeclaration, PvarDeclaration
from sipwright.script.registry import builtin_module_names, declarations, find_module, params_of
from sipwright.script.settings import WITHOUT_EFFECT, Settings
from sipwright.transaction import invite_client, invite_server, noninvite_client, noninvite_server

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What a part of a script on a page stands on.
PRELUDE = """
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "textops.so"
loadmodule "jsonrpc.so"
modparam("jsonrpc", "servers", "localhost:9999,1")
"""
TOP_LEVEL = re.compile(
    r"^(loadmodule|modparam|listen|#!|request_route|route\[|failure_route|event_route)", re.MULTILINE
)


def blocks(language: str) -> list[object]:
    return [
        pytest.param(text, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, (name, text) in enumerate(BLOCK.findall(page.read_text()))
        if name == language
    ]


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["modules.md", "state-machines.md"])
def test_generated_page_is_up_to_date(name: str) -> None:
    page = load_generator().PAGES[name]()
    assert (DOCS / name).read_text() == page, "run: python docs/generate.py"


@pytest.mark.parametrize("name", builtin_module_names())
def test_everything_that_a_module_declares_is_named(name: str) -> None:
    text = (DOCS / "modules.md").read_text()
    section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    kind = find_module(name)
    assert kind is not None
    for param in [*params_of(kind), *kind.ignored_params]:
        assert f"`{param}`" in section
    for declared in declarations(kind):
        if isinstance(declared.what, FunctionDeclaration):
            assert re.search(rf"`{declared.what.name}[(`]", section), declared.what.name
        elif isinstance(declared.what, PvarDeclaration):
            for variable in declared.what.names:
                assert re.search(rf"`\${re.escape(variable)}(\(\.\.\.\))?`", section), variable
        else:
            assert re.search(rf"`\{{{re.escape(declared.what)}[,}}\[]", section), declared.what


@pytest.mark.parametrize("module", [invite_client, invite_server, noninvite_client, noninvite_server])
def test_every_transition_is_drawn(module: ModuleType) -> None:
    drawing = "\n".join(load_generator()._machine(module.TRANSITIONS))
    arrows = len(re.findall("──▶", drawing))
    loops = len(re.findall(r"^│ (?![A-Z]{4})", drawing, re.MULTILINE))
    assert arrows + loops == len(module.TRANSITIONS)


def test_directives_and_global_parameters_are_named() -> None:
    text = (DOCS / "script.md").read_text()
    for directive in DIRECTIVES:
        if directive not in ("def", "redef", "trydefine"):  # other spellings
            assert directive in text
    for name in set(Settings().names()) - WITHOUT_EFFECT:
        assert f"`{name}" in text, name


def test_every_event_of_the_log_is_described() -> None:
    text = (DOCS / "operations.md").read_text()
    for name in EVENTS:
        assert re.search(rf"`([<>] )?{name}( [A-Z]+)?`", text), name


def test_every_command_is_described() -> None:
    text = (DOCS / "command-line.md").read_text()
    for name in COMMANDS:
        assert f"\n## sipwright {name}" in text


def test_check_prints_what_the_page_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.cfg").write_text(
        'loadmodule "tm.so"\n'
        'loadmodule "jsonrpc.so"\n'
        'modparam("jsonrpc", "servers", "localhost:9999,2 backup.server:99999,1")\n'
        "\n"
        "request_route {\n"
        '    if (is_method("ACK")) {\n'
        "        exit;\n"
        "    }\n"
        '    jsonrpc_reqest("get_user", "{\'id\': 1234}", "RESPONSE", "EROR", "$var(result)");\n'
        "}\n"
        'route[RESPONSE] { t_reply("200"); }\n'
        'route[ERROR] { t_reply("404", "Not Found"); }\n'
    )
    assert main(["check", "bad.cfg"]) == 1
    assert f"$ sipwright check bad.cfg\n{capsys.readouterr().err}" in (DOCS / "command-line.md").read_text()


def test_check_of_a_proxy_prints_what_the_page_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("proxy.cfg").write_text(
        'loadmodule "tm.so"\nloadmodule "pv.so"\nloadmodule "rr.so"\nloadmodule "sl.so"\n\n\n\n'
        "request_route {\n"
        "    record_route();\n"
        "    if (!t_relay()) { sl_reply_error(); }\n"
        "    $var(x) = @from.uri;\n"
        "}\n"
    )
    assert main(["check", "proxy.cfg"]) == 1
    assert f"$ sipwright check proxy.cfg\n{capsys.readouterr().err}" in (DOCS / "kamailio.md").read_text()


@pytest.mark.parametrize("text", blocks("kamailio"))
def test_script_is_good(text: str) -> None:
    if not TOP_LEVEL.search(text):
        text = f"request_route {{\n{text}}}\n"
    if "loadmodule" not in text:
        text = PRELUDE + text
    if "request_route" not in text:
        text += "request_route { ; }\n"
    try:
        load_text(text)
    except ConfigErrors as errors:
        pytest.fail(str(errors))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", blocks("python"))
def test_program_runs(text: str) -> None:
    names: dict[str, object] = {"__name__": "docs"}
    exec(compile(text, "docs", "exec"), names)
    for name, function in names.items():
        if name.startswith("test_") and callable(function):
            function()


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        assert f": {page.name}\n" in text
