"""Tables on a real Redis server, which is also killed, stopped and started again under a running server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from sipwright.redis.resp import Decoder
from sipwright.testing import run_script, sip_request
from tests.modules.htable.table_scripts import BODIES, script
from tests.redis.commands import COMMANDS, comparable
from tests.scenarios.processes import HOST, RedisProcess, SipwrightProcess, require_program
from tests.scenarios.sip_client import SipClient

pytestmark = pytest.mark.scenario

HEAD = """#!KAMAILIO
children=1
loadmodule "tm.so" loadmodule "sl.so" loadmodule "pv.so" loadmodule "htable.so"
modparam("htable", "htable", "t=>size=4;initval=0")
modparam("htable", "store", "{url}")
{more}
request_route {{
    if ($rU == "ready") {{ sl_send_reply("200", "Ready"); exit; }}
"""
COUNT = HEAD + '    sl_send_reply("200", "$shtinc(t=>n)");\n}}\n'
READ_AND_WRITE = HEAD + '    $avp(x) = $sht(t=>k); $sht(t=>k) = $rU; sl_send_reply("200", "$avp(x)");\n}}\n'


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path) as running:
        yield running


def ask(server: SipwrightProcess, user: str = "service", method: str = "OPTIONS") -> str:
    """Return the status and reason of the answer to a request."""
    with SipClient(server.address) as client:
        reply = client.ask(method, user=user)
        return f"{reply.status} {reply.reason}"


def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def test_the_server_in_memory_answers_as_a_real_one(redis: RedisProcess) -> None:
    assert [comparable(redis.run(*words)) for words, _reply in COMMANDS] == [reply for _words, reply in COMMANDS]


def test_scripts_see_the_same_on_redis_as_on_tables_of_their_own(tmp_path: Path, redis: RedisProcess) -> None:
    local = script("local")
    seen, expected = {}, {}
    with SipwrightProcess(script(redis.url), tmp_path) as server:
        until(lambda: "connected to Redis" in server.log)
        for name in BODIES:
            redis.run("FLUSHALL")
            seen[name] = ask(server, name)
            driver = run_script(local, sip_request("OPTIONS", f"sip:{name}@example.org"))
            expected[name] = f"200 {driver.replies[-1].reason}"
    assert seen == expected


def test_items_expire_on_the_server(tmp_path: Path, redis: RedisProcess) -> None:
    text = HEAD.format(url=redis.url, more='modparam("htable", "htable", "e=>autoexpire=1")')
    text += '    if ($rU == "set") $sht(e=>k) = "v"; sl_send_reply("200", "$sht(e=>k)");\n}\n'
    with SipwrightProcess(text, tmp_path) as server:
        assert ask(server, "set") == "200 v"
        assert 0 < redis.run("PTTL", "sht:e:k") <= 1000
        until(lambda: ask(server, "get") == "200 <null>", 3)


def test_a_server_that_is_killed_and_started_again_is_used_again(tmp_path: Path, redis: RedisProcess) -> None:
    text = READ_AND_WRITE.format(url=redis.url, more='modparam("htable", "store_timeout", 2000)')
    with SipwrightProcess(text, tmp_path) as server:
        assert [ask(server, "one"), ask(server, "two")] == ["200 0", "200 one"]
        redis.kill()
        until(lambda: "is lost" in server.log)
        # Scripts go on: what they read is $null, and what they write is told.
        began = time.monotonic()
        for user in ("three", "four", "five"):
            assert ask(server, user) == "200 <null>"
        assert time.monotonic() - began < 1.5
        with redis:
            began = time.monotonic()
            until(lambda: ask(server, "six") != "200 <null>")
            assert time.monotonic() - began < 2.0
            assert ask(server, "seven") == "200 six"
            # Scripts are there again, too: the first one is loaded with the connection.
            assert redis.run("INCR", "sht:t:n") == 1
    lines = [line for line in server.log.splitlines() if "Redis" in line or "htable" in line]
    about = [re.sub(r"^\S+ \S+ (\S+) \[w0[^\]]*\] ", r"\1 ", line) for line in lines]
    # One line each, and a last one as Redis ended before the server did.
    assert len(about) == 5
    assert about[0] == f"INFO connected to Redis redis://{HOST}:{redis.port}/0"
    assert re.fullmatch(r"ERROR Redis redis://\S+ is lost: .*; commands fail until it is back", about[1])
    assert about[2].startswith("ERROR htable t: not written: ")
    assert re.fullmatch(r"WARNING Redis redis://\S+ is back after \d\.\d s; \d+ commands failed meanwhile", about[3])


def test_increments_go_on_after_the_server_was_away_or_forgot_its_scripts(tmp_path: Path, redis: RedisProcess) -> None:
    with SipwrightProcess(COUNT.format(url=redis.url, more=""), tmp_path) as server:
        assert [ask(server), ask(server)] == ["200 1", "200 2"]
        redis.run("SCRIPT", "FLUSH")
        assert [ask(server), ask(server)] == ["200 3", "200 4"]
        redis.kill()
        assert ask(server) == "200 <null>"
        with redis:
            until(lambda: "is back after" in server.log)
            assert [ask(server), ask(server)] == ["200 1", "200 2"]
            assert redis.run("INFO", "commandstats").decode().count("cmdstat_eval:") == 0


def test_a_server_starts_without_redis_and_finds_it_later(tmp_path: Path, redis: RedisProcess) -> None:
    redis.kill()
    text = COUNT.format(url=redis.url, more='modparam("htable", "store_failure", "error")')
    with SipwrightProcess(text, tmp_path) as server:
        assert ask(server) == "500 I'm terribly sorry, server error occurred"
        until(lambda: re.search(r"ERROR \[w0 .*\] \S+sipwright\.cfg:\d+: StoreError: htable t: ", server.log))
        assert server.log.count("cannot be reached") == 1
        with redis:
            until(lambda: "is back after" in server.log)
            assert ask(server) == "200 1"


def test_a_server_that_hangs_holds_nothing_up_for_longer_than_the_timeout(tmp_path: Path, redis: RedisProcess) -> None:
    text = READ_AND_WRITE.format(url=redis.url, more='modparam("htable", "store_timeout", 500)')
    with SipwrightProcess(text, tmp_path) as server:
        ask(server, "one")
        os.kill(redis.popen.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert ask(server, "two") == "200 <null>"
            assert 0.45 < time.monotonic() - began < 2.0
            # Then it counts as away, and nobody waits.
            began = time.monotonic()
            assert [ask(server, "three"), ask(server, "ready")] == ["200 <null>", "200 Ready"]
            assert time.monotonic() - began < 0.45
        finally:
            os.kill(redis.popen.pid, signal.SIGCONT)
        until(lambda: ask(server, "four") != "200 <null>")
        server.wait_for_log("is lost: no answer for 500 ms")


def test_other_requests_are_handled_while_one_waits_and_a_cancel_ends_it(tmp_path: Path, redis: RedisProcess) -> None:
    text = READ_AND_WRITE.format(url=redis.url, more='modparam("htable", "store_timeout", 3000)')
    with SipwrightProcess(text, tmp_path) as server, SipClient(server.address) as client:
        ask(server, "one")
        os.kill(redis.popen.pid, signal.SIGSTOP)
        try:
            invite = client.build("INVITE", user="two")
            client.send(invite)
            client.send(invite)
            assert client.receive(0.3) is None
            assert ask(server, "ready") == "200 Ready"
            client.send(client.derive(invite, "CANCEL"))
            replies = [client.receive(1.0), client.receive(1.0)]
            assert sorted(reply.status for reply in replies if reply is not None) == [200, 487]
        finally:
            os.kill(redis.popen.pid, signal.SIGCONT)
        assert client.receive(0.3) is None


def test_servers_share_a_table_and_count_together(tmp_path: Path, redis: RedisProcess) -> None:
    requests = 400
    servers = []
    for number in range(3):
        directory = tmp_path / str(number)
        directory.mkdir()
        servers.append(SipwrightProcess(COUNT.format(url=redis.url, more=""), directory))
    with servers[0], servers[1], servers[2]:
        seen: list[int] = []
        threads = [threading.Thread(target=count, args=(server, requests, seen)) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(seen) == list(range(1, 3 * requests + 1))
    assert redis.run("GET", "sht:t:n") == b"%d" % (3 * requests)


def count(server: SipwrightProcess, requests: int, seen: list[int]) -> None:
    """Send requests, 50 at a time, and note the numbers that come back."""
    with SipClient(server.address) as client:
        for _ in range(requests // 50):
            for _ in range(50):
                client.send(client.build("OPTIONS"))
            for _ in range(50):
                reply = client.receive()
                assert reply is not None
                seen.append(int(reply.reason))


def test_what_is_asked_in_one_turn_of_the_loop_is_one_piece(tmp_path: Path, redis: RedisProcess) -> None:
    with Proxy(redis.port) as proxy:
        text = COUNT.format(url=f"redis://{HOST}:{proxy.port}/0", more="")
        # In one process, so that the one that is stopped is the one that reads the socket.
        with SipwrightProcess(text, tmp_path, ("-D",)) as server, SipClient(server.address) as client:
            ask(server)
            proxy.pieces.clear()
            os.kill(server.popen.pid, signal.SIGSTOP)
            for _ in range(40):
                client.send(client.build("OPTIONS"))
            time.sleep(0.1)
            os.kill(server.popen.pid, signal.SIGCONT)
            numbers = [reply.reason for _ in range(40) if (reply := client.receive()) is not None]
    assert numbers == [str(number) for number in range(2, 42)]
    assert proxy.pieces == [40]


class Proxy:
    """Passes everything on to a Redis server and counts the commands in each piece that a client sends."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.pieces: list[int] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets = [self._listener]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        try:
            while True:
                client, _address = self._listener.accept()
                server = socket.create_connection((HOST, self._target))
                self._sockets += [client, server]
                threading.Thread(target=self._pass, args=(client, server, Decoder()), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, None), daemon=True).start()
        except OSError:
            return

    def _pass(self, source: socket.socket, target: socket.socket, decoder: Decoder | None) -> None:
        try:
            while data := source.recv(1 << 20):
                if decoder is not None:
                    self.pieces.append(len(decoder.feed(data)))
                target.sendall(data)
        except OSError:
            return


def test_a_password_is_needed_and_not_told(tmp_path: Path) -> None:
    with RedisProcess(tmp_path, "--requirepass", "very-secret") as redis:
        for number, (password, answer) in enumerate((("very-secret", "200 1"), ("wrong-secret", "200 <null>"))):
            directory = tmp_path / str(number)
            directory.mkdir()
            url = f"redis://:{password}@{HOST}:{redis.port}/3"
            with SipwrightProcess(COUNT.format(url=url, more=""), directory) as server:
                assert ask(server) == answer
            log = server.log
            assert ("WRONGPASS" in log) == (number == 1)
            assert "secret" not in log


def test_tls_and_certificates(tmp_path: Path) -> None:
    openssl = require_program("openssl")
    certificate, key = tmp_path / "redis.crt", tmp_path / "redis.key"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", f"subjectAltName=IP:{HOST}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    arguments = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    with TlsRedis(tmp_path, *arguments) as secure:
        for number, (options, answer) in enumerate(
            ((f"?ssl_ca_certs={certificate}", "200 1"), ("?ssl_cert_reqs=none", "200 2"), ("", "200 <null>"))
        ):
            directory = tmp_path / str(number)
            directory.mkdir()
            url = f"rediss://{HOST}:{secure.tls_port}/0{options}"
            with SipwrightProcess(COUNT.format(url=url, more=""), directory) as server:
                assert ask(server) == answer
            assert ("CERTIFICATE_VERIFY_FAILED" in server.log) == (number == 2)


class TlsRedis(RedisProcess):
    """A Redis server with a port for TLS, too."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.tls_port: int = probe.getsockname()[1]
        super().__init__(directory, "--tls-port", str(self.tls_port), *arguments)


def test_a_unix_socket(tmp_path: Path) -> None:
    # Its path has to be short.
    directory = Path(f"/tmp/sipwright-{os.getpid()}")
    directory.mkdir()
    try:
        path = directory / "redis.sock"
        with RedisProcess(tmp_path, "--unixsocket", str(path)) as redis:
            with SipwrightProcess(COUNT.format(url=f"unix://{path}?db=2", more=""), tmp_path) as server:
                assert [ask(server), ask(server)] == ["200 1", "200 2"]
            assert redis.run("GET", "sht:t:n", db=2) == b"2"
    finally:
        shutil.rmtree(directory)
