"""What a read of a Redis server costs a request: `$sht` of a table on Redis, and Kamailio's ndb_redis beside it.

An OPTIONS comes in over UDP, the script reads one key, a 200 with the value goes out, both without a transaction. The
same script without the read is measured beside it: the difference is the cost of the read. Kamailio's worker is blocked
while it waits, so it is measured with one worker and with eight. `load.c` sends the requests (`cc` is needed), 64 at a
time. CPU is what all processes of the server used, by the kernel's scheduler, over the number of requests; that of the
Redis server is told apart.

    python benchmarks/redis_reads.py [--seconds S] [--rounds N] [--outstanding N]
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sipwright.redis.resp import encode_command

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
READY_SECONDS = 15.0

SCRIPT = """#!KAMAILIO
debug=0
log_stderror=yes
disable_tcp=yes
auto_aliases=no
children={children}
loadmodule "sl.so"
loadmodule "pv.so"
{head}
request_route {{
    {body}
}}
"""
TABLE = 'loadmodule "htable.so"\nmodparam("htable", "htable", "t=>size=8")\n'
ON_REDIS = TABLE + 'modparam("htable", "store", "redis://127.0.0.1:@PORT@/0")\n'
NDB = 'loadmodule "ndb_redis.so"\nmodparam("ndb_redis", "server", "name=s;addr=127.0.0.1;port=@PORT@;db=0")\n'
COMMAND = 'redis_cmd("s", "GET sht:t:key", "r"); sl_send_reply("200", "got $redis(r=>value)");'
NOTHING = 'sl_send_reply("200", "got value");'
READ = 'sl_send_reply("200", "got $sht(t=>key)");'


@dataclass(frozen=True)
class Contender:
    """A server with a script; `base` is the contender that does the same without the read."""

    name: str
    program: str
    head: str
    body: str
    base: str = ""
    children: int = 1


CONTENDERS = (
    Contender("sipwright, no read", "sipwright", TABLE, NOTHING),
    Contender("sipwright, $sht, local", "sipwright", TABLE, '$sht(t=>key) = "value"; ' + READ, "sipwright, no read"),
    Contender("sipwright, $sht on Redis", "sipwright", ON_REDIS, READ, "sipwright, no read"),
    Contender("sipwright, redis_cmd", "sipwright", NDB, COMMAND, "sipwright, no read"),
    Contender("kamailio, no read", "kamailio", NDB, NOTHING),
    Contender("kamailio, redis_cmd", "kamailio", NDB, COMMAND, "kamailio, no read"),
    Contender("kamailio, redis_cmd, 8", "kamailio", NDB, COMMAND, "kamailio, no read", children=8),
)
FIGURES = ("cpu_us", "redis_us", "per_second", "p50_us")
OURS, THEIRS = "sipwright, $sht on Redis", "kamailio, redis_cmd, 8"


def main() -> int:
    """Run the benchmark; 1 when a request failed."""
    parser = argparse.ArgumentParser(description="What a read of Redis costs a request")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--outstanding", type=int, default=64, help="requests at once")
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        print("redis-server is not installed")
        return 1
    rows: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="sipwright-bench-") as name:
        directory = Path(name)
        subprocess.run(["cc", "-O2", "-o", str(directory / "load"), str(HERE / "load.c")], check=True)
        with redis_server(directory) as (redis, port):
            for number in range(options.rounds):
                for contender in present():
                    row = measure(directory, contender, redis, port, options)
                    rows.setdefault(contender.name, []).append(row)
                    print(f"  round {number}: {contender.name:26} {row['cpu_us']:6.1f} us", flush=True)
    report(rows)
    return 1 if any(row["failures"] for own in rows.values() for row in own) else 0


def present() -> list[Contender]:
    """Return the contenders that can run."""
    kamailio = shutil.which("kamailio") is not None and any(
        next(Path("/usr").glob(f"{lib}/kamailio/modules/ndb_redis.so"), None) for lib in ("lib*", "lib/*")
    )
    return [contender for contender in CONTENDERS if kamailio or contender.program != "kamailio"]


def measure(
    directory: Path, contender: Contender, redis: int, redis_port: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Start a server, warm up, load it, and return what it took."""
    config = directory / "script.cfg"
    text = SCRIPT.format(children=contender.children, head=contender.head, body=contender.body)
    config.write_text(text.replace("@PORT@", str(redis_port)))
    port = free_port(socket.SOCK_DGRAM)
    with group(command(contender, config, port), directory / "server.log") as process:
        until_answered(directory, port)
        load(directory, port, "-c", options.outstanding, "-d", 1.0)
        before = cpu_seconds(process.pid), cpu_seconds(redis)
        row = load(directory, port, "-c", options.outstanding, "-d", options.seconds)
        used = [after - was for after, was in zip((cpu_seconds(process.pid), cpu_seconds(redis)), before, strict=True)]
    count = max(1, row["transactions"])
    return row | {"cpu_us": used[0] / count * 1e6, "redis_us": used[1] / count * 1e6}


def report(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Print the medians, and what each read costs beside no read in the same round."""
    titles = f"{'CPU us':>7} {'of the read':>12} {'Redis us':>9} {'per second':>11} {'p50 us':>7}"
    print(f"\n{'median of the rounds':26} {titles}")
    reads: dict[str, float] = {}
    for contender in CONTENDERS:
        own = rows.get(contender.name)
        if own is None:
            continue
        medians = {key: statistics.median(row[key] for row in own) for key in FIGURES}
        base = rows.get(contender.base)
        read = ""
        if base is not None:
            reads[contender.name] = statistics.median(
                row["cpu_us"] - other["cpu_us"] for row, other in zip(own, base, strict=True)
            )
            read = f"{reads[contender.name]:.1f}"
        print(
            f"{contender.name:26} {medians['cpu_us']:7.1f} {read:>12} {medians['redis_us']:9.1f} "
            f"{medians['per_second']:11.0f} {medians['p50_us']:7.0f}"
        )
    if OURS in reads and THEIRS in reads:
        totals = [ours["cpu_us"] / theirs["cpu_us"] for ours, theirs in zip(rows[OURS], rows[THEIRS], strict=True)]
        print(f"\n{OURS} / {THEIRS} workers: CPU of the read {reads[OURS] / reads[THEIRS]:.2f}", end="")
        print(f", of the whole request {statistics.median(totals):.2f}")


# ---- processes


def command(contender: Contender, config: Path, port: int) -> list[str]:
    """Return the command of a server."""
    if contender.program == "sipwright":
        return [sys.executable, "-m", "sipwright", "run", "-D", "-E", "-f", str(config), "-l", f"udp:{HOST}:{port}"]
    memory = ["-m", "256", "-M", "16", "-Y", str(config.parent)]
    return ["kamailio", "-DD", "-E", "-f", str(config), "-l", f"udp:{HOST}:{port}", *memory]


@contextlib.contextmanager
def redis_server(directory: Path) -> Iterator[tuple[int, int]]:
    """Run a Redis server with the key that is read; give its process and port."""
    port = free_port(socket.SOCK_STREAM)
    words = ["redis-server", "--port", str(port), "--bind", HOST, "--save", "", "--dir", str(directory)]
    with group(words, directory / "redis.log") as process:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                with socket.create_connection((HOST, port), timeout=1) as connection:
                    connection.sendall(encode_command(("SET", "sht:t:key", "value")))
                    assert connection.recv(100) == b"+OK\r\n"
                break
            except ConnectionError:
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.05)
        yield process.pid, port


@contextlib.contextmanager
def group(words: Sequence[str], log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a process group of its own, and end all of it."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    except BaseException:
        sys.stderr.write(log_file.read_text(errors="replace")[-3000:])
        raise
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


def until_answered(directory: Path, port: int) -> None:
    """Send requests until one is answered 2xx."""
    deadline = time.monotonic() + READY_SECONDS
    while load(directory, port, "-c", 1, "-n", 1, "-g", 1000)["failures"]:
        assert time.monotonic() < deadline, "the server does not answer"
    time.sleep(0.5)


def load(directory: Path, port: int, *arguments: object) -> dict[str, Any]:
    """Run the load program and return its report."""
    words = [str(directory / "load"), *map(str, arguments), HOST, str(port)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def free_port(kind: socket.SocketKind) -> int:
    """Return a port that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pgid: int) -> float:
    """Sum the time that all threads of a process group spent on a core (first field of schedstat, nanoseconds)."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[2]) == pgid:
                total += sum(int(file.read_text().split()[0]) for file in entry.glob("task/*/schedstat"))
    return total / 1e9


if __name__ == "__main__":
    sys.exit(main())
