"""What a second worker brings and costs: two workers beside one, steered by the kernel, by hand-over and not at all.

`contenders.py` says what a transaction is and how CPU is counted. What a transaction costs depends on how many
datagrams and answers a worker finds when it wakes up, so everything is compared with as many transactions outstanding
**for each worker**. Each server is measured twice:

- *on one core*: all workers of a server share one core, load program and service have the others. That core is never
  idle, so nothing but what the workers do makes a difference: CPU per transaction is compared here. (With a core for
  each worker and a rate below what they can do, waking idle cores costs more than handling the transactions, and
  differs by a factor of two from one minute to the next.)
- *on all cores*: everything runs where the kernel puts it, as fast as it goes: throughput is compared here. It can be
  judged where there are cores for both workers, the load program and the service.

The load comes from many sockets, the same for all, each transaction from any of them. Without steering the kernel
chooses a worker by the addresses alone: that spreads transactions just as evenly here, since none is more than one
datagram and its answer, so it shows what two workers cost of themselves. (What the first has answered comes back to
either of them; so on a shared core each finds fewer datagrams when its turn comes than one worker would.)

    python benchmarks/workers.py
    python benchmarks/workers.py --sockets 1   # one peer: without steering one worker does it all
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import procfs
from contenders import SIPWRIGHT, Contender, Row, measured_load, programs, server, service

THROUGHPUT_GOAL = 1.8  # of one worker's transactions per second, at least, with the kernel's steering
CPU_GOAL = 1.1  # of one worker's CPU per transaction, at most: where throughput cannot be judged
# One each for two workers, the load program and the service.
CORES_FOR_THROUGHPUT = 4
# A program that has so much of a core is what limits the run.
LIMIT = 0.9

ONE = replace(SIPWRIGHT, name="one worker")
KERNEL = replace(SIPWRIGHT, name="two, kernel", workers=2, environment={"SIPWRIGHT_STEERING": "kernel"})
PEERING = replace(SIPWRIGHT, name="two, hand-over", workers=2, environment={"SIPWRIGHT_STEERING": "peering"})
NONE = replace(SIPWRIGHT, name="two, none", workers=2, environment={"SIPWRIGHT_STEERING": "none"})
CONTENDERS = (ONE, KERNEL, PEERING, NONE)

ONE_CORE, ALL_CORES = KINDS = ("on one core", "on all cores")
# How long completed transactions are kept: less than the warm-up, so that as many end as begin while it is measured.
WAIT_MS = 1000
MEDIANS = ("cpu_us", "per_second", "busiest", "p50_us", "p99_us", "cores", "load_cores", "service_cores")


def main() -> int:
    """Run the benchmark; return the exit status: 0, or 1 when the goal is missed or a transaction failed."""
    options = parse_arguments()
    rows: list[Row] = []
    with programs() as build:
        for number in range(options.rounds):
            for contender in CONTENDERS:
                rows += [row | {"round": number} for row in measure(build, contender, options)]
    table = summarise(rows)
    print_table(table)
    judged = judge(table)
    print(judged["text"])
    if options.json:
        report = {"machine": procfs.machine(), "options": vars(options), "rows": rows, "table": table, "judged": judged}
        Path(options.json).write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    return 0 if judged["met"] and not any(row["failures"] for row in rows) else 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="two workers beside one, by how they are steered")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds of load before each measurement")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--outstanding", type=int, default=64, help="transactions at once, for each worker")
    parser.add_argument("--sockets", type=int, default=64, help="that the load comes from")
    parser.add_argument("--json", metavar="FILE", help="write all numbers to this file")
    return parser.parse_args()


# ---- one measurement


def measure(build: Path, contender: Contender, options: argparse.Namespace) -> list[Row]:
    """Start service and server, measure it on one core and on all, each after a warm-up, and return what it took."""
    load = ("-c", options.outstanding * contender.workers, "-s", options.sockets, "-x", "-d")
    all_cores = sorted(os.sched_getaffinity(0))
    *other_cores, own_core = all_cores
    rows = []
    with service(build) as behind, server(build, contender, behind.port, wait_ms=WAIT_MS) as running:
        workers = procfs.members(running.pgid)
        for kind in KINDS:
            is_shared = kind == ONE_CORE and other_cores
            place(workers, [own_core] if is_shared else all_cores)
            # The load program inherits this process's.
            place((behind.pid, 0), other_cores if is_shared else all_cores)
            measured_load(build, running, behind, *load, options.warmup)
            row = measured_load(build, running, behind, *load, options.seconds) | {"kind": kind}
            print(
                f"  {contender.name:15} {kind:12} {row['cpu_us']:6.1f} us  {row['per_second']:7.0f}/s"
                f"  {row['retransmissions']} retransmissions  {row['failures']} failed",
                flush=True,
            )
            rows.append(row)
    return rows


def place(pids: Iterable[int], cores: Iterable[int]) -> None:
    """Say which cores processes may run on; 0: this process."""
    for pid in pids:
        os.sched_setaffinity(pid, cores)


# ---- the report


def summarise(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Return for each kind of load and contender the medians, and the ratios to one worker, within each round."""
    found = {(row["kind"], row["contender"], row["round"]): row for row in rows}
    rounds = sorted({row["round"] for row in rows})
    table: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        table[kind] = {}
        for contender in CONTENDERS:
            own = [found[kind, contender.name, number] for number in rounds]
            one = [found[kind, ONE.name, number] for number in rounds]
            pairs = list(zip(own, one, strict=True))
            table[kind][contender.name] = {
                **{key: statistics.median(row[key] for row in own) for key in MEDIANS},
                "cpu_ratios": [mine["cpu_us"] / other["cpu_us"] for mine, other in pairs],
                "throughput_ratios": [mine["per_second"] / other["per_second"] for mine, other in pairs],
                "failures": sum(row["failures"] for row in own),
            }
    return table


def print_table(table: dict[str, dict[str, Any]]) -> None:
    """Print medians of the rounds, and ratios to one worker with their spread."""
    for kind in KINDS:
        print(f"\n{kind:15}   CPU us  over one (spread)  per second  over one (spread)", end="")
        print("  busiest  p50 us  p99 us  cores: server  load  service  failed")
        for name, row in table[kind].items():
            print(
                f"{name:15} {row['cpu_us']:8.1f} {_spread(row['cpu_ratios']):>18} {row['per_second']:11.0f} "
                f"{_spread(row['throughput_ratios']):>18} {row['busiest']:8.0%} {row['p50_us']:7.0f} "
                f"{row['p99_us']:7.0f} {row['cores']:14.2f} {row['load_cores']:5.2f} {row['service_cores']:8.2f} "
                f"{row['failures']:7d}"
            )
    print("\nbusiest: the part of one process in the server's CPU")


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def judge(table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Say whether the goal is met: that of throughput where it can be judged here, else that of CPU."""
    full, cores = table[ALL_CORES][KERNEL.name], procfs.cores()
    throughput = statistics.median(full["throughput_ratios"])
    cpu = statistics.median(table[ONE_CORE][KERNEL.name]["cpu_ratios"])
    hindrance = None
    if cores < CORES_FOR_THROUGHPUT:
        hindrance = f"{cores} cores have no room for load program, service and two workers"
    elif full["load_cores"] > LIMIT:
        hindrance = "the load program is the limit"
    elif full["service_cores"] > LIMIT:
        hindrance = "the service is the limit"
    if hindrance is None:
        met = throughput >= THROUGHPUT_GOAL
        text = f"{throughput:.2f} of the throughput (goal >= {THROUGHPUT_GOAL}: "
    else:
        met = cpu <= CPU_GOAL
        text = f"{cpu:.2f} of the CPU per transaction (goal <= {CPU_GOAL}: "
        print(f"\nthroughput is not judged: {hindrance}")
    none = table[ONE_CORE][NONE.name]["cpu_us"]
    print(f"steering by the kernel costs {table[ONE_CORE][KERNEL.name]['cpu_us'] / none - 1:+.0%} CPU over no steering")
    text = f"two workers over one, steered by the kernel: {text}{'met' if met else 'MISSED'})"
    return {"met": met, "throughput": throughput, "cpu": cpu, "hindrance": hindrance, "text": text}


if __name__ == "__main__":
    sys.exit(main())
