from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import sipwright
from sipwright.cli.main import COMMANDS

Command = Callable[..., Any]


def test_version_is_that_of_the_package(command: Command) -> None:
    assert command("--version").out == f"sipwright {sipwright.__version__}\n"


def test_no_command_is_a_usage_message_and_status_2(command: Command) -> None:
    output = command()
    assert output.status == 2
    assert output.err.startswith("usage: sipwright")


def test_help_lists_every_command(command: Command) -> None:
    output = command("-h")
    assert output.status == 0
    for name in COMMANDS:
        assert f"    {name} " in output.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(command: Command, name: str) -> None:
    output = command(name, "-h")
    assert output.status == 0
    assert output.out.startswith(f"usage: sipwright {name}")


def test_it_runs_as_a_module_too() -> None:
    done = subprocess.run([sys.executable, "-m", "sipwright", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"sipwright {sipwright.__version__}\n"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "sipwright", "check", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
