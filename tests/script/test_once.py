from __future__ import annotations

import threading
import time

import pytest

from sipwright.script.once import is_done, once
from sipwright.script.store import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(time.monotonic)


def test_it_is_done_once(store: MemoryStore) -> None:
    done: list[str] = []
    for _ in range(2):
        once(store, "a", lambda: done.append("a"))
    once(store, "b", lambda: done.append("b"))
    assert done == ["a", "b"]
    assert [is_done(store, "a"), is_done(store, "c")] == [True, False]


def test_what_fails_is_done_by_the_next_one(store: MemoryStore) -> None:
    with pytest.raises(ZeroDivisionError):
        once(store, "a", lambda: 1 // 0)
    assert not is_done(store, "a")
    done: list[str] = []
    once(store, "a", lambda: done.append("a"))
    assert done == ["a"]


def test_the_others_wait_until_it_is_done(store: MemoryStore) -> None:
    assert store.lock("a", "somebody else", 10)

    def finish() -> None:
        time.sleep(0.03)
        store.set("a", 1, None, renew=True)
        store.unlock("a", "somebody else")

    other = threading.Thread(target=finish)
    other.start()
    once(store, "a", lambda: pytest.fail("it is done already"))
    assert is_done(store, "a")
    other.join()


def test_what_somebody_who_died_has_begun_is_done_by_the_next_one(store: MemoryStore) -> None:
    assert store.lock("a", "somebody else", 0.02)
    done: list[str] = []
    once(store, "a", lambda: done.append("a"))
    assert done == ["a"]
