"""That a server of ours has nothing left to do: no live transaction, none suspended, no call pending."""

from __future__ import annotations

import time

from tests.scenarios.sip_client import SipClient

# For a script's `route[SCENARIO]`: answers `OPTIONS sip:stats@...` with the counters.
STATS = """
    if ($rU == "stats") {
        append_to_reply("X-Live: $stat(tm:live)\\r\\n");
        append_to_reply("X-Suspended: $stat(tm:suspended)\\r\\n");
        append_to_reply("X-Pending: $stat(jsonrpc:pending)\\r\\n");
        sl_send_reply("200", "OK");
        exit;
    }
"""
COUNTERS = ("X-Live", "X-Suspended", "X-Pending")


def read_counters(server: tuple[str, int]) -> dict[str, int]:
    """Ask a server that has `STATS` in its script."""
    with SipClient(server) as client:
        reply = client.ask("OPTIONS", user="stats")
    assert reply.status == 200
    return {name: int(reply.header(name) or "-1") for name in COUNTERS}


def assert_settled(server: tuple[str, int], seconds: float = 2.0) -> None:
    """Wait until every counter is zero; fail with the counters when they are not in time."""
    deadline = time.monotonic() + seconds
    while any((counters := read_counters(server)).values()):
        assert time.monotonic() < deadline, f"the server is not at rest: {counters}"
        time.sleep(0.02)
