"""Processes are killed under load: the server answers again within a second, and whoever repeats a request is answered.

The load is of requests that are repeated until they have a final reply (RFC 3261 17.1.2). An INVITE is not: once it has
its 100 nobody repeats it, and a worker that is killed takes it along.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.scenarios.load import Ask, Load, Sent
from tests.scenarios.processes import SipwrightProcess
from tests.scenarios.workload import (
    Workload,
    port_of,
    running_workload,
    start_service,
    wait_for_balance,
    workload_script,
)

pytestmark = pytest.mark.scenario

WORKERS = 3
RATE = 250
SOCKETS = 5
# All of them are answered, if they are sent again when need be.
REPEATED = (
    Ask("OPTIONS", headers=("X-Delay: 100",)),
    Ask("MESSAGE", headers=("X-Delay: 20",), form="no_branch"),
    Ask("REGISTER", "now"),
    Ask("OPTIONS", form="cookie_before"),
)
MODES = ["kernel", "peering"]


def load_of(workload: Workload, asks: Iterable[Ask] = REPEATED) -> Load:
    return Load(workload.server.address, itertools.cycle(asks), RATE, SOCKETS)


def statuses_of(transactions: Iterable[Sent]) -> set[int | None]:
    return {sent.status for sent in transactions}


def wait_for_another(load: Load, known: Iterable[int], seconds: float) -> int:
    """Wait until a worker answers that is not known; return its process id."""
    before = set(known)
    load.wait_until(lambda: bool(set(load.answers_by_worker()) - before), seconds)
    (pid,) = set(load.answers_by_worker()) - before
    return pid


@pytest.mark.parametrize("mode", MODES)
def test_each_worker_in_turn_is_killed_and_every_request_is_answered(tmp_path: Path, mode: str) -> None:
    environment = {"SIPWRIGHT_STEERING": mode}
    with running_workload(tmp_path, WORKERS, environment=environment) as workload, load_of(workload) as load:
        workers = workload.server.workers()
        survivors = dict(workers)
        for index in range(WORKERS):
            load.wait_for_answers(50)
            known = {*workers.values(), *survivors.values()}
            began = time.monotonic()
            os.kill(survivors[index], signal.SIGKILL)
            survivors[index] = wait_for_another(load, known, seconds=5)
            seconds = time.monotonic() - began
            assert seconds < 1.0, f"worker {index} answered again after {seconds:.2f} s only"
        load.wait_for_answers(50)
        transactions = load.finish()
        assert statuses_of(transactions) == {200}
        assert not load.stray
        assert workload.server.workers() == survivors
        # What is left of the counters of those that were killed is up to a second old.
        statistics = wait_for_balance(workload.server, load, none_lost=False)
        assert statistics.workers.keys() == set(survivors.values())
        # Those are the only ones that were asked twice: what the killed worker had in hand.
        asked = Counter(workload.asked().values())
        assert asked.keys() <= {1, 2, 3}
        assert asked[1] > 0.8 * asked.total()


def test_workers_that_die_one_after_another_all_the_time_keep_no_request_from_its_answer(tmp_path: Path) -> None:
    with running_workload(tmp_path, WORKERS) as workload, load_of(workload) as load:
        for _ in range(8):
            load.wait_for_answers(20)
            # The youngest of those that have answered: one that never gets ready would be given up some time.
            os.kill(max(workload.server.statistics().workers.keys() & load.answers_by_worker()), signal.SIGKILL)
        transactions = load.finish(20)
        assert statuses_of(transactions) == {200}
        wait_for_balance(workload.server, load, none_lost=False)


def test_calls_that_a_killed_worker_had_begun_end_with_it_and_all_others_are_set_up(tmp_path: Path) -> None:
    calls = (
        Ask("INVITE", headers=("X-Delay: 150",), then=Ask("BYE")),
        Ask("INVITE", headers=("X-Delay: 50", "X-Final: 486")),
        Ask("INVITE", headers=("X-Delay: 5000",), is_cancelled=True),
    )
    with running_workload(tmp_path, WORKERS) as workload, load_of(workload, calls) as load:
        workers = workload.server.workers()
        load.wait_for_answers(100)
        os.kill(workers[1], signal.SIGKILL)
        killed = time.monotonic()
        wait_for_another(load, workers.values(), seconds=5)
        load.wait_for_answers(200)
        load.stop()
        # An INVITE that was in its hands had a 100; its CANCEL finds nothing, and is answered all the same.
        load.wait_until(lambda: all(_was_in_hand(sent, killed) for sent in load.unfinished()))
        lost = load.unfinished()
        assert len(lost) < 0.5 * RATE
        statuses = load.statuses()
        wait_for_balance(workload.server, load, none_lost=False)
    assert statuses.pop("none INVITE", 0) == len(lost)
    # 481: the CANCEL of a lost one.
    assert statuses.keys() <= {"200 INVITE", "486 INVITE", "487 INVITE", "200 BYE", "200 CANCEL", "481 CANCEL"}


def _was_in_hand(sent: Sent, killed: float) -> bool:
    return sent.method == "INVITE" and sent.provisionals > 0 and sent.began < killed


def test_the_service_is_killed_and_comes_back(tmp_path: Path) -> None:
    calls = (*REPEATED, Ask("INVITE", headers=("X-Delay: 100",)), Ask("INVITE", headers=("X-Delay: 9000",)))
    with running_workload(tmp_path, 2) as workload, load_of(workload, calls) as load:
        workers = workload.server.workers()
        load.wait_for_answers(100)
        workload.service.send_signal(signal.SIGKILL)
        workload.service.wait(5)
        # Whatever it had in hand ends at once, in the error route; what is new does, too.
        failed = load.answered
        load.wait_until(lambda: load.statuses()["500 OPTIONS"] > 20 and load.statuses()["500 INVITE"] > 20)
        assert load.answered > failed
        with start_service(tmp_path, port_of(workload.service)):
            came_back = time.monotonic()
            load.wait_until(
                lambda: any(s.status == 200 and s.ask.user == "ask" for s in _begun_after(load, came_back)), 5
            )
            assert time.monotonic() - came_back < 1.0
            load.wait_until(lambda: _last_answered(load, 30) == {200})
            load.stop()
            # The calls to which it takes nine seconds to answer are left alone.
            load.wait_until(lambda: all("X-Delay: 9000" in sent.ask.headers for sent in load.unfinished()))
            assert workload.server.workers() == workers
    assert set(load.statuses()) <= {
        f"{status} {method}" for status in ("200", "500") for method in ("OPTIONS", "MESSAGE", "REGISTER", "INVITE")
    } | {"none INVITE"}


def _begun_after(load: Load, when: float) -> list[Sent]:
    return [sent for sent in load.snapshot() if sent.began > when]


def _last_answered(load: Load, number: int) -> set[int | None]:
    answered = sorted((sent for sent in load.snapshot() if sent.ended), key=lambda sent: sent.ended or 0.0)
    return statuses_of(answered[-number:])


def test_the_supervisor_is_killed_its_workers_end_and_another_server_takes_the_port(tmp_path: Path) -> None:
    with running_workload(tmp_path, WORKERS) as workload, load_of(workload) as load:
        old = workload.server
        workers = old.workers()
        load.wait_for_answers(100)
        # A reload is under way: workers of two generations.
        old.reload()
        pids = set(old.statistics().workers)
        assert pids > set(workers.values())
        old.send_signal(signal.SIGKILL)
        old.wait(1)
        began = time.monotonic()
        old.wait_until(lambda: not any(_is_running(pid) for pid in pids), "the workers did not end", 5)
        assert time.monotonic() - began < 1.0
        text = workload_script(port_of(workload.service), version="again")
        directory = tmp_path / "again"
        directory.mkdir()
        with SipwrightProcess(text, directory, ["-n", str(WORKERS)], port=old.address[1]) as server:
            load.wait_for_answers(100)
            transactions = load.finish()
            wait_for_balance(server, none_lost=False)
        # Only what the workers had in hand when they ended has ended in its error route, or was refused in that moment.
        failed = [sent for sent in transactions if sent.status != 200]
        assert statuses_of(failed) <= {500, 503}
        assert all(sent.began < began + 1.0 for sent in failed)
        assert "again" in {sent.version for sent in transactions}


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("drains", [False, True])
def test_workers_of_a_killed_supervisor_end_also_while_they_drain(tmp_path: Path, drains: bool) -> None:
    with (
        running_workload(tmp_path, 2, head="drain_timeout=60000\n") as workload,
        Load(workload.server.address, [Ask(headers=("X-Delay: 60000",))] * 4, 1000, 3) as load,
    ):
        load.wait_until(lambda: len(workload.asked()) == 4)
        server = workload.server
        pids = set(server.workers().values())
        if drains:
            server.send_signal(signal.SIGTERM)
            server.wait_for_log("INFO [main] stopping")
        server.send_signal(signal.SIGKILL)
        server.wait(1)
        began = time.monotonic()
        server.wait_until(lambda: not any(_is_running(pid) for pid in pids), "the workers did not end", 5)
        assert time.monotonic() - began < 1.0
        # Whoever waited for an answer of the service has got one.
        assert statuses_of(load.wait_for_all()) == {500}
