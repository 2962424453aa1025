from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sipwright.cli.demo import SCRIPT

EXAMPLE = Path(__file__).parents[2] / "examples" / "manual.cfg"


def run_demo(**environment: str) -> tuple[str, float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "sipwright", "demo"],
        capture_output=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode(), time.monotonic() - began


@pytest.mark.scenario
def test_demo_draws_the_four_requests_and_ends_by_itself() -> None:
    text, seconds = run_demo()
    assert seconds < 10
    assert "\x1b" not in text
    answered, error, timeout, killed = re.split(r"^\d\. ", text, flags=re.MULTILINE)[1:]
    for ladder in (answered, killed):
        assert "resumed in route[RESPONSE]" in ladder
        assert "◀ 200 OK ─" in ladder
    for ladder in (error, timeout):
        assert "resumed in route[ERROR]" in ladder
    assert "◀ 404 No Such User ─" in error
    assert "◀ 504 No Answer In Time ─" in timeout
    assert re.search(r"5\d\d\.\d ms .* resumed", timeout)
    assert killed.count('get_user {"id":1234}') == 2
    assert "killed (SIGKILL)" in killed
    for ladder in (answered, error, timeout, killed):
        assert ladder.count("notify update_user") == 1
        assert ladder.count("suspended: ") == 1
    assert "4 transactions were suspended and 4 resumed, 0 still wait." in text


@pytest.mark.scenario
def test_demo_is_plain_ascii_where_the_terminal_knows_no_more() -> None:
    text, _ = run_demo(PYTHONIOENCODING="ascii")
    assert text.isascii()
    assert "< 200 OK ---" in text


def test_the_script_of_the_demonstration_is_the_example() -> None:
    assert SCRIPT.read_bytes() == EXAMPLE.read_bytes()
