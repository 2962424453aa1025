"""What the package offers, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import sipwright.jsonrpc


def test_each_name_is_the_one_that_type_checkers_see() -> None:
    tree = ast.parse(Path(sipwright.jsonrpc.__file__).read_text())
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sipwright.")
        for alias in node.names
    }
    assert sorted(seen) == sipwright.jsonrpc.__all__ == sorted(sipwright.jsonrpc.__all__)
    for name, module in seen.items():
        assert module is not None
        assert getattr(sipwright.jsonrpc, name) is getattr(import_module(module), name)
        assert sipwright.jsonrpc._FILE_OF[name] == module
    assert set(sipwright.jsonrpc.__all__) <= set(dir(sipwright.jsonrpc))


def test_a_name_that_there_is_not_is_told() -> None:
    with pytest.raises(AttributeError, match=r"module 'sipwright\.jsonrpc' has no attribute 'Clientt'"):
        sipwright.jsonrpc.Clientt  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Clientt'"):
        exec("from sipwright.jsonrpc import Clientt")


def test_the_package_alone_imports_nothing_that_is_not_asked_for() -> None:
    program = "import sys, sipwright.jsonrpc; print(sorted({'asyncio', 'msgspec', 'ssl'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
