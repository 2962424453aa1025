"""The collector is kept from walking live transactions, and still finds what they leave."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from sipwright.engine.garbage import IDLE_TRANSACTIONS, LOADED_TRANSACTIONS, Garbage


@pytest.fixture
def garbage() -> Iterator[Garbage]:
    before = gc.get_threshold()
    garbage = Garbage()
    garbage.start()
    yield garbage
    gc.set_threshold(*before)
    gc.unfreeze()


class Node:
    def __init__(self) -> None:
        self.itself = self


def test_what_there_is_under_load_is_no_longer_walked(garbage: Garbage) -> None:
    before = gc.get_freeze_count()
    alive = [[number] for number in range(1000)]
    garbage.tend(live=LOADED_TRANSACTIONS)
    assert gc.get_freeze_count() - before >= len(alive)
    assert gc.get_count()[1] == 0


def test_without_load_nothing_is_frozen(garbage: Garbage) -> None:
    before = gc.get_freeze_count()
    garbage.tend(live=0)
    garbage.tend(live=LOADED_TRANSACTIONS - 1)
    assert gc.get_freeze_count() == before


def test_a_cycle_that_was_frozen_is_found_when_the_load_is_over(garbage: Garbage) -> None:
    node = Node()
    gone = weakref.ref(node)
    garbage.tend(live=LOADED_TRANSACTIONS)
    del node
    garbage.tend(live=IDLE_TRANSACTIONS)
    assert gone() is not None
    garbage.tend(live=IDLE_TRANSACTIONS - 1)
    assert gone() is None
