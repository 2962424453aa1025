"""The stores that several processes share, each of them forked as a worker is, before anything is open."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.context import ForkProcess
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sipwright.errors import StartError, StoreError
from sipwright.workers import shared
from sipwright.workers.lmdb_store import LmdbStore
from sipwright.workers.shared import SharedStores, new_store_path, remove_leftovers, remove_store
from tests.script.store_contract import Clock

SIZE = 64 << 20
NAME = "htable:a"
SECONDS = 10.0

context = multiprocessing.get_context("fork")


@pytest.fixture
def path() -> Iterator[Path]:
    path = new_store_path()
    yield path
    remove_store(path)


@contextlib.contextmanager
def opened(path: Path, clock: Callable[[], float] = time.monotonic, size: int = SIZE) -> Iterator[LmdbStore]:
    stores = SharedStores(path, clock, size)
    try:
        yield stores.open(NAME)
    finally:
        stores.close()


@contextlib.contextmanager
def worker(run: Callable[..., None], *arguments: Any) -> Iterator[ForkProcess]:
    """A process that is gone at the end, however it was."""
    process = context.Process(target=run, args=arguments, daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def run_all(run: Callable[..., None], *arguments: tuple[Any, ...]) -> None:
    """Run processes beside one another to their end."""
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(worker(run, *each)) for each in arguments]
        for process in processes:
            process.join(SECONDS)
        assert [process.exitcode for process in processes] == [0] * len(processes)


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.001)


# ---- several processes


def increment(path: Path, times: int) -> None:
    with opened(path) as store:
        for _ in range(times):
            store.add("shared", 1, 0, 60, renew=True)
            store.add("down", -1, None, None, renew=True)


def test_increments_of_several_processes_are_all_there(path: Path) -> None:
    with opened(path) as store:
        store.set("down", 0, None, renew=True)
    run_all(increment, *[(path, 3000)] * 4)
    with opened(path) as store:
        assert [store.get("shared"), store.get("down")] == [12_000, -12_000]


def test_the_first_processes_may_come_at_the_same_time(path: Path) -> None:
    for _ in range(10):
        run_all(increment_missing, *[(path,)] * 6)
        with opened(path) as store:
            assert store.get("shared") == 6
        remove_store(path)


def increment_missing(path: Path) -> None:
    with opened(path) as store:
        store.add("shared", 1, 0, None, renew=True)


def take(path: Path, taken: Any, start: float) -> None:
    with opened(path) as store:
        while time.monotonic() < start:
            time.sleep(0.001)
        while time.monotonic() < start + 0.25:
            for _key, value in store.take_expired():
                assert isinstance(value, int)
                taken[value] += 1
            time.sleep(0.002)


def test_what_has_expired_comes_to_one_process_only(path: Path) -> None:
    taken = RawArray("i", 3000)
    with opened(path) as store:
        store.load((f"k{number}", number, 0.2 + number % 100 / 1000) for number in range(3000))
        start = time.monotonic() + 0.15
    run_all(take, *[(path, taken, start)] * 3)
    assert list(taken) == [1] * 3000


def lock_and_increment(path: Path, number: int) -> None:
    with opened(path) as store:
        for _ in range(200):
            while not store.lock("k", f"holder{number}", 60):
                time.sleep(0.0005)
            store.set("n", int(store.get("n") or 0) + 1, None, renew=True)
            assert store.unlock("k", f"holder{number}")


def test_a_lock_is_one_for_all_processes(path: Path) -> None:
    run_all(lock_and_increment, (path, 1), (path, 1), (path, 2))
    with opened(path) as store:
        assert store.get("n") == 600


# ---- processes that die


def lock_and_stay(path: Path) -> None:
    with opened(path) as store:
        assert store.lock("k", "holder", 3600)
        store.set("locked", 1, None, renew=True)
        time.sleep(SECONDS)


def test_a_lock_of_a_process_that_died_is_free(path: Path) -> None:
    with worker(lock_and_stay, path) as process, opened(path) as store:
        wait_until(lambda: store.get("locked") == 1)
        assert not store.lock("k", "holder", 60)
        process.kill()
        process.join()
        assert store.lock("k", "holder", 60)


def write_for_ever(path: Path, number: int, acknowledged: Any) -> None:
    with opened(path) as store:
        chance = random.Random(os.getpid())
        while True:
            store.add("shared", 1, 0, None, renew=True)
            store.add(f"own{number}", 1, 0, None, renew=True)
            acknowledged[number] += 1
            key, ttl = f"k{chance.randrange(200)}", chance.choice((None, 1000, 2000))
            store.set(key, key * chance.randrange(1, 500), ttl, renew=chance.random() < 0.5)
            store.delete(f"k{chance.randrange(200)}")
            if acknowledged[number] % 50 == 0:
                store.remove_if(lambda key, _value: key.startswith("k1"))


def go_on(acknowledged: Any, before: list[int]) -> bool:
    return sum(int(new) > old for new, old in zip(acknowledged, before, strict=True)) >= 2


def test_killed_writers_leave_the_tables_whole_and_lose_nothing(path: Path) -> None:
    writers, kills = 4, 120
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    acknowledged = RawArray("q", writers)
    killed = [0] * writers
    processes: list[ForkProcess] = []

    def start(number: int) -> ForkProcess:
        process = context.Process(target=write_for_ever, args=(path, number, acknowledged), daemon=True)
        process.start()
        return process

    try:
        processes += [start(number) for number in range(writers)]
        for _ in range(kills):
            time.sleep(chance.uniform(0.001, 0.012))
            number = chance.randrange(writers)
            os.kill(processes[number].pid or 0, signal.SIGKILL)
            processes[number].join()
            killed[number] += 1
            processes[number] = start(number)
            wait_until(partial(go_on, acknowledged, list(acknowledged)))
    finally:
        for number, process in enumerate(processes):
            process.kill()
            process.join()
            killed[number] += 1
    with opened(path, lambda: time.monotonic() + 10_000) as store:
        for number in range(writers):
            own = store.get(f"own{number}")
            assert isinstance(own, int)
            assert acknowledged[number] <= own <= acknowledged[number] + killed[number]
        total = store.get("shared")
        assert isinstance(total, int)
        assert sum(acknowledged) <= total <= sum(acknowledged) + sum(killed)
        print(f"{sum(killed)} kills, {sum(acknowledged)} acknowledged, {total} counted")
        values = {**dict(store.items()), **dict(store.take_expired())}
        texts = [(key, value) for key, value in values.items() if key.startswith("k")]
        assert texts
        assert all(str(value).replace(key, "") == "" for key, value in texts)
        left = len(store.items())
        assert [store.count(), store.remove_if(lambda _key, _value: True)] == [left, left]
        with store._begin(store._queue) as txn:
            assert txn.stat(store._queue)["entries"] == 0


def read_for_ever(path: Path, reading: Any) -> None:
    with opened(path) as store, store._begin(store._items) as txn:
        txn.get(b"k")
        reading[0] = 1
        time.sleep(SECONDS)


@pytest.fixture
def reader(path: Path) -> Iterator[ForkProcess]:
    """A process that reads the tables as they were at its start, until it is killed."""
    reading = RawArray("i", 1)
    with worker(read_for_ever, path, reading) as process:
        wait_until(lambda: reading[0] == 1)
        yield process


def test_a_reader_that_died_does_not_make_the_memory_grow(path: Path, reader: ForkProcess) -> None:
    clock = Clock()
    with opened(path, clock) as store:

        def pages_after_writing() -> int:
            for number in range(500):
                store.set("k", str(number) * 1000, None, renew=True)
            found: int = store._env._env.info()["last_pgno"]
            return found

        before = pages_after_writing()
        assert pages_after_writing() > before + 500
        reader.kill()
        reader.join()
        clock.now += 5
        store.take_expired()
        before = pages_after_writing()
        assert pages_after_writing() == before


def write_until_it_is_full(store: LmdbStore) -> None:
    for number in range(50_000):
        store.set("k", str(number) * 1000, None, renew=True)


def test_a_reader_that_died_is_cleared_when_there_is_no_room(path: Path, reader: ForkProcess) -> None:
    with opened(path, Clock(), 1 << 20) as store:
        with pytest.raises(StoreError, match="mapsize limit reached"):
            write_until_it_is_full(store)
        reader.kill()
        reader.join()
        store.set("k", "x" * 4000, None, renew=True)


def read_when_it_has_grown(path: Path, steps: Any) -> None:
    with opened(path, size=1 << 20) as store:
        store.set("first", 1, None, renew=True)
        steps[0] = 1
        wait_until(lambda: steps[0] == 2)
        found = store.get("last"), store.count()
        store.delete("first")
        steps[0] = 3 if found == (1, 52) else 4
        time.sleep(SECONDS)


def test_a_worker_of_an_older_script_follows_a_larger_limit(path: Path) -> None:
    steps = RawArray("i", 1)
    with worker(read_when_it_has_grown, path, steps):
        wait_until(lambda: steps[0] == 1)
        with opened(path, size=256 << 20) as store:
            store.load((f"k{number}", "x" * (1 << 20), None) for number in range(50))
            store.set("last", 1, None, renew=True)
            steps[0] = 2
            wait_until(lambda: steps[0] > 2)
            assert [steps[0], store.get("first"), store.get("last")] == [3, None, 1]


# ---- the directory


def test_nothing_is_made_before_a_store_is_opened(path: Path) -> None:
    stores = SharedStores(path, time.monotonic, SIZE)
    assert not path.exists()
    stores.close()
    assert not path.exists()
    stores.open(NAME)
    assert stores.open(NAME) is stores.open(NAME)
    assert path.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o077 for file in path.glob("*.mdb")} == {0}
    stores.close()


def test_stores_outlive_the_process_and_go_with_the_directory(path: Path) -> None:
    increment(path, 1)
    with opened(path) as store:
        assert store.get("shared") == 1
    remove_store(path)
    remove_store(path)
    assert not path.exists()


def test_each_server_has_a_place_of_its_own_in_memory() -> None:
    assert new_store_path() != new_store_path()
    assert f"sipwright-{os.getpid()}-" in new_store_path().name


def test_without_shared_memory_stores_are_in_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "SHARED_MEMORY", tmp_path / "nothing")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = new_store_path()
    assert path.parent == tmp_path
    increment(path, 1)
    assert remove_leftovers() == []


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def pid_of_the_dead() -> int:
    process = context.Process(target=time.sleep, args=(0,))
    process.start()
    process.join()
    assert process.pid is not None
    return process.pid


def test_what_dead_servers_left_is_removed(places: Path) -> None:
    left = places / f"sipwright-{pid_of_the_dead()}-0123456789abcdef"
    increment(left, 1)
    lives = new_store_path()
    increment(lives, 1)
    others = [places / name for name in ("sipwright-1-x", "other", f"sipwright-{pid_of_the_dead()}-0123456789abcdeg")]
    for other in others:
        other.mkdir()
    link = places / f"sipwright-{pid_of_the_dead()}-0123456789abcdee"
    link.symlink_to(others[0])
    assert remove_leftovers() == [left]
    assert sorted(places.iterdir()) == sorted([lives, link, *others])


def test_what_a_worker_without_supervisor_still_uses_is_not_removed(places: Path) -> None:
    left = places / f"sipwright-{pid_of_the_dead()}-0123456789abcdef"
    with worker(lock_and_stay, left):
        wait_until(lambda: (left / "data.mdb").exists() and shared._is_open(left / "lock.mdb"))
        assert remove_leftovers() == []
    assert remove_leftovers() == [left]


def test_a_directory_of_somebody_else_is_not_used(path: Path) -> None:
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    with pytest.raises(StartError, match="was made by somebody else"), opened(path):
        pass


def test_what_cannot_be_opened_says_where(path: Path) -> None:
    nowhere = path / "no/where"
    with pytest.raises(StartError, match=f"the shared memory {nowhere} cannot be used"), opened(nowhere):
        pass
    path.mkdir(mode=0o700)
    (path / "data.mdb").write_bytes(b"x" * 10_000)
    with pytest.raises(StartError, match=f"the shared memory {path} cannot be used: .*MDB_INVALID"), opened(path):
        pass


def test_too_many_tables_are_an_error_at_the_start(path: Path) -> None:
    stores = SharedStores(path, time.monotonic, SIZE)
    for number in range(200):
        stores.open(f"htable:{number}")
    with pytest.raises(StartError, match="there are more than 200 shared tables"):
        stores.open("htable:200")
    assert stores.open("htable:199").get("k") is None
    stores.close()


def test_tables_take_no_more_than_there_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("os.statvfs", lambda _path: SimpleNamespace(f_blocks=1024, f_frsize=4096))
    for _ in range(2):
        with opened(path, size=1 << 30) as store:
            assert store._env._limit == 3 << 20
    place = path.parent
    assert caplog.record_tuples == [
        (
            "sipwright",
            logging.WARNING,
            f"shared tables may take 1024 MB (shm_mem_size), but {place} has only 4 MB: they may take 3 MB",
        )
    ]


def test_a_directory_that_cannot_be_read_has_no_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipwright.workers.shared._places", lambda: [tmp_path / "gone", tmp_path])
    assert remove_leftovers() == []
