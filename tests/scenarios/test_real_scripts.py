"""Scripts as they are in production do the same on Kamailio and here, replies, JSON-RPC calls and log lines.

The scripts are files of `production/`, each with the log lines it writes in a file beside it. Only the address of the
service is put in.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.scripted_service import Call, ScriptedService, error_text, result_text
from tests.scenarios.side_by_side import SERVERS, Running
from tests.scenarios.sip_client import SipReply

pytestmark = pytest.mark.scenario

SCRIPTS = Path(__file__).parent / "production"
LOG_MARK = "<script>: "
SHOWN = ("Contact", "Retry-After", "X-Number", "X-Length", "X-Left", "X-Plan", "X-Class")


@dataclass
class Ask:
    """A request, and what is expected of it: a final reply (None: nothing) with headers, and JSON-RPC calls."""

    user: str
    reply: str | None
    headers: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    method: str = "MESSAGE"
    sender: str = "alice"
    sent: dict[str, str] = field(default_factory=dict)


def lookup(number: str) -> list[tuple[str, Any]]:
    return [("number.lookup", {"number": number, "from": "alice", "cseq": 1})]


def account(caller: str, agent: str = "") -> list[tuple[str, Any]]:
    return [("account.get", {"caller": caller, "ua": agent})]


def moved(number: str, host: str) -> dict[str, str]:
    return {"Contact": f"<sip:{number}@{host}>", "X-Number": number, "X-Length": str(len(number))}


REQUESTS = {
    "number_lookup": [
        Ask("0049891", "302 Moved Temporarily", moved("+49891", "h6.example.test"), lookup("+49891")),
        Ask("+49891", "302 Moved Temporarily", moved("+49891", "h6.example.test")),
        Ask("404", "404 Not Found", calls=lookup("404"), method="INVITE"),
        Ask("404", "404 Not Found", calls=lookup("404")),
        Ask("404", "404 Still Not Found"),
        Ask("500", "500 Lookup Failed", calls=lookup("500")),
        Ask("slow", "504 Lookup Time-out", calls=lookup("slow")),
        Ask("1", "405 Method Not Allowed", method="INFO"),
    ],
    "front": [
        Ask("bob", "202 Accepted", {"X-Left": "4"}),
        Ask("wrong", "404 Wrong"),
        Ask("wrong", "404 Wrong"),
        Ask("wrong", "404 Wrong"),
        Ask("wrong", "403 Banned"),
        Ask("bob", "403 Banned"),
        Ask("wrong", "202 Accepted", sender="trusted"),
        Ask("bob", "202 Accepted", {"X-Left": "4"}, sender="carol"),
        Ask("bob", None, sender="carol", sent={"User-Agent": "friendly-scanner/1.0"}),
        Ask("bob", "200 OK", {"X-Left": "2"}, sender="carol", sent={"User-Agent": "sipCLI/v1"}),
        Ask("bob", "202 Accepted", {"X-Left": "1"}, sender="carol", sent={"User-Agent": "Telephone 1"}),
        Ask("bob", "202 Accepted", {"X-Left": "0"}, sender="carol"),
        Ask("bob", "503 Too Many Requests", {"Retry-After": "5"}, sender="carol"),
        Ask("bob", "503 Too Many Requests", {"Retry-After": "7"}, sender="carol"),
    ],
    "authorisation": [
        Ask("bob", "403 Forbidden", calls=account("alice", "x y/1.0"), sent={"User-Agent": "x y/1.0"}),
        Ask("bob", "403 Forbidden", calls=account("alice"), method="INVITE"),
        Ask("bob", "402 Payment Required", {"X-Plan": "poor"}, account("poor"), sender="poor"),
        Ask("bob", "404 No Such Account", calls=account("nobody"), sender="nobody"),
        Ask("bob", "404 Gone Account", calls=account("gone"), sender="gone", method="SUBSCRIBE"),
        Ask("bob", "500 Server Internal Error", calls=account("odd"), sender="odd"),
    ],
    "numbers": [
        Ask(dialled, "480 Temporarily Unavailable", {"X-Number": number, "X-Class": kind}, sender=sender)
        for dialled, number, kind, sender in [
            ("0049891234", "+49891234", "national city", "089123"),
            ("0891234567", "+49891234567", "national city", "+4989"),
            ("001555", "+1555", "international", "x"),
            ("110", "110", "emergency", "1"),
            ("*21#", "feature-21", "other", "1"),
            ("089-12.34", "+49891234", "national city", "1"),
            ("%2B49301", "+49301", "national city", "1"),
            ("bobby", "bobby", "other", "1"),
            ("12345", "12345", "numeric", "1"),
            ("0171999", "+49171999", "mobile", "00"),
        ]
    ],
    "includes": [
        Ask("bob", "200 Parts"),
        Ask("blocked", "403 Blocked"),
        Ask("loop", "200 Parts", method="INFO"),
        Ask("fall", "200 Parts", sender="carol"),
        Ask("through", "200 Parts"),
        Ask("bob", "200 Parts", method="SUBSCRIBE", sent={"Event": "presence"}),
        Ask("bob", "200 Parts", method="SUBSCRIBE", sent={"Event": "other"}),
    ],
}
ACCOUNTS = {
    "alice": '{"plan":{"name":"gold"},"credit":12,"numbers":["100","200","300"],"owner":7,"state":"old"}',
    "poor": '{"plan":{"name":"poor"},"credit":0,"numbers":["1","2"],"owner":"me"}',
}
REFUSALS = {"nobody": (404, "No Such Account"), "gone": (410, "Gone Account")}


def answer(call: Call) -> None:
    """The service of all scripts."""
    payload = SERVICES[call.method](call)
    if payload is not None:
        call.connection.send_payload(payload)


def answer_lookup(call: Call) -> bytes | None:
    number = call.params["number"]
    if number == "slow":
        return None
    if number.startswith("+"):
        return result_text(call, f'"h{len(number)}.example.test"')
    return error_text(call, json.dumps({"code": int(number), "message": "no such number"}))


def answer_account(call: Call) -> bytes:
    caller = call.params["caller"]
    if caller in ACCOUNTS:
        return result_text(call, ACCOUNTS[caller])
    code, message = REFUSALS.get(caller, (1, "odd"))
    return error_text(call, json.dumps({"code": code, "message": message}))


SERVICES: dict[str, Callable[[Call], bytes | None]] = {"number.lookup": answer_lookup, "account.get": answer_account}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_script_of_production(name: str, server: str, tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS / "parts", tmp_path / "parts")
    with ScriptedService(answer) as service:
        text = (SCRIPTS / f"{name}.cfg").read_text(encoding="utf-8").replace("9999", str(service.port))
        with SERVERS[server](text, tmp_path) as process:
            running = Running(server, process, service)
            running.wait_until_connected(service)
            for request in REQUESTS[name]:
                before = len(service.calls)
                assert sent_and_seen(running, request) == (request.reply, request.headers)
                assert [(call.method, call.params) for call in service.calls[before:]] == request.calls
    lines = [line.partition(LOG_MARK)[2] for line in process.log.splitlines() if LOG_MARK in line]
    assert lines == (SCRIPTS / f"{name}.log").read_text(encoding="utf-8").splitlines()


def sent_and_seen(running: Running, request: Ask) -> tuple[str | None, dict[str, str]]:
    with running.connect() as client:
        made = client.build(request.method, user=request.user, from_user=request.sender, headers=request.sent)
        client.send(made)
        replies = client.replies(0.3 if request.reply is None else 3.0)
        if not replies:
            return None, {}
        final: SipReply = replies[-1]
        if request.method == "INVITE":
            client.send(client.derive(made, "ACK", final))
    shown = {name: value for name in SHOWN if (value := final.header(name)) is not None}
    return f"{final.status} {final.reason}", shown
