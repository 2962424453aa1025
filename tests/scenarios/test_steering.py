"""Each datagram reaches the worker that its transaction belongs to, whoever chooses: the kernel or the workers.

Shown from outside: the service is asked once per transaction, each has one final reply, a CANCEL finds its INVITE, and
no ACK that belongs to a transaction reaches the script. Repetitions, CANCELs and ACKs come from other sockets than
their requests, so that the addresses do not help.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.load import Ask, Load
from tests.scenarios.processes import HOST, free_port
from tests.scenarios.via_forms import FORMS
from tests.scenarios.workload import Workload, assert_all_went_well, running_workload, wait_for_balance

pytestmark = pytest.mark.scenario

MODES = ["kernel", "peering"]
# The addresses must not give away what belongs together.
SOCKETS = 7


@pytest.fixture(params=MODES)
def steering(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the environment that says who chooses."""
    return {"SIPWRIGHT_STEERING": request.param}


def calls_of(form: str) -> Iterator[Ask]:
    """Give a request of each kind, with its head written in a form."""
    slow = ("X-Delay: 150",)
    yield Ask("OPTIONS", headers=slow, form=form, copies=3)
    yield Ask("OPTIONS", "now", form=form)
    yield Ask("INVITE", headers=slow, form=form, copies=3)
    yield Ask("INVITE", headers=("X-Final: 486", *slow), form=form, copies=3)
    yield Ask("INVITE", "refused", form=form, copies=1)
    yield Ask("INVITE", headers=("X-Delay: 8000",), form=form, copies=2, is_cancelled=True)
    for final in ((), ("X-Final: 486",)):
        # A new INVITE in the dialog, and the end of the dialog.
        again = Ask("INVITE", headers=(*final, *slow), form=form, copies=3, then=Ask("BYE", form=form))
        yield Ask("INVITE", form=form, then=again)


def assert_each_reached_its_worker(workload: Workload, *loads: Load) -> None:
    """Check every transaction, the service's calls, and what the workers have counted."""
    transactions = [sent for load in loads for sent in load.wait_for_all()]
    assert_all_went_well(workload, transactions)
    assert not any(load.stray for load in loads)
    totals = wait_for_balance(workload.server, *loads).totals
    accepted = [sent for sent in transactions if sent.method == "INVITE" and sent.status == 200]
    assert totals.get("core:acks", 0) == sum(sent.acks for sent in accepted)
    # Whose ACK had gone to another worker, would have been answered again.
    repeated = [str(sent) for sent in transactions if sent.method == "INVITE" and sent.acks > 1 + sent.sends]
    assert not repeated, repeated[:10]


def test_whatever_belongs_to_a_transaction_reaches_its_worker(tmp_path: Path, steering: dict[str, str]) -> None:
    asks = [ask for form in FORMS for ask in calls_of(form) for _ in range(4)]
    random.Random(1).shuffle(asks)
    with (
        running_workload(tmp_path, 3, environment=steering) as workload,
        Load(workload.server.address, asks, 400, SOCKETS) as load,
    ):
        assert_each_reached_its_worker(workload, load)


def some_of_each_kind() -> list[Ask]:
    """Give calls of a few forms, for tests that are not about these."""
    return [ask for form in ("common", "no_branch", "cookie_before") for ask in calls_of(form) for _ in range(5)]


def test_so_it_is_with_ipv6(tmp_path: Path, steering: dict[str, str]) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
    with (
        running_workload(tmp_path, 3, environment=steering, host="::1") as workload,
        Load(workload.server.address, some_of_each_kind(), 400, SOCKETS) as load,
    ):
        assert_each_reached_its_worker(workload, load)


def test_so_it_is_with_two_addresses_each_of_which_answers_for_itself(tmp_path: Path, steering: dict[str, str]) -> None:
    second = free_port()
    arguments = ["-l", f"udp:{HOST}:{second}"]
    with (
        running_workload(tmp_path, 3, environment=steering, arguments=arguments) as workload,
        Load(workload.server.address, some_of_each_kind(), 200, SOCKETS) as load,
        Load((HOST, second), some_of_each_kind(), 200, SOCKETS) as other,
    ):
        assert_each_reached_its_worker(workload, load, other)


@pytest.mark.parametrize("workers", [2, 4])
def test_one_socket_with_thousands_of_transactions_keeps_all_workers_evenly_busy(
    tmp_path: Path, steering: dict[str, str], workers: int
) -> None:
    number = 2400
    with (
        running_workload(tmp_path, workers, environment=steering) as workload,
        Load(workload.server.address, itertools.repeat(Ask(user="now"), number), 2500) as load,
    ):
        transactions = load.wait_for_all()
        assert load.statuses() == {"200 OPTIONS": number}
        statistics = wait_for_balance(workload.server, load)
        answered = Counter(sent.worker for sent in transactions)
    assert len(answered) == workers
    share = number / workers
    assert 0.8 * share <= min(answered.values()) <= max(answered.values()) <= 1.2 * share, answered
    # Its own counters say the same; a request or two asked whether the server is ready.
    for pid, counters in statistics.workers.items():
        assert answered[pid] <= counters["core:rcv_requests"] <= answered[pid] + 5
    handed_over = statistics.totals.get("peering:sent", 0)
    if steering["SIPWRIGHT_STEERING"] == "kernel":
        assert handed_over == 0, "the kernel does not choose"
    else:
        # Whom the address chose has handed over all but its own.
        assert 0.8 * share * (workers - 1) <= handed_over <= 1.2 * share * (workers - 1)
