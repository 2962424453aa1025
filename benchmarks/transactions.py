"""CPU, throughput, latency and memory of suspended transactions: sipwright beside Kamailio, in one run.

Every contender does the same work: an OPTIONS comes in over UDP, a JSON-RPC call goes out over TCP, the answer resumes
the transaction, a 200 goes out. `load.c` is the SIP side and `service.c` the JSON-RPC side, both small C programs that
are compiled first. CPU is what all processes of the server used, by the kernel's scheduler (nanoseconds), over the
number of transactions. The warm-up is longer than completed transactions are kept, so that as many end as begin while
it is measured. Rounds are interleaved, and a ratio is taken within its round, so that a change of the machine's
mood during the run strikes all contenders alike.

    python benchmarks/transactions.py                    # the table, the ratio and the goal
    python benchmarks/transactions.py --suspended 10000  # memory of a suspended transaction instead
    python benchmarks/transactions.py --log              # what lines of the log cost instead
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
REFERENCE = "kamailio+janssonrpcc"
OURS = "sipwright"
CPU_GOAL = 0.6  # of the reference's CPU per transaction, at most
THROUGHPUT_GOAL = 1.0  # of the reference's transactions per second, at least
READY_SECONDS = 15.0
SERVICE_DELAY_MS = 5000  # in the memory mode: how long every call is left without an answer

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A server with a script: its config, how its argument strings quote JSON, its command, what it needs."""

    name: str
    config: str
    params: dict[str, str]
    command: Callable[[Path, int], list[str]]
    missing: Callable[[], str | None]
    long_calls: bool  # whether a call may last longer than half a second
    arguments: tuple[str, ...] = ()  # of the command, further ones


def kamailio_command(config: Path, port: int) -> list[str]:
    """Return Kamailio's command: in the foreground, one UDP worker (the config says so), memory enough."""
    return [
        *("kamailio", "-DD", "-E", "-f", str(config), "-l", f"udp:{HOST}:{port}"),
        *("-m", "4096", "-M", "64", "-Y", str(config.parent)),
    ]


def sipwright_command(config: Path, port: int) -> list[str]:
    """Return our command, run by the interpreter that runs this file."""
    return [sys.executable, "-m", "sipwright", "run", "-f", str(config), "-l", f"udp:{HOST}:{port}", "-E"]


def kamailio_lacks(module: str) -> str | None:
    """Say what is missing for Kamailio with `module`; None when it can run."""
    if shutil.which("kamailio") is None:
        return "kamailio is not installed"
    found = any(next(Path("/usr").glob(f"{lib}/kamailio/modules/{module}.so"), None) for lib in ("lib*", "lib/*"))
    return None if found else f"kamailio's module {module} is not installed"


def sipwright_lacks() -> str | None:
    """Say why our command cannot run; None when it can."""
    asked = subprocess.run([sys.executable, "-m", "sipwright", "run", "--help"], capture_output=True, check=False)
    return None if asked.returncode == 0 else "`python -m sipwright run` does not work"


LENIENT = {"constant": "\"{'id': 1234}\"", "variable": "\"{'name': '$fU'}\""}
STRICT = {"constant": "'{\"id\": 1234}'", "variable": '\'{"name": "$fU"}\''}
CONTENDERS = (
    Contender(
        "kamailio+jsonrpcc", "jsonrpcc.cfg", LENIENT, kamailio_command, lambda: kamailio_lacks("jsonrpcc"), False
    ),
    Contender(REFERENCE, "janssonrpcc.cfg", STRICT, kamailio_command, lambda: kamailio_lacks("janssonrpcc"), True),
    Contender(OURS, "jsonrpcc.cfg", LENIENT, sipwright_command, sipwright_lacks, True),
)
# A line of the log for each transaction, to a file: what it costs.
LOGGING = (
    CONTENDERS[0],
    replace(CONTENDERS[0], name="kamailio, a line", arguments=("-A", "LOG_LINE")),
    CONTENDERS[2],
    replace(CONTENDERS[2], name="sipwright, a line", arguments=("-A", "LOG_LINE")),
    replace(CONTENDERS[2], name="sipwright, JSON", arguments=("-A", "LOG_LINE", "--log-engine=json")),
    replace(CONTENDERS[2], name="sipwright, events", arguments=("-A", "EVENTS")),
)


def main() -> int:
    """Run the benchmark; return the exit status: 0, or 1 when a goal is missed or a transaction failed."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="sipwright-bench-") as directory:
        build = Path(directory)
        for program in ("load", "service"):
            subprocess.run(["cc", "-O2", "-o", str(build / program), str(HERE / f"{program}.c")], check=True)
        contenders = present(options)
        summary: Row = {}
        if options.suspended:
            rows = [measure_memory(build, c, options) for c in contenders if c.long_calls]
            print_memory(rows)
        else:
            rows = [measure(build, c, options) | {"round": n} for n in range(options.rounds) for c in contenders]
            summary = summarise(rows, options.rounds)
            print_table(summary)
    if options.json:
        report = {"machine": machine(), "options": vars(options), "rows": rows, "summary": summary}
        Path(options.json).write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    ratio: dict[str, float] | None = summary.get("ratio")
    missed = ratio is not None and (ratio["cpu"] > CPU_GOAL or ratio["throughput"] < THROUGHPUT_GOAL)
    # Kamailio: with more than some 500 calls pending, its request table loses answers. That is no fault of the run.
    failed = any(row["failures"] for row in rows if row["contender"] == OURS or not options.suspended)
    return 1 if missed or failed else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="CPU per suspended-and-resumed transaction, beside Kamailio")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--warmup", type=float, default=7.0, help="seconds of load before each measurement")
    parser.add_argument("--linger", type=float, default=0.0, help="seconds after the load whose CPU counts too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--outstanding", type=int, default=64, help="transactions at once")
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
            chosen.append(contender)
    return chosen


# ---- one measurement


def measure(build: Path, contender: Contender, options: argparse.Namespace) -> Row:
    """Start service and server, warm up, load, and return what it took."""
    with service(build) as service_port, server(build, contender, options, service_port) as (pgid, port):
        load(build, port, "-c", options.outstanding, "-d", options.warmup)
        cpu, began = cpu_seconds(pgid), time.monotonic()
        row: Row = load(build, port, "-c", options.outstanding, "-d", options.seconds)
        time.sleep(options.linger)
        used, took = cpu_seconds(pgid) - cpu, time.monotonic() - began
        row |= {
            "contender": contender.name,
            "cpu_us": used / max(1, row["transactions"]) * 1e6,
            "cores": used / took,
            "memory_mb": memory_kb(pgid) / 1024,
        }
    mark = f"  {row['failures']} FAILED, last status {row['last_failure_status']}" if row["failures"] else ""
    print(
        f"  {contender.name:22} {row['cpu_us']:6.1f} us  {row['per_second']:7.0f}/s"
        f"  {row['retransmissions']} retransmissions{mark}",
        flush=True,
    )
    return row


def measure_memory(build: Path, contender: Contender, options: argparse.Namespace) -> Row:
    """Suspend N transactions at once and return how much the server's memory grew by each."""
    count = options.suspended
    with (
        service(build, "--delay", str(SERVICE_DELAY_MS)) as service_port,
        server(build, contender, options, service_port) as (pgid, port),
    ):
        before = memory_kb(pgid)
        with running_load(build, port, "-c", count, "-n", count, "-r", 2000, "-g", 4 * SERVICE_DELAY_MS) as process:
            peak = before
            while process.poll() is None:
                peak = max(peak, memory_kb(pgid))
                time.sleep(0.2)
            row: Row = json.loads(process.communicate()[0])
    return row | {"contender": contender.name, "suspended": count, "bytes_each": (peak - before) * 1024 / count}


@contextlib.contextmanager
def service(build: Path, *arguments: str) -> Iterator[int]:
    """Run the JSON-RPC service and give its port. It ends when its stdin is closed."""
    command = [str(build / "service"), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[1])


@contextlib.contextmanager
def server(
    build: Path, contender: Contender, options: argparse.Namespace, service_port: int
) -> Iterator[tuple[int, int]]:
    """Run a contender until it answers 2xx and give its process group and SIP port; end all of its processes."""
    text = (HERE / "configs" / contender.config).read_text(encoding="utf-8")
    text = text.replace("@SERVICE_PORT@", str(service_port)).replace("@PARAMS@", contender.params[options.variant])
    config, log_file = build / contender.config, build / "server.log"
    config.write_text(text, encoding="utf-8")
    port = free_udp_port()
    command = [*contender.command(config, port), *contender.arguments]
    command += ["-A", "LONG_CALLS"] if options.suspended else []
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_ready(build, process, port)
        yield process.pid, port
    except Exception:
        sys.stderr.write(log_file.read_text(encoding="utf-8", errors="replace")[-4000:])
        raise
    finally:
        end_group(process)


def wait_until_ready(build: Path, process: subprocess.Popen[bytes], port: int) -> None:
    """Send OPTIONS until one is answered 2xx, so the server is up and connected to the service."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")
        with running_load(build, port, "-c", 1, "-n", 1, "-g", 8000) as probe:
            probe.communicate()
        if probe.returncode == 0:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{process.args!r} did not answer within {READY_SECONDS:.0f} s")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process group: asked first, killed after five seconds."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    process.wait(5)


def load(build: Path, port: int, *arguments: object) -> Row:
    """Run the load program to its end and return its report."""
    with running_load(build, port, *arguments) as process:
        row: Row = json.loads(process.communicate()[0])
    return row


def running_load(build: Path, port: int, *arguments: object) -> subprocess.Popen[str]:
    """Start the load program."""
    command = [str(build / "load"), *map(str, arguments), HOST, str(port)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def free_udp_port() -> int:
    """Return a UDP port that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


# ---- what the kernel knows


def members(pgid: int) -> Iterator[Path]:
    """Give the /proc directory of every process of a group."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == pgid:
                    yield entry


def cpu_seconds(pgid: int) -> float:
    """Sum the time that all threads of a process group spent on a core (first field of schedstat, nanoseconds)."""
    total = 0
    for process in members(pgid):
        for file in process.glob("task/*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(file.read_text().split()[0])
    return total / 1e9


def memory_kb(pgid: int) -> int:
    """Sum the proportional set sizes of a process group, so that shared memory is counted once."""
    total = 0
    for process in members(pgid):
        with contextlib.suppress(OSError, StopIteration):
            lines = (process / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def machine() -> Row:
    """Name what the numbers depend on."""
    return {"system": " ".join(os.uname()), "cores": os.cpu_count(), "python": sys.version.split()[0]}


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


def print_memory(rows: list[Row]) -> None:
    """Print what a suspended transaction costs."""
    for row in rows:
        print(
            f"{row['contender']:22} {row['suspended']} suspended at once: {row['bytes_each']:.0f} bytes each, "
            f"{row['failures']} failed, {row['retransmissions']} retransmissions"
        )


if __name__ == "__main__":
    sys.exit(main())
