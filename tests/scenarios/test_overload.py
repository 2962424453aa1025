"""A server that gets more than it can take: what it turns away, with what words, and what goes on meanwhile."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipwright.testing.fakerpc import FakeRpcServer, never
from tests.scenarios.processes import SippProcess, SipwrightProcess
from tests.scenarios.sip_client import SipClient, SipReply, SipRequest

pytestmark = pytest.mark.scenario

HEAD = """
debug=2
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "kex.so"
loadmodule "textops.so"
loadmodule "siputils.so"
"""
READY = 'if ($rU == "ready") { sl_send_reply("200", "Ready"); exit; }'


def flood_with(client: SipClient, requests: list[SipRequest]) -> list[SipReply]:
    """Send requests without waiting for their replies; return the final replies that came meanwhile.

    They are read as they come, since the system keeps no more than some 150 for a client.
    """
    replies: list[SipReply] = []
    for begin in range(0, len(requests), 20):
        for request in requests[begin : begin + 20]:
            client.send(request)
        while (reply := client.receive(0.002)) is not None:
            if reply.status >= 200:
                replies.append(reply)
    return replies


def finals(client: SipClient, count: int) -> list[SipReply]:
    """Wait for so many final replies."""
    replies: list[SipReply] = []
    while len(replies) < count:
        reply = client.receive()
        assert reply is not None, f"{len(replies)} of {count} were answered"
        if reply.status >= 200:
            replies.append(reply)
    return replies


def check_retry_after(refused: list[SipReply]) -> None:
    assert {(reply.status, reply.reason) for reply in refused} == {(503, "Service Unavailable")}
    seconds = Counter(int(reply.header("Retry-After") or 0) for reply in refused)
    assert {*seconds} <= {*range(5, 16)}
    # They do not come back all at once.
    assert len(seconds) > 5
    assert max(seconds.values()) < len(refused) / 3


def test_a_full_server_answers_503_and_keeps_what_it_has(tmp_path: Path) -> None:
    bound, flood = 100, 1000
    script = f"""
        {HEAD}
        children=1
        modparam("tm", "max_transactions", {bound})
        modparam("tm", "wt_timer", 1000)
        request_route {{ {READY} t_reply("200", "$stat(overload)"); }}
    """
    with SipwrightProcess(script, tmp_path) as server, SipClient(server.address) as client:
        requests = [client.build("OPTIONS", user="flood") for _ in range(flood)]
        began = time.monotonic()
        replies = flood_with(client, requests)
        replies += finals(client, flood - len(replies))
        statuses = Counter(reply.status for reply in replies)
        if time.monotonic() - began < 0.9:
            assert statuses == {200: bound, 503: flood - bound}
        check_retry_after([reply for reply in replies if reply.status == 503])
        # It is still the same server: a retransmission is absorbed by its transaction.
        answered = next(reply for reply in replies if reply.status == 200).header("Call-ID")
        client.send(next(request for request in requests if request.call_id == answered))
        assert finals(client, 1)[0].header("Call-ID") == answered
        # When those have ended there is room again.
        deadline = time.monotonic() + 5
        while (reply := client.ask("OPTIONS", user="later")).status == 503:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert int(reply.reason) >= statuses[503]
    assert server.log.count("overload: there are as many transactions as there may be (max_transactions, 100)") == 1


@pytest.fixture
def deaf() -> Iterator[FakeRpcServer]:
    """A service that never answers."""
    with FakeRpcServer() as service:
        service.on("ask", never())
        yield service


def test_what_cannot_be_suspended_is_answered_503_and_the_others_go_on(tmp_path: Path, deaf: FakeRpcServer) -> None:
    bound, flood = 20, 300
    script = f"""
        {HEAD}
        children=1
        loadmodule "jsonrpc.so"
        modparam("tm", "max_suspended", {bound})
        modparam("jsonrpc", "servers", "{deaf.address},1")
        modparam("jsonrpc", "timeout", 1000)
        request_route {{
            {READY}
            # In one way or the other.
            if ($fU == "alice") jsonrpc_request("ask", "[]", "GO_ON", "GO_ON", "$var(result)");
            jsonrpc_call("ask", "[]", "$var(result)");
            if ($rc == -2) t_reply("504", "$var(result)");
        }}
        route[GO_ON] {{ t_reply("504", "$var(result)"); }}
    """
    with SipwrightProcess(script, tmp_path) as server, SipClient(server.address) as client:
        wait_for(server, "connected to JSON-RPC server")
        began = time.monotonic()
        replies = flood_with(client, [client.build("INVITE", from_user=("alice", "bob")[n % 2]) for n in range(flood)])
        is_quick = time.monotonic() - began < 0.9
        replies += finals(client, flood - len(replies))
        refused = [reply for reply in replies if reply.status == 503]
        check_retry_after(refused)
        timed_out = [(reply.status, reply.reason) for reply in replies if reply.status != 503]
        assert set(timed_out) == {(504, "timeout")}
        # On a busy machine the first ones end before the last have come, and others are suspended in their place.
        assert len(timed_out) == bound if is_quick else len(timed_out) >= bound
    assert server.log.count("overload: 20 transactions are suspended (max_suspended)") == 1
    # No line for each of them.
    assert len(server.log.splitlines()) < 15


def wait_for(server: SipwrightProcess, text: str) -> None:
    deadline = time.monotonic() + 5
    while text not in server.log:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.01)


def test_a_flood_that_pike_blocks_leaves_the_others_their_answers(tmp_path: Path) -> None:
    script = f"""
        {HEAD}
        children=3
        loadmodule "pike.so"
        modparam("pike", "sampling_time_unit", 1)
        modparam("pike", "reqs_density_per_unit", 400)
        request_route {{
            {READY}
            if (!pike_check_req()) exit;
            t_reply("200", "OK");
        }}
    """
    with SipwrightProcess(script, tmp_path) as server:
        # SIPp is below the limit for its address, the flood far above it.
        with SippProcess("options", server.address, tmp_path, calls=200, rate=150) as sipp:
            with SipClient(server.address, "127.0.0.2") as attacker:
                sent = answered = 0
                while sipp.popen.poll() is None:
                    answered += len(flood_with(attacker, [attacker.build("OPTIONS") for _ in range(200)]))
                    sent += 200
            assert sipp.wait(10) == 0
        assert sent > 2000
        # In the first unit, and in the second when the flood's beginning was near the end of the first.
        assert 399 <= answered < 900
        assert len(re.findall(r"pike: blocking 127\.0\.0\.2, 400 requests within 1 s", server.log)) == 1


def test_every_datagram_is_received_or_counted_as_dropped(tmp_path: Path) -> None:
    script = f"""
        {HEAD}
        children=1
        maxbuffer=100000
        request_route {{ {READY} sl_send_reply("200", "$stat(rcv_requests) $stat(udp_drops)"); }}
    """
    with SipwrightProcess(script, tmp_path) as server, SipClient(server.address) as client:
        received, dropped = map(int, client.ask("OPTIONS").reason.split())
        assert dropped == 0
        # Nobody reads: what the buffer does not hold is lost.
        os.killpg(server.popen.pid, signal.SIGSTOP)
        flood = 1000
        for request in [client.build("OPTIONS") for _ in range(flood)]:
            client.send(request)
        os.killpg(server.popen.pid, signal.SIGCONT)
        answered = 0
        while client.receive(0.3) is not None:
            answered += 1
        now_received, now_dropped = map(int, client.ask("OPTIONS").reason.split())
        assert now_received - received - 1 == answered
        assert now_dropped > 100
        assert answered + now_dropped == flood
