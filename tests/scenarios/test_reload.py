"""SIGHUP puts a new script in the place of the old one, and nobody who is calling notices.

What the old workers have begun they end; what comes after the reload gets the new script; a script that is no good
changes nothing.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.load import Ask, Load, Sent, repeated_share
from tests.scenarios.nuisance import Nuisance
from tests.scenarios.processes import SippProcess
from tests.scenarios.sip_client import SipClient
from tests.scenarios.workload import (
    Workload,
    assert_all_went_well,
    port_of,
    running_workload,
    wait_for_balance,
    workload_script,
)

pytestmark = pytest.mark.scenario

WORKERS = 2
# Completed transactions are kept for half a second only, so that old workers end while a test looks.
SHORT = 'modparam("tm", "wt_timer", 500)\n'


def rewrite(workload: Workload, version: str, head: str = "") -> None:
    """Put the script of another version in the place of the one that the server has read."""
    workload.server.rewrite(workload_script(port_of(workload.service), version=version, head=head))


def mixed_calls() -> Iterator[Ask]:
    """Give calls of every kind, without end; some are suspended so long that they are repeated meanwhile."""
    refused, long = ("X-Final: 486", "X-Delay: 200"), ("X-Delay: 1200",)
    return itertools.cycle(
        [
            Ask("OPTIONS"),
            Ask("OPTIONS", headers=long),
            Ask("MESSAGE", "now"),
            Ask("INVITE", headers=("X-Delay: 300",), copies=2, then=Ask("BYE")),
            Ask("INVITE", headers=refused, form="no_branch", copies=1),
            Ask("INVITE", headers=("X-Delay: 5000",), is_cancelled=True),
            Ask("INVITE", "refused"),
            Ask("REGISTER", headers=long, form="cookie_before"),
        ]
    )


def assert_nothing_was_lost(workload: Workload, load: Load, transactions: list[Sent]) -> None:
    """Check every transaction, and that no reply came that belongs to none."""
    assert_all_went_well(workload, transactions)
    assert not load.stray


def test_several_reloads_in_a_row_lose_nothing_of_a_load(tmp_path: Path) -> None:
    with (
        running_workload(tmp_path, WORKERS) as workload,
        Load(workload.server.address, mixed_calls(), 300, 5) as load,
    ):
        for number in range(4):
            load.wait_for_answers(150)
            rewrite(workload, f"reloaded{number}")
            workload.server.reload()
        load.wait_for_answers(150)
        transactions = load.finish()
        assert_nothing_was_lost(workload, load, transactions)
        totals = wait_for_balance(workload.server, load).totals
        accepted = [sent for sent in transactions if sent.method == "INVITE" and sent.status == 200]
        assert totals["core:acks"] == sum(sent.acks for sent in accepted)
    versions = [sent.version for sent in sorted(transactions, key=lambda sent: sent.began) if sent.version]
    assert set(versions) == {"one", "reloaded0", "reloaded1", "reloaded2", "reloaded3"}
    assert versions[-1] == "reloaded3"


def test_the_sockets_go_from_old_workers_to_new_ones_without_loss(tmp_path: Path) -> None:
    calls = itertools.cycle([Ask("OPTIONS"), Ask("OPTIONS", "now"), Ask("INVITE", headers=("X-Delay: 100",))])
    with (
        running_workload(tmp_path, WORKERS, head=SHORT) as workload,
        Load(workload.server.address, calls, 300, 5) as load,
    ):
        before = set(workload.server.workers().values())
        for number in range(2):
            load.wait_for_answers(100)
            rewrite(workload, f"reloaded{number}", SHORT)
            workload.server.reload()
            # The old ones end by themselves; from then on the new ones read.
            workload.server.wait_until(
                lambda: len(workload.server.statistics().workers) == WORKERS, "the old workers did not end"
            )
        load.wait_for_answers(100)
        transactions = load.finish()
        after = set(workload.server.workers().values())
        assert not before & after
        assert load.statuses().keys() == {"200 OPTIONS", "200 INVITE"}
        assert_nothing_was_lost(workload, load, transactions)
        wait_for_balance(workload.server, load)
    # Nothing was left unread for as long as it takes to repeat it.
    assert repeated_share(transactions) < 0.1


def test_calls_of_sipp_that_are_suspended_go_through_reloads(tmp_path: Path) -> None:
    with (
        running_workload(tmp_path, WORKERS) as workload,
        SippProcess("invite", workload.server.address, tmp_path, calls=600, rate=250, service="slow") as sipp,
    ):
        for number in range(3):
            wanted = 150 * (number + 1)
            workload.server.wait_until(lambda: len(workload.asked()) >= wanted, "too few calls")  # noqa: B023
            rewrite(workload, f"reloaded{number}")
            workload.server.reload()
        assert sipp.wait(20) == 0, sipp.messages[-3000:]
        assert Counter(workload.asked().values()) == {1: 600}


def test_a_cancel_after_the_reload_finds_its_invite_in_the_old_worker(tmp_path: Path) -> None:
    with running_workload(tmp_path, WORKERS) as workload, SipClient(workload.server.address) as client:
        invites = [client.build("INVITE", "ask", headers={"X-Delay": "60000"}) for _ in range(6)]
        for invite in invites:
            client.send(invite)
            assert [reply.status for reply in client.replies(0.05)] == [100]
        workload.server.reload()
        for invite in invites:
            client.send(client.derive(invite, "CANCEL"))
            finals = {reply.header("CSeq"): reply for reply in (client.replies()[-1] for _ in range(2))}
            assert {name: reply.status for name, reply in finals.items()} == {"1 CANCEL": 200, "1 INVITE": 487}
            client.send(client.derive(invite, "ACK", finals["1 INVITE"]))
        # Its final reply would be repeated if the ACK had not found it.
        assert client.receive(0.7) is None
        assert "core:acks" not in workload.server.statistics().totals


def test_an_ack_after_the_reload_ends_the_repetition_of_a_2xx(tmp_path: Path) -> None:
    with running_workload(tmp_path, WORKERS) as workload, SipClient(workload.server.address) as client:
        calls = [(client.build("INVITE", "ask"), client.build("MESSAGE")) for _ in range(6)]
        answers = []
        for invite, _ in calls:
            client.send(invite)
            answers.append(client.replies()[-1])
        workload.server.reload()
        repeated = {reply.header("Call-ID") for reply in (client.receive() for _ in calls) if reply}
        assert repeated == {invite.call_id for invite, _ in calls}
        for (invite, other), answer in zip(calls, answers, strict=True):
            ack = client.derive(invite, "ACK", answer)
            ack.via = other.via
            client.send(ack)
        while client.receive(0.3):
            pass
        # The next repetition would be due one second after the first one.
        assert client.receive(1.2) is None


def test_a_worker_of_a_reload_may_end_before_an_older_one_does(tmp_path: Path) -> None:
    with (
        running_workload(tmp_path, WORKERS, head=SHORT) as workload,
        Load(workload.server.address, [Ask(headers=("X-Delay: 1800",))] * 4, 1000) as suspended,
    ):
        suspended.wait_until(lambda: len(workload.asked()) == 4)
        rewrite(workload, "two", SHORT)
        workload.server.reload()
        # The workers of `two` have nothing to do: this reload ends them before those that wait for the service.
        rewrite(workload, "three", SHORT)
        workload.server.reload()
        with Load(workload.server.address, itertools.repeat(Ask("OPTIONS", "now")), 200, 3) as load:
            load.wait_for_answers(150)
            transactions = load.finish()
        assert {sent.version for sent in transactions} == {"three"}
        assert repeated_share(transactions) < 0.1
        suspended.wait_for_all()
        assert suspended.statuses() == {"200 OPTIONS": 4}


def test_a_worker_in_the_middle_of_a_chain_of_reloads_may_be_killed(tmp_path: Path) -> None:
    with (
        running_workload(tmp_path, 1, head=SHORT) as workload,
        Load(workload.server.address, [Ask(headers=("X-Delay: 1800",))] * 4, 1000) as suspended,
    ):
        suspended.wait_until(lambda: len(workload.asked()) == 4)
        rewrite(workload, "two", SHORT)
        workload.server.reload()
        with Load(workload.server.address, [Ask(headers=("X-Delay: 60000",))], 1000) as in_the_middle:
            in_the_middle.wait_until(lambda: len(workload.asked()) == 5)
            rewrite(workload, "three", SHORT)
            workload.server.reload()
            _first, middle, _last = sorted(workload.server.statistics().workers)
            os.kill(middle, signal.SIGKILL)
            workload.server.wait_for_log(f"(pid {middle}) was killed by SIGKILL")
        with Load(workload.server.address, itertools.repeat(Ask("OPTIONS", "now")), 200, 3) as load:
            load.wait_for_answers(100)
            transactions = load.finish()
        assert {sent.version for sent in transactions} == {"three"}
        assert repeated_share(transactions) < 0.1
        suspended.wait_for_all()
        assert suspended.statuses() == {"200 OPTIONS": 4}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_reloads_leave_neither_memory_nor_descriptors_behind(tmp_path: Path) -> None:
    with running_workload(tmp_path, 1, head=SHORT) as workload:
        server = workload.server

        def reload_often(number: int) -> tuple[int, int, int]:
            for _ in range(number):
                server.reload()
            server.wait_until(lambda: len(server.statistics().workers) == 1, "the old workers did not end")
            return kilobytes(server.popen.pid), open_files(server.popen.pid), open_files(server.workers()[0])

        memory, *files = reload_often(5)
        memory_later, *files_later = reload_often(20)
        assert files_later == files
        # Each of them would leave at least 100 KB.
        assert memory_later - memory < 1000


def kilobytes(pid: int) -> int:
    """Return how much memory a process has for itself."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


# ---- reloads that meet something


def test_signals_that_come_while_a_reload_is_under_way_are_another_reload(tmp_path: Path) -> None:
    nuisance = Nuisance(tmp_path)
    with (
        running_workload(tmp_path, WORKERS, head=nuisance.head, environment=nuisance.environment) as workload,
        Load(workload.server.address, mixed_calls(), 200, 5) as load,
    ):
        nuisance.orders("child nap 0.4")
        rewrite(workload, "two", nuisance.head)
        workload.server.send_signal(signal.SIGHUP)
        workload.server.wait_for_log("INFO [main] reloading ")
        rewrite(workload, "three", nuisance.head)
        for _ in range(3):
            workload.server.send_signal(signal.SIGHUP)
        workload.server.wait_for_log("INFO [main] reloaded ", 2)
        load.wait_for_answers(100)
        transactions = load.finish()
        assert_nothing_was_lost(workload, load, transactions)
        assert workload.server.log.count("INFO [main] reloading ") == 2
    assert max(transactions, key=lambda sent: sent.began if sent.version else 0).version == "three"


def test_a_reload_that_fails_is_tried_again_when_a_signal_came_meanwhile(tmp_path: Path) -> None:
    nuisance = Nuisance(tmp_path)
    with running_workload(tmp_path, WORKERS, head=nuisance.head, environment=nuisance.environment) as workload:
        nuisance.orders("child nap 0.4")
        workload.server.send_signal(signal.SIGHUP)
        workload.server.wait_for_log("INFO [main] reloading ")
        before = set(workload.server.statistics().indices)
        workload.server.send_signal(signal.SIGHUP)
        newest = max(before)
        os.kill(newest, signal.SIGKILL)
        workload.server.wait_for_log("the script was not reloaded, nothing has changed")
        workload.server.wait_for_log("INFO [main] reloaded ")


@pytest.mark.parametrize("generation", ["old", "new"])
def test_a_worker_that_is_killed_in_the_middle_of_a_reload_costs_no_more_than_its_own_calls(
    tmp_path: Path, generation: str
) -> None:
    nuisance = Nuisance(tmp_path)
    # Requests that are repeated until they are answered.
    calls = itertools.cycle([Ask("OPTIONS"), Ask("OPTIONS", headers=("X-Delay: 100",)), Ask("MESSAGE", "now")])
    with (
        running_workload(tmp_path, WORKERS, head=nuisance.head, environment=nuisance.environment) as workload,
        Load(workload.server.address, calls, 200, 5) as load,
    ):
        old = set(workload.server.workers().values())
        load.wait_for_answers(50)
        nuisance.orders("child nap 0.5")
        rewrite(workload, "two", nuisance.head)
        workload.server.send_signal(signal.SIGHUP)
        workload.server.wait_for_log("INFO [main] reloading ")
        new = set(workload.server.statistics().workers) - old
        killed = min(old if generation == "old" else new)
        os.kill(killed, signal.SIGKILL)
        workload.server.wait_for_log(f"(pid {killed}) was killed by SIGKILL")
        is_reloaded = generation == "old"
        workload.server.wait_for_log("INFO [main] reloaded" if is_reloaded else "the script was not reloaded")
        load.wait_for_answers(100)
        transactions = load.finish()
        assert load.statuses().keys() == {"200 OPTIONS", "200 MESSAGE"}
        asked = workload.asked()
        assert {sent.call_id for sent in transactions if sent.ask.user == "ask"} == asked.keys()
        # The calls of the old worker that was killed are asked again; nobody else's are.
        assert sum(asked.values()) - len(asked) <= (25 if is_reloaded else 0)
        last = max(transactions, key=lambda sent: sent.began)
        assert last.version == ("two" if is_reloaded else "one")
        if not is_reloaded:
            assert set(workload.server.workers().values()) == old
            nuisance.orders("")
            workload.server.reload()


def test_old_workers_that_are_killed_after_the_reload_leave_their_sockets_to_the_new_ones(tmp_path: Path) -> None:
    calls = itertools.cycle([Ask("OPTIONS"), Ask("OPTIONS", headers=("X-Delay: 100",)), Ask("MESSAGE", "now")])
    with (
        running_workload(tmp_path, WORKERS) as workload,
        Load(workload.server.address, calls, 200, 5) as load,
    ):
        server, old = workload.server, set(workload.server.workers().values())
        load.wait_for_answers(50)
        rewrite(workload, "two")
        server.reload()
        load.wait_for_answers(50)
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        server.wait_for_log("was killed by SIGKILL", len(old))
        load.wait_for_answers(100)
        transactions = load.finish()
        assert load.statuses().keys() == {"200 OPTIONS", "200 MESSAGE"}
        # Nobody is started in their place, and what comes is read at once.
        assert sorted(server.workers()) == list(range(WORKERS))
        assert "in place of" not in server.log
        assert repeated_share(transactions) < 0.1


# ---- a new script that is no good


def assert_nothing_has_changed(workload: Workload, pids: dict[int, int]) -> None:
    """Check that the same workers answer as before, with the first script."""
    assert workload.server.workers() == pids
    with Load(workload.server.address, [Ask("OPTIONS", "now")] * 20, 1000, 3) as load:
        assert {(sent.worker, sent.version) for sent in load.wait_for_all()} <= {(pid, "one") for pid in pids.values()}


FAULTS = [
    (("t_reply(", "t_replay("), r"sipwright.cfg:\d+:\d+: unknown function 't_replay'"),
    (("route[SCENARIO]", "route[SCENERY]"), r"sipwright.cfg:\d+:\d+: route\[SCENARIO\] is not defined"),
    (("modparam(", "mdparam("), r"sipwright.cfg:\d+:\d+: .* mdparam "),
    (('"servers", "', '"servers", "nowhere:'), r"sipwright.cfg:\d+:\d+: "),
    (("children=2", "children=100000"), "'children' must be from 1 to 999, not 100000"),
]


def test_a_script_with_a_fault_changes_nothing_and_the_log_says_where_it_is(tmp_path: Path) -> None:
    with running_workload(tmp_path, None, head=f"children={WORKERS}\n") as workload:
        server, pids = workload.server, workload.server.workers()
        good = server.config.read_text()
        for change, reason in FAULTS:
            before = len(server.log)
            server.rewrite(good.replace(*change))
            server.reload(is_good=False)
            assert re.search(reason, server.log[before:])
            assert_nothing_has_changed(workload, pids)
        before = len(server.log)
        server.config.unlink()
        server.reload(is_good=False)
        assert re.search(r"sipwright\.cfg.*No such file", server.log[before:])
        assert_nothing_has_changed(workload, pids)
        rewrite(workload, "two", f"children={WORKERS}\n")
        server.reload()


TROUBLE = {
    "child fail": "the script was not reloaded, nothing has changed: the nuisance has no licence",
    "child raise": "RuntimeError: the nuisance is broken",
    "child die": "was killed by SIGKILL before all were ready",
    "init fail": "the nuisance has no licence",
    "init raise": "RuntimeError: the nuisance is broken",
}


def test_a_module_that_fails_to_start_changes_nothing(tmp_path: Path) -> None:
    nuisance = Nuisance(tmp_path)
    with running_workload(
        tmp_path, WORKERS, head=nuisance.head, environment=nuisance.environment, may_raise=True
    ) as workload:
        server, pids = workload.server, workload.server.workers()
        rewrite(workload, "two", nuisance.head)
        for orders, reason in TROUBLE.items():
            nuisance.orders(orders)
            before = len(server.log)
            server.reload(is_good=False)
            server.wait_until(lambda: len(server.statistics().workers) == WORKERS, "too many workers")
            # One that was on its way when the other failed is ended, too, and no other is started in its place.
            assert reason in server.log[before:]
            assert "in place of" not in server.log[before:]
            assert "the supervisor is gone" not in server.log
            assert_nothing_has_changed(workload, pids)
        nuisance.orders("")
        server.reload()
