from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipwright.testing.fakerpc import FakeRpcServer


@pytest.fixture
def rpc() -> Iterator[FakeRpcServer]:
    with FakeRpcServer() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The command puts the file's folder on the path and the module among the others.
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path / "functions.py"
