"""Kamailio speaks to our server and to our client: jsonrpcc and janssonrpcc ask, evapi is asked and asks.

Each test has a real Kamailio, SIP requests to it, and our library on the other side of the netstrings.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sipwright.errors import RpcAnswerError, RpcTimeoutError
from sipwright.jsonrpc import Client
from tests.scenarios.processes import (
    HOST,
    KamailioProcess,
    PythonProcess,
    free_port,
    require_kamailio_module,
)
from tests.scenarios.scripts import ANSWER_ROUTES, script
from tests.scenarios.side_by_side import meaning
from tests.scenarios.sip_client import SipClient, SipReply

pytestmark = pytest.mark.scenario

SERVICE = Path(__file__).parent / "user_service.py"


class OurService(PythonProcess):
    """A service made with `sipwright.jsonrpc.Server`, in a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port(socket.SOCK_STREAM)
        super().__init__(SERVICE, [str(self.port)], directory / "service.log", "listening")


def ask(kamailio: KamailioProcess, user: str, method: str = "OPTIONS", timeout: float = 3.0) -> SipReply:
    with SipClient(kamailio.address) as client:
        return client.ask(method, user=user, timeout=timeout)


def wait_until_asked(kamailio: KamailioProcess, user: str, status: int = 200) -> SipReply:
    """Ask until Kamailio has its connection to the service."""
    deadline = time.monotonic() + 10
    while True:
        reply = ask(kamailio, user)
        if reply.status == status:
            return reply
        assert time.monotonic() < deadline, f"{reply}\n{kamailio.log[-2000:]}"
        time.sleep(0.05)


# jsonrpcc

JSONRPCC_ROUTES = (
    ANSWER_ROUTES
    + """
route[SCENARIO] {
    if ($rU == "note") {
        jsonrpc_notification("get_user", "{'name': 'note', 'method': 'notified'}");
        sl_send_reply("200", "OK");
        exit;
    }
    if ($rU == "counts") {
        jsonrpc_request("get_counts", "[]", "RESPONSE", "ERROR", "$var(result)");
    } else if ($rU == "slow") {
        jsonrpc_request("get_user_slowly", "{'name': 'slow', 'method': '$rm'}", "RESPONSE", "ERROR", "$var(result)");
    } else {
        jsonrpc_request("get_user", "{'name': '$rU', 'method': '$rm'}", "RESPONSE", "ERROR", "$var(result)");
    }
}
"""
)


@pytest.fixture(scope="module")
def jsonrpcc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KamailioProcess]:
    require_kamailio_module("jsonrpcc")
    directory = tmp_path_factory.mktemp("jsonrpcc")
    with (
        OurService(directory) as service,
        KamailioProcess(script(JSONRPCC_ROUTES, service.port), directory) as kamailio,
    ):
        wait_until_asked(kamailio, "first")
        yield kamailio


def result(reply: SipReply) -> Any:
    return meaning(reply.header("X-Result"))


def test_jsonrpcc_gets_the_results_of_our_server(jsonrpcc: KamailioProcess) -> None:
    reply = ask(jsonrpcc, "petros")
    assert (reply.status, reply.header("X-Route")) == (200, "RESPONSE")
    assert result(reply) == {"name": "petros", "contact": "sip:petros@127.0.0.1:5099"}


def test_jsonrpcc_gets_the_errors_of_our_server(jsonrpcc: KamailioProcess) -> None:
    reply = ask(jsonrpcc, "missing")
    assert (reply.status, reply.header("X-Route")) == (500, "ERROR")
    assert result(reply) == {"code": 404, "message": "no such user", "data": {"name": "missing"}}


def test_notifications_of_jsonrpcc_reach_our_server(jsonrpcc: KamailioProcess) -> None:
    assert ask(jsonrpcc, "note").status == 200
    counts: Any = {}
    deadline = time.monotonic() + 5
    while "notified" not in counts:
        assert time.monotonic() < deadline, counts
        counts = result(ask(jsonrpcc, "counts"))
    assert counts["notified"] == 1


def test_many_transactions_of_jsonrpcc_each_get_their_own_answer(jsonrpcc: KamailioProcess) -> None:
    users = [f"user{number}" for number in range(50)]
    with contextlib.ExitStack() as stack:
        clients = {user: stack.enter_context(SipClient(jsonrpcc.address)) for user in users}
        for user, client in clients.items():
            client.send(client.build("OPTIONS", user=user))
        for user, client in clients.items():
            assert result(client.replies()[-1])["name"] == user


def test_jsonrpcc_runs_into_its_own_timeout_beside_other_calls(tmp_path: Path) -> None:
    require_kamailio_module("jsonrpcc")
    service = OurService(tmp_path)
    # By itself, and over before the answer comes: jsonrpcc dies of a late answer.
    with service, KamailioProcess(script(JSONRPCC_ROUTES, service.port), tmp_path) as kamailio:
        wait_until_asked(kamailio, "first")
        with SipClient(kamailio.address) as client:
            client.send(client.build("OPTIONS", user="slow"))
            # Answered while the slow one is under way, on the same connection.
            assert ask(kamailio, "petros").status == 200
            reply = client.replies()[-1]
        assert (reply.status, reply.header("X-Result")) == (500, "timeout")


# janssonrpcc

JANSSONRPCC = """\
#!KAMAILIO
children=1
debug=2
log_stderror=yes
disable_tcp=yes
auto_aliases=no
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "jansson.so"
loadmodule "janssonrpcc.so"
modparam("janssonrpcc", "server", "conn=users;addr=127.0.0.1;port={port};priority=1;weight=1")
modparam("janssonrpcc", "result_pv", "$var(result)")

request_route {{
    if ($rU == "ready") {{
        sl_send_reply("200", "Ready");
        exit;
    }}
    if ($rU == "note") {{
        janssonrpc_notification("users", "get_user", '{{"name": "note", "method": "notified"}}');
        sl_send_reply("200", "OK");
        exit;
    }}
    if ($rU == "counts") {{
        janssonrpc_request("users", "get_counts", '[]', "route=ANSWERED;timeout=1000");
    }} else {{
        janssonrpc_request("users", "get_user", '{{"name": "$rU", "method": "$rm"}}', "route=ANSWERED;timeout=1000");
    }}
}}

route[ANSWERED] {{
    append_to_reply("X-Result: $var(result)\\r\\n");
    if (jansson_get("result", "$var(result)", "$var(user)")) {{
        t_reply("200", "OK");
    }} else {{
        t_reply("500", "Failed");
    }}
}}
"""


@pytest.fixture(scope="module")
def janssonrpcc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KamailioProcess]:
    require_kamailio_module("janssonrpcc")
    directory = tmp_path_factory.mktemp("janssonrpcc")
    with (
        OurService(directory) as service,
        KamailioProcess(JANSSONRPCC.format(port=service.port), directory) as kamailio,
    ):
        wait_until_asked(kamailio, "first")
        yield kamailio


def test_janssonrpcc_gets_the_results_of_our_server(janssonrpcc: KamailioProcess) -> None:
    reply = ask(janssonrpcc, "petros")
    assert reply.status == 200
    assert result(reply)["result"] == {"name": "petros", "contact": "sip:petros@127.0.0.1:5099"}


def test_janssonrpcc_gets_the_errors_of_our_server(janssonrpcc: KamailioProcess) -> None:
    reply = ask(janssonrpcc, "missing")
    assert reply.status == 500
    assert result(reply)["error"] == {"code": 404, "message": "no such user", "data": {"name": "missing"}}


def test_notifications_of_janssonrpcc_reach_our_server(janssonrpcc: KamailioProcess) -> None:
    assert ask(janssonrpcc, "note").status == 200
    counts: Any = {}
    deadline = time.monotonic() + 5
    while "notified" not in counts:
        assert time.monotonic() < deadline, counts
        counts = result(ask(janssonrpcc, "counts"))["result"]
    assert counts["notified"] == 1


def test_janssonrpcc_finds_our_server_again_after_a_restart(tmp_path: Path) -> None:
    require_kamailio_module("janssonrpcc")
    service = OurService(tmp_path)
    with KamailioProcess(JANSSONRPCC.format(port=service.port), tmp_path) as kamailio:
        with service:
            wait_until_asked(kamailio, "petros")
        with service:
            wait_until_asked(kamailio, "petros")


# evapi: Kamailio listens, our client connects

EVAPI = """\
#!KAMAILIO
children=1
debug=2
log_stderror=yes
disable_tcp=yes
auto_aliases=no
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "textops.so"
loadmodule "htable.so"
loadmodule "jansson.so"
loadmodule "evapi.so"
modparam("evapi", "bind_addr", "127.0.0.1:{port}")
modparam("evapi", "netstring_format", 1)
modparam("htable", "htable", "answers=>size=4")
modparam("htable", "htable", "indexes=>size=4")
modparam("htable", "htable", "labels=>size=4")

request_route {{
    if ($rU == "ready") {{
        sl_send_reply("200", "Ready");
        exit;
    }}
    if ($rU == "event") {{
        evapi_relay('{{"jsonrpc":"2.0","method":"event","params":["$fU","$ci"]}}');
        sl_send_reply("200", "OK");
        exit;
    }}
    t_newtran();
    $sht(indexes=>$ci) = $T(id_index);
    $sht(labels=>$ci) = $T(id_label);
    evapi_async_relay('{{"jsonrpc":"2.0","id":"$ci","method":"get_user","params":["$rU"]}}');
}}

event_route[evapi:message-received] {{
    $var(message) = $evapi(msg);
    jansson_get("id", "$var(message)", "$var(id)");
    if (!jansson_get("method", "$var(message)", "$var(method)")) {{
        # An answer to what Kamailio has asked: the id names the transaction.
        $sht(answers=>$var(id)) = $var(message);
        t_continue("$sht(indexes=>$var(id))", "$sht(labels=>$var(id))", "ANSWERED");
        exit;
    }}
    if ($var(method) == "silent") {{
        exit;
    }}
    if ($var(method) == "add") {{
        jansson_get("params[0]", "$var(message)", "$var(a)");
        jansson_get("params[1]", "$var(message)", "$var(b)");
        $var(sum) = $var(a) + $var(b);
        evapi_relay('{{"jsonrpc":"2.0","id":$var(id),"result":{{"sum":$var(sum)}}}}');
        exit;
    }}
    evapi_relay('{{"jsonrpc":"2.0","id":$var(id),"error":{{"code":-32601,"message":"no $var(method)"}}}}');
}}

route[ANSWERED] {{
    append_to_reply("X-Result: $sht(answers=>$ci)\\r\\n");
    t_reply("200", "OK");
}}
"""


@pytest.fixture(scope="module")
def evapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KamailioProcess, int]]:
    require_kamailio_module("evapi")
    require_kamailio_module("jansson")
    port = free_port(socket.SOCK_STREAM)
    with KamailioProcess(EVAPI.format(port=port), tmp_path_factory.mktemp("evapi")) as kamailio:
        yield kamailio, port


def test_our_client_calls_a_script_of_kamailio_over_evapi(evapi: tuple[KamailioProcess, int]) -> None:
    async def main() -> None:
        async with Client(f"{HOST}:{evapi[1]},1", timeout=2) as client:
            assert await client.call("add", [1, 2]) == {"sum": 3}
            sums = await asyncio.gather(*(client.call("add", [number, 1]) for number in range(20)))
            assert sums == [{"sum": number + 1} for number in range(20)]
            with pytest.raises(RpcAnswerError) as fault:
                await client.call("unknown")
            assert (fault.value.code, fault.value.message) == (-32601, "no unknown")
            with pytest.raises(RpcTimeoutError):
                await client.call("silent", timeout=0.1)

    asyncio.run(main())


def test_a_script_of_kamailio_calls_our_client_over_evapi_and_goes_on_with_its_answer(
    evapi: tuple[KamailioProcess, int],
) -> None:
    async def main() -> None:
        client = Client(f"{HOST}:{evapi[1]},1", timeout=2)

        @client.method
        async def get_user(name: str) -> dict[str, str]:
            await asyncio.sleep(0.05)
            if name == "missing":
                raise RpcAnswerError(404, "no such user")
            return {"name": name}

        async with client:
            await client.connected(5)
            users = ["petros", "maria", "missing"]
            replies = await asyncio.gather(*(asyncio.to_thread(ask, evapi[0], user) for user in users))
            assert [reply.status for reply in replies] == [200] * 3
            answers = [json.loads(reply.header("X-Result") or "") for reply in replies]
            assert [answer.get("result") for answer in answers] == [{"name": "petros"}, {"name": "maria"}, None]
            assert answers[2]["error"] == {"code": 404, "message": "no such user"}

    asyncio.run(main())


def test_our_client_takes_the_events_of_kamailio_as_notifications(evapi: tuple[KamailioProcess, int]) -> None:
    async def main() -> None:
        client = Client(f"{HOST}:{evapi[1]},1", timeout=2)
        events: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

        @client.method
        def event(user: str, call_id: str) -> None:
            events.put_nowait((user, call_id))

        async with client:
            await client.connected(5)
            assert (await asyncio.to_thread(ask, evapi[0], "event")).status == 200
            user, call_id = await asyncio.wait_for(events.get(), 3)
            assert user == "alice"
            assert "@" in call_id

    asyncio.run(main())
