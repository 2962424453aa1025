"""CPU, throughput, latency and memory of suspended transactions: sipwright beside Kamailio, in one run.

`contenders.py` says what all of them do, and who measures what. The warm-up is longer than completed transactions are
kept, so that as many end as begin while it is measured. Rounds are interleaved, and a ratio is taken within its round,
so that a change of the machine's mood during the run strikes all contenders alike.

    python benchmarks/transactions.py                     # the table, the ratio and the goal
    python benchmarks/transactions.py --workers 2         # each server with two workers
    python benchmarks/transactions.py --suspended 100000  # memory of a suspended transaction instead
    python benchmarks/transactions.py --log               # what lines of the log cost instead
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import procfs
from contenders import (
    KAMAILIO_JANSSONRPCC,
    KAMAILIO_JSONRPCC,
    LENIENT,
    SIPWRIGHT,
    Contender,
    Row,
    measured_load,
    programs,
    running_load,
    server,
    service,
)

CONTENDERS = (KAMAILIO_JSONRPCC, KAMAILIO_JANSSONRPCC, SIPWRIGHT)
# A line of the log for each transaction, to a file: what it costs.
LOGGING = (
    KAMAILIO_JSONRPCC,
    replace(KAMAILIO_JSONRPCC, name="kamailio, a line", arguments=("-A", "LOG_LINE")),
    SIPWRIGHT,
    replace(SIPWRIGHT, name="sipwright, a line", arguments=("-A", "LOG_LINE")),
    replace(SIPWRIGHT, name="sipwright, JSON", arguments=("-A", "LOG_LINE", "--log-engine=json")),
    replace(SIPWRIGHT, name="sipwright, events", arguments=("-A", "EVENTS")),
)
REFERENCE = KAMAILIO_JANSSONRPCC.name
OURS = SIPWRIGHT.name
CPU_GOAL = 0.6  # of the reference's CPU per transaction, at most
THROUGHPUT_GOAL = 1.0  # of the reference's transactions per second, at least
MEMORY_GOAL = 6 * 1024  # bytes of a suspended transaction, at most

# Of the memory mode. All have to come within the delay, so that all are suspended at once.
SERVICE_DELAY_MS = 5000  # how long every call is left without an answer
ARRIVAL_SECONDS = 3.5
RETRANSMIT_MS = 4000  # T2 of RFC 3261: the interval that a client comes to
GIVE_UP_MS = 4 * SERVICE_DELAY_MS


def main() -> int:
    """Run the benchmark; return the exit status: 0, or 1 when a goal is missed or a transaction failed."""
    options = parse_arguments()
    contenders = present(options)
    summary: Row = {}
    with programs() as build:
        if options.suspended:
            rows = [measure_memory(build, contender, options) for contender in contenders]
        else:
            rows = [measure(build, c, options) | {"round": n} for n in range(options.rounds) for c in contenders]
            summary = summarise(rows, options.rounds)
            print_table(summary)
    if options.json:
        report = {"machine": procfs.machine(), "options": vars(options), "rows": rows, "summary": summary}
        Path(options.json).write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    if options.suspended:
        return 0 if all(row["met"] for row in rows if row["contender"] == OURS) else 1
    ratio: dict[str, float] | None = summary["ratio"]
    missed = ratio is not None and (ratio["cpu"] > CPU_GOAL or ratio["throughput"] < THROUGHPUT_GOAL)
    return 1 if missed or any(row["failures"] for row in rows) else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="CPU per suspended-and-resumed transaction, beside Kamailio")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--warmup", type=float, default=7.0, help="seconds of load before each measurement")
    parser.add_argument("--linger", type=float, default=0.0, help="seconds after the load whose CPU counts too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--outstanding", type=int, default=64, help="transactions at once, for each worker")
    parser.add_argument("--workers", type=int, default=1, help="of each server")
    parser.add_argument("--variant", default="constant", choices=sorted(LENIENT), help="the call's parameters")
    parser.add_argument("--only", action="append", metavar="NAME", help="a contender; may be given again")
    parser.add_argument("--log", action="store_true", help="compare without log, with lines and with all events")
    parser.add_argument("--suspended", type=int, default=0, metavar="N", help="measure memory with N suspended")
    parser.add_argument("--json", metavar="FILE", help="write all numbers to this file")
    return parser.parse_args()


def present(options: argparse.Namespace) -> list[Contender]:
    """Choose the contenders that were asked for and can run; name the others."""
    chosen = []
    for contender in LOGGING if options.log else CONTENDERS:
        if options.only and contender.name not in options.only:
            continue
        lack = contender.missing()
        if lack:
            print(f"skipped {contender.name}: {lack}")
        elif options.suspended and not contender.long_calls:
            print(f"skipped {contender.name}: its calls end after 500 ms at the latest")
        else:
            chosen.append(replace(contender, workers=options.workers))
    return chosen


# ---- one measurement


def measure(build: Path, contender: Contender, options: argparse.Namespace) -> Row:
    """Start service and server, warm up, load, and return what it took."""
    outstanding = options.outstanding * options.workers
    with (
        service(build) as behind,
        server(build, contender, behind.port, variant=options.variant) as running,
    ):
        measured_load(build, running, behind, "-c", outstanding, "-d", options.warmup)
        row = measured_load(build, running, behind, "-c", outstanding, "-d", options.seconds, linger=options.linger)
    mark = f"  {row['failures']} FAILED, last status {row['last_failure_status']}" if row["failures"] else ""
    print(
        f"  {contender.name:22} {row['cpu_us']:6.1f} us  {row['per_second']:7.0f}/s"
        f"  {row['retransmissions']} retransmissions{mark}",
        flush=True,
    )
    return row


def measure_memory(build: Path, contender: Contender, options: argparse.Namespace) -> Row:
    """Suspend N transactions at once, and return how much the server's memory grew by each, and whether that is well.

    That all were suspended at once is known from the service, which had so many calls to answer.
    """
    count = options.suspended
    with (
        service(build, "--delay", str(SERVICE_DELAY_MS)) as behind,
        server(build, contender, behind.port, variant=options.variant, long_calls=True) as running,
    ):
        peak = before = running.memory_kb()
        arguments = ("-c", count, "-n", count, "-R", count / ARRIVAL_SECONDS, "-r", RETRANSMIT_MS, "-g", GIVE_UP_MS)
        with running_load(build, running.port, *arguments) as process:
            while process.poll() is None:
                peak = max(peak, running.memory_kb())
                time.sleep(0.2)
            row: Row = json.loads(process.communicate()[0])
    row |= {"contender": contender.name, "suspended": behind.held, "bytes_each": (peak - before) * 1024 / count}
    row["met"] = row["bytes_each"] <= MEMORY_GOAL and behind.held >= count and not row["failures"]
    print(
        f"{contender.name:22} {row['suspended']} suspended at once: {row['bytes_each']:.0f} bytes each, "
        f"{row['failures']} of {row['transactions']} failed, {row['retransmissions']} retransmissions"
    )
    if contender.name == OURS:
        print(
            f"\ngoal: {count} suspended at once, at most {MEMORY_GOAL} bytes each, none failed: "
            f"{'met' if row['met'] else 'MISSED'}"
        )
    return row


# ---- the report


def summarise(rows: list[Row], rounds: int) -> dict[str, Any]:
    """Return the medians and spreads of each contender, and our ratio to the reference, taken within each round."""
    names = list(dict.fromkeys(row["contender"] for row in rows))
    medians: dict[str, dict[str, Any]] = {}
    for name in names:
        own = [row for row in rows if row["contender"] == name]
        medians[name] = {
            key: statistics.median(row[key] for row in own)
            for key in ("cpu_us", "cores", "per_second", "p50_us", "p99_us", "memory_mb")
        }
        medians[name]["cpu_spread"] = [min(row["cpu_us"] for row in own), max(row["cpu_us"] for row in own)]
        medians[name]["per_second_spread"] = [min(row["per_second"] for row in own), max(r["per_second"] for r in own)]
        medians[name]["failures"] = sum(row["failures"] for row in own)
        medians[name]["retransmissions"] = sum(row["retransmissions"] for row in own)
    summary: dict[str, Any] = {"contenders": medians, "ratio": None}
    if OURS in medians and REFERENCE in medians:
        by_place = {(row["round"], row["contender"]): row for row in rows}
        pairs = [(by_place[n, OURS], by_place[n, REFERENCE]) for n in range(rounds)]
        summary["ratio"] = {
            "cpu": statistics.median(ours["cpu_us"] / other["cpu_us"] for ours, other in pairs),
            "throughput": statistics.median(ours["per_second"] / other["per_second"] for ours, other in pairs),
        }
    return summary


def print_table(summary: dict[str, Any]) -> None:
    """Print the medians, the ratio and the goal."""
    print(f"\n{'median of the rounds':22} {'CPU us':>7} {'(spread)':>13} {'per second':>11} {'(spread)':>15}", end="")
    print(f" {'p50 us':>7} {'p99 us':>7} {'cores':>6} {'MB':>6} {'failed':>7}")
    for name, row in summary["contenders"].items():
        low, high = row["cpu_spread"]
        slow, fast = row["per_second_spread"]
        print(
            f"{name:22} {row['cpu_us']:7.1f} {f'({low:.1f}-{high:.1f})':>13} {row['per_second']:11.0f} "
            f"{f'({slow:.0f}-{fast:.0f})':>15} {row['p50_us']:7.0f} {row['p99_us']:7.0f} {row['cores']:6.2f} "
            f"{row['memory_mb']:6.0f} {row['failures']:7d}"
        )
    ratio = summary["ratio"]
    if ratio:
        cpu = "met" if ratio["cpu"] <= CPU_GOAL else "MISSED"
        throughput = "met" if ratio["throughput"] >= THROUGHPUT_GOAL else "MISSED"
        print(f"\n{OURS} / {REFERENCE}: CPU {ratio['cpu']:.2f} (goal <= {CPU_GOAL}: {cpu}), ", end="")
        print(f"throughput {ratio['throughput']:.2f} (goal >= {THROUGHPUT_GOAL}: {throughput})")


if __name__ == "__main__":
    sys.exit(main())
