"""What scenarios of several workers run: a script that asks a counting service, and server and service together.

The user part says what is done: `ask` asks the service, which answers after X-Delay milliseconds, and answers with the
status of X-Final, 200 by default; `now` and `refused` are answered at once without a transaction. Replies tell the
worker's process and the script's version.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sipwright.jsonrpc import Client
from tests.scenarios.processes import PythonProcess, SipwrightProcess, Statistics
from tests.scenarios.scripts import script

SERVICE = Path(__file__).parent / "counting_service.py"

ROUTES = """
route[SCENARIO] {
    if (is_method("ACK|CANCEL")) {
        exit;
    }
    append_to_reply("X-Worker: $pp\\r\\nX-Version: %(version)s\\r\\n");
    if ($rU == "refused") {
        sl_send_reply("486", "Busy Here");
        exit;
    }
    if ($rU == "now" || is_method("BYE")) {
        sl_send_reply("200", "OK");
        exit;
    }
    $var(delay) = $(hdr(X-Delay){s.int});
    jsonrpc_request("decide", "{'call': '$ci', 'delay': $var(delay)}", "DECIDED", "UNDECIDED", "$var(result)");
}

route[DECIDED] {
    append_to_reply("X-Worker: $pp\\r\\nX-Version: %(version)s\\r\\n");
    if ($hdr(X-Final) == "486") {
        t_reply("486", "Busy Here");
    } else {
        t_reply("200", "OK");
    }
}

route[UNDECIDED] {
    append_to_reply("X-Worker: $pp\\r\\nX-Version: %(version)s\\r\\nX-Result: $var(result)\\r\\n");
    t_reply("503", "Undecided");
}
"""
PARAMETERS = """
modparam("jsonrpcc", "timeout", 10000)
modparam("jsonrpcc", "reconnect_interval", 50)
"""


def workload_script(*ports: int, version: str = "one", parameters: str = "", routes: str = ROUTES) -> str:
    """Return the script for services at these ports of loopback."""
    return script(routes % {"version": version}, *ports, parameters=PARAMETERS + parameters)


def start_service(directory: Path, port: int = 0) -> PythonProcess:
    return PythonProcess(SERVICE, [str(port)], directory / f"service-{time.monotonic_ns():x}.log", "listening")


def port_of(service: PythonProcess) -> int:
    return int(service.log.split()[1])


def asked_of(service: PythonProcess) -> dict[str, int]:
    """Return how often the service was asked for each Call-ID."""

    async def ask() -> dict[str, int]:
        async with Client(f"127.0.0.1:{port_of(service)},1", timeout=5) as client:
            asked: dict[str, int] = await client.call("get_asked")
            return asked

    return asyncio.run(ask())


@dataclass
class Workload:
    """A running server with its service."""

    server: SipwrightProcess
    service: PythonProcess

    def asked(self) -> dict[str, int]:
        """Return how often the service was asked for each Call-ID."""
        return asked_of(self.service)


@contextlib.contextmanager
def running_workload(
    directory: Path,
    workers: int,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    parameters: str = "",
    host: str = "127.0.0.1",
) -> Iterator[Workload]:
    """Run the service and so many workers."""
    with start_service(directory) as service:
        text = workload_script(port_of(service), parameters=parameters)
        options = ["-n", str(workers), *arguments]
        with SipwrightProcess(text, directory, options, environment=environment, host=host) as server:
            yield Workload(server, service)
            assert "Traceback" not in server.log, server.log[-5000:]


def unaccounted(counters: Mapping[str, int]) -> int:
    """Return how many requests came for which the counters do not say what became of them."""
    ends = ("tm:absorbed", "tm:absorbed_acks", "core:acks", "core:answered", "core:dropped")
    return counters.get("core:rcv_requests", 0) - sum(counters.get(name, 0) for name in ends)


def wait_for_balance(server: SipwrightProcess, seconds: float = 5.0) -> Statistics:
    """Wait until every request and every datagram that was handed over is accounted for; return the counters."""
    deadline = time.monotonic() + seconds
    while True:
        statistics = server.statistics()
        totals = statistics.totals
        on_the_way = totals.get("peering:sent", 0) - totals.get("peering:received", 0)
        if not (on_the_way or any(unaccounted(counters) for counters in (totals, *statistics.workers.values()))):
            return statistics
        assert time.monotonic() < deadline, f"{on_the_way} on the way, {unaccounted(totals)} unaccounted: {statistics}"
        time.sleep(0.05)
