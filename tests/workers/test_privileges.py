"""User, group and pid file."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from sipwright.errors import StartError
from sipwright.workers.privileges import Identity, PidFile, become, find_identity, make_runtime_directory

ME = pwd.getpwuid(os.getuid())


def test_a_user_is_found_by_name_and_by_number_with_its_group() -> None:
    assert find_identity(ME.pw_name, None) == find_identity(str(ME.pw_uid), None)
    assert find_identity(ME.pw_name, None) == Identity(ME.pw_uid, ME.pw_gid, ME.pw_name)
    assert find_identity(None, "0").gid == 0
    assert find_identity(None, None) == Identity()


def test_an_unknown_user_or_group_is_named() -> None:
    with pytest.raises(StartError, match="there is no user 'nobody-of-that-name' on this system"):
        find_identity("nobody-of-that-name", None)
    with pytest.raises(StartError, match="there is no group 'nobody-of-that-name' on this system"):
        find_identity(None, "nobody-of-that-name")


def test_to_become_who_one_is_needs_no_privilege() -> None:
    become(find_identity(ME.pw_name, None))


@pytest.mark.skipif(os.geteuid() == 0, reason="root can become anybody")
def test_only_root_can_become_somebody_else() -> None:
    with pytest.raises(StartError, match="only root can"):
        become(Identity(0, 0, "root"))


def test_the_pid_file_is_written_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(path)
    file.write(Identity())
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()
    assert not path.exists()


def test_the_runtime_directory_is_made_with_its_parents_and_may_be_there(tmp_path: Path) -> None:
    path = tmp_path / "run" / "sipwright"
    make_runtime_directory(path, Identity())
    make_runtime_directory(path, find_identity(ME.pw_name, None))
    assert path.is_dir()
    assert path.stat().st_uid == ME.pw_uid


def test_a_runtime_directory_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"cannot make the runtime directory .*/file/run: Not a directory"):
        make_runtime_directory(tmp_path / "file" / "run", Identity())


def test_a_pid_file_of_a_running_process_is_an_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{os.getppid()}\n")
    file = PidFile(path)
    with pytest.raises(StartError, match=rf"the process {os.getppid()} of the pid file .* is still running"):
        file.write(Identity())
    file.remove()
    assert path.exists()


@pytest.mark.parametrize("left", ["dead", "", "rubbish", "-5"])
def test_what_a_dead_server_has_left_is_overwritten(tmp_path: Path, left: str) -> None:
    path = tmp_path / "pid"
    if left == "dead":
        with subprocess.Popen(["true"]) as process:
            left = str(process.pid)
    path.write_text(left)
    PidFile(path).write(Identity())
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_pid_file_that_another_server_has_taken_over_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(path)
    file.write(Identity())
    path.write_text("1\n")
    file.remove()
    assert path.exists()


def test_a_pid_file_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot write the pid file .*: No such file or directory"):
        PidFile(tmp_path / "missing" / "pid").write(Identity())
