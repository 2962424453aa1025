"""A server that is told to stop ends what it has begun, and tells everybody else to go elsewhere."""

from __future__ import annotations

import itertools
import signal
import time
from pathlib import Path

import pytest

from tests.scenarios.load import Ask, Load
from tests.scenarios.nuisance import Nuisance
from tests.scenarios.workload import running_workload

pytestmark = pytest.mark.scenario

# What the supervisor and a worker have to notice a signal in.
NOTICED = 0.3


def test_while_something_is_suspended_every_new_request_is_refused_and_then_the_server_ends(tmp_path: Path) -> None:
    suspended = [Ask(method, headers=("X-Delay: 1500",)) for method in ("INVITE", "OPTIONS")]
    with (
        running_workload(tmp_path, 4) as workload,
        Load(workload.server.address, suspended, 1000, 3) as before,
        Load(workload.server.address, itertools.repeat(Ask("MESSAGE", "now")), 200, 3) as load,
    ):
        server = workload.server
        before.wait_until(lambda: len(workload.asked()) == len(suspended))
        load.wait_for_answers(50)
        # As a terminal or a service manager may do it: every process of the group gets it.
        server.send_signal_to_group(signal.SIGTERM)
        server.wait_for_log("INFO [main] stopping")
        stopped = time.monotonic()
        before.wait_for_all()
        refused = [sent for sent in load.transactions.values() if sent.began > stopped + NOTICED]
        load.stop()
        assert before.statuses() == {"200 INVITE": 1, "200 OPTIONS": 1}
        assert server.wait(3) == 0
    answered = [sent for sent in refused if sent.final is not None]
    assert len(answered) > 50
    assert {sent.status for sent in answered} == {503}
    assert all(int(sent.final.header("Retry-After") or "0") > 0 for sent in answered if sent.final)
    # But for the last ones, which met nobody any more.
    last = max(sent.began for sent in answered)
    ignored = [str(sent) for sent in refused if sent.final is None and sent.began < last]
    assert not ignored, ignored[:10]


def test_workers_of_before_a_reload_end_what_they_have_while_all_new_requests_are_refused(tmp_path: Path) -> None:
    with (
        running_workload(tmp_path, 2) as workload,
        Load(workload.server.address, [Ask(headers=("X-Delay: 1200",))] * 10, 1000, 3) as before,
    ):
        server = workload.server
        before.wait_until(lambda: len(workload.asked()) == 10)
        server.reload()
        server.send_signal(signal.SIGTERM)
        server.wait_for_log("INFO [main] stopping")
        time.sleep(NOTICED)
        with Load(server.address, [Ask("MESSAGE", "now")] * 40, 400, 3) as load:
            load.wait_for_all()
            assert load.statuses() == {"503 MESSAGE": 40}
        before.wait_for_all()
        assert before.statuses() == {"200 OPTIONS": 10}
        assert server.wait(3) == 0


def test_what_is_not_answered_in_time_ends_in_its_error_route(tmp_path: Path) -> None:
    asks = [Ask(method, headers=("X-Delay: 60000",)) for method in ("INVITE", "OPTIONS") for _ in range(20)]
    with (
        running_workload(tmp_path, 2, head="drain_timeout=400\n") as workload,
        Load(workload.server.address, asks, 1000, 3) as load,
    ):
        load.wait_until(lambda: len(workload.asked()) == len(asks))
        began = time.monotonic()
        workload.server.send_signal(signal.SIGTERM)
        transactions = load.wait_for_all()
        assert workload.server.wait(3) == 0
        assert 0.4 <= time.monotonic() - began < 2.0
    assert load.statuses() == {"500 INVITE": 20, "500 OPTIONS": 20}
    assert {sent.final.header("X-Result") for sent in transactions if sent.final} == {"failure"}
    assert all(0.4 <= sent.ended - began < 2.0 for sent in transactions if sent.ended)


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with (
        running_workload(tmp_path, 2, head="drain_timeout=60000\n") as workload,
        Load(workload.server.address, [Ask(headers=("X-Delay: 60000",))], 1000) as load,
    ):
        load.wait_until(lambda: len(workload.asked()) == 1)
        workload.server.send_signal(signal.SIGTERM)
        workload.server.wait_for_log("INFO [main] stopping")
        workload.server.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert workload.server.wait(3) == 0
        assert time.monotonic() - began < 1.0
        assert not load.answered


def test_a_module_that_fails_at_the_end_does_not_keep_the_server(tmp_path: Path) -> None:
    nuisance = Nuisance(tmp_path)
    with running_workload(
        tmp_path, 2, head=nuisance.head, environment=nuisance.environment, may_raise=True
    ) as workload:
        nuisance.orders("destroy raise")
        workload.server.send_signal(signal.SIGTERM)
        assert workload.server.wait(3) == 0
        assert workload.server.log.count("RuntimeError: the nuisance is broken") == 2
