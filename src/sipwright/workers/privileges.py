"""User, group and pid file of a server: owns what it gives up once its sockets are open."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from sipwright.errors import StartError


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose the server's processes are, as numbers; None: as they were started."""

    uid: int | None = None
    gid: int | None = None
    user_name: str | None = None


def find_identity(user: str | None, group: str | None) -> Identity:
    """Look up a user and a group by name or number; without a group it is the user's own. StartError: unknown."""
    uid: int | None = None
    gid: int | None = None
    name: str | None = None
    if user is not None:
        try:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except KeyError:
            raise StartError(f"there is no user '{user}' on this system") from None
        uid, gid, name = entry.pw_uid, entry.pw_gid, entry.pw_name
    if group is not None:
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise StartError(f"there is no group '{group}' on this system") from None
    return Identity(uid, gid, name)


def become(identity: Identity) -> None:
    """Give up the privileges of the user who started the server. StartError: only root can become somebody else."""
    try:
        if identity.gid is not None and identity.gid != os.getegid():
            os.setgid(identity.gid)
        if identity.uid is not None and identity.uid != os.geteuid():
            assert identity.user_name is not None
            assert identity.gid is not None
            os.initgroups(identity.user_name, identity.gid)
            os.setuid(identity.uid)
    except PermissionError:
        raise StartError("cannot change user or group (-u, -g): only root can") from None


def make_runtime_directory(path: Path, identity: Identity) -> None:
    """Make the directory of a server's files, if it is not there, its user's. StartError: it cannot be made."""
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        if identity.uid is not None and os.geteuid() == 0:
            os.chown(path, identity.uid, -1 if identity.gid is None else identity.gid)
    except OSError as error:
        raise StartError(f"cannot make the runtime directory {path}: {error.strerror}") from None


class PidFile:
    """The file with the process id of the supervisor, which alone writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_written = False

    def write(self, identity: Identity) -> None:
        """Write the process id. StartError: a server of this file runs, or the file cannot be written."""
        pid = self._read()
        if pid is not None and pid != os.getpid() and _is_alive(pid):
            raise StartError(f"the process {pid} of the pid file {self._path} is still running")
        try:
            self._path.write_text(f"{os.getpid()}\n", encoding="ascii")
            if identity.uid is not None and os.geteuid() == 0:
                # So that it can be removed at the end, where the directory lets its user do that.
                os.chown(self._path, identity.uid, -1 if identity.gid is None else identity.gid)
        except OSError as error:
            raise StartError(f"cannot write the pid file {self._path}: {error.strerror}") from None
        self._is_written = True

    def remove(self) -> None:
        """Remove the file, if it is still this server's; empty it where that cannot be."""
        if not self._is_written or self._read() != os.getpid():
            return
        try:
            self._path.unlink()
        except OSError:
            try:
                self._path.write_text("", encoding="ascii")
            except OSError:
                return

    def _read(self) -> int | None:
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        return int(text) if text.isdecimal() and int(text) > 0 else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
