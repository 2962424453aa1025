"""What scripts share: the Store Protocol, keys and values by name, and the stores that are in this process.

A store keeps keys, values (int or str) and when each item expires. Each method is atomic for all who share the store.
`ttl` is in seconds, None for an item that does not expire. What has expired is as if it were not there, but stays until
`take_expired()` takes it out, so that someone can be told.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

Item = int | str


class Store(Protocol):
    """The items of one table."""

    def get(self, key: str) -> Item | None:
        """Return the value of a key, None when there is none."""

    def set(self, key: str, value: Item, ttl: float | None, *, renew: bool) -> None:
        """Store a value. Without `renew`, an item that is there keeps the moment when it expires."""

    def insert(self, key: str, value: Item, ttl: float | None) -> bool:
        """Store a value unless there is one, and tell whether it was stored."""

    def delete(self, key: str) -> bool:
        """Delete a key, and tell whether it was there."""

    def add(self, key: str, amount: int, initial: int | None, ttl: float | None, *, renew: bool) -> int | None:
        """Add to an integer and return the sum; None when it is a text, or missing without an initial value."""

    def ttl(self, key: str) -> float | None:
        """Return in how many seconds a key expires, None when it does not or is not there."""

    def expire(self, key: str, ttl: float) -> None:
        """Let a key, if it is there, expire in so many seconds."""

    def count(self) -> int:
        """Return how many keys there are, at a cost that does not grow with their number."""

    def items(self) -> list[tuple[str, Item]]:
        """Return all keys and values, a copy."""

    def clear(self) -> None:
        """Delete everything."""

    def take_expired(self) -> list[tuple[str, Item]]:
        """Delete what has expired and return it."""


class MemoryStore:
    """The items of a table in this process. `clock` tells the time in seconds.

    A heap has the keys by the moment when to look at them again. A key is in it once, however often it is set: when
    its time comes and it has been renewed, it goes back into the heap.
    """

    __slots__ = ("_clock", "_items", "_queue", "_queued")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._items: dict[str, tuple[Item, float | None]] = {}
        self._queue: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}

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
            self._items[key] = (value, None)
            return
        now = self._clock()
        when: float | None = now + ttl
        if not renew:
            found = self._items.get(key)
            if found is not None and (found[1] is None or found[1] > now):
                when = found[1]
        self._items[key] = (value, when)
        if when is not None:
            self._look_at(key, when)

    def insert(self, key: str, value: Item, ttl: float | None) -> bool:
        """Store a value unless there is one."""
        if self.get(key) is not None:
            return False
        self.set(key, value, ttl, renew=True)
        return True

    def delete(self, key: str) -> bool:
        """Delete a key."""
        was_there = self.get(key) is not None
        self._items.pop(key, None)
        return was_there

    def add(self, key: str, amount: int, initial: int | None, ttl: float | None, *, renew: bool) -> int | None:
        """Add to an integer."""
        value = self.get(key)
        if value is None:
            value = initial
        if not isinstance(value, int):
            return None
        self.set(key, value + amount, ttl, renew=renew)
        return value + amount

    def ttl(self, key: str) -> float | None:
        """Return in how many seconds a key expires."""
        found = self._items.get(key)
        if found is None or found[1] is None:
            return None
        left = found[1] - self._clock()
        return left if left > 0 else None

    def expire(self, key: str, ttl: float) -> None:
        """Let a key expire in so many seconds."""
        value = self.get(key)
        if value is not None:
            when = self._clock() + ttl
            self._items[key] = (value, when)
            self._look_at(key, when)

    def count(self) -> int:
        """Return how many keys there are; those that have expired count until they are taken out."""
        return len(self._items)

    def items(self) -> list[tuple[str, Item]]:
        """Return all keys and values."""
        now = self._clock()
        return [(key, value) for key, (value, when) in self._items.items() if when is None or when > now]

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
            found = self._items.get(key)
            if found is None or found[1] is None:
                continue
            if found[1] > now:
                self._look_at(key, found[1])
            else:
                del self._items[key]
                expired.append((key, found[0]))
        return expired

    def _look_at(self, key: str, when: float) -> None:
        queued = self._queued.get(key)
        if queued is None or when < queued:
            self._queued[key] = when
            heappush(self._queue, (when, key))


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
