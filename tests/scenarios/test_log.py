"""The log of a real server: text and JSON, stderr and syslog, a log that nobody reads, and a call followed by grep."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sipwright.testing.fakerpc import FakeRpcServer, after, error, result
from tests.scenarios.processes import HOST, SipwrightProcess, free_port
from tests.scenarios.sip_client import SipClient, SipRequest

pytestmark = pytest.mark.scenario

# One worker, in the process that is started.
ONE = ["-D"]

SCRIPT = """
debug={debug}
{globals}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "kex.so"
loadmodule "xlog.so"
loadmodule "jsonrpc.so"
modparam("jsonrpc", "servers", "{servers}")
modparam("jsonrpc", "timeout", 100)

request_route {{
    if ($rU == "ready") {{
        sl_send_reply("200", "Ready");
        exit;
    }}
    if ($rU == "dropped") {{
        sl_send_reply("200", "$stat(log:dropped)");
        exit;
    }}
    if ($rU == "talk") {{
        xlog("L_NOTICE", "talk of $fU: $hdr(X-Text)");
        sl_send_reply("200", "OK");
        exit;
    }}
    if ($rU == "fault") {{
        $var(x) = 1 / $var(zero);
        jsonrpc_notification("seen", "{{'user': $hdr(X-Text)}}");
        t_reply("200", "OK");
        exit;
    }}
    xlog("L_INFO", "asks for $rU\\n");
    jsonrpc_request("where_is", "{{'user': '$rU'}}", "FOUND", "LOST", "$var(answer)");
}}

route[FOUND] {{
    xlog("L_INFO", "$rU: $var(answer)\\n");
    t_reply("200", "OK");
}}

route[LOST] {{
    xlog("L_WARN", "$rU: $jsonrpc(status)\\n");
    t_reply("404", "Not Found");
}}
"""


def script(servers: str = "", debug: int = 2, **more: str) -> str:
    return SCRIPT.format(servers=servers, debug=debug, globals=more.get("parameters", ""))


def message_lines(log: str) -> list[str]:
    """Return the lines of a log but those of starting and stopping."""
    return [line for line in log.splitlines() if " [w" in line and " z9hG4bK" in line]


def branch_of(request: SipRequest) -> str:
    found = re.search(r"branch=([^;]+)", request.via)
    assert found is not None
    return found[1]


def wait_for_line(server: SipwrightProcess, text: str) -> None:
    deadline = time.monotonic() + 5
    while text not in server.log:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.01)


def test_every_line_about_a_message_has_worker_call_id_and_transaction(tmp_path: Path) -> None:
    with (
        FakeRpcServer() as rpc,
        SipwrightProcess(script(f"{rpc.address},1"), tmp_path, ONE) as server,
        SipClient(server.address) as client,
    ):
        rpc.on("where_is", result("in the garden"))
        wait_for_line(server, "connected to JSON-RPC server")
        asked, fault = client.build("OPTIONS", "carol"), client.build("OPTIONS", "fault", headers={"X-Text": "}{"})
        for request in (asked, fault):
            client.send(request)
            assert client.replies()[-1].status == 200
        wait_for_line(server, "jsonrpc_notification")
    lines = message_lines(server.log)
    levels_and_rest = [re.sub(r"^\S+ \S+ ", "", line) for line in lines]
    of_asked = f"[w0 {asked.call_id} {branch_of(asked)}]"
    of_fault = f"[w0 {fault.call_id} {branch_of(fault)}]"
    assert levels_and_rest[:2] == [
        f"INFO {of_asked} <script>: asks for carol",
        f"INFO {of_asked} <script>: carol: in the garden",
    ]
    assert re.fullmatch(rf"ERROR {re.escape(of_fault)} \S+sipwright.cfg:\d+: /: division by zero", levels_and_rest[2])
    assert levels_and_rest[3].startswith(f"ERROR {of_fault} jsonrpc_notification: bad parameters: ")
    assert len(lines) == 4
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO \[w0\] connected to JSON-RPC", server.log, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [('log_engine_type="json"', []), ("", ["--log-engine=json:M"])],
    ids=["script", "command-line"],
)
def test_json_lines_say_the_same_in_members(parameters: str, arguments: Sequence[str], tmp_path: Path) -> None:
    with (
        SipwrightProcess(script(parameters=parameters), tmp_path, [*ONE, *arguments]) as server,
        SipClient(server.address) as client,
    ):
        request = client.build("OPTIONS", "talk", headers={"X-Text": 'caf\udce9 \x1b[31m "quoted"'})
        client.send(request)
        assert client.replies()[-1].status == 200
        client.ask("OPTIONS", user="fault")
    lines = [json.loads(line) for line in server.log.splitlines() if not line.startswith("sipwright")]
    [talk] = [line for line in lines if "talk" in line["message"]]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", talk.pop("time"))
    assert talk == {
        "level": "NOTICE",
        "worker": "w0",
        "pid": talk["pid"],
        "message": '<script>: talk of alice: caf\\xe9 \x1b[31m "quoted"',
        "call_id": request.call_id,
        "cseq": 1,
        "method": "OPTIONS",
        "transaction": branch_of(request),
    }
    [fault] = [line for line in lines if "division" in line["message"]]
    assert fault["file"] == str(tmp_path / "sipwright.cfg")
    text = script(parameters=parameters)
    assert fault["line"] == 1 + text[: text.index("/ $var(zero)")].count("\n")


def test_the_log_prefix_of_kamailio_scripts_is_at_the_front_of_their_lines(tmp_path: Path) -> None:
    parameters = 'log_prefix="{$mt $hdr(CSeq) $ci} "'
    with (
        SipwrightProcess(script(parameters=parameters), tmp_path, ONE) as server,
        SipClient(server.address) as client,
    ):
        request = client.build("OPTIONS", "talk", headers={"X-Text": "hello"})
        client.send(request)
        client.replies()
    assert f"NOTICE [w0] {{1 1 OPTIONS {request.call_id}}} <script>: talk of alice: hello\n" in server.log


def test_a_call_is_followed_through_suspension_by_its_call_id(tmp_path: Path) -> None:
    with (
        FakeRpcServer() as rpc,
        SipwrightProcess(script(f"{rpc.address},1", debug=3), tmp_path, ONE) as server,
        SipClient(server.address) as client,
    ):
        # The one that is asked first is answered last; the third is answered too late.
        rpc.on(
            "where_is", after(0.06, result("in the garden")), error(404, "nobody knows"), after(0.15, result("late"))
        )
        wait_for_line(server, "connected to JSON-RPC server")
        first, second, third = (client.build("INVITE", name) for name in ("alice", "bob", "carol"))
        for request in (first, second, third):
            client.send(request)
        final = [reply for _ in range(9) if (reply := client.receive(0.5)) is not None and reply.status >= 200]
        assert sorted(reply.status for reply in final[:3]) == [200, 404, 404]
        wait_for_line(server, "rpc_late")

    def story(request: SipRequest) -> list[str]:
        """Return what grep finds, without times and addresses, up to the first final answer."""
        found = [line for line in server.log.splitlines() if request.call_id in line]
        ids = f" [w0 {request.call_id} {branch_of(request)}] "
        assert all(ids in line for line in found)
        told = [re.sub(r"127\.0\.0\.1:\d+|after \d+ ms", "...", line.partition(ids)[2]) for line in found]
        return [line for number, line in enumerate(told) if not line.startswith("> send") or line not in told[:number]]

    uri = f"sip:{{}}@{HOST}:{server.address[1]}"
    assert story(first) == [
        f"< receive INVITE {re.sub(r'127.0.0.1:[0-9]+', '...', uri.format('alice'))} from ...",
        "<script>: asks for alice",
        "suspend",
        "> send 100 Trying to ...",
        '> rpc_request 1 where_is {"user":"alice"} to ...',
        '< rpc_ok 1 from ... ...: "in the garden"',
        "resume FOUND",
        "<script>: alice: in the garden",
        "> send 200 OK to ...",
    ]
    assert story(second)[4:] == [
        '> rpc_request 2 where_is {"user":"bob"} to ...',
        '< rpc_error 2 from ... ...: {"code":404,"message":"nobody knows"}',
        "resume LOST",
        "<script>: bob: error",
        "> send 404 Not Found to ...",
    ]
    assert story(third)[4:] == [
        '> rpc_request 3 where_is {"user":"carol"} to ...',
        "rpc_timeout 3 from ... ...",
        "resume LOST",
        "<script>: carol: timeout",
        "> send 404 Not Found to ...",
        "< rpc_late 3 from ...: nobody waits for it",
    ]


def test_a_script_can_have_the_story_of_what_it_wants_to_know_more_of(tmp_path: Path) -> None:
    """`setdebug` turns the lines of events on and off while the server runs."""
    text = script().replace(
        'if ($rU == "talk")', 'if ($rU == "debug") { setdebug("$hdr(X-Level)"); }\n if ($rU == "talk")'
    )
    with SipwrightProcess(text, tmp_path, ONE) as server, SipClient(server.address) as client:
        client.ask("OPTIONS", user="talk")
        client.ask("OPTIONS", user="debug", headers={"X-Level": "3"})
        client.ask("OPTIONS", user="talk")
        client.ask("OPTIONS", user="debug", headers={"X-Level": "2"})
        client.ask("OPTIONS", user="talk")
    events = [line.partition("] ")[2].split(" from")[0].split(" to ")[0] for line in message_lines(server.log)]
    uri = f"sip:{{}}@{HOST}:{server.address[1]}"
    told = [event for event in events if "talk" in event]
    assert told == [
        "<script>: talk of alice: <null>",
        f"< receive OPTIONS {uri.format('talk')}",
        "<script>: talk of alice: <null>",
        "<script>: talk of alice: <null>",
    ]


# Logs that nobody reads


class Unread:
    """A server whose stderr is a pipe, which is read when the test wants."""

    def __init__(
        self, text: str, directory: Path, *arguments: str, launcher: Sequence[str] = ("-m", "sipwright")
    ) -> None:
        config = directory / "sipwright.cfg"
        config.write_text(text)
        self.address = (HOST, free_port())
        command = [
            sys.executable,
            *launcher,
            "run",
            "-f",
            str(config),
            "-l",
            f"udp:{HOST}:{self.address[1]}",
            *arguments,
        ]
        self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        assert self.popen.stderr is not None
        self.stderr = self.popen.stderr

    def wait_until_ready(self) -> str:
        line = self.stderr.readline()
        assert b"ready" in line, line
        return line.decode()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(5)
        self.stderr.close()


@contextlib.contextmanager
def unread(*arguments: Any, **more: Any) -> Iterator[Unread]:
    # In one process, so that its log is all that is written there.
    server = Unread(*arguments, "-D", **more)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()


def talk(server: Unread, requests: int) -> float:
    """Let a server log some kB for each request; return the time of the slowest answer in seconds."""
    slowest = 0.0
    with SipClient(server.address) as client:
        for _ in range(requests):
            began = time.monotonic()
            assert client.ask("OPTIONS", user="talk", headers={"X-Text": "x" * 3000}).status == 200
            slowest = max(slowest, time.monotonic() - began)
    return slowest


def dropped(server: Unread) -> int:
    with SipClient(server.address) as client:
        return int(client.ask("OPTIONS", user="dropped").reason)


def test_a_worker_goes_on_while_nobody_reads_its_stderr_and_says_later_what_was_lost(tmp_path: Path) -> None:
    with unread(script(), tmp_path, "-E") as server:
        # Three times what pipe and queue hold.
        assert talk(server, 4500) < 1.0
        lost = dropped(server)
        assert lost > 1000
        data = b""
        while b" lost: " not in data:
            data += os.read(server.stderr.fileno(), 1 << 16)
        server.popen.send_signal(signal.SIGTERM)
        text = (data + server.stderr.read()).decode()
        assert server.popen.wait(5) == 0
    assert f"[w0] {lost} log lines were lost: the log could not be written fast enough\n" in text
    assert text.endswith(" INFO [w0] stopping\n")
    lines = text.splitlines()
    assert sum("talk of" in line for line in lines) == 4500 - lost
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+ \[w0", line) for line in lines)


def test_a_server_whose_stderr_nobody_reads_stops_when_it_is_told_to(tmp_path: Path) -> None:
    with unread(script(), tmp_path, "-E") as server:
        talk(server, 100)
        began = time.monotonic()
        server.popen.send_signal(signal.SIGTERM)
        assert server.popen.wait(5) == 0
        assert time.monotonic() - began < 3


SYSLOG_LAUNCHER = """
import sys
from pathlib import Path
from sipwright.workers import log
log.SYSLOG = Path(sys.argv.pop(1))
from sipwright.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "syslog"))
        daemon.settimeout(5)
        yield daemon


def to_syslog(tmp_path: Path) -> tuple[str, ...]:
    return ("-c", SYSLOG_LAUNCHER, str(tmp_path / "syslog"))


@pytest.mark.parametrize("engine", ["text", "json"])
def test_syslog_gets_priority_and_name_and_the_facility_that_a_line_asks_for(
    engine: str, syslog: socket.socket, tmp_path: Path
) -> None:
    parameters = 'log_stderror=no\nlog_facility=LOG_LOCAL3\nlog_name="edge"'
    text = script(parameters=parameters).replace('xlog("L_NOTICE"', 'xlog("LOG_LOCAL5", "L_NOTICE"')
    arguments = ["--log-engine=json"] if engine == "json" else []
    with unread(text, tmp_path, *arguments, launcher=to_syslog(tmp_path)) as server:
        with SipClient(server.address) as client:
            request = client.build("OPTIONS", "talk", headers={"X-Text": "hello"})
            client.send(request)
            client.replies()
            talked = syslog.recv(9000).decode()
            client.ask("OPTIONS", user="fault")
            fault = syslog.recv(9000).decode()
            assert "no server is connected" in syslog.recv(9000).decode()
        tag = f"edge[{server.popen.pid}]: "
        server.popen.send_signal(signal.SIGTERM)
        assert server.popen.wait(5) == 0
        stopping = syslog.recv(9000).decode()
        assert server.stderr.read() == b""
    local3, local5, error_, notice, info = 19, 21, 3, 5, 6
    head = f"<{8 * local5 + notice}>{tag}"
    assert talked.startswith(head)
    if engine == "json":
        members = json.loads(talked.removeprefix(head))
        assert (members["level"], members["call_id"], members["worker"]) == ("NOTICE", request.call_id, "w0")
    else:
        ids = f"[w0 {request.call_id} {branch_of(request)}]"
        assert talked == f"{head}NOTICE {ids} <script>: talk of alice: hello"
    assert fault.startswith(f"<{8 * local3 + error_}>{tag}")
    assert stopping.startswith(f"<{8 * local3 + info}>{tag}")


def test_a_worker_goes_on_while_syslog_hangs(syslog: socket.socket, tmp_path: Path) -> None:
    with unread(script(parameters="log_stderror=no"), tmp_path, launcher=to_syslog(tmp_path)) as server:
        assert talk(server, 3000) < 1.0
        lost = dropped(server)
        assert lost > 1000
        seen: list[str] = []
        while not seen or "were lost" not in seen[-1]:
            seen.append(syslog.recv(9000).decode())
        assert f"{lost} log lines were lost" in seen[-1]
