from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sipwright.script.store import Item, MemoryStore

KEYS = st.sampled_from("abc")


class StoreMachine(RuleBasedStateMachine):
    """The store beside a plain dict of values and moments."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.store = MemoryStore(lambda: self.now)
        self.model: dict[str, tuple[Item, float | None]] = {}

    def alive(self) -> dict[str, tuple[Item, float | None]]:
        return {k: (v, when) for k, (v, when) in self.model.items() if when is None or when > self.now}

    @rule(key=KEYS, value=st.integers() | st.text(max_size=2), ttl=st.none() | st.integers(1, 5), renew=st.booleans())
    def set(self, key: str, value: Item, ttl: int | None, renew: bool) -> None:
        self.store.set(key, value, ttl, renew=renew)
        old = self.alive().get(key)
        when = None if ttl is None else old[1] if old and not renew else self.now + ttl
        self.model[key] = (value, when)

    @rule(key=KEYS, value=st.integers(), ttl=st.none() | st.integers(1, 5))
    def insert(self, key: str, value: Item, ttl: int | None) -> None:
        is_new = key not in self.alive()
        assert self.store.insert(key, value, ttl) == is_new
        if is_new:
            self.model[key] = (value, None if ttl is None else self.now + ttl)

    @rule(key=KEYS, ttl=st.integers(1, 5))
    def expire(self, key: str, ttl: int) -> None:
        self.store.expire(key, ttl)
        if key in self.alive():
            self.model[key] = (self.model[key][0], self.now + ttl)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        assert self.store.delete(key) == (key in self.alive())
        self.model.pop(key, None)

    @rule(key=KEYS, initial=st.none() | st.just(10))
    def add(self, key: str, initial: int | None) -> None:
        value = self.alive().get(key, (initial, None))[0]
        expected = value + 1 if isinstance(value, int) else None
        assert self.store.add(key, 1, initial, None, renew=True) == expected
        if expected is not None:
            self.model[key] = (expected, None)

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        expired = {key for key in self.model if key not in self.alive()}
        assert {key for key, _ in self.store.take_expired()} == expired
        self.model = self.alive()
        assert self.store.count() == len(self.model)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert dict(self.store.items()) == {key: value for key, (value, _) in self.alive().items()}
        for key in "abc":
            value, when = self.alive().get(key, (None, None))
            assert self.store.get(key) == value
            assert self.store.ttl(key) == (None if when is None else when - self.now)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_a_key_that_is_set_often_is_queued_once() -> None:
    store = MemoryStore(lambda: 0.0)
    for number in range(1000):
        store.set("k", number, 10, renew=True)
    assert len(store._queue) == 1
