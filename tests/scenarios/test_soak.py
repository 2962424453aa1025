"""A minute of the soak: mixed load and faults at random, every transaction answered, and nothing left behind.

It takes its minute, so it runs where CI is set, or with `--soak`. `make soak` runs twenty minutes of it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scenarios.processes import PythonProcess

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"
SECONDS = 60


def test_every_transaction_is_answered_whatever_happens_to_the_server_and_nothing_is_left(
    pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    if not os.environ.get("CI") and not pytestconfig.getoption("--soak"):
        pytest.skip("takes a minute: it runs with --soak, and where CI is set")
    arguments = ("--seconds", str(SECONDS), "--rate", "800")
    with PythonProcess(SOAK, arguments, tmp_path / "soak.log", ready_text="seed ") as soak:
        status = soak.wait(SECONDS + 120.0)
    assert status == 0, soak.log
    assert "all holds" in soak.log
