from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sipwright.errors import ScriptError, StoreError
from sipwright.workers.lmdb_store import LmdbStore
from sipwright.workers.shared import SharedStores
from tests.script.store_contract import MACHINE_SETTINGS, Clock, StoreContract, StoreMachine

SIZE = 64 << 20


class LmdbStoreMachine(StoreMachine):
    def make_store(self, clock: Callable[[], float]) -> LmdbStore:
        self.path = Path(tempfile.mkdtemp())
        self.stores = SharedStores(self.path / "tables", clock, SIZE)
        return self.stores.open("htable:a")

    def teardown(self) -> None:
        self.stores.close()
        shutil.rmtree(self.path)


TestAgainstAModel = LmdbStoreMachine.TestCase
TestAgainstAModel.settings = MACHINE_SETTINGS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stores(tmp_path: Path, clock: Clock) -> Iterator[Callable[[int], SharedStores]]:
    with contextlib.ExitStack() as stack:

        def make(size: int) -> SharedStores:
            made = SharedStores(tmp_path / "tables", clock, size)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def store(stores: Callable[[int], SharedStores]) -> LmdbStore:
    return stores(SIZE).open("htable:a")


class TestLmdbStore(StoreContract):
    pass


def test_stores_do_not_see_one_another(stores: Callable[[int], SharedStores]) -> None:
    both = stores(SIZE)
    a, b = both.open("htable:a"), both.open("htable:b")
    a.set("k", 1, 5, renew=True)
    a.lock("k", "holder", 60)
    assert [b.get("k"), b.count(), b.lock("k", "other", 60)] == [None, 0, True]
    b.clear()
    assert a.get("k") == 1


def test_nothing_grows_with_keys_that_come_and_go(store: LmdbStore, tmp_path: Path) -> None:
    def run(rounds: int) -> int:
        for number in range(rounds):
            store.set(f"call{number}", "x" * 100, 3600, renew=True)
            store.set(f"call{number}", "y" * 100, 3600, renew=True)
            store.delete(f"call{number}")
        return (tmp_path / "tables" / "data.mdb").stat().st_size

    assert run(200) == run(2000)


# ---- when it is full


def fill(store: LmdbStore) -> int:
    number = 0
    with contextlib.suppress(StoreError):
        while True:
            store.set(f"key{number:06}", "v" * 100, 60, renew=True)
            number += 1
    return number


def test_a_full_store_refuses_and_goes_on(
    stores: Callable[[int], SharedStores], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores(1 << 20).open("htable:a")
    stored = fill(store)
    assert stored > 3000
    with pytest.raises(StoreError) as caught:
        store.set("one more", "v" * 3000, None, renew=True)
    assert isinstance(caught.value, ScriptError)
    assert store.get("one more") is None
    assert [store.get("key000000"), store.count()] == ["v" * 100, stored]
    clock.now += 60
    assert len(store.take_expired()) == stored
    store.set("one more", "v" * 3000, None, renew=True)
    assert store.items() == [("one more", "v" * 3000)]


def test_a_full_store_says_so_now_and_then(
    stores: Callable[[int], SharedStores], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores(1 << 20).open("htable:a")
    fill(store)
    for _ in range(5):
        with pytest.raises(StoreError):
            store.set("k", "v" * 5000, None, renew=True)
    clock.now += 11
    with pytest.raises(StoreError):
        store.set("k", "v" * 5000, None, renew=True)
    line = "htable:a: nothing was stored or read: the memory of all tables is full, 1 MB (shm_mem_size)"
    assert caplog.record_tuples == [
        ("sipwright", logging.ERROR, line),
        ("sipwright", logging.ERROR, f"{line}; 5 more since the last such line"),
    ]


def test_a_full_store_can_be_cleared(stores: Callable[[int], SharedStores]) -> None:
    store = stores(1 << 20).open("htable:a")
    stored = fill(store)
    store.clear()
    assert fill(store) >= stored * 0.95
    assert store.remove_if(lambda _key, _value: True) >= stored * 0.95
    assert store.count() == 0
