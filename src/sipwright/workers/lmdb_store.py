"""A store on LMDB: owns what each operation does in which transaction, and what becomes of a full or sick environment.

An item is one entry of the store's table; one that expires has an entry in the store's queue too, ordered by time. As
in a MemoryStore the queue is lazy: an item that is renewed keeps its entry, and moves on when that comes up. Every
change is a write transaction, of which there is one at a time on the whole server: so each is short, and whoever can
look first whether there is anything to do does so without. A process that dies in one leaves the tables as they were.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import blake2b
from itertools import islice
from struct import Struct
from typing import Any, TypeVar

import lmdb

from sipwright.errors import StoreError
from sipwright.script.store import Item
from sipwright.workers.records import (
    Record,
    decode_key,
    decode_record,
    decode_value,
    encode_key,
    encode_record,
    queue_key,
    split_queue_key,
)

logger = logging.getLogger("sipwright")

T = TypeVar("T")

# So many items are changed in one transaction, which takes half a millisecond, so that the others can write in between.
BATCH = 250
COMPLAINT_INTERVAL = 10.0
READER_CHECK_INTERVAL = 5.0
# What a single write that adds something may need, in pages; generous, since all processes do so at once.
PAGES_PER_WRITE = 1000
MAX_UNCHECKED = 1000

# Of a lock: until when it holds, how often it was taken, by which process; the holder's name follows.
_LOCK = Struct(">dIQ")


class Environment:
    """An LMDB environment of this process, with what all its stores share.

    `limit` is how much the stores may keep, in bytes. The environment is larger: to delete something takes room, too,
    because LMDB writes every page that changes to another place.

    A process that died while it read keeps what it read from being used again, until that is noticed; here it is, now
    and then, and when something does not fit.
    """

    __slots__ = (
        "_checked",
        "_complained",
        "_env",
        "_limit",
        "_page_limit",
        "_suppressed",
        "_tables",
        "_unchecked",
        "begin",
        "clock",
        "locks",
        "open_db",
        "pid",
    )

    def __init__(self, env: lmdb.Environment, clock: Callable[[], float], limit: int) -> None:
        self._env = env
        self._limit = limit
        self._page_limit = limit // env.stat()["psize"]
        self._unchecked = 0
        self._complained: float | None = None
        self._suppressed = 0
        self._tables: dict[bytes, Any] = {}
        self._checked = clock()
        self.begin = env.begin
        self.open_db = env.open_db
        self.clock = clock
        self.pid = os.getpid()
        self.locks = env.open_db(b"locks")
        env.reader_check()

    def read(self, table: str, work: Callable[[lmdb.Transaction[bytes]], T]) -> T:
        """Do something on the tables as they are at this moment. StoreError: they cannot be read."""
        try:
            with self.begin() as txn:
                return work(txn)
        except lmdb.Error as error:
            return self.again(table, work, error, write=False)

    def change(self, table: str, work: Callable[[lmdb.Transaction[bytes]], T]) -> T:
        """Change the tables in one step, or not at all where `work` raises. StoreError: it does not fit."""
        try:
            with self.begin(write=True) as txn:
                return work(txn)
        except lmdb.Error as error:
            return self.again(table, work, error, write=True)

    def extend(self, table: str, work: Callable[[lmdb.Transaction[bytes]], T]) -> T:
        """As change(), for what adds something: refused where that would take what deleting needs."""
        if self._unchecked:
            self._unchecked -= 1
        elif not self._has_room():
            raise self._failure(table, f"the memory of all tables is full, {self._limit >> 20} MB (shm_mem_size)")
        return self.change(table, work)

    def again(self, table: str, work: Callable[[lmdb.Transaction[bytes]], T], error: lmdb.Error, *, write: bool) -> T:
        """Do what failed once more if that may help."""
        if self._has_made_way(error):
            try:
                with self.begin(write=write) as txn:
                    return work(txn)
            except lmdb.Error as second:
                error = second
        raise self._failure(table, f"{self._env.path()}: {error}") from error

    def _has_made_way(self, error: lmdb.Error) -> bool:
        if isinstance(error, lmdb.MapResizedError):
            # A worker of another script, with a larger shm_mem_size, has used that.
            self._env.set_mapsize(0)
            return True
        return isinstance(error, (lmdb.MapFullError, lmdb.ReadersFullError)) and self._env.reader_check() > 0

    def tend(self) -> None:
        """Clear the readers that died, now and then."""
        now = self.clock()
        if now - self._checked >= READER_CHECK_INTERVAL:
            self._checked = now
            self._env.reader_check()

    def close(self) -> None:
        """Close it; the stores are of no use any more."""
        self._env.close()

    def _has_room(self) -> bool:
        """Look how much is used, and for how many writes that will do. To look costs 0.5 us while all is well."""
        free = self._page_limit - self._env.info()["last_pgno"]
        if free < PAGES_PER_WRITE:
            # The file is as large as it may be, but most of it may be free again.
            free = self._page_limit - self._used_pages()
        self._unchecked = max(0, min(free // PAGES_PER_WRITE, MAX_UNCHECKED) - 1)
        return free > 0

    def _used_pages(self) -> int:
        with self.begin() as txn:
            names = list(txn.cursor().iternext(keys=True, values=False))
        for name in names:
            if name not in self._tables:
                self._tables[name] = self.open_db(name, create=False)
        with self.begin() as txn:
            found = [self._env.stat(), *[txn.stat(self._tables[name]) for name in names]]
        return sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in found)

    def _failure(self, table: str, what: str) -> StoreError:
        """Return the error, and log it unless there was such a line a moment ago."""
        now = self.clock()
        if self._complained is not None and now - self._complained < COMPLAINT_INTERVAL:
            self._suppressed += 1
        else:
            more = f"; {self._suppressed} more since the last such line" if self._suppressed else ""
            logger.error("%s: nothing was stored or read: %s%s", table, what, more)
            self._complained = now
            self._suppressed = 0
        return StoreError(f"{table}: {what}")


class LmdbStore:
    """The items of one table in an environment; `name` is the same in all processes."""

    __slots__ = ("_begin", "_clock", "_env", "_items", "_name", "_queue")

    def __init__(self, env: Environment, name: str) -> None:
        self._env = env
        self._name = name
        self._items = env.open_db(b"items:" + name.encode())
        self._queue = env.open_db(b"queue:" + name.encode())
        self._begin = env.begin
        self._clock = env.clock

    # ---- one item

    def get(self, key: str) -> Item | None:
        """Return the value of a key."""
        name = encode_key(key)
        try:
            # Not read(): scripts do this all the time.
            with self._begin(self._items) as txn:
                record = txn.get(name)
        except lmdb.Error as error:
            record = self._env.again(self._name, lambda txn: txn.get(name, db=self._items), error, write=False)
        return None if record is None else decode_value(record, self._clock())

    def set(self, key: str, value: Item, ttl: float | None, *, renew: bool) -> None:
        """Store a value."""
        name = encode_key(key)
        self._extend(lambda txn: self._set(txn, name, key, value, ttl, renew=renew))

    def insert(self, key: str, value: Item, ttl: float | None) -> bool:
        """Store a value unless there is one."""
        name = encode_key(key)

        def work(txn: lmdb.Transaction[bytes]) -> bool:
            if self._find_alive(txn, name) is not None:
                return False
            self._set(txn, name, key, value, ttl, renew=True)
            return True

        return self.get(key) is None and self._extend(work)

    def add(self, key: str, amount: int, initial: int | None, ttl: float | None, *, renew: bool) -> int | None:
        """Add to an integer."""
        name = encode_key(key)

        def work(txn: lmdb.Transaction[bytes]) -> int | None:
            found = self._find_alive(txn, name)
            value = initial if found is None else found.value
            if not isinstance(value, int):
                return None
            self._set(txn, name, key, value + amount, ttl, renew=renew)
            return value + amount

        return self._extend(work)

    def delete(self, key: str) -> bool:
        """Delete a key."""
        name = encode_key(key)

        def work(txn: lmdb.Transaction[bytes]) -> bool:
            found = self._find(txn, name)
            if found is None:
                return False
            self._delete(txn, name, found)
            return found.is_alive(self._clock())

        return self._read(lambda txn: self._find(txn, name)) is not None and self._change(work)

    def ttl(self, key: str) -> float | None:
        """Return in how many seconds a key expires."""
        name = encode_key(key)
        found = self._read(lambda txn: self._find_alive(txn, name))
        return None if found is None or found.when is None else found.when - self._clock()

    def expire(self, key: str, ttl: float | None) -> None:
        """Let a key expire in so many seconds, or never."""
        name = encode_key(key)

        def work(txn: lmdb.Transaction[bytes]) -> None:
            found = self._find_alive(txn, name)
            if found is not None:
                self._put(txn, name, found, key, found.value, None if ttl is None else self._clock() + ttl)

        self._extend(work)

    # ---- all items

    def count(self) -> int:
        """Return how many keys there are."""
        now = self._clock()

        def work(txn: lmdb.Transaction[bytes]) -> int:
            entries: int = txn.stat(self._items)["entries"]
            return entries - sum(1 for _, name in self._due(txn, now) if not self._is_alive(txn, name, now))

        return self._read(work)

    def items(self) -> list[tuple[str, Item]]:
        """Return all keys and values."""
        entries = self._entries()
        now = self._clock()
        return [
            (decode_key(name, record), value)
            for name, record in entries
            if (value := decode_value(record, now)) is not None
        ]

    def dump(self) -> list[tuple[str, Item, float | None]]:
        """Return all keys, values and in how many seconds they expire."""
        entries = self._entries()
        now = self._clock()
        return [
            (found.key, found.value, None if found.when is None else found.when - now)
            for name, record in entries
            if (found := decode_record(name, record)).is_alive(now)
        ]

    def load(self, items: Iterable[tuple[str, Item, float | None]]) -> None:
        """Store many values."""

        def work(txn: lmdb.Transaction[bytes], some: list[tuple[str, Item, float | None]]) -> None:
            for key, value, ttl in some:
                self._set(txn, encode_key(key), key, value, ttl, renew=True)

        for batch in _batches(items):
            self._extend(partial(work, some=batch))

    def remove_if(self, test: Callable[[str, Item], bool]) -> int:
        """Delete the items that a test is true of. The others wait for the deleting only, not for the looking."""

        def work(txn: lmdb.Transaction[bytes], keys: list[str]) -> int:
            removed = 0
            for key in keys:
                name = encode_key(key)
                found = self._find_alive(txn, name)
                if found is not None and test(key, found.value):
                    self._delete(txn, name, found)
                    removed += 1
            return removed

        matching = [key for key, value in self.items() if test(key, value)]
        return sum(self._change(partial(work, keys=batch)) for batch in _batches(matching))

    def clear(self) -> None:
        """Delete everything."""

        def work(txn: lmdb.Transaction[bytes]) -> None:
            txn.drop(self._items, delete=False)
            txn.drop(self._queue, delete=False)

        self._change(work)

    def take_expired(self) -> list[tuple[str, Item]]:
        """Delete what has expired."""
        self._env.tend()
        now = self._clock()
        taken: list[tuple[str, Item]] = []
        while self._read(lambda txn: next(self._due(txn, now), None)) is not None:
            try:
                taken += self._change(lambda txn: self._take(txn, now))
            except StoreError:
                # What is taken already is gone from the table.
                if taken:
                    break
                raise
        return taken

    # ---- locks

    def lock(self, key: str, holder: str, seconds: float) -> bool:
        """Take the lock of a key."""
        name = self._lock_name(key)
        mine = holder.encode()
        locks = self._env.locks

        def work(txn: lmdb.Transaction[bytes]) -> bool:
            now = self._clock()
            found = txn.get(name, db=locks)
            if self._is_busy(found, mine, now):
                return False
            count = self._times(found, mine, now)
            txn.put(name, _LOCK.pack(now + seconds, count + 1, self._env.pid) + mine, db=locks)
            return True

        found = self._read(lambda txn: txn.get(name, db=locks))
        return not self._is_busy(found, mine, self._clock()) and self._change(work)

    def unlock(self, key: str, holder: str) -> bool:
        """Give a lock back."""
        name = self._lock_name(key)
        mine = holder.encode()
        locks = self._env.locks

        def work(txn: lmdb.Transaction[bytes]) -> bool:
            found = txn.get(name, db=locks)
            if found is None or not self._is_mine(found, mine):
                return False
            until, count, pid = _LOCK.unpack_from(found)
            if count > 1:
                txn.put(name, _LOCK.pack(until, count - 1, pid) + mine, db=locks)
            else:
                txn.delete(name, db=locks)
            return True

        return self._change(work)

    def _lock_name(self, key: str) -> bytes:
        return blake2b(f"{self._name}\0{key}".encode("utf-8", "surrogatepass"), digest_size=32).digest()

    def _is_mine(self, lock: bytes, mine: bytes) -> bool:
        return _LOCK.unpack_from(lock)[2] == self._env.pid and lock[_LOCK.size :] == mine

    def _times(self, lock: bytes | None, mine: bytes, now: float) -> int:
        """Return how often a lock that can be taken has been taken already."""
        if lock is None or not self._is_mine(lock, mine) or _LOCK.unpack_from(lock)[0] <= now:
            return 0
        count: int = _LOCK.unpack_from(lock)[1]
        return count

    def _is_busy(self, lock: bytes | None, mine: bytes, now: float) -> bool:
        """Tell whether somebody else has a lock, whose time has not passed and who lives."""
        if lock is None or self._is_mine(lock, mine):
            return False
        until, _count, pid = _LOCK.unpack_from(lock)
        return until > now and (pid == self._env.pid or is_running(pid))

    # ---- within a transaction

    def _read(self, work: Callable[[lmdb.Transaction[bytes]], T]) -> T:
        return self._env.read(self._name, work)

    def _change(self, work: Callable[[lmdb.Transaction[bytes]], T]) -> T:
        return self._env.change(self._name, work)

    def _extend(self, work: Callable[[lmdb.Transaction[bytes]], T]) -> T:
        return self._env.extend(self._name, work)

    def _find(self, txn: lmdb.Transaction[bytes], name: bytes) -> Record | None:
        record = txn.get(name, db=self._items)
        return None if record is None else decode_record(name, record)

    def _find_alive(self, txn: lmdb.Transaction[bytes], name: bytes) -> Record | None:
        found = self._find(txn, name)
        return found if found is not None and found.is_alive(self._clock()) else None

    def _is_alive(self, txn: lmdb.Transaction[bytes], name: bytes, now: float) -> bool:
        found = self._find(txn, name)
        return found is not None and found.is_alive(now)

    def _entries(self) -> list[tuple[bytes, bytes]]:
        """Return all encoded keys and records, as they are at one moment."""
        return self._read(lambda txn: list(txn.cursor(self._items)))

    def _set(
        self, txn: lmdb.Transaction[bytes], name: bytes, key: str, value: Item, ttl: float | None, *, renew: bool
    ) -> None:
        found = self._find(txn, name)
        if ttl is None:
            self._put(txn, name, found, key, value, None)
            return
        now = self._clock()
        keeps = not renew and found is not None and found.is_alive(now)
        self._put(txn, name, found, key, value, found.when if keeps and found is not None else now + ttl)

    def _put(
        self, txn: lmdb.Transaction[bytes], name: bytes, found: Record | None, key: str, value: Item, when: float | None
    ) -> None:
        """Store an item in the place of what was found there, and see that the queue has it in time."""
        queued = None if found is None else found.queued
        if when is None or (queued is not None and when < queued):
            self._unqueue(txn, name, queued)
            queued = None
        if when is not None and queued is None:
            queued = when
            txn.put(queue_key(when, name), b"", db=self._queue)
        txn.put(name, encode_record(name, key, value, when, queued), db=self._items)

    def _delete(self, txn: lmdb.Transaction[bytes], name: bytes, found: Record) -> None:
        self._unqueue(txn, name, found.queued)
        txn.delete(name, db=self._items)

    def _unqueue(self, txn: lmdb.Transaction[bytes], name: bytes, queued: float | None) -> None:
        if queued is not None:
            txn.delete(queue_key(queued, name), db=self._queue)

    def _due(self, txn: lmdb.Transaction[bytes], now: float) -> Iterator[tuple[float, bytes]]:
        """Go through the front of the queue: moments that have come, and encoded keys."""
        for key in txn.cursor(self._queue).iternext(keys=True, values=False):
            moment, name = split_queue_key(key)
            if moment > now:
                return
            yield moment, name

    def _take(self, txn: lmdb.Transaction[bytes], now: float) -> list[tuple[str, Item]]:
        """Delete some items that have expired; those that were renewed go back into the queue."""
        taken = []
        for moment, name in list(islice(self._due(txn, now), BATCH)):
            found = self._find(txn, name)
            if found is None or found.when is None:
                self._unqueue(txn, name, moment)
            elif found.is_alive(now):
                self._unqueue(txn, name, moment)
                self._put(txn, name, None, found.key, found.value, found.when)
            else:
                self._delete(txn, name, found)
                taken.append((found.key, found.value))
        return taken


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH)):
        yield batch


def is_running(pid: int) -> bool:
    """Tell whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
