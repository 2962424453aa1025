from __future__ import annotations

from collections.abc import Callable

import pytest

from sipwright.script.store import MemoryStore, MemoryStores
from tests.script.store_contract import MACHINE_SETTINGS, Clock, StoreContract, StoreMachine


class MemoryStoreMachine(StoreMachine):
    def make_store(self, clock: Callable[[], float]) -> MemoryStore:
        return MemoryStore(clock)


TestAgainstAModel = MemoryStoreMachine.TestCase
TestAgainstAModel.settings = MACHINE_SETTINGS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock)


class TestMemoryStore(StoreContract):
    pass


def test_a_key_that_is_set_often_is_queued_once(store: MemoryStore) -> None:
    for number in range(1000):
        store.set("k", number, 10, renew=True)
    assert len(store._queue) == 1


def test_keys_that_are_deleted_do_not_stay_until_their_time_comes(store: MemoryStore) -> None:
    store.set("stays", 1, 5000, renew=True)
    for number in range(1000):
        store.set(f"k{number}", number, 3600, renew=True)
        store.delete(f"k{number}")
        store.set(f"n{number}", number, 3600, renew=True)
        store.set(f"n{number}", number, None, renew=True)
    assert len(store._queue) < 200
    assert store.ttl("stays") == 5000


def test_a_store_is_made_when_it_is_first_asked_for(clock: Clock) -> None:
    stores = MemoryStores(clock)
    stores.open("pv:shv").set("k", 1, None, renew=True)
    assert [stores.open("pv:shv").get("k"), stores.open("htable:a").get("k")] == [1, None]
