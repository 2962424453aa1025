"""Where the control socket is, and who may use it."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from sipwright.errors import StartError
from sipwright.workers import socketfile
from sipwright.workers.privileges import Identity
from sipwright.workers.socketfile import SocketFile, default_path, find_sockets, open_control


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing in the places of the machine."""
    (tmp_path / "run").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(socketfile, "RUN", tmp_path / "run")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)


def leave_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_only_its_user_may_use_it_and_it_goes_at_the_end(tmp_path: Path) -> None:
    file = SocketFile(tmp_path / "c.sock", Identity())
    with file.socket:
        assert mode(file.path) == 0o600
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(file.path))
    file.remove()
    assert not file.path.exists()


def test_the_file_of_a_server_that_died_is_replaced_and_that_of_one_that_runs_is_not(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    leave_stale(path)
    first = SocketFile(path, Identity())
    with first.socket, pytest.raises(StartError, match="another server listens there"):
        SocketFile(path, Identity())
    second = SocketFile(path, Identity())
    with second.socket:
        # Not this one's any more.
        first.remove()
        assert path.is_socket()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda d: (d / "file").write_text("x") and d / "file", "no socket"),
        (lambda d: d / "none" / "c.sock", "No such file or directory"),
        (lambda d: d / ("x" * 108), "too long"),
    ],
)
def test_a_place_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path, make: object, said: str) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(StartError, match=said) as caught:
        SocketFile(path, Identity())
    assert str(path) in str(caught.value)


def test_the_default_is_a_file_of_each_server_in_a_private_directory(tmp_path: Path) -> None:
    path = default_path(Identity(), None, {"XDG_RUNTIME_DIR": str(tmp_path / "tmp")})
    assert path.name == f"control-{os.getpid()}.sock"
    if os.geteuid() == 0:
        assert path.parent == tmp_path / "run" / "sipwright-0"
    else:
        assert path.parent == tmp_path / "tmp" / "sipwright"
    assert mode(path.parent) == 0o700


def test_y_and_systemds_directory_come_first(tmp_path: Path) -> None:
    environment = {"RUNTIME_DIRECTORY": f"{tmp_path / 'tmp'}:/elsewhere", "XDG_RUNTIME_DIR": "/nowhere"}
    assert default_path(Identity(), tmp_path, environment).parent == tmp_path
    assert default_path(Identity(), None, environment).parent == tmp_path / "tmp"


def test_what_servers_that_died_have_left_there_is_removed(tmp_path: Path) -> None:
    (tmp_path / "control-dead").touch()
    leave_stale(tmp_path / "control-123.sock")
    leave_stale(tmp_path / "other.sock")
    alive = SocketFile(tmp_path / "control-124.sock", Identity())
    with alive.socket:
        default_path(Identity(), tmp_path, {})
        assert sorted(path.name for path in tmp_path.glob("*.sock")) == ["control-124.sock", "other.sock"]


def test_a_directory_that_others_can_write_to_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = default_path(Identity(), None, {}).parent
    directory.chmod(0o777)
    with pytest.raises(StartError, match="can be written by others"):
        default_path(Identity(), None, {})
    assert open_control("", Identity(), None) is None
    assert f"there is no control interface: the directory {directory}" in caplog.text
    directory.rmdir()
    directory.symlink_to(tmp_path)
    with pytest.raises(StartError, match="is no directory"):
        default_path(Identity(), None, {})


def test_none_opens_nothing_and_a_relative_path_is_in_the_runtime_directory(tmp_path: Path) -> None:
    assert open_control("none", Identity(), None) is None
    file = open_control("c.sock", Identity(), tmp_path)
    assert file is not None
    with file.socket:
        assert file.path == tmp_path / "c.sock"


def test_servers_that_run_are_found_wherever_they_may_be(tmp_path: Path) -> None:
    by_systemd = tmp_path / "run" / "sipwright"
    by_systemd.mkdir()
    by_user = tmp_path / "tmp" / f"sipwright-{os.geteuid()}"
    by_user.mkdir()
    files = [SocketFile(by_systemd / "control.sock", Identity()), SocketFile(by_user / "control-7.sock", Identity())]
    leave_stale(by_user / "control-8.sock")
    leave_stale(by_user / "other.sock")
    with files[0].socket, files[1].socket:
        assert find_sockets({}) == [file.path for file in files]
        assert find_sockets({}, by_user) == [files[1].path]
    assert find_sockets({}) == []
