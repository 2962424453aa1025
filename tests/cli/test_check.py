from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

GOOD = 'loadmodule "sl.so"\nfork=no\n#!ifdef REASON\nrequest_route { sl_send_reply("200", REASON); }\n#!else\n'
GOOD += 'request_route { sl_send_reply("200", "OK"); }\n#!endif\n'


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "route.cfg"
    path.write_text(GOOD)
    return path


def test_a_good_file_is_ok(command: Command, script: Path) -> None:
    output = command("check", str(script))
    assert (output.status, output.out) == (0, "config file ok\n")
    assert "'fork' has no effect here" in output.err


def test_run_with_c_does_the_same(command: Command, script: Path) -> None:
    assert command("run", "-c", "-f", str(script)) == command("check", str(script))


def test_a_is_a_define(command: Command, script: Path) -> None:
    assert command("check", str(script), "-A", 'REASON="Fine"').status == 0
    assert command("check", str(script), "-A", "REASON=nothing_known(").status == 1


def test_every_error_is_listed_with_its_place(command: Command, script: Path) -> None:
    script.write_text('loadmodule "sl.so"\nrequest_route {\n  sl_send_repl("200", "OK");\n  route(NOWHERE);\n}\n')
    output = command("check", str(script))
    assert (output.status, output.out) == (1, "")
    assert f"{script}:3:3: " in output.err
    assert "did you mean 'sl_send_reply'?" in output.err
    assert f"{script}:4:" in output.err
    assert output.err.endswith("2 errors\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "/nowhere.cfg"], "/nowhere.cfg"),
        (["check", "/"], "Is a directory"),
        (["run"], "no script is named: sipwright run -f FILE"),
        (["run", "-f", "/nowhere.cfg"], "No such file or directory"),
        (["check", "x.cfg", "-A", "1=2"], "-A '1=2' is not NAME or NAME=VALUE"),
    ],
)
def test_a_mistake_is_explained(command: Command, arguments: list[str], message: str) -> None:
    output = command(*arguments)
    assert output.status == 1
    assert message in output.err
