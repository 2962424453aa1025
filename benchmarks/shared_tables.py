"""What shared variables cost: a store that all workers share beside one of the process, and several processes at once.

Run: `python benchmarks/shared_tables.py`. Single operations are the best of several runs, in CPU microseconds; whole
tables have 100,000 items, in milliseconds.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator

from sipwright.script.store import MemoryStores, Store
from sipwright.workers.shared import SharedStores, new_store_path, remove_store

ROUNDS = 7
NUMBER = 10_000
LARGE = 100_000
SIZE = 1 << 30
SECONDS = 2.0

PATH = new_store_path()


def main() -> None:
    """Print all measurements."""
    shared = SharedStores(PATH, time.monotonic, SIZE)
    try:
        stores = (shared.open("bench:a"), MemoryStores(time.monotonic).open("bench:a"))
        columns = [{**dict(single(store)), **dict(large(store))} for store in stores]
        print(f"{'shared':>9} {'process':>9}")
        for name in columns[0]:
            print(f"{columns[0][name]:>9} {columns[1][name]:>9}  {name}")
        shared.close()
        for number in (1, 2, 4):
            print(f"{increments(number):>19,.0f}  increments of one key a second, by {number} processes")
    finally:
        shared.close()
        remove_store(PATH)


def single(store: Store) -> Iterator[tuple[str, str]]:
    """Measure operations on one item."""
    keys = [f"key{number}" for number in range(1000)]
    store.load((key, "value", None) for key in keys)
    store.load((key + "x", "value", 60) for key in keys)

    def cpu(run: Callable[[str], object]) -> str:
        best = min(_cpu_time(lambda: [run(keys[number % 1000]) for number in range(NUMBER)]) for _ in range(ROUNDS))
        return f"{best / NUMBER * 1e6:.2f} us"

    yield "read", cpu(store.get)
    yield "read an item that expires", cpu(lambda key: store.get(key + "x"))
    yield "write", cpu(lambda key: store.set(key, "other", None, renew=True))
    yield "write an item that expires", cpu(lambda key: store.set(key + "x", "other", 60, renew=True))
    yield "increment", cpu(lambda key: store.add(key + "n", 1, 0, 60, renew=True))
    yield "insert and delete", cpu(lambda key: (store.insert(key + "d", 1, 60), store.delete(key + "d")))
    yield "lock and unlock", cpu(lambda key: (store.lock(key, "me", 60), store.unlock(key, "me")))
    yield "count", cpu(lambda _key: store.count())
    yield "sweep, nothing due", cpu(lambda _key: store.take_expired())


def large(store: Store) -> Iterator[tuple[str, str]]:
    """Measure what is done with a whole table."""
    store.clear()

    def fill(ttl: float) -> None:
        store.load((f"call-{number}@example.org", "some value", ttl) for number in range(LARGE))

    def taken(run: Callable[[], object]) -> str:
        return f"{_cpu_time(run) * 1000:.0f} ms"

    yield "load", taken(lambda: fill(3600))
    yield "all items", taken(store.items)
    yield "look for items, find none", taken(lambda: store.remove_if(lambda _key, _value: False))
    yield "delete all by a test", taken(lambda: store.remove_if(lambda _key, _value: True))
    fill(0.001)
    time.sleep(0.01)
    yield "sweep, all due", taken(store.take_expired)
    fill(3600)
    yield "delete all", taken(store.clear)


def increments(processes: int) -> float:
    """Return how many increments a second some processes do together."""
    context = multiprocessing.get_context("fork")
    running = [context.Process(target=_increment) for _ in range(processes)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    stores = SharedStores(PATH, time.monotonic, SIZE)
    store = stores.open("bench:increments")
    found = store.get("n")
    store.clear()
    stores.close()
    assert isinstance(found, int)
    return found / SECONDS


def _increment() -> None:
    store = SharedStores(PATH, time.monotonic, SIZE).open("bench:increments")
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        store.add("n", 1, 0, None, renew=True)


def _cpu_time(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


if __name__ == "__main__":
    main()
