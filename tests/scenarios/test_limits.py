"""The modules pike, ratelimit and pipelimit beside Kamailio's: one script, the same floods, the same verdicts.

The processes of a server count together, so the requests of one source may come to any of them. Everything is sent to
both servers at the same time, by many threads, since intervals pass in real time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import Any, TypeAlias

import pytest

from tests.scenarios.processes import SipServerProcess
from tests.scenarios.side_by_side import SERVERS
from tests.scenarios.sip_client import SipClient

pytestmark = pytest.mark.scenario

# Seconds; what Kamailio's modules count in.
UNIT = 1
DENSITY = 20
LIMIT = 10

SCRIPT = f"""\
#!KAMAILIO
children=3
debug=2
log_stderror=yes
disable_tcp=yes
auto_aliases=no

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "textops.so"
loadmodule "pike.so"
loadmodule "ratelimit.so"
loadmodule "pipelimit.so"

modparam("pike", "sampling_time_unit", {UNIT})
modparam("pike", "reqs_density_per_unit", {DENSITY})
modparam("pike", "remove_latency", 60)
modparam("ratelimit", "timer_interval", {UNIT})
modparam("ratelimit", "pipe", "0:TAILDROP:{LIMIT}")
modparam("ratelimit", "pipe", "1:RED:{LIMIT}")
modparam("ratelimit", "pipe", "2:TAILDROP:{LIMIT}")
modparam("ratelimit", "queue", "0:INVITE")
modparam("ratelimit", "queue", "2:INFO")
modparam("ratelimit", "queue", "1:MESSAGE")
modparam("pipelimit", "timer_interval", {UNIT})

request_route {{
    if ($rU == "ready") {{
        sl_send_reply("200", "Ready");
        exit;
    }}
    if ($rU == "pike") {{
        pike_check_req();
    }} else if ($rU == "ratelimit") {{
        rl_check();
    }} else if ($rU == "unknown") {{
        pl_check("$rU");
    }} else if ($rU == "drop") {{
        pl_drop("5", "9");
        exit;
    }} else {{
        pl_check("$fU", "$rU", "{LIMIT}");
    }}
    $var(code) = $rc;
    sl_send_reply("200", "$var(code)");
}}
"""


class Flood:
    """A client at an address of its own that asks for verdicts."""

    def __init__(self, server: SipServerProcess, host: str) -> None:
        self.client = SipClient(server.address, host)

    def codes(self, count: int, user: str, method: str = "OPTIONS", from_user: str = "alice") -> list[int]:
        """Send so many requests, one after another, and return the verdicts."""
        replies = [self.client.ask(method, user=user, from_user=from_user) for _ in range(count)]
        return [int(reply.reason) for reply in replies]

    def wait_for_a_new_interval(self, user: str, method: str, from_user: str = "alice") -> None:
        """Wait until an interval has begun; one request of it has passed then."""
        while self.codes(1, user, method, from_user) == [1]:
            pass
        while self.codes(1, user, method, from_user) != [1]:
            time.sleep(0.002)


def runs(codes: list[int]) -> list[tuple[int, int]]:
    """Return equal codes in a row with their number."""
    return [(code, len(list(group))) for code, group in groupby(codes)]


def flooded(flood: Flood) -> list[int]:
    return flood.codes(5 * DENSITY, "pike")


def quiet(flood: Flood) -> list[int]:
    return flood.codes(DENSITY // 2 - 1, "pike")


def flooded_for_long(flood: Flood) -> list[tuple[int, int]]:
    flood.codes(5 * DENSITY, "pike")
    codes = []
    for _ in range(5):
        time.sleep(UNIT * 0.4)
        codes += flood.codes(2 * DENSITY, "pike")
    time.sleep(UNIT * 2.2)
    return runs(codes + flood.codes(DENSITY // 2, "pike"))


def taildrop(flood: Flood) -> list[list[tuple[int, int]]]:
    seen = []
    for user, method in (("ratelimit", "INVITE"), ("TAILDROP", "OPTIONS")):
        flood.wait_for_a_new_interval(user, method)
        seen.append(runs(flood.codes(2 * LIMIT, user, method)))
    return seen


def red(user: str, clock: tuple[str, str, str]) -> Callable[[Flood], list[int]]:
    """`clock` is a pipe that only tells when intervals begin."""

    def seen(flood: Flood) -> list[int]:
        for count in (3 * LIMIT, 9):
            flood.wait_for_a_new_interval(*clock)
            time.sleep(UNIT / 5)
            codes = flood.codes(count, user, "MESSAGE", "red")
        return codes

    return seen


def other_answers(flood: Flood) -> tuple[list[int], int, str, bool]:
    codes = flood.codes(1, "unknown") + flood.codes(1, "NOP", from_user="nop")
    reply = flood.client.ask("OPTIONS", user="drop")
    return codes, reply.status, reply.reason, 5 <= int(reply.header("Retry-After") or 0) <= 9


# Each at an address of its own.
OBSERVERS: dict[str, Callable[[Flood], Any]] = {
    "127.0.0.2": flooded,
    "127.0.0.3": quiet,
    "127.0.0.4": flooded_for_long,
    "127.0.0.5": taildrop,
    "127.0.0.6": red("ratelimit", ("ratelimit", "INFO", "alice")),
    "127.0.0.7": red("RED", ("TAILDROP", "OPTIONS", "clock")),
    "127.0.0.8": other_answers,
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Future[Any]]]]:
    """Everything that there is to see of both servers, Kamailio first, by the address from which it was seen."""

    def observe(server: SipServerProcess, host: str) -> Any:
        flood = Flood(server, host)
        with flood.client:
            return OBSERVERS[host](flood)

    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(SERVERS[name](SCRIPT, tmp_path_factory.mktemp(name))) for name in SERVERS]
        pool = stack.enter_context(ThreadPoolExecutor(len(servers) * len(OBSERVERS)))
        yield {host: [pool.submit(observe, server, host) for server in servers] for host in OBSERVERS}


Seen: TypeAlias = dict[str, list[Future[Any]]]


def of_both(seen: Seen, host: str) -> Any:
    """Return what was seen of both servers, which is the same."""
    kamailio, sipwright = (future.result() for future in seen[host])
    assert sipwright == kamailio
    return sipwright


def test_pike_blocks_the_source_of_a_flood(seen: Seen) -> None:
    for future in seen["127.0.0.2"]:
        (passed, before), (new, once), (known, rest) = runs(future.result())
        assert (passed, new, once, known) == (1, -2, 1, -1)
        # The manual: between x and 3*x, the x-th itself being blocked; twice x where the flood meets the end of a unit.
        assert DENSITY - 1 <= before <= 3 * DENSITY
        assert before + once + rest == 5 * DENSITY


def test_pike_lets_other_sources_through(seen: Seen) -> None:
    assert of_both(seen, "127.0.0.3") == [1] * (DENSITY // 2 - 1)


def test_pike_blocks_as_long_as_the_flood_goes_on_and_until_a_unit_with_few_requests(seen: Seen) -> None:
    assert of_both(seen, "127.0.0.4") == [(-1, 10 * DENSITY), (1, DENSITY // 2)]


def test_taildrop_lets_the_first_requests_of_an_interval_through(seen: Seen) -> None:
    # One has passed before.
    assert of_both(seen, "127.0.0.5") == [[(1, LIMIT - 1), (-1, LIMIT + 1)]] * 2


@pytest.mark.parametrize("host", ["127.0.0.6", "127.0.0.7"], ids=["ratelimit", "pipelimit"])
def test_red_lets_every_third_through_after_three_times_the_limit(seen: Seen, host: str) -> None:
    assert of_both(seen, host) == [-1, -1, 1] * 3


def test_other_answers_of_pipelimit(seen: Seen) -> None:
    assert of_both(seen, "127.0.0.8") == ([-2, 2], 503, "Server Unavailable", True)
