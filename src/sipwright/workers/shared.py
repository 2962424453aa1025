"""The stores that the workers of a server share, in memory: owns the directory they are in, from its name to its end.

The supervisor names a directory before it forks (`new_store_path`), removes what servers that died have left
(`remove_leftovers`), and removes its own at the end (`remove_store`). It never opens it while there are workers: LMDB
must not be carried over a fork. Each worker opens it when a store is first asked for; the first one makes it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import lmdb

from sipwright.errors import StartError
from sipwright.workers.lmdb_store import Environment, LmdbStore, is_running

logger = logging.getLogger("sipwright")

# Kept in memory, and not on a disk, by Linux.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the names in it are random
# To delete takes room, too.
RESERVE = 32 << 20
MAX_STORES = 200
MAX_READERS = 1000
# Enough for the locks and so many readers of 64 bytes each. Allocated at once: it is mapped for writing, and a page
# that is first touched when the memory is exhausted would kill the process.
LOCK_FILE_SIZE = 128 * 1024

_match_name = re.compile(r"sipwright-(\d+)-[0-9a-f]{16}").fullmatch


class SharedStores:
    """The stores of a server as one process has them open.

    `path` is the directory, `clock` the monotonic clock of the machine, in seconds, `size_limit` what all stores may
    take, in bytes; it is no allocation.
    """

    __slots__ = ("_clock", "_env", "_path", "_size_limit", "_stores")

    def __init__(self, path: Path, clock: Callable[[], float], size_limit: int) -> None:
        self._path = path
        self._clock = clock
        self._size_limit = size_limit
        self._env: Environment | None = None
        self._stores: dict[str, LmdbStore] = {}

    def open(self, name: str) -> LmdbStore:
        """Return the store of that name. StartError: the directory cannot be made or opened, or too many stores."""
        store = self._stores.get(name)
        if store is None:
            if len(self._stores) == MAX_STORES:
                raise StartError(f"there are more than {MAX_STORES} shared tables")
            try:
                if self._env is None:
                    self._env = self._open_environment()
                store = LmdbStore(self._env, name)
            except (OSError, lmdb.Error) as error:
                raise StartError(f"the shared memory {self._path} cannot be used: {error}") from error
            self._stores[name] = store
        return store

    def close(self) -> None:
        """Close what was opened; what is stored stays for the others."""
        self._stores.clear()
        if self._env is not None:
            self._env.close()
            self._env = None

    def _open_environment(self) -> Environment:
        is_new = make_directory(self._path)
        limit = self._limit(is_new)
        with (self._path / "opening").open("w") as guard:
            # One at a time: nobody may see a lock file that is not complete.
            fcntl.flock(guard, fcntl.LOCK_EX)
            _make_lock_file(self._path / "lock.mdb")
            env = lmdb.open(
                str(self._path),
                map_size=limit + RESERVE,
                # What is stored need not outlive the machine.
                sync=False,
                metasync=False,
                # Not writemap, with which memory that is exhausted kills the process instead of being an error.
                writemap=False,
                mode=0o600,
                max_readers=MAX_READERS,
                # Two databases a store, and the locks.
                max_dbs=2 * MAX_STORES + 1,
            )
        return Environment(env, self._clock, limit)

    def _limit(self, is_new: bool) -> int:
        """Return how much may be kept: what was asked for, or as much as is safe where that is more than there is."""
        found = os.statvfs(self._path)
        there = found.f_blocks * found.f_frsize
        if there == 0 or self._size_limit <= there * 3 // 4:
            return self._size_limit
        limit = there * 3 // 4
        if is_new:
            logger.warning(
                "shared tables may take %d MB (shm_mem_size), but %s has only %d MB: they may take %d MB",
                self._size_limit >> 20,
                self._path.parent,
                there >> 20,
                limit >> 20,
            )
        return limit


def new_store_path() -> Path:
    """Return where the stores of a server started by this process are to be. Nothing is made yet."""
    return _places()[0] / f"sipwright-{os.getpid()}-{secrets.token_hex(8)}"


def remove_store(path: Path) -> None:
    """Remove the stores of a server, if they were ever opened. Whoever has them open can still use them."""
    shutil.rmtree(path, ignore_errors=True)


def remove_leftovers() -> list[Path]:
    """Remove the stores of servers of this user that have died, and return which ones.

    Call it as the user that the workers are, so with `-u` once the privileges are dropped.
    """
    left = [path for place in _places() for path in _listed(place) if _is_left_over(path)]
    for path in left:
        remove_store(path)
    return left


def _places() -> list[Path]:
    """Return the directories in which stores can be, the one for new ones first."""
    temporary = Path(tempfile.gettempdir())
    is_usable = temporary != SHARED_MEMORY and os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
    return [SHARED_MEMORY, temporary] if is_usable else [temporary]


def _listed(place: Path) -> list[Path]:
    try:
        return list(place.iterdir())
    except OSError:
        # A directory for temporary files that this user may not read: root's, before `-u`.
        return []


def _is_left_over(path: Path) -> bool:
    match = _match_name(path.name)
    if match is None or is_running(int(match[1])):
        return False
    try:
        found = path.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not _is_open(path / "lock.mdb")
    except OSError:
        # Removed by somebody else meanwhile, or no directory of ours.
        return False


def _is_open(lock_file: Path) -> bool:
    """Tell whether a process has the environment open: a worker whose supervisor died, or one in another container."""
    try:
        with lock_file.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def make_directory(path: Path) -> bool:
    """Make the directory; False when it was there. PermissionError: it is not ours, or open to others."""
    try:
        path.mkdir(mode=0o700)
        return True
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
            raise PermissionError(f"{path} was made by somebody else") from None
        return False


def _make_lock_file(path: Path) -> None:
    """Make the lock file of an environment, all of it allocated. To be called before the process has opened it."""
    if path.exists() and path.stat().st_size >= LOCK_FILE_SIZE:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, LOCK_FILE_SIZE)
    finally:
        os.close(descriptor)
