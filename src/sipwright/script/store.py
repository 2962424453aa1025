"""What scripts share: the Store Protocol, keys and values by name, and the stores that are in this process.

A store keeps keys, values (int or str) and when each item expires. Each method is atomic for all who share the store.
`ttl` is in seconds, None for an item that does not expire. What has expired is as if it were not there, but stays until
`take_expired()` takes it out, so that someone can be told.

A store also has locks, by key; they have nothing to do with the items. `holder` names who holds one, unique in its
process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Protocol

Item = int | str


class Store(Protocol):
    """The items of one table. StoreError: it could not be read or written, and is as it was before."""

    def get(self, key: str) -> Item | None:
        """Return the value of a key, None when there is none."""

    def set(self, key: str, value: Item, ttl: float | None, *, renew: bool) -> None:
        """Store a value. Without `renew`, an item that is there keeps the moment when it expires."""

    def insert(self, key: str, value: Item, ttl: float | None) -> bool:
        """Store a value unless there is one, and tell whether it was stored."""

    def add(self, key: str, amount: int, initial: int | None, ttl: float | None, *, renew: bool) -> int | None:
        """Add to an integer and return the sum; None when it is a text, or missing without an initial value."""

    def delete(self, key: str) -> bool:
        """Delete a key, and tell whether it was there."""

    def ttl(self, key: str) -> float | None:
        """Return in how many seconds a key expires, None when it does not or is not there."""

    def expire(self, key: str, ttl: float | None) -> None:
        """Let a key, if it is there, expire in so many seconds, or never."""

    def count(self) -> int:
        """Return how many keys there are, at a cost that does not grow with their number."""

    def items(self) -> list[tuple[str, Item]]:
        """Return all keys and values, a copy."""

    def dump(self) -> list[tuple[str, Item, float | None]]:
        """Return all keys, values and in how many seconds they expire, a copy."""

    def load(self, items: Iterable[tuple[str, Item, float | None]]) -> None:
        """Store many values at once, with their `ttl`."""

    def remove_if(self, test: Callable[[str, Item], bool]) -> int:
        """Delete the items that a test of key and value is true of, and return how many.

        It sees the items as they are at one moment; one that was changed before it is deleted is tested again.
        """

    def clear(self) -> None:
        """Delete everything."""

    def take_expired(self) -> list[tuple[str, Item]]:
        """Delete what has expired and return it. Each item is returned once, to one of those who share the store."""

    def lock(self, key: str, holder: str, seconds: float) -> bool:
        """Take the lock of a key; False when somebody else has it.

        The same holder may take it several times. It is lost `seconds` after it was last taken, and with the process.
        """

    def unlock(self, key: str, holder: str) -> bool:
        """Give a lock back that was taken once; the last time frees it. False: the holder does not have it."""


class MemoryStore:
    """The items of a table in this process. `clock` tells the time in seconds.

    A heap has the keys by the moment when to look at them again. A key is in it once, however often it is set: when
    its time comes and it has been renewed, it goes back into the heap.
    """

    __slots__ = ("_clock", "_items", "_locks", "_queue", "_queued")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._items: dict[str, tuple[Item, float | None]] = {}
        self._queue: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}
        # Of each lock: its holder, how often it was taken, and until when it holds.
        self._locks: dict[str, tuple[str, int, float]] = {}

    def get(self, key: str) -> Item | None:
        """Return the value of a key."""
        found = self._items.get(key)
        if found is None:
            return None
        value, when = found
        return value if when is None or when > self._clock() else None

    def set(self, key: str, value: Item, ttl: float | None, *, renew: bool) -> None:
        """Store a value."""
        if ttl is None:
            self._put(key, value, None)
            return
        now = self._clock()
        when: float | None = now + ttl
        if not renew:
            found = self._items.get(key)
            if found is not None and (found[1] is None or found[1] > now):
                when = found[1]
        self._put(key, value, when)

    def insert(self, key: str, value: Item, ttl: float | None) -> bool:
        """Store a value unless there is one."""
        if self.get(key) is not None:
            return False
        self.set(key, value, ttl, renew=True)
        return True

    def add(self, key: str, amount: int, initial: int | None, ttl: float | None, *, renew: bool) -> int | None:
        """Add to an integer."""
        value = self.get(key)
        if value is None:
            value = initial
        if not isinstance(value, int):
            return None
        self.set(key, value + amount, ttl, renew=renew)
        return value + amount

    def delete(self, key: str) -> bool:
        """Delete a key."""
        was_there = self.get(key) is not None
        if self._items.pop(key, None) is not None:
            self._forget(key)
        return was_there

    def ttl(self, key: str) -> float | None:
        """Return in how many seconds a key expires."""
        found = self._items.get(key)
        if found is None or found[1] is None:
            return None
        left = found[1] - self._clock()
        return left if left > 0 else None

    def expire(self, key: str, ttl: float | None) -> None:
        """Let a key expire in so many seconds, or never."""
        value = self.get(key)
        if value is not None:
            self._put(key, value, None if ttl is None else self._clock() + ttl)

    def count(self) -> int:
        """Return how many keys there are."""
        now = self._clock()
        expired = {key for key in self._due(now) if (when := self._items[key][1]) is not None and when <= now}
        return len(self._items) - len(expired)

    def items(self) -> list[tuple[str, Item]]:
        """Return all keys and values."""
        now = self._clock()
        return [(key, value) for key, (value, when) in self._items.items() if when is None or when > now]

    def dump(self) -> list[tuple[str, Item, float | None]]:
        """Return all keys, values and in how many seconds they expire."""
        now = self._clock()
        return [
            (key, value, None if when is None else when - now)
            for key, (value, when) in self._items.items()
            if when is None or when > now
        ]

    def load(self, items: Iterable[tuple[str, Item, float | None]]) -> None:
        """Store many values."""
        for key, value, ttl in items:
            self.set(key, value, ttl, renew=True)

    def remove_if(self, test: Callable[[str, Item], bool]) -> int:
        """Delete the items that a test is true of."""
        keys = [key for key, value in self.items() if test(key, value)]
        for key in keys:
            self.delete(key)
        return len(keys)

    def clear(self) -> None:
        """Delete everything."""
        self._items.clear()
        self._queue.clear()
        self._queued.clear()

    def take_expired(self) -> list[tuple[str, Item]]:
        """Delete what has expired."""
        now = self._clock()
        expired = []
        while self._queue and self._queue[0][0] <= now:
            when, key = heappop(self._queue)
            if self._queued.get(key) != when:
                continue
            del self._queued[key]
            value, expires = self._items[key]
            if expires is None or expires > now:
                self._look_at(key, expires)
            else:
                del self._items[key]
                expired.append((key, value))
        return expired

    def lock(self, key: str, holder: str, seconds: float) -> bool:
        """Take the lock of a key."""
        now = self._clock()
        found = self._locks.get(key)
        if found is None or found[2] <= now:
            count = 1
        elif found[0] == holder:
            count = found[1] + 1
        else:
            return False
        self._locks[key] = (holder, count, now + seconds)
        return True

    def unlock(self, key: str, holder: str) -> bool:
        """Give a lock back."""
        found = self._locks.get(key)
        if found is None or found[0] != holder:
            return False
        if found[1] > 1:
            self._locks[key] = (holder, found[1] - 1, found[2])
        else:
            del self._locks[key]
        return True

    # ---- when to look at a key again

    def _put(self, key: str, value: Item, when: float | None) -> None:
        self._items[key] = (value, when)
        self._look_at(key, when)

    def _look_at(self, key: str, when: float | None) -> None:
        if when is None:
            self._forget(key)
            return
        queued = self._queued.get(key)
        if queued is None or when < queued:
            self._queued[key] = when
            heappush(self._queue, (when, key))

    def _forget(self, key: str) -> None:
        if self._queued.pop(key, None) is None:
            return
        if len(self._queue) > 2 * len(self._queued) + 64:
            # Keys that were deleted stay in the heap until their time comes, unless most of it is such.
            self._queue = [(when, key) for key, when in self._queued.items()]
            heapify(self._queue)

    def _due(self, now: float) -> Iterator[str]:
        """Go through the front of the heap: the keys whose moment has come."""
        queue = self._queue
        places = [0]
        while places:
            place = places.pop()
            if place < len(queue) and queue[place][0] <= now:
                when, key = queue[place]
                if self._queued.get(key) == when:
                    yield key
                places += (2 * place + 1, 2 * place + 2)


class MemoryStores:
    """Stores by name, in this process: what there is when no other worker shares them."""

    __slots__ = ("_clock", "_stores")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stores: dict[str, MemoryStore] = {}

    def open(self, name: str) -> MemoryStore:
        """Return the store of that name, made when it is first asked for."""
        store = self._stores.get(name)
        if store is None:
            store = self._stores[name] = MemoryStore(self._clock)
        return store
