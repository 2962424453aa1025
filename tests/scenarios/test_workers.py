"""The supervisor, seen from outside: what it starts, what it starts again, what it gives up, and what it tells."""

from __future__ import annotations

import itertools
import os
import pwd
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.scenarios.load import Ask, Load
from tests.scenarios.nuisance import Nuisance
from tests.scenarios.processes import HOST, SipwrightProcess, free_port
from tests.scenarios.scripts import script

pytestmark = pytest.mark.scenario

ANSWER = """
route[SCENARIO] {
    append_to_reply("X-Worker: $pp\\r\\n");
    sl_send_reply("200", "OK");
}
"""


class Manager:
    """Stands for systemd: takes what it is told, with the time at which it came."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify"
        self.told: list[tuple[float, dict[str, str]]] = []
        self._heard = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(4096):
            self.told.append((time.monotonic(), dict(line.split("=", 1) for line in data.decode().splitlines())))

    def hear(self, name: str) -> dict[str, str]:
        """Wait until `name` is told, behind what was heard before; return all that is told with it."""
        deadline = time.monotonic() + 10
        while True:
            while self._heard == len(self.told):
                assert time.monotonic() < deadline, f"{name} was not told, but {self.told}"
                time.sleep(0.005)
            self._heard += 1
            told = self.told[self._heard - 1][1]
            if name in told:
                return told

    def times_of(self, name: str) -> list[float]:
        """Return when `name` was told."""
        return [when for when, told in self.told if name in told]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(self.path))
        self._thread.join(5)
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


def answering(head: str = "", children: int | None = None) -> str:
    """Return a script that answers everything and tells the worker's process id."""
    text = script(ANSWER, servers="", parameters=head)
    return text.replace("children=1\n", "" if children is None else f"children={children}\n")


def run_to_the_end(tmp_path: Path, text: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Start a server that should not get far; return its exit status and what it wrote."""
    server = SipwrightProcess(text, tmp_path, arguments)
    done = subprocess.run(
        server.command, capture_output=True, text=True, timeout=15, env={**os.environ, **environment}, check=False
    )
    return done.returncode, done.stderr


def answering_pids(server: SipwrightProcess, number: int = 60) -> set[int]:
    """Return the process ids of those who answer; every request must be answered."""
    with Load(server.address, [Ask("OPTIONS", "now")] * number, 2000, 3) as load:
        transactions = load.wait_for_all()
    assert load.statuses() == {"200 OPTIONS": number}
    return {sent.worker for sent in transactions if sent.worker}


# ---- what is started


@pytest.mark.parametrize(
    ("children", "arguments", "expected"),
    [
        (4, ("-n", "2"), 2),
        (3, (), 3),
        (None, (), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
    ],
)
def test_there_are_as_many_workers_as_asked_for_and_all_of_them_answer(
    tmp_path: Path, children: int | None, arguments: Sequence[str], expected: int
) -> None:
    with SipwrightProcess(answering(children=children), tmp_path, arguments) as server:
        workers = server.workers()
        assert sorted(workers) == list(range(expected))
        assert answering_pids(server, 40 * expected) == set(workers.values())
        assert f"({expected} workers)" in server.log or expected == 1


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (answering().replace("sl_send_reply", "sl_send_replay"), (), "unknown function 'sl_send_replay'"),
        (answering(children=1000), (), "'children' must be from 1 to 999, not 1000"),
        (answering(), ("-u", "nobody-of-that-name"), "there is no user 'nobody-of-that-name' on this system"),
    ],
)
def test_what_cannot_be_started_opens_nothing(
    tmp_path: Path, text: str, arguments: Sequence[str], message: str
) -> None:
    pid_file = tmp_path / "pid"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        # Had it tried to listen there, it would say that it cannot.
        taken.bind((HOST, 0))
        address = f"udp:{HOST}:{taken.getsockname()[1]}"
        status, said = run_to_the_end(tmp_path, text, "-l", address, "-P", str(pid_file), *arguments)
    assert status == 1
    assert message in said
    assert "cannot listen" not in said
    assert "Traceback" not in said
    assert not pid_file.exists()


def test_an_address_that_is_taken_is_told_and_no_worker_is_started(tmp_path: Path) -> None:
    with SipwrightProcess(answering(), tmp_path, ["-n", "2"]) as first:
        port = first.address[1]
        status, said = run_to_the_end(tmp_path, answering(), "-n", "2", "-l", f"udp:{HOST}:{port}")
        assert status == 1
        assert said.endswith(f"cannot listen on udp:{HOST}:{port}: the address is already in use by another program\n")
        # And it has taken nothing away from the one that runs.
        assert answering_pids(first) == set(first.workers().values())


# ---- what is started again, and what is not


def test_a_worker_that_dies_is_replaced_under_its_index(tmp_path: Path) -> None:
    with SipwrightProcess(answering(), tmp_path, ["-n", "3"]) as server:
        before = server.workers()
        os.kill(before[1], signal.SIGKILL)
        server.wait_for_log("was started in place of the one that died")
        assert f"ERROR [main] worker 1 (pid {before[1]}) was killed by SIGKILL" in server.log
        after = server.workers()
        assert after.keys() == before.keys()
        assert {index for index in after if after[index] != before[index]} == {1}
        assert answering_pids(server, 100) == set(after.values())
        # One that ends without need is replaced, too.
        os.kill(after[2], signal.SIGTERM)
        server.wait_for_log("was started in place of the one that died", 2)
        assert f"ERROR [main] worker 2 (pid {after[2]}) ended with status 0" in server.log
        assert answering_pids(server, 100) == set(server.workers().values())


def test_a_worker_that_dies_again_and_again_ends_the_server_with_a_message(tmp_path: Path) -> None:
    nuisance = Nuisance(tmp_path)
    text = answering(nuisance.head + 'modparam("nuisance", "workers", "1")\n')
    with SipwrightProcess(text, tmp_path, ["-n", "2"], environment=nuisance.environment) as server:
        nuisance.orders("child die")
        os.kill(server.workers()[1], signal.SIGKILL)
        assert server.wait(10) == 1
        assert server.log.endswith(
            "sipwright: worker 1 died again and again before it was ready; the log says why\n"
        ), server.log
        # It was killed once by us; then it was started five times, each time but the first a little later.
        assert server.log.count("was killed by SIGKILL") == 6
        assert "worker 1 is started again in 0.4 s" in server.log


def test_a_worker_that_is_well_again_after_some_tries_goes_on(tmp_path: Path) -> None:
    nuisance = Nuisance(tmp_path)
    with SipwrightProcess(answering(nuisance.head), tmp_path, ["-n", "2"], environment=nuisance.environment) as server:
        nuisance.orders("child fail")
        os.kill(server.workers()[1], signal.SIGKILL)
        server.wait_for_log("cannot start: the nuisance has no licence", 2)
        nuisance.orders("")
        server.wait_until(lambda: len(answering_pids(server)) == 2, "the worker did not come back")


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ("child fail", "sipwright: the nuisance has no licence\n"),
        ("child die", ") was killed by SIGKILL before it was ready\n"),
        ("child raise", ") ended with status 1 before it was ready\n"),
        ("init fail", "sipwright: the nuisance has no licence\n"),
    ],
)
def test_a_module_that_fails_at_the_start_ends_the_server_with_a_message(
    tmp_path: Path, orders: str, message: str
) -> None:
    nuisance = Nuisance(tmp_path)
    nuisance.orders(orders)
    port = free_port()
    listen = ["-n", "2", "-l", f"udp:{HOST}:{port}"]
    status, said = run_to_the_end(tmp_path, answering(nuisance.head), *listen, **nuisance.environment)
    assert status == 1
    assert said.endswith(message), said
    assert " is ready on " not in said
    assert ("Traceback" in said) == (orders == "child raise")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((HOST, port))


# A server that waits ten and thirty times less: ten and thirty seconds are too long for a test.
HASTY = """
import sys
from sipwright.cli.main import main
from sipwright.workers import child, supervisor
child.BEAT_INTERVAL = supervisor.STATUS_INTERVAL = 0.1
supervisor.SILENT_SECONDS, supervisor.HUNG_SECONDS = 1.0, 1.8
sys.exit(main(sys.argv[1:]))
"""


def test_a_worker_that_hangs_is_reported_then_killed_and_replaced_before_systemd_ends_all(
    tmp_path: Path, manager: Manager
) -> None:
    allowed = 4.0
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": str(int(allowed * 1_000_000))}
    with SipwrightProcess(answering(), tmp_path, ["-n", "2"], environment=environment, program=("-c", HASTY)) as server:
        before = server.workers()
        os.kill(before[0], signal.SIGSTOP)
        server.wait_for_log(" s: something blocks it")
        server.wait_for_log(" s: it is killed")
        assert server.log.count(f"worker 0 (pid {before[0]}) has been silent for ") == 2
        server.wait_for_log("was started in place of the one that died")
        assert server.log.count("something blocks it") == 1
        assert answering_pids(server) == {server.workers()[0], before[1]}
        # It was fed until the worker was silent, and again when that was replaced: more often than half as often as it
        # wants, or the silence might have been too long for it.
        replaced = time.monotonic()
        while manager.times_of("WATCHDOG")[-1] < replaced:
            manager.hear("WATCHDOG")
        fed = manager.times_of("WATCHDOG")
        intervals = [later - earlier for earlier, later in itertools.pairwise(fed)]
        assert max(intervals) < allowed
        assert sum(interval < allowed / 8 for interval in intervals) > 3


# ---- pid file, user and group


def test_the_pid_file_is_the_supervisors_and_goes_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "sipwright.pid"
    with SipwrightProcess(answering(), tmp_path, ["-n", "2", "-P", str(pid_file)]) as server:
        assert pid_file.read_text() == f"{server.popen.pid}\n"
        os.kill(server.workers()[0], signal.SIGKILL)
        server.wait_for_log("was started in place of the one that died")
        server.reload()
        assert pid_file.read_text() == f"{server.popen.pid}\n"
        # A second server of the same file is refused, on other ports too, and takes nothing away.
        second = ["-l", f"udp:{HOST}:{free_port()}", "-P", str(pid_file)]
        status, said = run_to_the_end(tmp_path, answering(), *second)
        assert status == 1
        assert said.endswith(f"the process {server.popen.pid} of the pid file {pid_file} is still running\n")
        assert pid_file.read_text() == f"{server.popen.pid}\n"
        server.send_signal(signal.SIGTERM)
        assert server.wait(5) == 0
    assert not pid_file.exists()


def test_the_pid_file_of_a_server_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    pid_file = tmp_path / "sipwright.pid"
    with SipwrightProcess(answering(), tmp_path, ["-n", "2", "-P", str(pid_file)]) as server:
        server.send_signal(signal.SIGKILL)
        server.wait(5)
        assert pid_file.exists()
    with SipwrightProcess(answering(), tmp_path, ["-n", "2", "-P", str(pid_file)]) as server:
        assert pid_file.read_text() == f"{server.popen.pid}\n"


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Yield a folder that everybody can get into, as `tmp_path` is not, with a folder `run` in it that is nobody's."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="sipwright-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "run").mkdir()
        os.chown(directory / "run", nobody.pw_uid, nobody.pw_gid)
        yield directory


@pytest.mark.parametrize("way", ["options", "script"])
def test_a_server_that_root_starts_becomes_the_user_it_is_told(open_directory: Path, way: str) -> None:
    nobody = pwd.getpwnam("nobody")
    pid_file = open_directory / "run" / "sipwright.pid"
    options = ["-n", "2", "-P", str(pid_file)]
    head = ""
    if way == "options":
        options += ["-u", "nobody", "-g", str(nobody.pw_gid)]
    else:
        head = 'user="nobody"\n'
    with SipwrightProcess(answering(head), open_directory, options) as server:
        pids = [server.popen.pid, *server.workers().values()]
        for pid in pids:
            assert os.stat(f"/proc/{pid}").st_uid == nobody.pw_uid
            identity = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            assert set(identity["Uid"].split()) == {str(nobody.pw_uid)}
            assert set(identity["Gid"].split()) == {str(nobody.pw_gid)}
            assert "0" not in identity["Groups"].split()
        # It can do without root all that it does later.
        os.kill(pids[1], signal.SIGKILL)
        server.wait_for_log("was started in place of the one that died")
        server.reload()
        assert answering_pids(server)
        assert pid_file.stat().st_uid == nobody.pw_uid
        server.send_signal(signal.SIGTERM)
        assert server.wait(5) == 0
    assert not pid_file.exists()


# ---- what systemd is told


def test_systemd_is_told_of_the_start_of_reloads_and_of_the_stop_in_order(tmp_path: Path, manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "400000"}
    with SipwrightProcess(answering(), tmp_path, ["-n", "2"], environment=environment) as server:
        ready = manager.hear("READY")
        assert manager.told[0][1] == ready, "something was told before it was ready"
        assert ready["MAINPID"] == str(server.popen.pid)
        assert ready["STATUS"].startswith("2 workers, ")
        for _ in range(2):
            assert manager.hear("WATCHDOG") == {"WATCHDOG": "1"}
        began = time.monotonic_ns() // 1000
        server.reload()
        assert int(manager.hear("RELOADING")["MONOTONIC_USEC"]) >= began
        manager.hear("READY")
        # A reload that fails is over as well.
        server.rewrite("request_route {")
        server.reload(is_good=False)
        manager.hear("RELOADING")
        manager.hear("READY")
        server.send_signal(signal.SIGTERM)
        manager.hear("STOPPING")
        assert server.wait(5) == 0
        states = [name for _, told in manager.told for name in told if name in ("READY", "RELOADING", "STOPPING")]
        assert states == ["READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"]


def test_the_watchdog_is_not_fed_while_a_worker_hangs(tmp_path: Path, manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "200000"}
    with SipwrightProcess(answering(), tmp_path, ["-n", "2"], environment=environment, program=("-c", HASTY)) as server:
        manager.hear("WATCHDOG")
        workers = server.workers()
        os.kill(workers[1], signal.SIGSTOP)
        server.wait_for_log("something blocks it")
        silent = time.monotonic()
        server.wait_for_log("was started in place of the one that died")
        # It is killed 0.8 s after it was found silent.
        assert not [when for when in manager.times_of("WATCHDOG") if silent + 0.1 < when < silent + 0.5]


def test_a_server_that_is_stopped_while_it_starts_never_says_that_it_is_ready(tmp_path: Path, manager: Manager) -> None:
    nuisance = Nuisance(tmp_path)
    nuisance.orders("child nap 0.4")
    server = SipwrightProcess(answering(nuisance.head), tmp_path, ["-n", "2", "-P", str(tmp_path / "pid")])
    environment = {**os.environ, **nuisance.environment, "NOTIFY_SOCKET": str(manager.path)}
    with subprocess.Popen(server.command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        deadline = time.monotonic() + 10
        while not (tmp_path / "pid").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert " is ready on " not in said
    assert manager.hear("STATUS") == {"STOPPING": "1", "STATUS": "stopping"}
    assert len(manager.told) == 1


# ---- signals


def test_a_terminal_that_sends_ctrl_c_to_every_process_ends_the_server_cleanly(tmp_path: Path) -> None:
    with SipwrightProcess(answering(), tmp_path, ["-n", "3"]) as server:
        for number in (signal.SIGHUP, signal.SIGUSR1):
            # Signals for the supervisor do no harm to workers.
            for pid in server.workers().values():
                os.kill(pid, number)
        assert len(answering_pids(server, 100)) == 3
        server.send_signal_to_group(signal.SIGINT)
        assert server.wait(5) == 0
        assert "Traceback" not in server.log
        assert "ERROR" not in server.log
        assert server.log.count("INFO [main] stopping") == 1


def test_sigusr1_logs_the_counters_of_each_worker_and_their_sum(tmp_path: Path) -> None:
    with SipwrightProcess(answering(), tmp_path, ["-n", "2"]) as server:
        answering_pids(server, 100)
        server.wait_until(
            lambda: server.statistics().totals.get("core:rcv_requests", 0) > 100, "the requests were not counted"
        )
        statistics = server.statistics()
        for name in ("core:rcv_requests", "core:answered", "sl:sent_replies"):
            assert sum(counters[name] for counters in statistics.workers.values()) == statistics.totals[name]
