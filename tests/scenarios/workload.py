"""What scenarios of several workers run: a script that asks a counting service, and server and service together.

The user part says what is done: `ask` asks the service, which answers after X-Delay milliseconds (`slow`: after 400),
and answers with the status of X-Final, 200 by default; `now` and `refused` are answered at once, without a transaction.
Replies tell the worker's process and the script's version.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sipwright.jsonrpc import Client
from tests.scenarios.load import Load, Sent
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
    if ($rU == "slow") {
        $var(delay) = 400;
    }
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
    t_reply("500", "Undecided");
}
"""
PARAMETERS = """
modparam("jsonrpcc", "timeout", 10000)
modparam("jsonrpcc", "reconnect_interval", 50)
"""


def workload_script(*ports: int, version: str = "one", head: str = "") -> str:
    """Return the script for services at these ports of loopback; `head` are further lines of its head."""
    return script(ROUTES % {"version": version}, *ports, parameters=PARAMETERS + head)


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
    workers: int | None,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    head: str = "",
    host: str = "127.0.0.1",
    may_raise: bool = False,
) -> Iterator[Workload]:
    """Run the service and so many workers (None: as the script says); `head` are further lines of the script's head.

    At the end no traceback may be in the log, unless something of the test's own `may_raise`.
    """
    with start_service(directory) as service:
        text = workload_script(port_of(service), head=head)
        options = [*(() if workers is None else ("-n", str(workers))), *arguments]
        with SipwrightProcess(text, directory, options, environment=environment, host=host) as server:
            yield Workload(server, service)
            assert may_raise or "Traceback" not in server.log, server.log[-5000:]


def expected_status(sent: Sent) -> int:
    """Return how a transaction ends when nothing goes wrong."""
    if sent.method == "INVITE":
        if sent.ask.is_cancelled:
            return 487
        if sent.ask.user == "refused" or "X-Final: 486" in sent.ask.headers:
            return 486
    return 200


def assert_all_went_well(workload: Workload, transactions: Sequence[Sent]) -> None:
    """Check that each transaction has the final reply that it should have, and made one call of the service."""
    wrong = [str(sent) for sent in transactions if sent.status != expected_status(sent) or len(set(sent.finals)) != 1]
    assert not wrong, wrong[:10]
    suspended = [sent for sent in transactions if sent.ask.user == "ask" and sent.method not in ("BYE", "CANCEL")]
    asked = Counter(workload.asked())
    expected = Counter(sent.call_id for sent in suspended)
    assert not asked - expected, "the service was asked again"
    # While a worker connects to the service calls wait, and may be cancelled before they are sent.
    cancelled = {sent.call_id for sent in suspended if sent.ask.is_cancelled}
    assert (expected - asked).keys() <= cancelled, "the service was not asked"


def unaccounted(counters: Mapping[str, int]) -> int:
    """Return how many requests came for which the counters do not say what became of them."""
    ends = ("tm:absorbed", "tm:absorbed_acks", "core:acks", "core:answered", "core:dropped")
    return counters.get("core:rcv_requests", 0) - sum(counters.get(name, 0) for name in ends)


def wait_for_balance(
    server: SipwrightProcess, *loads: Load, none_lost: bool = True, seconds: float = 5.0
) -> Statistics:
    """Wait until the counters know of all that loads at rest have sent, and tell what became of it; return them.

    Every request is accounted for, and every datagram that was handed over has come. With `none_lost` as many requests
    must have come as were sent; otherwise it is enough that workers know of the answers that came from them.
    """
    deadline = time.monotonic() + seconds
    while True:
        statistics = server.statistics()
        amiss = _amiss(statistics, loads, none_lost)
        if amiss is None:
            return statistics
        assert time.monotonic() < deadline, f"{amiss}: {statistics}"
        time.sleep(0.05)


def _amiss(statistics: Statistics, loads: Sequence[Load], none_lost: bool) -> str | None:
    totals = statistics.totals
    came, sent = totals.get("core:rcv_requests", 0), sum(load.datagrams for load in loads)
    if none_lost and came < sent:
        return f"{came} of {sent} requests came"
    for pid, counters in statistics.workers.items():
        if counters.get("core:answered", 0) < sum(load.answered_by(pid) for load in loads):
            return f"{pid} has not told its last answers"
    unknown = {pid: left for pid, counters in statistics.workers.items() if (left := unaccounted(counters))}
    if unknown or unaccounted(totals):
        return f"{unaccounted(totals)} requests are unaccounted for, by worker {unknown}"
    given = totals.get("peering:sent", 0) - totals.get("peering:received", 0)
    return f"{given} are on the way to another worker" if none_lost and given else None
