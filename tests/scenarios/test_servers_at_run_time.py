"""JSON-RPC servers that are added, drained and removed while a server with several workers is under load.

Every call must end with the answer of a service; nothing may fail because of a change.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sipwright.testing.fakerpc import FakeRpcServer, after, result
from tests.scenarios.ctl import Ctl
from tests.scenarios.load import Ask, Load
from tests.scenarios.processes import SipwrightProcess
from tests.scenarios.scripts import script

pytestmark = pytest.mark.scenario

ROUTES = """
route[SCENARIO] { jsonrpc_request("decide", "{}", "RESPONSE", "ERROR", "$var(result)"); }
route[RESPONSE] { append_to_reply("X-Worker: $pp\\r\\n"); t_reply("200", "OK"); }
route[ERROR] { t_reply("500", "$var(result)"); }
"""
PARAMETERS = """
modparam("jsonrpc", "group", "others=>")
modparam("jsonrpc", "timeout", 5000)
modparam("jsonrpc", "reconnect_interval", 50)
"""
WORKERS = 2


class Service(FakeRpcServer):
    """Answers after 20 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.on("decide", after(0.02, result("yes")))

    def connections_used(self, since: int = 0) -> set[int]:
        """Return which connections calls have come on, from the `since`-th call on."""
        return {call.connection for call in self.calls[since:]}


@contextmanager
def serving(tmp_path: Path, *services: Service) -> Iterator[tuple[SipwrightProcess, Ctl]]:
    ctl = Ctl(tmp_path / "c.sock")
    text = script(ROUTES, *(service.port for service in services), parameters=PARAMETERS)
    arguments = ["-n", str(WORKERS), "--control", str(ctl.path)]
    with SipwrightProcess(text, tmp_path, arguments) as server:
        for service in services:
            # One connection of each worker.
            server.wait_until(lambda s=service: len(s.connections) == WORKERS, "not connected")  # type: ignore[misc]
        yield server, ctl


@contextmanager
def under_load(server: SipwrightProcess, rate: int = 300) -> Iterator[Load]:
    """Ask all the time; at the end everything that was asked must have been answered, and well."""
    with Load(server.address, itertools.repeat(Ask()), rate, 3) as load:
        load.wait_for_answers(20)
        yield load
        load.finish()
        assert set(load.statuses()) == {"200 OPTIONS"}


def listed(ctl: Ctl) -> dict[int, list[tuple[str, str, str]]]:
    """Return group, address and state of each server, by worker."""
    answers: list[dict[str, Any]] = ctl.ask("jsonrpc.servers")
    return {
        answer["worker"]: sorted((row["group"], row["address"], row["state"]) for row in answer["result"])
        for answer in answers
    }


def in_every_worker(*rows: tuple[str, str, str]) -> dict[int, list[tuple[str, str, str]]]:
    return {index: sorted(rows) for index in range(WORKERS)}


def test_a_server_comes_and_goes_under_load_and_nothing_fails(tmp_path: Path) -> None:
    with Service() as one, Service() as two, serving(tmp_path, one) as (server, ctl), under_load(server) as load:
        assert ctl.ask("jsonrpc.add_server", f"{two.address},1,3") == {
            "group": "", "address": two.address, "priority": 1, "weight": 3,
        }  # fmt: skip
        server.wait_until(lambda: len(two.connections_used()) == WORKERS, "not used by every worker")
        rows = [("", one.address, "connected"), ("", two.address, "connected")]
        assert listed(ctl) == in_every_worker(*rows)

        # The new one has three of four calls.
        before = len(one.calls), len(two.calls)
        load.wait_for_answers(200)
        share = (len(two.calls) - before[1]) / (len(one.calls) - before[0])
        assert 2.2 < share < 4

        pending = ctl.ask("jsonrpc.drain_server", one.address)["pending"]
        assert pending >= 0
        assert listed(ctl) == in_every_worker(("", one.address, "drained"), rows[1])
        asked = len(one.calls)
        load.wait_for_answers(200)
        assert len(one.calls) == asked, "a drained server was asked"

        assert ctl.ask("jsonrpc.remove_server", one.address) == {"pending": 0}
        server.wait_until(lambda: not one.connections, "the connections were not closed")
        assert listed(ctl) == in_every_worker(rows[1])
        load.wait_for_answers(100)
        answered = load.answered
        stats = ctl.ask("jsonrpc.stats")
        assert stats["failures"] == stats["timeouts"] == stats["errors"] == 0
        assert stats["calls"] >= answered

        # What was done is in the log, by each worker.
        for said in (
            f"JSON-RPC server {two.address} is added by a command, priority 1, weight 3",
            f"JSON-RPC server {one.address} is drained by a command, ",
            f"JSON-RPC server {one.address} is removed by a command, 0 calls are open",
        ):
            server.wait_for_log(said, WORKERS)


def test_a_drained_server_ends_the_calls_that_are_open_and_is_asked_again_once_it_is_added(tmp_path: Path) -> None:
    with Service() as one, Service() as two, serving(tmp_path, one, two) as (server, ctl):
        one.on("decide", after(1.5, result("late")))
        with Load(server.address, [Ask()] * 40, 2000, 3) as load:
            load.wait_until(lambda: load.begun == 40)
            load.wait_until(lambda: len(one.calls) + len(two.calls) == 40)
            # Each worker asks both by turns.
            assert 18 <= len(one.calls) <= 22
            assert ctl.ask("jsonrpc.drain_server", one.address) == {"pending": len(one.calls)}
            load.wait_for_all()
            assert load.statuses() == {"200 OPTIONS": 40}
        one.on("decide", result("soon"))
        assert ctl.ask("jsonrpc.add_server", f"{one.address},1")["priority"] == 1
        with under_load(server):
            server.wait_until(lambda: len(one.connections_used(22)) == WORKERS, "not asked by every worker")


def test_a_worker_that_is_killed_comes_back_with_the_changed_list(tmp_path: Path) -> None:
    with Service() as one, Service() as two, Service() as three, serving(tmp_path, one, two) as (server, ctl):
        ctl.ask("jsonrpc.add_server", f"{three.address},1")
        ctl.ask("jsonrpc.add_server", f"{three.address},1", "others")
        ctl.ask("jsonrpc.drain_server", two.address)
        ctl.ask("jsonrpc.remove_server", one.address)
        changed = in_every_worker(
            ("", two.address, "drained"), ("", three.address, "connected"), ("others", three.address, "connected")
        )
        server.wait_until(lambda: listed(ctl) == changed, "the list was not changed")
        for number, (index, pid) in enumerate(server.workers().items(), 1):
            os.kill(pid, signal.SIGKILL)
            server.wait_for_log(f"worker {index} (pid {pid}) was killed")
            server.wait_for_log("was started in place of the one that died", number)
            server.wait_until(lambda: listed(ctl) == changed, f"the list of worker {index} is another one")
        asked = len(one.calls), len(two.calls)
        with under_load(server) as load:
            load.wait_for_answers(100)
        assert (len(one.calls), len(two.calls)) == asked
        # One that is taken away again is not brought back by anybody either.
        ctl.ask("jsonrpc.remove_server", three.address, "others")
        os.kill(server.workers()[0], signal.SIGKILL)
        server.wait_for_log("was started in place of the one that died", 3)
        without = in_every_worker(("", two.address, "drained"), ("", three.address, "connected"))
        server.wait_until(lambda: listed(ctl) == without, "it was brought back")


def test_a_reload_takes_the_list_of_the_script(tmp_path: Path) -> None:
    with Service() as one, Service() as two, serving(tmp_path, one) as (server, ctl):
        ctl.ask("jsonrpc.add_server", two.address)
        ctl.ask("jsonrpc.remove_server", one.address)
        assert [row[1] for row in listed(ctl)[0]] == [two.address]
        with under_load(server) as load:
            ctl.ask("core.reload")
            server.wait_until(lambda: [row[1] for row in listed(ctl)[0]] == [one.address], "another list")
            load.wait_for_answers(50)
        # Whoever added it wants to know that it is gone.
        server.wait_for_log("what commands had changed is as the script says again: jsonrpc:server:=>")
        assert f"jsonrpc:server:=>{two.address}" in server.log
        new = [row["pid"] for row in ctl.ask("core.ps") if row["generation"] == 1 and row["worker"] == 1]
        os.kill(new[0], signal.SIGKILL)
        server.wait_for_log("was started in place of the one that died")
        assert Counter(row[1] for rows in listed(ctl).values() for row in rows) == {one.address: WORKERS}


def test_what_cannot_be_changed_is_told_and_changes_nothing(tmp_path: Path) -> None:
    with Service() as one, serving(tmp_path, one) as (_, ctl):
        before = listed(ctl)
        assert ctl.refused("jsonrpc.add_server", "127.0.0.1") == "'127.0.0.1,1' has no port: expected host:port"
        assert ctl.refused("jsonrpc.add_server", "a:1,1 b:1,1") == "server is one server, not 2"
        assert ctl.refused("jsonrpc.add_server", "a:1,1", "othres") == (
            "there is no group 'othres' of servers; the script has: others"
        )
        assert ctl.refused("jsonrpc.add_server") == (
            "'jsonrpc.add_server' needs the parameter 'server': it takes server [group]"
        )
        assert ctl.refused("jsonrpc.add_server", "7") == "server is a text like '127.0.0.1:9999,1', not 7"
        assert ctl.refused("jsonrpc.drain_server", "127.0.0.1:1") == "there is no server 127.0.0.1:1"
        assert ctl.refused("jsonrpc.remove_server", one.address, "others") == (
            f"there is no server {one.address} in the group 'others'"
        )
        assert listed(ctl) == before
