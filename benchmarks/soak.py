"""A server under mixed load and random faults: whether every transaction is answered, and nothing is left behind.

    python benchmarks/soak.py                    # 20 minutes
    python benchmarks/soak.py --seconds 60       # as in CI
    python benchmarks/soak.py --seed 4711        # the faults of an earlier run

`soak_client.py` sends (every kind of transaction, retransmissions, malformed datagrams), `soak_service.py` answers the
calls, twice, `configs/soak.cfg` is the script. Meanwhile, at moments that follow from the seed: workers are killed or
held up (SIGSTOP), the services are killed, held up, or reset their connections, the script is reloaded, and so is one
that is wrong. In the middle part of the run the workers are neither killed nor replaced, so that each gets old enough
to see whether its memory grows.

In the end it is checked that

- the client got an answer to each of its transactions, one that can be, and its own;
- memory has not grown: that of a worker since its warm-up, that of later workers beside the first ones of equal age,
  that of the supervisor;
- the supervisor, the workers and the services have the file descriptors that they had at the beginning;
- nothing is pending: no transaction without an answer, no suspension, no call, no process too many;
- the counters of each process balance (sipwright.engine.stats.Counters), and so do those of its calls;
- the log says nothing that was not to be expected;
- the server ends by itself when it is told to, and no process or shared memory of it is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import procfs
from soak_watch import (
    Life,
    ServerLog,
    check_client,
    check_counters,
    check_descriptors,
    check_log,
    check_memory,
    print_memory,
)

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
SERVICES = 2
SHARED_MEMORY = Path("/dev/shm")
READY_SECONDS = 15.0
SAMPLE_INTERVAL = 1.0
# Parts of the run: until here everything may happen, then the workers are spared, then everything again, then nothing.
SPARED_FROM, SPARED_UNTIL, FAULTS_UNTIL = 0.2, 0.65, 0.95
# After the load: what a worker that was replaced drains and lingers (soak.cfg: 64 * 0.1 s), and more.
SETTLE_SECONDS = 30.0


def main() -> int:
    """Run it; return the exit status: 0 when all holds, else 1."""
    parser = argparse.ArgumentParser(description="mixed load and random faults")
    parser.add_argument("--seconds", type=float, default=1200.0, help="of load")
    parser.add_argument("--rate", type=float, default=1000.0, help="transactions a second")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--interval", type=float, default=2.0, help="seconds from one fault to the next, on average")
    parser.add_argument("--seed", type=int, default=None, help="of the faults and the load (default: a new one)")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    # So that what was started is ended also when somebody else wants this to end.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="sipwright-soak-") as directory:
        soak = Soak(Path(directory), options.workers, options.rate, options.seconds, seed)
        try:
            soak.run(options.interval)
        finally:
            soak.kill_all()
    return 0 if print_report(soak) else 1


# ---- the run


class Soak:
    """One run: its processes, what is done to them, what was seen of them."""

    def __init__(self, directory: Path, workers: int, rate: float, seconds: float, seed: int) -> None:
        self._directory = directory
        self._workers = workers
        self._rate = rate
        self._seconds = seconds
        self.seed = seed
        self._random = random.Random(seed)
        self._config = directory / "soak.cfg"
        self._began = time.monotonic()
        self._later: list[tuple[float, Callable[[], object]]] = []
        self.faults: Counter[str] = Counter()
        self._service_ports = [_free_port(socket.SOCK_STREAM) for _ in range(SERVICES)]
        self._port = _free_port(socket.SOCK_DGRAM)
        self._services: list[subprocess.Popen[bytes]] = []
        self._client: subprocess.Popen[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self.lives: dict[int, Life] = {}
        self.supervisor: Life
        self.log = ServerLog(directory / "server.log")
        self.said: dict[str, Any] = {}
        self.wrong: list[str] = []

    def run(self, interval: float) -> None:
        """Start everything, load and disturb it, wait until all is at rest, look, and end it."""
        self._start()
        # Before, it could not be signalled.
        self._wait_until_serving()
        self._wait_until(self._is_at_rest, READY_SECONDS, "the server did not become ready")
        before = self._descriptors()
        for life in (*self.lives.values(), self.supervisor):
            life.begin_anew(self._now())
        self._start_client()
        self._disturb(interval)
        self._say("the load has ended, the client waits for its last answers")
        assert self._client is not None
        self.said = json.loads(self._client.communicate()[0])
        self._say("the client has ended")
        self._wait_until(self._is_at_rest, SETTLE_SECONDS, "the server did not come to rest")
        self._observe()
        living = [self.lives[pid] for pid in self._worker_pids()]
        self.wrong += [
            *check_client(self.said),
            *check_memory(list(self.lives.values()), self.supervisor),
            *check_descriptors(before, self._descriptors()),
            *check_counters(list(self.lives.values()), living),
            *check_log(self.log),
        ]
        self._stop()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _say(self, text: str) -> None:
        print(f"{self._now():7.1f} s  {text}", flush=True)

    # ---- processes

    def _start(self) -> None:
        text = (HERE / "configs" / "soak.cfg").read_text(encoding="utf-8")
        text = text.replace("@WORKERS@", str(self._workers)).replace("@FIRST_SERVICE@", str(self._service_ports[0]))
        self._config.write_text(text.replace("@SECOND_SERVICE@", str(self._service_ports[1])), encoding="utf-8")
        self._services = [self._start_service(number) for number in range(SERVICES)]
        command = [sys.executable, "-m", "sipwright", "run", "-E", "-f", str(self._config)]
        with (self._directory / "server.log").open("wb") as log:
            self._server = subprocess.Popen(
                [*command, "-l", f"udp:{HOST}:{self._port}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.supervisor = Life(self._server.pid, self._now())

    def _wait_until_serving(self) -> None:
        assert self._server is not None
        until = self._now() + READY_SECONDS
        while " is ready on " not in self._log_end():
            if self._server.poll() is not None or self._now() > until:
                raise RuntimeError(f"the server did not start within {READY_SECONDS:.0f} s:\n{self._log_end()}")
            time.sleep(0.05)

    def _start_service(self, number: int) -> subprocess.Popen[bytes]:
        with (self._directory / f"service{number}.log").open("ab") as log:
            command = [sys.executable, str(HERE / "soak_service.py"), str(self._service_ports[number])]
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Until it has a handler.
                preexec_fn=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
            )

    def _start_client(self) -> None:
        numbers = ("--rate", str(self._rate), "--seconds", str(self._seconds), "--seed", str(self.seed))
        command = [sys.executable, str(HERE / "soak_client.py"), HOST, str(self._port), *numbers]
        self._client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def _worker_pids(self) -> list[int]:
        assert self._server is not None
        return sorted(procfs.children(self._server.pid))

    def kill_all(self) -> None:
        """End whatever still runs."""
        for process in (*self._services, self._client, self._server):
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _stop(self) -> None:
        assert self._server is not None
        self._server.terminate()
        try:
            status = self._server.wait(15.0)
        except subprocess.TimeoutExpired:
            self.wrong.append("the server did not end within 15 s of SIGTERM")
            return
        if status != 0:
            self.wrong.append(f"the server ended with status {status}")
        left = procfs.members(self._server.pid)
        if left:
            self.wrong.append(f"processes of the server are left behind: {left}")
        files = [str(path) for path in SHARED_MEMORY.glob(f"sipwright-{self._server.pid}-*")]
        if files:
            self.wrong.append(f"shared memory of the server is left behind: {files}")

    # ---- faults

    def _disturb(self, interval: float) -> None:
        begin = self._now()
        next_fault = begin + interval
        assert self._client is not None
        while (now := self._now()) < begin + self._seconds:
            if self._client.poll() is not None:
                raise RuntimeError(f"the client ended with status {self._client.returncode}")
            if now >= next_fault and now < begin + FAULTS_UNTIL * self._seconds:
                spared = SPARED_FROM <= (now - begin) / self._seconds < SPARED_UNTIL
                self._inject(spared)
                next_fault = now + interval * self._random.uniform(0.3, 1.7)
            self._observe()
            self._sleep(SAMPLE_INTERVAL)
        # Whatever is still to be undone.
        while self._later:
            self._sleep(0.1)

    def _inject(self, spared: bool) -> None:
        faults = {self._hold_up_worker: 3, self._kill_service: 3, self._hold_up_service: 2, self._reset_connections: 4}
        if not spared:
            faults |= {self._kill_worker: 10, self._reload: 4, self._reload_wrong_script: 1}
        (fault,) = self._random.choices(list(faults), list(faults.values()))
        self.faults[fault.__name__.strip("_").replace("_", " ")] += 1
        fault()

    def _kill_worker(self) -> None:
        pid = self._random.choice(self._worker_pids())
        self._say(f"kill -9 of worker process {pid}")
        _signal(pid, signal.SIGKILL)

    def _hold_up_worker(self) -> None:
        pid, seconds = self._random.choice(self._worker_pids()), self._random.uniform(0.1, 2.0)
        self._say(f"SIGSTOP of worker process {pid} for {seconds:.1f} s")
        self._hold_up(pid, seconds)

    def _kill_service(self) -> None:
        number, seconds = self._random.randrange(SERVICES), self._random.uniform(0.1, 2.0)
        self._say(f"kill -9 of service {number}, started again after {seconds:.1f} s")
        self._services[number].kill()
        self._services[number].wait()
        self._do_later(seconds, lambda: self._restart_service(number))

    def _restart_service(self, number: int) -> None:
        # It may have been killed twice.
        if self._services[number].poll() is not None:
            self._services[number] = self._start_service(number)

    def _hold_up_service(self) -> None:
        number, seconds = self._random.randrange(SERVICES), self._random.uniform(0.1, 3.0)
        self._say(f"SIGSTOP of service {number} for {seconds:.1f} s")
        self._hold_up(self._services[number].pid, seconds)

    def _reset_connections(self) -> None:
        number = self._random.randrange(SERVICES)
        self._say(f"service {number} resets its connections")
        self._services[number].send_signal(signal.SIGUSR1)

    def _reload(self) -> None:
        self._say("SIGHUP")
        assert self._server is not None
        self._server.send_signal(signal.SIGHUP)

    def _reload_wrong_script(self) -> None:
        self._say("SIGHUP with a script that is wrong")
        text = self._config.read_text(encoding="utf-8")
        self._config.write_text(text.replace("sl_send_reply(", "sl_send_rply(", 1), encoding="utf-8")
        refused = self.log.refused_reloads
        assert self._server is not None
        self._server.send_signal(signal.SIGHUP)
        self._wait_until(lambda: self.log.refused_reloads > refused, 10.0, "a wrong script was not refused")
        self._config.write_text(text, encoding="utf-8")

    def _hold_up(self, pid: int, seconds: float) -> None:
        _signal(pid, signal.SIGSTOP)
        self._do_later(seconds, lambda: _signal(pid, signal.SIGCONT))

    def _do_later(self, seconds: float, what: Callable[[], object]) -> None:
        self._later.append((self._now() + seconds, what))

    def _sleep(self, seconds: float) -> None:
        """Sleep, and do meanwhile what was to be done later."""
        until = self._now() + seconds
        while (left := until - self._now()) > 0:
            for item in [item for item in self._later if item[0] <= self._now()]:
                self._later.remove(item)
                item[1]()
            time.sleep(min(left, 0.05))

    # ---- observing

    def _observe(self) -> None:
        """Sample every process of the server, and take what its log says."""
        assert self._server is not None
        now = self._now()
        # The supervisor tells what it last heard of each worker.
        self._server.send_signal(signal.SIGUSR1)
        for index, pid, counters in self.log.read():
            life = self.lives.setdefault(pid, Life(pid, now))
            life.index = index
            life.tell(counters)
        for pid in self._worker_pids():
            self.lives.setdefault(pid, Life(pid, now)).sample(now)
        self.supervisor.sample(now)

    def _is_at_rest(self) -> bool:
        """Tell whether all workers and services are there and connected, and nothing waits for anything."""
        assert self._server is not None
        if self._server.poll() is not None:
            raise RuntimeError(f"the server ended with status {self._server.returncode}:\n{self._log_end()}")
        living = [self.lives[pid] for pid in self._worker_pids() if pid in self.lives]
        return (
            len(living) == self._workers
            and all(life.is_at_rest and self._connections(life.pid) == SERVICES for life in living)
            and all(service.poll() is None for service in self._services)
        )

    def _connections(self, pid: int) -> int:
        """Count the connections of a worker to the services."""
        ports = {f"{port:04X}" for port in self._service_ports}
        with contextlib.suppress(OSError):
            rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
            # Fields: number, own address, the other's, state (1: established) ..., inode.
            inodes = {f"socket:[{row[9]}]" for row in rows if row[2].partition(":")[2] in ports and row[3] == "01"}
            return sum(os.readlink(link) in inodes for link in Path(f"/proc/{pid}/fd").iterdir())
        return 0

    def _descriptors(self) -> dict[str, list[str]]:
        """Return what the file descriptors of each kind of process lead to."""
        assert self._server is not None
        return {
            "the supervisor": procfs.descriptors(self._server.pid),
            "the workers": sorted(name for pid in self._worker_pids() for name in procfs.descriptors(pid)),
            "the services": sorted(name for service in self._services for name in procfs.descriptors(service.pid)),
        }

    def _wait_until(self, holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
        until = self._now() + seconds
        while not holds():
            if self._now() > until:
                self.wrong.append(f"{otherwise} within {seconds:.0f} s")
                return
            self._sleep(SAMPLE_INTERVAL)
            self._observe()

    def _log_end(self) -> str:
        return (self._directory / "server.log").read_text(encoding="utf-8", errors="replace")[-3000:]


def print_report(soak: Soak) -> bool:
    """Print what happened and what was wrong; tell whether all was well."""
    print("\nanswers of each kind of transaction")
    for name, answers in soak.said["answers"].items():
        print(f"  {name:24} " + "  ".join(f"{status}: {number}" for status, number in answers.items()))
    counts = soak.said["counts"]
    print("  " + ", ".join(f"{number} {name}" for name, number in sorted(counts.items())))
    print(f"  the slowest answer came after {soak.said['slowest']:.1f} s")
    print("faults: " + ", ".join(f"{number} times {name}" for name, number in soak.faults.items()))
    print(f"  {soak.log.kills} workers seen killed, {soak.log.reloads} reloads, {soak.log.refused_reloads} refused")
    print_memory(list(soak.lives.values()), soak.supervisor)
    if soak.wrong:
        print(f"\nFAILED (seed {soak.seed})")
        for line in soak.wrong:
            print(f"  - {line}")
    else:
        print("\nall holds")
    return not soak.wrong


def _signal(pid: int, number: signal.Signals) -> None:
    # It may have ended meanwhile.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
