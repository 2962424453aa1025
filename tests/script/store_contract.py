"""What every store does, as tests: a class of them, and a machine beside a model. Each kind of store inherits both."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sipwright.script.store import Item, Store

# The long ones differ at their end only.
KEYS = ("a", "b", "", "x" * 2000 + "1", "x" * 2000 + "2")
ANY_TEXT = st.text(st.characters(), max_size=3)
VALUES = st.integers() | ANY_TEXT | st.just("y" * 9000)

MACHINE_SETTINGS = settings(max_examples=50, stateful_step_count=30, deadline=None)


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class StoreMachine(RuleBasedStateMachine):
    """A store beside a plain dict of values and moments."""

    def make_store(self, clock: Callable[[], float]) -> Store:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = self.make_store(self.clock)
        self.model: dict[str, tuple[Item, float | None]] = {}

    def alive(self) -> dict[str, tuple[Item, float | None]]:
        return {k: (v, when) for k, (v, when) in self.model.items() if when is None or when > self.clock.now}

    @rule(key=st.sampled_from(KEYS), value=VALUES, ttl=st.none() | st.integers(1, 5), renew=st.booleans())
    def set(self, key: str, value: Item, ttl: int | None, renew: bool) -> None:
        self.store.set(key, value, ttl, renew=renew)
        old = self.alive().get(key)
        when = None if ttl is None else old[1] if old and not renew else self.clock.now + ttl
        self.model[key] = (value, when)

    @rule(key=st.sampled_from(KEYS), value=VALUES, ttl=st.none() | st.integers(1, 5))
    def insert(self, key: str, value: Item, ttl: int | None) -> None:
        assert self.store.insert(key, value, ttl) == (key not in self.alive())
        if key not in self.alive():
            self.model[key] = (value, None if ttl is None else self.clock.now + ttl)

    @rule(key=st.sampled_from(KEYS), ttl=st.none() | st.integers(1, 5))
    def expire(self, key: str, ttl: int | None) -> None:
        self.store.expire(key, ttl)
        if key in self.alive():
            self.model[key] = (self.model[key][0], None if ttl is None else self.clock.now + ttl)

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        assert self.store.delete(key) == (key in self.alive())
        self.model.pop(key, None)

    @rule(
        key=st.sampled_from(KEYS),
        amount=st.integers(-(2**70), 2**70),
        initial=st.none() | st.just(10),
        ttl=st.none() | st.integers(1, 5),
        renew=st.booleans(),
    )
    def add(self, key: str, amount: int, initial: int | None, ttl: int | None, renew: bool) -> None:
        value, when = self.alive().get(key, (initial, None))
        expected = value + amount if isinstance(value, int) else None
        assert self.store.add(key, amount, initial, ttl, renew=renew) == expected
        if expected is not None:
            if ttl is None:
                when = None
            elif renew or key not in self.alive():
                when = self.clock.now + ttl
            self.model[key] = (expected, when)

    @rule(items=st.lists(st.tuples(st.sampled_from(KEYS), VALUES, st.none() | st.integers(1, 5))))
    def load(self, items: list[tuple[str, Item, float | None]]) -> None:
        self.store.load(iter(items))
        for key, value, ttl in items:
            self.model[key] = (value, None if ttl is None else self.clock.now + ttl)

    @rule(keys=st.frozensets(st.sampled_from(KEYS)))
    def remove_if(self, keys: frozenset[str]) -> None:
        expected = {key: value for key, (value, _) in self.alive().items() if key in keys}
        asked = []

        def test(key: str, value: Item) -> bool:
            asked.append((key, value))
            return key in keys

        removed = self.store.remove_if(test)
        assert removed == len(expected)
        assert all(item in asked for item in expected.items())
        for key in expected:
            del self.model[key]

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model.clear()

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def sweep(self) -> None:
        expired = {key: value for key, (value, _) in self.model.items() if key not in self.alive()}
        assert sorted(self.store.take_expired(), key=str) == sorted(expired.items(), key=str)
        self.model = self.alive()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        alive = self.alive()
        assert dict(self.store.items()) == {key: value for key, (value, _) in alive.items()}
        assert self.store.count() == len(alive)
        assert {key: (value, left) for key, value, left in self.store.dump()} == {
            key: (value, None if when is None else when - self.clock.now) for key, (value, when) in alive.items()
        }
        for key in KEYS:
            value, when = alive.get(key, (None, None))
            assert self.store.get(key) == value
            assert self.store.ttl(key) == (None if when is None else when - self.clock.now)


class StoreContract:
    """The tests; the fixture `store` is what a subclass's file has, `clock` its clock."""

    @pytest.mark.parametrize(
        "value", [0, -1, 255, 256, -(2**63), 2**64, 10**5000, "", "ä", "\udc80\ud800 x", "\0"], ids=range(11)
    )
    def test_every_value_comes_back_as_it_was(self, store: Store, value: Item) -> None:
        store.set("k", value, None, renew=True)
        store.set("x" * 600, value, 5, renew=True)
        found = [store.get("k"), store.get("x" * 600), *[item for _, item in store.items()]]
        assert found == [value] * 4
        assert {type(one) for one in found} == {type(value)}

    @pytest.mark.parametrize(
        "key", ["", "\0", "\udc80", "x\ud800", "ä" * 400, "k" * 501, "k" * 502, "k" * 100_000], ids=range(8)
    )
    def test_every_text_is_a_key(self, store: Store, key: str) -> None:
        store.set(key, 1, 5, renew=True)
        store.set(key + "x", 2, 5, renew=True)
        assert [store.get(key), store.get(key + "x"), store.count()] == [1, 2, 2]
        assert sorted(store.items()) == [(key, 1), (key + "x", 2)]
        assert store.delete(key)
        assert store.items() == [(key + "x", 2)]

    def test_what_has_expired_is_returned_once(self, store: Store, clock: Clock) -> None:
        for number in range(2500):
            store.set(f"k{number}", number, 1 + number % 2, renew=True)
        clock.now += 1
        assert sorted(value for _, value in store.take_expired()) == list(range(0, 2500, 2))
        assert store.take_expired() == []
        assert store.count() == 1250

    def test_a_removal_that_fails_removes_nothing(self, store: Store) -> None:
        store.set("a", 1, None, renew=True)
        with pytest.raises(ZeroDivisionError):
            store.remove_if(lambda _key, value: 1 // 0 > 0)
        assert store.items() == [("a", 1)]

    def test_a_removal_of_many_items_is_whole(self, store: Store) -> None:
        store.load((f"k{number}", number, None) for number in range(2500))
        assert store.remove_if(lambda _key, value: isinstance(value, int) and value % 5 != 0) == 2000
        assert sorted(value for _, value in store.items()) == list(range(0, 2500, 5))

    # ---- locks

    def test_a_lock_has_one_holder(self, store: Store) -> None:
        assert store.lock("k", "one", 60)
        assert not store.lock("k", "two", 60)
        assert not store.unlock("k", "two")
        assert store.lock("other", "two", 60)
        assert store.unlock("k", "one")
        assert store.lock("k", "two", 60)
        assert not store.unlock("k", "one")

    def test_a_holder_gives_back_a_lock_as_often_as_it_took_it(self, store: Store) -> None:
        assert store.lock("k", "one", 60)
        assert store.lock("k", "one", 60)
        assert store.unlock("k", "one")
        assert not store.lock("k", "two", 60)
        assert store.unlock("k", "one")
        assert not store.unlock("k", "one")
        assert store.lock("k", "two", 60)

    def test_a_lock_that_is_held_for_too_long_is_lost(self, store: Store, clock: Clock) -> None:
        assert store.lock("k", "one", 60)
        clock.now += 59
        assert store.lock("k", "one", 60)
        clock.now += 59
        assert not store.lock("k", "two", 60)
        clock.now += 1
        assert store.lock("k", "two", 60)
        assert not store.unlock("k", "one")
        clock.now += 60
        assert store.lock("k", "two", 60)
        assert store.unlock("k", "two")
        assert store.lock("k", "one", 60)

    def test_locks_are_no_items_and_stay_when_these_go(self, store: Store) -> None:
        assert store.lock("k", "one", 60)
        assert [store.items(), store.count(), store.get("k")] == [[], 0, None]
        store.clear()
        assert not store.lock("k", "two", 60)
