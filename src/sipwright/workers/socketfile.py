"""The socket of the control interface as a file: owns where it is, who may use it, and that it goes at the end.

Whoever can write to the socket commands the server: it has the mode 0600 and belongs to the server's user, and its
directory, where it is made for it, the mode 0700. By default each server has a file of its own, with its process id in
the name, in the first directory of these that there is: `-Y`, `$RUNTIME_DIRECTORY` (of systemd), `/run/sipwright-UID`
when root starts it, `$XDG_RUNTIME_DIR/sipwright`, and `sipwright-UID` in the directory for temporary files; UID is the
number of the server's user. `sipwright ctl` looks in all of them, and in `/run/sipwright`, which is systemd's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from sipwright.errors import StartError
from sipwright.jsonrpc.addresses import MAX_PATH
from sipwright.jsonrpc.sockets import is_listening, remove_stale
from sipwright.workers.privileges import Identity

logger = logging.getLogger("sipwright")

NONE = "none"
RUN = Path("/run")
BACKLOG = 64

_match_name = re.compile(r"control(-\d+)?\.sock").fullmatch


def open_control(path: str, identity: Identity, runtime_directory: Path | None) -> SocketFile | None:
    """Open the control interface's socket: at a path, nowhere for `none`, or for an empty text at the default.

    StartError: it cannot be made where it was asked for. When the default cannot be had, the log says so, and the
    server goes on without.
    """
    if path == NONE:
        return None
    if path:
        place = Path(path)
        return SocketFile(place if place.is_absolute() else (runtime_directory or Path()).absolute() / place, identity)
    try:
        return SocketFile(default_path(identity, runtime_directory, os.environ), identity)
    except StartError as error:
        logger.warning("there is no control interface: %s", error)
        return None


class SocketFile:
    """The socket that a server listens on, and its file."""

    def __init__(self, path: Path, identity: Identity) -> None:
        """Make the socket and listen. StartError: another server does, or it cannot be made."""
        self.path = path
        if len(os.fsencode(path)) > MAX_PATH:
            raise StartError(f"the path of the control socket is too long, {MAX_PATH} bytes at most: {path}")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            remove_stale(path)
            # Nobody else may connect, not even for a moment.
            before = os.umask(0o177)
            try:
                self.socket.bind(str(path))
            finally:
                os.umask(before)
            if identity.uid is not None and os.geteuid() == 0:
                os.chown(path, identity.uid, -1 if identity.gid is None else identity.gid)
            self._made = _identity_of(path)
            self.socket.listen(BACKLOG)
        except OSError as error:
            self.socket.close()
            raise StartError(f"cannot make the control socket {path}: {error.strerror}") from None
        except BaseException:
            self.socket.close()
            raise

    def remove(self) -> None:
        """Remove the file, if it is still this server's. One that cannot be removed is removed by the next server."""
        with contextlib.suppress(OSError):
            if _identity_of(self.path) == self._made:
                self.path.unlink()


def default_path(identity: Identity, runtime_directory: Path | None, environment: Mapping[str, str]) -> Path:
    """Return the file for a server of which nobody has said where, with its directory made.

    Files of servers that have died are removed there. StartError: the directory cannot be used.
    """
    directory, is_ours = _directory(identity, runtime_directory, environment)
    if is_ours:
        _make_private(directory, identity)
    for path in _sockets_in(directory):
        if path.name.startswith("control-") and not is_listening(path):
            with contextlib.suppress(OSError):
                path.unlink()
    return directory / f"control-{os.getpid()}.sock"


def find_sockets(environment: Mapping[str, str], directory: Path | None = None) -> list[Path]:
    """Return the sockets of the servers that run, of those that this process can see; in a directory, or everywhere.

    Those that it may not use are among them.
    """
    places = [directory] if directory is not None else list(_places(environment))
    found = {path: None for place in places for path in _sockets_in(place) if is_listening(path)}
    return list(found)


def _directory(identity: Identity, runtime_directory: Path | None, environment: Mapping[str, str]) -> tuple[Path, bool]:
    """Return where the file is to be, and whether the directory is for us to make."""
    if runtime_directory is not None:
        return runtime_directory.absolute(), False
    by_systemd = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if by_systemd:
        return Path(by_systemd), False
    uid = os.geteuid() if identity.uid is None else identity.uid
    if os.geteuid() == 0 and os.access(RUN, os.W_OK):
        return RUN / f"sipwright-{uid}", True
    by_session = environment.get("XDG_RUNTIME_DIR", "")
    if by_session and os.access(by_session, os.W_OK):
        return Path(by_session) / "sipwright", True
    return Path(tempfile.gettempdir()) / f"sipwright-{uid}", True


def _places(environment: Mapping[str, str]) -> Iterator[Path]:
    by_systemd = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if by_systemd:
        yield Path(by_systemd)
    uid = os.geteuid()
    yield RUN / "sipwright"
    yield RUN / f"sipwright-{uid}"
    if uid == 0:
        # Those that root has started for others.
        yield from sorted(RUN.glob("sipwright-*"))
    by_session = environment.get("XDG_RUNTIME_DIR", "")
    if by_session:
        yield Path(by_session) / "sipwright"
    yield Path(tempfile.gettempdir()) / f"sipwright-{uid}"


def _make_private(directory: Path, identity: Identity) -> None:
    uid = os.geteuid() if identity.uid is None else identity.uid
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise StartError(f"{directory} is no directory")
        if os.geteuid() == 0 and found.st_uid == 0 != uid:
            os.chown(directory, uid, -1 if identity.gid is None else identity.gid)
        elif found.st_uid not in (uid, os.geteuid()) or stat.S_IMODE(found.st_mode) & 0o022:
            # Who can write there could put a socket of his own in the place of ours.
            raise StartError(f"the directory {directory} for the control socket can be written by others")
    except OSError as error:
        raise StartError(f"cannot make the directory {directory} for the control socket: {error.strerror}") from None


def _sockets_in(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if _match_name(path.name) and path.is_socket())
    except OSError:
        # There is none, or it is not for us to see.
        return []


def _identity_of(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    # The number of a file that was removed is that of the next one; the time is that of bind().
    return found.st_dev, found.st_ino, found.st_mtime_ns
