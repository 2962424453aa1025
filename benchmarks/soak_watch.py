"""What soak.py sees of the server, and whether it is as it should be: each `check_` gives a list of what is not."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import procfs

# A worker's memory is compared from this age on (seconds): the first transactions have ended by then (soak.cfg).
WARM_UP = 12.0
# Seconds after the warm-up in which workers of different generations are compared.
EQUAL_AGE = 8.0
# A worker has to get so much older than its warm-up to say something about its growth.
LEAST = 9.0
# Bounds, in kB, of what may be added: to a worker while it gets older, from the first workers to later ones of equal
# age, to the supervisor.
WORKER_GROWTH = 4096
GENERATION_GROWTH = 4096
SUPERVISOR_GROWTH = 1024

REQUEST_ENDS = ("tm:absorbed", "tm:absorbed_acks", "core:acks", "core:answered", "core:dropped", "tm:live")
CALL_ENDS = ("results", "errors", "timeouts", "failures", "cancelled", "pending")
PENDING = ("tm:live", "tm:suspended", "jsonrpc:pending")


@dataclass(slots=True)
class Sample:
    """A process at one moment: its age (seconds), and what it has of the machine's memory (kB).

    That is with what it shares with the supervisor that it was forked from. What it has alone says nothing: it grows
    whenever the supervisor writes to a page that they had in common.
    """

    age: float
    rss: int


@dataclass(slots=True)
class Life:
    """A process of the server; `began` is when it was first seen, `index` which worker it is, as far as it is known.

    `counters` are the last ones that it told, those that are not zero; None: it has told none. `unbalanced` says what
    did not balance when it first did not.
    """

    pid: int
    began: float
    index: int | None = None
    samples: list[Sample] = field(default_factory=list)
    counters: dict[str, int] | None = None
    unbalanced: str | None = None

    def sample(self, now: float) -> None:
        """Look at its memory."""
        memory = procfs.memory(self.pid)
        if memory.rss:
            self.samples.append(Sample(now - self.began, memory.rss))

    def begin_anew(self, now: float) -> None:
        """Count its age from here on, and forget what its memory was."""
        self.began = now
        self.samples.clear()

    def tell(self, counters: dict[str, int]) -> None:
        """Take its counters."""
        self.counters = counters
        self.unbalanced = self.unbalanced or _imbalance(counters)

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing waited for anything when it last told its counters."""
        return self.counters is not None and not self.waiting

    @property
    def waiting(self) -> dict[str, int]:
        """What waited for something when it last told its counters."""
        counters = self.counters or {}
        return {name: counters[name] for name in PENDING if name in counters}

    @property
    def age(self) -> float:
        """How old it was when it was last seen."""
        return self.samples[-1].age if self.samples else 0.0

    @property
    def growth(self) -> tuple[float, float] | None:
        """What it had in the first and in the last third of its life after the warm-up, medians; None: too young."""
        if self.age < WARM_UP + LEAST:
            return None
        third = (self.age - WARM_UP) / 3
        early = self.rss_between(WARM_UP, WARM_UP + third)
        late = self.rss_between(self.age - third, self.age + 1)
        return None if early is None or late is None else (early, late)

    def rss_between(self, begin: float, end: float) -> float | None:
        """Return the median of what it had at these ages; None: it was not seen then."""
        found = [sample.rss for sample in self.samples if begin <= sample.age < end]
        return statistics.median(found) if found else None

    def __str__(self) -> str:
        return f"worker {'?' if self.index is None else self.index} (pid {self.pid})"


def _imbalance(counters: dict[str, int]) -> str | None:
    """Say what is not accounted for; None: all is. Requests without an answer are those of live transactions."""
    requests = counters.get("core:rcv_requests", 0)
    ends = sum(counters.get(name, 0) for name in REQUEST_ENDS)
    if requests != ends:
        return f"{requests} requests, {ends} accounted for ({_named(counters, REQUEST_ENDS)})"
    calls = counters.get("jsonrpc:calls", 0)
    names = [f"jsonrpc:{name}" for name in CALL_ENDS]
    ends = sum(counters.get(name, 0) for name in names)
    return None if calls == ends else f"{calls} calls, {ends} accounted for ({_named(counters, names)})"


def _named(counters: dict[str, int], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {counters.get(name, 0)}" for name in names)


class ServerLog:
    """The server's log, read on as it grows: the counters of workers, and the lines that were not to be expected."""

    _of_worker = re.compile(r"statistics of worker (\d+) \(pid (\d+)\): (.*)")
    # Time, level, and whose line it is.
    _prefix = re.compile(r"^(?:\S+ ){1,2}(DEBUG|INFO|NOTICE|WARNING|ERROR|CRITICAL|ALERT|BUG) (?:\[\S+\] )?")
    # What is done to the server makes these; of the rest, nothing above INFO is to be expected.
    _expected = re.compile(
        r"worker \d+ \(pid \d+\) was killed by SIGKILL"
        r"|JSON-RPC server \S+: "
        r"|the script was not reloaded, nothing has changed"
        r"|^sipwright \S+ is ready"
    )

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self._is_expected = True
        self._refusal = ""
        self.understood = 0
        self.kills = 0
        self.reloads = 0
        self.refused_reloads = 0
        self.unexpected: list[str] = []

    def read(self) -> Iterator[tuple[int, int, dict[str, int]]]:
        """Take what is new; give the index, process id and counters of each worker that has told them."""
        with self._file.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            told = self._of_worker.search(line)
            if told is None:
                self._take(line)
            else:
                counters = (item.partition("=") for item in told[3].split())
                yield int(told[1]), int(told[2]), {name: int(number) for name, _, number in counters}

    def _take(self, line: str) -> None:
        self.kills += "was killed by SIGKILL" in line and "not reloaded" not in line
        self.reloads += " reloaded " in line and "not reloaded" not in line
        prefix = self._prefix.match(line)
        if "the script was not reloaded" in line:
            self.refused_reloads += 1
            self._refusal = "" if prefix is None else prefix[0]
        is_expected = self._expected.search(line) is not None
        if prefix is not None:
            self.understood += 1
            is_expected |= prefix[1] in ("DEBUG", "INFO", "NOTICE")
            # What is wrong with the script, in lines of their own.
            is_expected |= prefix[0] == self._refusal
        # A line without a level goes on with what the one before it has said.
        if prefix is not None or is_expected:
            self._is_expected = is_expected
        if not self._is_expected:
            self.unexpected.append(line)


# ---- what has to hold in the end


def check_client(said: dict[str, Any]) -> list[str]:
    """Check what the client has to say: every transaction has an answer, one that can be, and its own."""
    counts, wrong = said["counts"], []
    if counts["started"] != counts["ended"]:
        wrong.append(f"{counts['started']} transactions were started, {counts['ended']} ended")
    for what, listed in said["faults"].items():
        wrong.append(f"{counts[what]} transactions {what}: {'; '.join(listed)}")
    return [*wrong, *(f"there were no transactions of the kind {name}" for name, a in said["answers"].items() if not a)]


def check_memory(lives: Sequence[Life], supervisor: Life) -> list[str]:
    """Check that memory has not grown beyond the bounds."""
    wrong = []
    if not any(life.growth for life in lives):
        wrong.append("no worker got old enough to say whether its memory grows")
    for life in lives:
        if life.growth is not None and life.growth[1] - life.growth[0] > WORKER_GROWTH:
            early, late = life.growth
            wrong.append(
                f"{life} grew from {early:.0f} to {late:.0f} kB in {life.age - WARM_UP:.0f} s after its warm-up"
            )
    equal = _of_equal_age(lives)
    if equal and equal[-1] - equal[0] > GENERATION_GROWTH:
        wrong.append(f"the last worker had {equal[-1]:.0f} kB, the first one of equal age {equal[0]:.0f}")
    first, last = supervisor.samples[0].rss, supervisor.samples[-1].rss
    if last - first > SUPERVISOR_GROWTH:
        wrong.append(f"the supervisor grew from {first} to {last} kB")
    return wrong


def _of_equal_age(lives: Sequence[Life]) -> list[float]:
    found = (life.rss_between(WARM_UP, WARM_UP + EQUAL_AGE) for life in lives if life.age >= WARM_UP + EQUAL_AGE)
    return [rss for rss in found if rss is not None]


def check_descriptors(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """Check that no file descriptors were added or lost: what those of each kind of process lead to, sorted."""
    wrong = []
    for kind, names in before.items():
        if names != after[kind]:
            added, lost = Counter(after[kind]) - Counter(names), Counter(names) - Counter(after[kind])
            wrong.append(
                f"{kind} had {len(names)} file descriptors, now {len(after[kind])}: +{dict(added)} -{dict(lost)}"
            )
    return wrong


def check_counters(lives: Sequence[Life], living: Sequence[Life]) -> list[str]:
    """Check that the counters of all processes that there were balance, and that nothing waits in those that live."""
    wrong = [f"{life}: {life.unbalanced}" for life in lives if life.unbalanced is not None]
    return [*wrong, *(f"{life} still waits: {life.waiting}" for life in living if not life.is_at_rest)]


def check_log(log: ServerLog) -> list[str]:
    """Check that the log has nothing that was not to be expected."""
    if not log.understood:
        return ["the log is not understood: none of its lines has a level"]
    listed = log.unexpected[:40]
    return [f"{len(log.unexpected)} unexpected lines in the log:\n      " + "\n      ".join(listed)] if listed else []


def print_memory(lives: Sequence[Life], supervisor: Life) -> None:
    """Print what was seen of memory."""
    old = [life for life in lives if life.growth is not None]
    print(f"memory of {len(lives)} worker processes, of each with what it shares with the supervisor (kB)")
    for life in sorted(old, key=lambda life: -life.age)[:4]:
        assert life.growth is not None
        early, late = life.growth
        print(f"  {life}: {early:.0f} after its warm-up, {late:.0f} at {life.age:.0f} s (bound: +{WORKER_GROWTH})")
    equal = _of_equal_age(lives)
    if equal:
        print(
            f"  at equal age: first {equal[0]:.0f}, last {equal[-1]:.0f} of {len(equal)} (bound: +{GENERATION_GROWTH})"
        )
    first, last = supervisor.samples[0].rss, supervisor.samples[-1].rss
    print(f"  the supervisor: first {first}, last {last} (bound: +{SUPERVISOR_GROWTH})")
