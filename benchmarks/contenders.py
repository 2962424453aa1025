"""The servers that benchmarks compare, and what is put around them: who they are, how they start, how they are loaded.

Every contender does the same work: an OPTIONS comes in over UDP, a JSON-RPC call goes out over TCP, the answer resumes
the transaction, a 200 goes out. `load.c` is the SIP side and `service.c` the JSON-RPC side, both small C programs that
are compiled first. CPU is what all processes of the server used, by the kernel's scheduler (nanoseconds), over the
number of transactions. Nothing here knows what a benchmark is after.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import procfs

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
READY_SECONDS = 15.0

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A server with a script: its config, how its argument strings quote JSON, its command, what it needs.

    `workers` is how many processes handle SIP; `environment` is added to that of this process.
    """

    name: str
    config: str
    params: dict[str, str]
    command: Callable[[Path, int], list[str]]
    missing: Callable[[], str | None]
    long_calls: bool  # whether a call may last longer than half a second
    arguments: tuple[str, ...] = ()  # of the command, further ones
    workers: int = 1
    environment: dict[str, str] = field(default_factory=dict)


def kamailio_command(config: Path, port: int) -> list[str]:
    """Return Kamailio's command: in the foreground, as many UDP workers as the config says, memory enough."""
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
KAMAILIO_JSONRPCC = Contender(
    "kamailio+jsonrpcc", "jsonrpcc.cfg", LENIENT, kamailio_command, lambda: kamailio_lacks("jsonrpcc"), False
)
KAMAILIO_JANSSONRPCC = Contender(
    "kamailio+janssonrpcc", "janssonrpcc.cfg", STRICT, kamailio_command, lambda: kamailio_lacks("janssonrpcc"), True
)
SIPWRIGHT = Contender("sipwright", "jsonrpcc.cfg", LENIENT, sipwright_command, sipwright_lacks, True)


# ---- what runs


@contextlib.contextmanager
def programs() -> Iterator[Path]:
    """Compile the load program and the service; give the directory, which is there for configs and logs, too."""
    with tempfile.TemporaryDirectory(prefix="sipwright-bench-") as directory:
        build = Path(directory)
        for program in ("load", "service"):
            subprocess.run(["cc", "-O2", "-o", str(build / program), str(HERE / f"{program}.c")], check=True)
        yield build


@dataclass
class Service:
    """The JSON-RPC service while it runs; `held`, once it has ended: how many delayed answers waited at once."""

    port: int
    pid: int
    held: int = 0


@contextlib.contextmanager
def service(build: Path, *arguments: str) -> Iterator[Service]:
    """Run the JSON-RPC service. It ends when its stdin is closed."""
    command = [str(build / "service"), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        running = Service(int(process.stdout.readline().split()[1]), process.pid)
        yield running
        running.held = int(process.communicate()[0].split()[1])


@dataclass(frozen=True)
class Server:
    """A contender while it runs: its process group, whose leader is its first process, and its SIP port."""

    contender: Contender
    pgid: int
    port: int

    def cpu_seconds(self) -> dict[int, float]:
        """Return the CPU time that each of its processes has used."""
        return {pid: procfs.cpu_seconds(pid) for pid in procfs.members(self.pgid)}

    def memory_kb(self) -> int:
        """Return what all of its processes have of the machine's memory."""
        return sum(procfs.memory(pid).pss for pid in procfs.members(self.pgid))


@contextlib.contextmanager
def server(
    build: Path,
    contender: Contender,
    service_port: int,
    *,
    variant: str = "constant",
    wait_ms: int = 5000,
    long_calls: bool = False,
) -> Iterator[Server]:
    """Run a contender until it answers 2xx; end all of its processes.

    `variant` names the call's parameters; `wait_ms` is how long completed transactions are kept; `long_calls` lets
    calls last for seconds.
    """
    text = (HERE / "configs" / contender.config).read_text(encoding="utf-8")
    text = text.replace("@SERVICE_PORT@", str(service_port)).replace("@PARAMS@", contender.params[variant])
    text = text.replace("@WORKERS@", str(contender.workers)).replace("@WAIT_MS@", str(wait_ms))
    config, log_file = build / contender.config, build / "server.log"
    config.write_text(text, encoding="utf-8")
    port = free_udp_port()
    command = [*contender.command(config, port), *contender.arguments, *(["-A", "LONG_CALLS"] if long_calls else [])]
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | contender.environment,
        )
    try:
        wait_until_ready(build, process, port)
        yield Server(contender, process.pid, port)
    except Exception:
        sys.stderr.write(log_file.read_text(encoding="utf-8", errors="replace")[-4000:])
        raise
    finally:
        end_group(process)


def wait_until_ready(build: Path, process: subprocess.Popen[bytes], port: int) -> None:
    """Send OPTIONS from many ports until all are answered 2xx: every worker is up and connected to the service."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")
        with running_load(build, port, "-c", 20, "-n", 20, "-s", 20, "-g", 8000) as probe:
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


def free_udp_port() -> int:
    """Return a UDP port that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


# ---- load


def load(build: Path, port: int, *arguments: object) -> Row:
    """Run the load program to its end and return its report."""
    with running_load(build, port, *arguments) as process:
        row: Row = json.loads(process.communicate()[0])
    return row


def running_load(build: Path, port: int, *arguments: object) -> subprocess.Popen[str]:
    """Start the load program."""
    command = [str(build / "load"), *map(str, arguments), HOST, str(port)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def measured_load(build: Path, server: Server, service: Service, *arguments: object, linger: float = 0.0) -> Row:
    """Run the load program, and return its report with what the server used meanwhile, and `linger` seconds longer.

    Added are `contender`, `cpu_us` (per transaction), `cores`, `load_cores` and `service_cores` (how many each had),
    `memory_mb`, and `busiest`: the part of the busiest process in the server's CPU.
    """
    before, service_before, began = server.cpu_seconds(), procfs.cpu_seconds(service.pid), time.monotonic()
    row: Row = load(build, server.port, *arguments)
    time.sleep(linger)
    took = time.monotonic() - began
    used = {pid: seconds - before.get(pid, 0.0) for pid, seconds in server.cpu_seconds().items()}
    total = sum(used.values())
    return row | {
        "contender": server.contender.name,
        "cpu_us": total / max(1, row["transactions"]) * 1e6,
        "cores": total / took,
        "busiest": max(used.values()) / total,
        "load_cores": row["own_cpu_us"] * row["transactions"] / 1e6 / took,
        "service_cores": (procfs.cpu_seconds(service.pid) - service_before) / took,
        "memory_mb": server.memory_kb() / 1024,
    }
