"""The unit of systemd: that systemd takes it, and that it starts and reloads what we have."""

from __future__ import annotations

import configparser
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sipwright.cli import main as command
from sipwright.script.settings import Settings
from sipwright.workers import socketfile, supervisor
from tests.scenarios.processes import require_program

UNIT = Path(__file__).parent.parent / "packaging" / "sipwright.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",))
    # Names of options are told apart by case.
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string(UNIT.read_text(encoding="utf-8"))
    return unit["Service"]


def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    analyze = require_program("systemd-analyze")
    # The command has to be there, and it need not be in /usr/bin here.
    there = UNIT.read_text(encoding="utf-8").replace("/usr/bin/sipwright", sys.executable)
    (tmp_path / UNIT.name).write_text(there, encoding="utf-8")
    done = subprocess.run([analyze, "verify", tmp_path / UNIT.name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_its_command_line_is_one_of_ours(service: configparser.SectionProxy) -> None:
    program, *arguments = shlex.split(service["ExecStart"])
    assert Path(program).name == "sipwright"
    options = command._parser(arguments).parse_args(arguments)
    assert options.main.__module__ == "sipwright.cli.run"
    # Without -D there is a supervisor, which is what all the rest is about; the log goes to the journal.
    assert (options.file, options.foreground, options.to_stderr) == ("/etc/sipwright/sipwright.cfg", 0, True)


def test_its_control_socket_is_in_its_own_directory_where_ctl_looks(service: configparser.SectionProxy) -> None:
    arguments = shlex.split(service["ExecStart"])[1:]
    control = Path(command._parser(arguments).parse_args(arguments).control.replace("%t", "/run"))
    assert control.parent == Path("/run") / service["RuntimeDirectory"]
    assert control.parent in list(socketfile._places({}))
    assert socketfile._match_name(control.name)


def test_its_times_leave_the_server_those_that_it_takes(service: configparser.SectionProxy) -> None:
    replaced = supervisor.HUNG_SECONDS + supervisor.STATUS_INTERVAL - supervisor.SILENT_SECONDS
    assert int(service["WatchdogSec"]) > replaced + supervisor.STATUS_INTERVAL
    assert int(service["TimeoutStopSec"]) > Settings().drain_timeout / 1000 + supervisor.GRACE


def test_it_reloads_by_the_signal_and_stops_through_the_supervisor(service: configparser.SectionProxy) -> None:
    assert service["Type"] == "notify"
    assert shlex.split(service["ExecReload"]) == ["/bin/kill", "-HUP", "$MAINPID"]
    # A SIGTERM to every process would do, too, but the SIGKILL that follows must spare nobody.
    assert service["KillMode"] == "mixed"
    assert {"AF_INET", "AF_INET6", "AF_UNIX"} <= set(service["RestrictAddressFamilies"].split())
