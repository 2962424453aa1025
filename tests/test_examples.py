"""Every example is run as a user runs it: `sipwright rpc serve`, `sipwright run` and `sipwright send`, as processes."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scenarios.processes import RedisProcess

EXAMPLES = Path(__file__).parent.parent / "examples"
SIPWRIGHT = [sys.executable, "-m", "sipwright"]

pytestmark = pytest.mark.scenario

Start = Callable[..., Path]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a `sipwright` that goes on running; returns its log once `pattern` is in it."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str, pattern: str = "ready") -> Path:
            log = tmp_path / f"{arguments[0]}.log"
            with log.open("wb") as file:
                process = subprocess.Popen([*SIPWRIGHT, *arguments], stdout=file, stderr=file)
            stack.callback(process.wait)
            stack.callback(process.kill)
            deadline = time.monotonic() + 10
            while not re.search(pattern, log.read_text()):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.01)
            return log

        yield begin


def send(method: str, user: str, port: int) -> tuple[int, str]:
    done = subprocess.run(
        [*SIPWRIGHT, "send", method, f"sip:{user}@127.0.0.1:{port}"], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def free_port(kind: int = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_first_script_asks_its_service(start: Start, tmp_path: Path) -> None:
    rpc_port, sip_port = free_port(socket.SOCK_STREAM), free_port()
    start("rpc", "serve", str(EXAMPLES / "first_service.py"), "--listen", f"127.0.0.1:{rpc_port}")
    # The file names its address, as a first script does; nothing else is changed.
    script = tmp_path / "first.cfg"
    script.write_text((EXAMPLES / "first.cfg").read_text().replace("127.0.0.1:9999", f"127.0.0.1:{rpc_port}"))
    start("run", "-n1", "-f", str(script), "-l", f"udp:127.0.0.1:{sip_port}", pattern="connected to JSON-RPC server")
    status, replies = send("OPTIONS", "alice", sip_port)
    assert (status, replies.splitlines()[0]) == (0, "SIP/2.0 200 alice is in the garden")
    status, replies = send("INVITE", "bob", sip_port)
    assert status == 0
    assert "SIP/2.0 100 Trying" in replies
    assert "SIP/2.0 200 bob is at work" in replies
    status, replies = send("OPTIONS", "carol", sip_port)
    assert (status, replies.splitlines()[0]) == (1, "SIP/2.0 404 error: nobody knows carol")


def wait_for(log: Path, text: str) -> None:
    """Wait until a log has a line: a worker's log is written by a thread of its own."""
    deadline = time.monotonic() + 5
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)


def test_manual_script_reports_the_result(start: Start, tmp_path: Path) -> None:
    rpc_port, sip_port = free_port(socket.SOCK_STREAM), free_port()
    service = tmp_path / "service.py"
    service.write_text(
        "def update_user(id, name): print('updated', id, name, flush=True)\n"
        "def get_user(id): return {'id': id, 'name': 'Petros'}\n"
    )
    calls = start("rpc", "serve", str(service), "--listen", f"127.0.0.1:{rpc_port}")
    define = f'SERVERS="127.0.0.1:{rpc_port},2 127.0.0.1:{free_port(socket.SOCK_STREAM)},1"'
    log = start(
        *("run", "-n1", "-f", str(EXAMPLES / "manual.cfg"), "-A", define, "-l", f"udp:127.0.0.1:{sip_port}"),
        pattern="connected to JSON-RPC server",
    )
    status, replies = send("OPTIONS", "1234", sip_port)
    assert status == 0
    assert 'X-User: {"id":1234,"name":"Petros"}\n' in replies
    wait_for(log, 'Result received: {"id":1234,"name":"Petros"}\n')
    assert "updated 1234 Petros\n" in calls.read_text()


def test_manual_script_reports_the_error(start: Start, tmp_path: Path) -> None:
    sip_port = free_port()
    define = f'SERVERS="127.0.0.1:{free_port(socket.SOCK_STREAM)},1"'
    log = start("run", "-f", str(EXAMPLES / "manual.cfg"), "-A", define, "-l", f"udp:127.0.0.1:{sip_port}")
    status, replies = send("INVITE", "1234", sip_port)
    assert status == 1
    assert "SIP/2.0 503 No Service" in replies
    wait_for(log, "Error received: failure\n")


def test_second_dialect_tells_apart_what_can_come_of_a_request(start: Start, tmp_path: Path) -> None:
    ports, sip_port = [free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)], free_port()
    service = tmp_path / "service.py"
    service.write_text(
        "import asyncio\n"
        "from sipwright.errors import RpcAnswerError\n"
        "def seen(user, method): print('seen', user, method, flush=True)\n"
        "async def get_user(name):\n"
        "    if name == 'slow': await asyncio.sleep(5)\n"
        "    if name == 'carol': raise RpcAnswerError(404, 'Nobody Of That Name')\n"
        "    return {'place': 'at home'} if name == 'alice' else {}\n"
    )
    calls = start("rpc", "serve", str(service), "--listen", f"127.0.0.1:{ports[1]}")
    start(
        *("run", "-n1", "-f", str(EXAMPLES / "janssonrpcc.cfg"), "-l", f"udp:127.0.0.1:{sip_port}"),
        *("-A", f"PORT={ports[0]}", "-A", f"BACKUP_PORT={ports[1]}"),
        pattern=f"connected to JSON-RPC server 127.0.0.1:{ports[1]}",
    )
    status, replies = send("OPTIONS", "alice", sip_port)
    assert (status, replies.splitlines()[0]) == (0, "SIP/2.0 200 OK")
    assert "X-Place: at home\n" in replies
    wait_for(calls, " OPTIONS\n")
    for user, answer in [
        ("carol", "404 Nobody Of That Name"),
        ("bob", "480 Nobody Knows Where"),
        ("slow", "504 No Answer In Time"),
    ]:
        assert send("OPTIONS", user, sip_port)[1].splitlines()[0] == f"SIP/2.0 {answer}"


def test_second_dialect_without_a_service(start: Start) -> None:
    sip_port, port = free_port(), free_port(socket.SOCK_STREAM)
    arguments = ("-A", f"PORT={port}", "-A", f"BACKUP_PORT={port}", "-l", f"udp:127.0.0.1:{sip_port}")
    start("run", "-n1", "-f", str(EXAMPLES / "janssonrpcc.cfg"), *arguments, pattern="next attempt in")
    assert send("OPTIONS", "alice", sip_port)[1].splitlines()[0] == "SIP/2.0 503 No Service"


def test_servers_share_what_they_know_on_redis(start: Start, tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as redis:
        redis.run("HSET", "place:alice", "uri", "sip:alice@10.0.0.1", "since", "9")
        ports = [free_port(), free_port()]
        for port in ports:
            arguments = ("-A", f"REDIS_PORT={redis.port}", "-l", f"udp:127.0.0.1:{port}")
            start("run", "-n1", "-f", str(EXAMPLES / "redis.cfg"), *arguments, pattern="connected to Redis")
        status, replies = send("OPTIONS", "alice", ports[0])
        assert "SIP/2.0 302 There Since 9\n" in replies
        assert "Contact: <sip:alice@10.0.0.1>\n" in replies
        answers = [send("OPTIONS", "bob", ports[number % 2])[1].splitlines()[0] for number in range(5)]
        assert answers == ["SIP/2.0 404 Not Found"] * 4 + ["SIP/2.0 429 Too Many Requests"]
    status, replies = send("OPTIONS", "alice", ports[0])
    assert (status, replies.splitlines()[0]) == (1, "SIP/2.0 503 Try Again")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.cfg")), ids=lambda path: path.name)
def test_every_script_is_good_as_it_stands(path: Path) -> None:
    done = subprocess.run([*SIPWRIGHT, "check", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "config file ok\n", "")
