"""Imports go downward only: the table of docs/architecture.md, held to by walking the imports of every file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
PACKAGE = SRC / "sipwright"

# What may be imported from our own package, by prefix, longest prefix of the importing module first.
L0_OWN = ["sipwright.errors", "sipwright.timerqueue", "sipwright.netstring"]
CORE_RPC = ["addresses", "arguments", "binding", "convert", "deadlines", "dispatch", "framing", "lenient", "limits"]
CORE_RPC += ["messages", "openrpc", "outcome", "peer", "resulttext", "service", "template", "turns", "typed"]
RPC = ["sipwright.jsonrpc"]
CORE_REDIS = ["addresses", "resp", "scripts"]
REDIS = ["sipwright.redis"]
ALLOWED: dict[str, list[str]] = {
    "sipwright": [],
    "sipwright.__main__": ["sipwright.cli"],
    "sipwright.errors": [],
    "sipwright.netstring": ["sipwright.errors"],
    "sipwright.timerqueue": [],
    **{
        f"sipwright.jsonrpc.{core}": ["sipwright.errors", "sipwright.netstring", "sipwright.jsonrpc"]
        for core in CORE_RPC
    },
    "sipwright.jsonrpc": [*L0_OWN, *RPC],
    "sipwright.redis": ["sipwright.errors", "sipwright.redis"],
    "sipwright.sip": ["sipwright.errors", "sipwright.sip"],
    "sipwright.transaction": [*L0_OWN, "sipwright.sip", "sipwright.transaction"],
    "sipwright.lang": ["sipwright.errors", "sipwright.lang"],
    "sipwright.transport": [*L0_OWN, "sipwright.sip", "sipwright.transport"],
    "sipwright.script": [*L0_OWN, "sipwright.sip", "sipwright.transaction", "sipwright.lang", "sipwright.script"],
    # The one part of it that knows JSON-RPC, and only its cores.
    "sipwright.script.rpc": [
        "sipwright.errors",
        "sipwright.jsonrpc.template",
        "sipwright.lang",
        "sipwright.script",
    ],
    "sipwright.modules": [
        *L0_OWN,
        *RPC,
        *REDIS,
        "sipwright.sip",
        "sipwright.transaction",
        "sipwright.lang",
        "sipwright.script",
        "sipwright.modules",
    ],
    "sipwright.engine": [
        *L0_OWN,
        *RPC,
        *REDIS,
        "sipwright.sip",
        "sipwright.transaction",
        "sipwright.lang",
        "sipwright.script",
        "sipwright.transport",
        "sipwright.engine",
    ],
    "sipwright.workers": [
        *L0_OWN,
        *RPC,
        "sipwright.sip",
        "sipwright.transaction",
        "sipwright.lang",
        "sipwright.script",
        "sipwright.transport",
        "sipwright.engine",
        "sipwright.workers",
    ],
    "sipwright.testing": ["sipwright"],
    "sipwright.cli": ["sipwright"],
}
CORES = ["sipwright.errors", "sipwright.netstring", "sipwright.timerqueue", "sipwright.sip", "sipwright.transaction"]
CORES += [f"sipwright.jsonrpc.{core}" for core in CORE_RPC]
CORES += [f"sipwright.redis.{core}" for core in CORE_REDIS]
CORES += ["sipwright.lang"]
NOT_IN_CORES = {"asyncio", "socket", "time", "random", "logging", "threading", "select", "selectors"}
THIRD_PARTY = {"dns", "lmdb", "msgspec"}


def module_of(path: Path) -> str:
    parts = list(path.relative_to(SRC).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


FILES = sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def allowed_for(module: str) -> list[str]:
    matching = [prefix for prefix in ALLOWED if below(module, prefix)]
    return ALLOWED[max(matching, key=len)]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_imports_only_what_its_layer_may(path: Path) -> None:
    module = module_of(path)
    allowed = allowed_for(module)
    for name in imports_of(path):
        if below(name, "sipwright"):
            assert any(below(name, prefix) for prefix in allowed), f"{module} imports {name}"


@pytest.mark.parametrize("path", [f for f in FILES if any(below(module_of(f), c) for c in CORES)], ids=module_of)
def test_a_core_knows_no_loop_socket_clock_chance_or_log(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports_of(path)}
    assert not tops & NOT_IN_CORES


@pytest.mark.parametrize("path", [f for f in FILES if below(module_of(f), "sipwright.modules")], ids=module_of)
def test_a_script_module_asks_for_another_by_require(path: Path) -> None:
    module = module_of(path)
    own = ".".join(module.split(".")[:3])
    for name in imports_of(path):
        if below(name, "sipwright.modules"):
            assert below(name, own), f"{module} imports {name}"


@pytest.mark.parametrize(("package", "cores"), [("jsonrpc", CORE_RPC), ("redis", CORE_REDIS)])
def test_cores_of_a_package_do_not_import_its_asyncio_files(package: str, cores: list[str]) -> None:
    for core in cores:
        path = PACKAGE / package / f"{core}.py"
        for name in imports_of(path):
            if below(name, f"sipwright.{package}"):
                assert name.split(".")[2] in cores, f"{core} imports {name}"


def test_the_library_imports_nothing_but_the_declared_dependencies() -> None:
    import sys

    for path in FILES:
        for name in imports_of(path):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or top in THIRD_PARTY or top == "sipwright", f"{path}: {name}"
