"""The main job, whole: SIPp calls our server, our server asks a service made with our library, every call goes well.

Service, server and SIPp are processes of their own. After each case the server is at rest: no transaction is live, none
is suspended, no call is pending.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sipwright.jsonrpc import Client
from tests.scenarios.processes import PythonProcess, SippProcess, SipwrightProcess
from tests.scenarios.scripts import script
from tests.scenarios.settled import STATS, assert_settled
from tests.scenarios.sip_client import SipClient

pytestmark = pytest.mark.scenario

CALLS = 100
RATE = 400
ROUTES = (
    """
route[SCENARIO] {"""
    + STATS
    + """
    if (is_method("ACK|CANCEL")) {
        exit;
    }
    if (is_method("BYE")) {
        sl_send_reply("200", "OK");
        exit;
    }
    if ($tU == "silent") {
        jsonrpc_request("get_user_slowly", "{'name': '$tU', 'method': '$rm'}", "RESPONSE", "ERROR", "$var(result)",
            "timeout=3000");
    }
    jsonrpc_request("get_user", "{'name': '$tU', 'method': '$rm'}", "RESPONSE", "ERROR", "$var(result)");
}

route[RESPONSE] {
    append_to_reply("X-User: $(var(result){json.parse,name})\\r\\n");
    t_reply("200", "OK");
}

route[ERROR] {
    append_to_reply("X-Error: $jsonrpc(status) $jsonrpc(code)\\r\\n");
    t_reply("404", "Not Found");
}
"""
)
SERVICE = Path(__file__).parent / "user_service.py"


def start_service(directory: Path, name: str, port: int = 0) -> PythonProcess:
    return PythonProcess(SERVICE, [str(port)], directory / f"{name}.log", "listening")


def port_of(service: PythonProcess) -> int:
    return int(service.log.split()[1])


def counts_of(service: PythonProcess) -> dict[str, int]:
    async def ask() -> dict[str, int]:
        async with Client(f"127.0.0.1:{port_of(service)},1") as client:
            counts: dict[str, int] = await client.call("get_counts")
            return counts

    return asyncio.run(ask())


@dataclass
class MainJob:
    service: PythonProcess
    server: SipwrightProcess


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MainJob]:
    """Service and server, running for all tests of this file that do not stop them."""
    directory = tmp_path_factory.mktemp("main-job")
    with (
        start_service(directory, "service") as service,
        SipwrightProcess(script(ROUTES, port_of(service)), directory) as server,
    ):
        yield MainJob(service, server)


def received(sipp: SippProcess) -> Counter[str]:
    """Count the replies that SIPp got, `200 OPTIONS` and so on."""
    pattern = re.compile(r"^SIP/2.0 (\d+) .*?^CSeq: \d+ (\w+)", re.MULTILINE | re.DOTALL)
    return Counter(f"{code} {method}" for code, method in pattern.findall(sipp.messages))


@pytest.mark.parametrize(
    ("scenario", "user", "method", "replies"),
    [
        ("options", "petros", "OPTIONS", {"200 OPTIONS"}),
        ("message", "petros", "MESSAGE", {"200 MESSAGE"}),
        ("register", "petros", "REGISTER", {"200 REGISTER"}),
        ("invite", "petros", "INVITE", {"100 INVITE", "200 INVITE", "200 BYE"}),
        ("invite_failure", "missing", "INVITE", {"100 INVITE", "404 INVITE"}),
        ("invite_cancel", "silent", "INVITE", {"100 INVITE", "200 CANCEL", "487 INVITE"}),
    ],
)
def test_sipp(job: MainJob, tmp_path: Path, scenario: str, user: str, method: str, replies: set[str]) -> None:
    before = counts_of(job.service).get(method, 0)
    with SippProcess(scenario, job.server.address, tmp_path, calls=CALLS, rate=RATE, service=user) as sipp:
        status = sipp.wait(20)
    assert status == 0, sipp.messages[-3000:]
    got = received(sipp)
    assert set(got) == replies
    assert all(got[final] == CALLS for final in replies if not final.startswith("100"))
    assert counts_of(job.service)[method] - before == CALLS
    assert_settled(job.server.address)
    assert "Traceback" not in job.server.log


def test_result_and_error_can_be_taken_apart(job: MainJob) -> None:
    with SipClient(job.server.address) as client:
        assert client.ask("OPTIONS", user="petros").header("X-User") == "petros"
        assert client.ask("OPTIONS", user="missing").header("X-Error") == "error 404"


def test_server_outlives_one_of_two_services(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        services = [stack.enter_context(start_service(tmp_path, f"service{n}")) for n in range(2)]
        text = script(ROUTES, *map(port_of, services), parameters='modparam("jsonrpc", "retry", 1)')
        server = stack.enter_context(SipwrightProcess(text, tmp_path))
        with SippProcess("options", server.address, tmp_path, calls=300, rate=300, service="petros") as sipp:
            while not services[0].popen.poll() and counts_of(services[0]).get("OPTIONS", 0) < 30:
                pass
            services[0].popen.send_signal(signal.SIGKILL)
            status = sipp.wait(20)
        assert status == 0, sipp.messages[-3000:]
        assert received(sipp) == {"200 OPTIONS": 300}
        assert counts_of(services[1])["OPTIONS"] > 100
        assert_settled(server.address)


def test_server_ends_cleanly_while_calls_are_pending(tmp_path: Path) -> None:
    with (
        start_service(tmp_path, "service") as service,
        SipwrightProcess(script(ROUTES, port_of(service)), tmp_path) as server,
        SipClient(server.address) as client,
    ):
        invite = client.build("INVITE", user="silent")
        client.send(invite)
        assert [reply.status for reply in client.replies(0.2)] == [100]
        server.popen.send_signal(signal.SIGTERM)
        final = client.replies(5.0)[-1]
        client.send(client.derive(invite, "ACK", final))
        assert server.wait(10.0) == 0
    assert final.status in {200, 404}
    assert "Traceback" not in server.log
