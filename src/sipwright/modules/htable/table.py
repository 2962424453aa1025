"""A table of a script: the one way to its items, whatever store keeps them.

What a full store refuses has been logged by it: here it is False, or None for a sum, and the script goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sipwright.errors import StoreError
from sipwright.modules.htable.database import Source
from sipwright.redis.addresses import RedisAddress
from sipwright.script.store import Item, Store


class Table:
    """A defined table. `store` has its items; it is there once the worker has started.

    `autoexpire` is in seconds, None where items do not expire; `initial` is the value of keys that are missing; `renew`
    tells whether an update begins the time of an item anew; `source` says where it is kept on disk. `place` is the
    Redis server that it was given itself, `local` where it is to have none, None where the module says.
    """

    __slots__ = ("autoexpire", "initial", "name", "place", "renew", "size", "source", "store")

    store: Store

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 0
        self.autoexpire: int | None = None
        self.initial: int | None = None
        self.renew = True
        self.source = Source()
        self.place: RedisAddress | Literal["local"] | None = None

    def get(self, key: str) -> Item | None:
        """Return a value, or what a missing key has."""
        value = self.store.get(key)
        return self.initial if value is None else value

    def set(self, key: str, value: Item | None) -> bool:
        """Store a value; None deletes the key."""
        if value is None:
            return self.delete(key)
        try:
            self.store.set(key, value, self.autoexpire, renew=self.renew)
        except StoreError:
            return False
        return True

    def set_for(self, key: str, value: Item, seconds: int) -> bool:
        """Store a value that expires in so many seconds, or with 0 never."""
        try:
            self.store.set(key, value, seconds if seconds > 0 else None, renew=True)
        except StoreError:
            return False
        return True

    def add(self, key: str, amount: int) -> int | None:
        """Add to a value and return the sum; None when it is no number."""
        try:
            return self.store.add(key, amount, self.initial, self.autoexpire, renew=self.renew)
        except StoreError:
            return None

    def delete(self, key: str) -> bool:
        """Delete a key, whether it is there or not."""
        try:
            self.store.delete(key)
        except StoreError:
            return False
        return True

    def ttl(self, key: str) -> float | None:
        """Return in how many seconds a key expires, None when it does not or is not there."""
        return self.store.ttl(key)

    def expire(self, key: str, seconds: int) -> bool:
        """Let a key expire in so many seconds, or with 0 never; nothing is done where the table has no autoexpire."""
        if self.autoexpire is None:
            return True
        try:
            self.store.expire(key, seconds if seconds > 0 else None)
        except StoreError:
            return False
        return True

    def items(self) -> list[tuple[str, Item]]:
        """Return all keys and values."""
        return self.store.items()

    def count(self, test: Callable[[str, Item], bool] | None) -> int:
        """Return of how many items a test is true; without a test, how many there are."""
        return self.store.count() if test is None else sum(1 for key, value in self.items() if test(key, value))

    def any(self, test: Callable[[str, Item], bool]) -> bool:
        """Tell whether a test is true of an item."""
        return any(test(key, value) for key, value in self.items())

    def remove_if(self, test: Callable[[str, Item], bool]) -> bool:
        """Delete the items that a test is true of."""
        try:
            self.store.remove_if(test)
        except StoreError:
            return False
        return True

    def clear(self) -> bool:
        """Delete everything."""
        try:
            self.store.clear()
        except StoreError:
            return False
        return True

    def take_expired(self) -> list[tuple[str, Item]]:
        """Delete what has expired and return it; nothing when the store is full, it comes the next time."""
        try:
            return self.store.take_expired()
        except StoreError:
            return []
