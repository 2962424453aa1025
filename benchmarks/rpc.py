"""JSON-RPC clients side by side: CPU and latency of a call, and the memory of one that is pending.

Each client runs in a process of its own, with the same number of calls outstanding, against the same echo service in
another process, which speaks the framing that the client speaks: netstrings for sipwright and for the C client
(`rpc_client.c`, the bare wire without a library), lines for aiorpcX, HTTP/1.1 with keep-alive for pjrpc and
jsonrpclib-pelix, which have nothing else. Counted is the CPU time of the client's process, user and system, so a slow
service does not count against a client. With many calls outstanding several share a system call; with one, where also
those without asyncio take part, each has its own, and the system is most of what is counted.

    python benchmarks/rpc.py [--seconds 4] [--outstanding 64 1] [--rounds 8] [--in-flight 100000]

`--in-flight N` instead makes N calls on one connection, of which none is answered before all have come.

Needs the extra `bench` and `cc`. Exit status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import rpc_clients
import rpc_service

HERE = Path(__file__).resolve().parent
PEER_GOAL = 5.0
C_GOAL = 3.0
LATENCY_PART = 0.5


class Contender(NamedTuple):
    """A client: what it is called in the table, the framing that it speaks, and the module that it needs."""

    title: str
    framing: str
    module: str = ""


CLIENTS = {
    "sipwright": Contender("sipwright: await client.call()", "netstring"),
    "sipwright-submit": Contender("sipwright: callbacks (as the SIP router calls)", "netstring"),
    "sipwright-sync": Contender("sipwright: SyncClient, one at a time", "netstring", "sipwright.jsonrpc.sync"),
    "c": Contender("C without a library: epoll, netstrings", "netstring"),
    "aiorpcX": Contender("aiorpcX over TCP, lines", "line", "aiorpcx"),
    "pjrpc": Contender("pjrpc over HTTP, aiohttp", "http", "pjrpc"),
    "jsonrpclib-pelix": Contender("jsonrpclib-pelix over HTTP, one at a time", "http", "jsonrpclib"),
}
PEERS = ("aiorpcX", "pjrpc", "jsonrpclib-pelix")
IN_FLIGHT = ("sipwright", "sipwright-submit", "c")

Row = dict[str, float]


def main() -> int:
    """Run the comparison, or one of its processes; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each client is measured")
    parser.add_argument("--rounds", type=int, default=8, help="in how many parts")
    parser.add_argument("--outstanding", type=int, nargs="+", default=[64, 1], help="calls in flight")
    parser.add_argument("--in-flight", type=int, metavar="N", help="measure the memory of N pending calls instead")
    parser.add_argument("--clients", help="only these, with commas between them: " + ",".join(CLIENTS))
    parser.add_argument("--service", choices=rpc_service.FRAMINGS, help=argparse.SUPPRESS)
    parser.add_argument("--hold", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--latency-seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.service:
        asyncio.run(rpc_service.run_service(options.service, options.hold))
    elif options.client:
        rpc_clients.print_result(run_client(options))
    else:
        with compiled_client() as program:
            return 0 if compare(options, program) else 1
    return 0


def run_client(options: argparse.Namespace) -> Row:
    """Run one Python client in this process."""
    if options.in_flight:
        return rpc_clients.run_in_flight(options.client, options.port, options.in_flight)
    (outstanding,) = options.outstanding
    return rpc_clients.run_load(options.client, options.port, outstanding, options.seconds, options.latency_seconds)


@contextlib.contextmanager
def compiled_client() -> Iterator[Path]:
    """Compile the C client."""
    with tempfile.TemporaryDirectory(prefix="sipwright-bench-") as directory:
        program = Path(directory) / "rpc_client"
        subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / "rpc_client.c")], check=True)
        yield program


def compare(options: argparse.Namespace, program: Path) -> bool:
    """Measure all clients that can run; return whether the goals are met."""
    names = []
    for name in options.clients.split(",") if options.clients else CLIENTS:
        if name not in CLIENTS:
            sys.exit(f"no client is named {name!r}: {', '.join(CLIENTS)}")
        if CLIENTS[name].module and not _is_installed(CLIENTS[name].module):
            print(f"{CLIENTS[name].module} is not installed: no {name}")
        else:
            names.append(name)
    if options.in_flight:
        return compare_in_flight([name for name in names if name in IN_FLIGHT], options.in_flight, program)
    # A goal that is missed does not end the run.
    return sum(not compare_load(names, outstanding, options, program) for outstanding in options.outstanding) == 0


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


# Load


def compare_load(names: list[str], outstanding: int, options: argparse.Namespace, program: Path) -> bool:
    """Measure the clients by turns, print the table and whether the goals are met."""
    seconds = options.seconds / options.rounds
    if outstanding > 1:
        names = [name for name in names if name not in rpc_clients.SYNC]
    print(f"{outstanding} calls outstanding; CPU time of the client's process; one echo service in another process;")
    print(f"each client {options.rounds} times {seconds:g} s, by turns; its best time counts, machines are shared\n")
    rows: dict[str, list[Row]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name, own in rows.items():
            own.append(measure_load(name, outstanding, seconds, program))
    title = f"{'client':<48}{'µs CPU/call':>12}{'(median)':>10}{'calls/CPU s':>13}{'p50 ms':>9}{'p99':>8}{'p99.9':>8}"
    print(f"{title}{'of ours':>9}")
    costs = {name: [row["cpu"] / row["calls"] * 1e6 for row in own] for name, own in rows.items()}
    ours = min(costs.get("sipwright", [0.0]))
    for name, own in rows.items():
        best = min(costs[name])
        latencies = [1e3 * statistics.median(row[key] for row in own) for key in ("p50", "p99", "p99.9")]
        print(
            f"{CLIENTS[name].title:<48}{best:>12.2f}{statistics.median(costs[name]):>10.2f}{1e6 / best:>13,.0f}"
            f"{latencies[0]:>9.2f}{latencies[1]:>8.2f}{latencies[2]:>8.2f}" + (f"{best / ours:>8.2f}x" if ours else "")
        )
    is_met = judge_load({name: min(own) for name, own in costs.items()}, outstanding)
    print()
    return is_met


def judge_load(costs: dict[str, float], outstanding: int) -> bool:
    """Print whether the goals are met: of `await client.call()` beside the peers, and of the client beside the C one.

    With one call outstanding the peers are compared without a goal: the system's part is the same for all.
    """
    is_met = True
    print()
    peers = {name: costs[name] for name in PEERS if name in costs}
    if "sipwright" in costs and peers:
        peer = min(peers, key=peers.__getitem__)
        ratio = peers[peer] / costs["sipwright"]
        is_met = ratio >= PEER_GOAL or outstanding == 1
        goal = f"goal: at most 1/{PEER_GOAL:g}, {'met' if is_met else 'MISSED'}" if outstanding > 1 else "no goal"
        print(f"await client.call() takes 1/{ratio:.1f} of the CPU of the best Python peer, {peer} ({goal})")
    for name in ("sipwright-submit", "sipwright"):
        if name in costs and "c" in costs:
            ratio = costs[name] / costs["c"]
            is_met = is_met and ratio <= C_GOAL
            goal = f"goal: at most {C_GOAL:g}, {'met' if ratio <= C_GOAL else 'MISSED'}"
            print(f"{CLIENTS[name].title} takes {ratio:.1f} times the CPU of the C client ({goal})")
    return is_met


def measure_load(name: str, outstanding: int, seconds: float, program: Path) -> Row:
    """Run a client against a service of its own and return its numbers."""
    latency = max(0.2, seconds * LATENCY_PART)
    with service(CLIENTS[name].framing) as port:
        if name == "c":
            return run([*map(str, (program, port, outstanding, rpc_clients.WARM_UP, seconds, latency))])
        words = ["--client", name, "--port", str(port), "--outstanding", str(outstanding)]
        words += ["--seconds", str(seconds), "--latency-seconds", str(latency)]
        return run([sys.executable, __file__, *words])


# Many calls in flight


def compare_in_flight(names: list[str], count: int, program: Path) -> bool:
    """Measure what a pending call takes of memory; return whether all were answered."""
    print(f"{count:,} calls in flight on one connection; the service answers when it has all of them\n")
    print(f"{'client':<48}{'bytes each':>12}{'answered':>12}{'seconds':>9}{'µs CPU/call':>13}")
    is_met = True
    for name in names:
        with service(CLIENTS[name].framing, count) as port:
            if name == "c":
                row = run([str(program), str(port), "--in-flight", str(count)])
            else:
                row = run([sys.executable, __file__, "--client", name, "--port", str(port), "--in-flight", str(count)])
        is_met = is_met and row["answered"] == count
        print(
            f"{CLIENTS[name].title:<48}{row['bytes']:>12,.0f}{row['answered']:>12,.0f}{row['seconds']:>9.2f}"
            f"{row['cpu'] / count * 1e6:>13.1f}"
        )
    print(f"\ngoal, all answered: {'met' if is_met else 'MISSED'}")
    return is_met


# Processes


@contextlib.contextmanager
def service(framing: str, hold: int = 0) -> Iterator[int]:
    """Run the echo service; give its port."""
    words = [sys.executable, __file__, "--service", framing, "--hold", str(hold)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def run(words: list[str]) -> Row:
    """Run a client and return the numbers that it prints."""
    output = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    row: Row = json.loads(output)
    return row


if __name__ == "__main__":
    sys.exit(main())
