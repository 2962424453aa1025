"""Services that dial in to a server with several workers: each worker asks them, and nothing is lost when they go."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sipwright.errors import RpcConnectionError
from sipwright.jsonrpc import Dialer, Server, Tls
from sipwright.netstring import Decoder, encode
from sipwright.testing.fakerpc import FakeRpcServer, result
from tests.jsonrpc.certificates import Certificates
from tests.scenarios.ctl import Ctl
from tests.scenarios.load import Ask, Load
from tests.scenarios.processes import HOST, PythonProcess, SipwrightProcess, free_port
from tests.scenarios.scripts import script

pytestmark = pytest.mark.scenario

SERVICE = Path(__file__).parent / "dialing_service.py"
ROUTES = """
route[SCENARIO] { jsonrpc_request("decide", "{}", "RESPONSE", "ERROR", "$var(result)", "group=deciders"); }
route[RESPONSE] { append_to_reply("X-Worker: $pp\\r\\nX-Result: $var(result)\\r\\n"); t_reply("200", "OK"); }
route[ERROR] {
    xlog("L_WARN", "$var(result): $jsonrpc(message)\\n");
    append_to_reply("X-Worker: $pp\\r\\n");
    t_reply("500", "$var(result)");
}
"""
WORKERS = 2


class Router:
    """The server, where services dial in."""

    def __init__(self, tmp_path: Path, arguments: tuple[str, ...] = ("-n", str(WORKERS)), group: str = "") -> None:
        self.address = f"tcp:{HOST}:{free_port(socket.SOCK_STREAM)}"
        self.path = tmp_path / "dial.sock"
        parameters = f"""
modparam("jsonrpc", "listen", "{self.address} unix:{self.path}")
modparam("jsonrpc", "token", "deciders=secret")
modparam("jsonrpc", "token", "deciders=newer")
modparam("jsonrpc", "timeout", 5000)
modparam("jsonrpc", "serve_timeout", 300)
modparam("jsonrpc", "reconnect_interval", 50)
"""
        if group:
            parameters += f'modparam("jsonrpc", "group", "deciders=>{group}")\n'
        self.text = script(ROUTES, servers="", parameters=parameters)
        self.ctl = Ctl(tmp_path / "c.sock")
        self.server = SipwrightProcess(self.text, tmp_path, [*arguments, "--control", str(self.ctl.path)])

    def dialed(self) -> list[dict[str, Any]]:
        """Return the connections of services in all workers, with the worker that has each."""
        answers = self.ctl.ask("jsonrpc.dialed")
        return [{"worker": answer["worker"], **row} for answer in answers for row in answer["result"]]

    def is_seen(self, number: int) -> bool:
        """Whether every worker has so many servers in the group that can be asked."""
        answers = self.ctl.ask("jsonrpc.servers")
        return all(
            sum(row["group"] == "deciders" and row["state"] == "connected" for row in answer.get("result", ()))
            == number
            for answer in answers
        )

    def wait_until_seen(self, number: int) -> None:
        self.server.wait_until(lambda: self.is_seen(number), f"not {number} servers in every worker")

    def speak(self) -> Speaker:
        """Return a connection on which a test says what it likes."""
        return Speaker(self.address)


class Speaker:
    """A service's connection, by hand. The test's end closes those that there are."""

    made: ClassVar[list[Speaker]] = []

    def __init__(self, address: str) -> None:
        _, host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=5)
        self.made.append(self)
        self._decoder = Decoder()
        self._heard: list[Any] = []

    def say(self, message: Any) -> None:
        self.socket.sendall(encode(json.dumps(message).encode()))

    def hear(self) -> Any:
        """Return the next message; None at the end."""
        while not self._heard:
            data = self.socket.recv(1 << 16)
            if not data:
                return None
            self._heard += map(json.loads, self._decoder.feed(data))
        return self._heard.pop(0)

    def call(self, method: str, params: Any = None) -> Any:
        """Return what is answered, result or error."""
        self.say({"jsonrpc": "2.0", "id": 7, "method": method, **({} if params is None else {"params": params})})
        answer = self.hear()
        return None if answer is None else answer.get("result", answer.get("error"))


def service(
    router: Router, tmp_path: Path, connections: int = 1, token: str = "secret", name: str = "a"
) -> PythonProcess:
    arguments = [router.address, "deciders", token, str(connections)]
    return PythonProcess(SERVICE, arguments, tmp_path / f"service-{name}.log", "serving")


@contextmanager
def under_load(router: Router, rate: int = 300) -> Iterator[Load]:
    """Ask all the time; at the end everything that was asked must have been answered, and well."""
    with Load(router.server.address, itertools.repeat(Ask()), rate, 3) as load:
        load.wait_for_answers(20)
        yield load
        load.finish()
        assert set(load.statuses()) == {"200 OPTIONS"}, router.server.log[-5000:]


def asked_of(service: PythonProcess) -> tuple[int, int]:
    """End a service; return how many calls it was asked, and how many it has answered."""
    service.send_signal(signal.SIGTERM)
    assert service.wait(10) == 0
    found = re.search(r"asked (\d+) answered (\d+)", service.log)
    assert found is not None, service.log
    return int(found[1]), int(found[2])


def test_every_worker_asks_a_service_that_has_one_connection(tmp_path: Path) -> None:
    router = Router(tmp_path)
    with router.server as server, service(router, tmp_path) as one:
        router.wait_until_seen(1)
        [row] = router.dialed()
        assert (row["group"], row["state"], row["peer"].startswith(f"{HOST}:")) == ("deciders", "serving", True)
        with Load(server.address, [Ask()] * 300, 1000, 3) as load:
            load.wait_for_all()
            assert load.statuses() == {"200 OPTIONS": 300}
            assert set(load.answers_by_worker()) == set(server.workers().values())
        assert router.dialed()[0]["calls"] == 300
        stats = router.ctl.ask("jsonrpc.stats")
        assert (stats["calls"], stats["results"], stats["pending"]) == (300, 300, 0)
        assert asked_of(one) == (300, 300)
        router.wait_until_seen(0)
        assert router.dialed() == []


def test_a_service_may_have_several_connections_and_there_may_be_several_services(tmp_path: Path) -> None:
    router = Router(tmp_path)
    with router.server as server, service(router, tmp_path, 3) as one:
        with service(router, tmp_path, 1, "newer", "b") as two:
            router.wait_until_seen(4)
            with Load(server.address, [Ask()] * 400, 1000, 3) as load:
                load.wait_for_all()
            assert load.statuses() == {"200 OPTIONS": 400}
            share = asked_of(two)[0] / 400
        assert 0.15 < share < 0.35
        assert asked_of(one)[0] > 200


@pytest.mark.parametrize(
    "params",
    [
        {"group": "deciders", "token": "wrong"},
        {"group": "deciders"},
        {"group": "others", "token": "secret"},
        {"token": "secret"},
        ["deciders", ""],
    ],
)
def test_a_wrong_token_is_refused_and_the_connection_closed(tmp_path: Path, params: Any) -> None:
    router = Router(tmp_path)
    with router.server as server:
        speaker = router.speak()
        assert speaker.call("rpc.serve", params) == {"code": -32001, "message": "the group or its token is wrong"}
        assert speaker.hear() is None
        server.wait_for_log("may not serve the group")
        assert router.is_seen(0)


def test_what_a_service_says_before_and_beside_serving(tmp_path: Path) -> None:
    router = Router(tmp_path)
    with router.server as server:
        late = router.speak()
        began = time.monotonic()
        assert late.hear() is None
        assert 0.2 < time.monotonic() - began < 3
        server.wait_for_log("not said rpc.serve in time")

        speaker = router.speak()
        assert speaker.call("rpc.ping") == "pong"
        assert {"rpc.serve", "rpc.drain"} <= {method["name"] for method in speaker.call("rpc.discover")["methods"]}
        assert speaker.call("rpc.drain") == {
            "code": -32001,
            "message": "Not authenticated",
            "data": "say rpc.serve first",
        }
        assert speaker.call("nothing")["code"] == -32001
        assert speaker.call("rpc.serve", {"group": "deciders", "tokn": "secret"})["code"] == -32602
        answer = speaker.call("rpc.serve", {"group": "deciders", "token": "secret"})
        assert answer["group"] == "deciders"
        assert speaker.call("rpc.serve", ["deciders", "secret"])["code"] == -32600
        assert speaker.call("nothing")["code"] == -32601
        router.wait_until_seen(1)
        # Asked and asking on the same connection, at the same time.
        with Load(server.address, [Ask()], 100) as load:
            question = speaker.hear()
            assert (question["method"], question["params"]) == ("decide", {})
            assert speaker.call("rpc.ping") == "pong"
            speaker.say({"jsonrpc": "2.0", "id": question["id"], "result": "by hand"})
            load.wait_for_all()
        assert load.statuses() == {"200 OPTIONS": 1}
        speaker.socket.sendall(b"rubbish")
        router.wait_until_seen(0)


def test_a_service_that_drains_under_load_loses_no_call(tmp_path: Path) -> None:
    router = Router(tmp_path)
    with router.server, service(router, tmp_path, 2) as one:
        router.wait_until_seen(2)
        with under_load(router) as load:
            for name in "bcd":
                with service(router, tmp_path, 2, name=name) as other:
                    router.wait_until_seen(4)
                    load.wait_for_answers(50)
                    asked, answered = asked_of(other)
                    assert asked == answered > 0
        asked, answered = asked_of(one)
        assert asked == answered > 0


def test_drain_is_answered_once_the_last_call_has_ended(tmp_path: Path) -> None:
    router = Router(tmp_path)
    with router.server as server:
        speaker = router.speak()
        speaker.call("rpc.serve", ["deciders", "secret"])
        router.wait_until_seen(1)
        with Load(server.address, [Ask()] * 10, 1000, 3) as load:
            questions = [speaker.hear() for _ in range(10)]
            speaker.say({"jsonrpc": "2.0", "id": 1, "method": "rpc.drain"})
            router.wait_until_seen(0)
            assert [row["state"] for row in router.dialed()] == ["draining"]
            for question in questions:
                speaker.say({"jsonrpc": "2.0", "id": question["id"], "result": None})
            assert speaker.hear() == {"jsonrpc": "2.0", "result": True, "id": 1}
            load.wait_for_all()
        assert load.statuses() == {"200 OPTIONS": 10}


def test_when_the_worker_with_the_connection_is_killed_the_service_dials_in_again(tmp_path: Path) -> None:
    router = Router(tmp_path)
    with router.server as server, service(router, tmp_path) as one:
        router.wait_until_seen(1)
        for number in (1, 2, 3):
            owner = router.dialed()[0]["worker"]
            os.kill(server.workers()[owner], signal.SIGKILL)
            server.wait_for_log("was started in place of the one that died", number)
            server.wait_until(lambda: "serving" in one.log and bool(router.dialed()), "not dialled in again")
            router.wait_until_seen(1)
            with Load(server.address, [Ask()] * 50, 1000, 3) as load:
                load.wait_for_all()
            assert load.statuses() == {"200 OPTIONS": 50}
        assert "Traceback" not in one.log
        assert "Traceback" not in server.log


def test_the_others_fail_over_at_once_when_the_owner_or_the_service_dies(tmp_path: Path) -> None:
    with FakeRpcServer() as spare:
        spare.on("decide", result("spare"))
        router = Router(tmp_path, group=f"{spare.address},0")
        with router.server as server, service(router, tmp_path) as one:
            # The one that has dialled in has priority 1, the other one 0.
            router.wait_until_seen(2)
            with Load(server.address, [Ask()] * 50, 1000, 3) as load:
                load.wait_for_all()
            assert spare.calls == []
            one.kill()
            router.wait_until_seen(1)
            began = time.monotonic()
            with Load(server.address, [Ask()] * 50, 1000, 3) as load:
                load.wait_for_all()
            assert load.statuses() == {"200 OPTIONS": 50}
            assert time.monotonic() - began < 2
            assert len(spare.calls) == 50


def test_calls_in_flight_at_a_service_that_is_killed_end_at_once(tmp_path: Path) -> None:
    router = Router(tmp_path)
    with router.server as server:
        speaker = router.speak()
        speaker.call("rpc.serve", ["deciders", "secret"])
        router.wait_until_seen(1)
        with Load(server.address, [Ask()] * 20, 1000, 3) as load:
            for _ in range(20):
                speaker.hear()
            began = time.monotonic()
            speaker.socket.close()
            transactions = load.wait_for_all()
            # The call's own time limit is 5 s.
            assert time.monotonic() - began < 1
        assert load.statuses() == {"500 OPTIONS": 20}
        assert {sent.worker for sent in transactions} == set(server.workers().values())


def test_a_reload_under_load_loses_no_call(tmp_path: Path) -> None:
    router = Router(tmp_path)
    with router.server as server, service(router, tmp_path, 2) as one:
        router.wait_until_seen(2)
        with under_load(router) as load:
            for number in (1, 2):
                router.ctl.ask("core.reload")
                # Replaced first, then drained and closed by the service.
                server.wait_for_log("of group 'deciders' is gone: ", 2 * number)
                router.wait_until_seen(2)
                load.wait_for_answers(50)
        asked, answered = asked_of(one)
        assert asked == answered > 100
    assert not router.path.exists()


def test_a_reload_may_change_where_and_with_what_token(tmp_path: Path) -> None:
    router = Router(tmp_path)
    with router.server as server:
        before, router.address = router.address, f"tcp:{HOST}:{free_port(socket.SOCK_STREAM)}"
        server.rewrite(router.text.replace(before, router.address).replace("=secret", "=other"))
        server.reload()
        assert router.speak().call("rpc.serve", ["deciders", "other"])["group"] == "deciders"
        assert router.speak().call("rpc.serve", ["deciders", "secret"])["code"] == -32001
        with pytest.raises(ConnectionRefusedError):
            Speaker(before)


def test_one_process_lets_services_dial_in_too(tmp_path: Path) -> None:
    router = Router(tmp_path, ("-D",))
    with router.server as server:
        arguments = [f"unix:{router.path}", "deciders", "secret", "2"]
        with PythonProcess(SERVICE, arguments, tmp_path / "service.log", "serving") as one:
            router.wait_until_seen(2)
            assert {row["peer"] for row in router.dialed()} == {f"process-{one.popen.pid}"}
            with Load(server.address, [Ask()] * 100, 1000, 3) as load:
                load.wait_for_all()
            assert load.statuses() == {"200 OPTIONS": 100}
            assert asked_of(one) == (100, 100)
    assert not router.path.exists()


def test_a_server_that_stops_ends_what_is_suspended_at_a_service(tmp_path: Path) -> None:
    router = Router(tmp_path)
    with router.server as server:
        speaker = router.speak()
        speaker.call("rpc.serve", ["deciders", "secret"])
        router.wait_until_seen(1)
        with Load(server.address, [Ask()] * 20, 1000, 3) as load:
            questions = [speaker.hear() for _ in range(20)]
            server.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            for question in questions:
                speaker.say({"jsonrpc": "2.0", "id": question["id"], "result": "in time"})
            load.wait_for_all()
        assert load.statuses() == {"200 OPTIONS": 20}
        assert speaker.hear() is None
        assert server.wait(10) == 0


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ('modparam("jsonrpc", "listen", "tcp:127.0.0.1:9998")', '"listen" needs to know who may dial in'),
        ('modparam("jsonrpc", "listen", "tcp:127.0.0.1")', "has no port: expected host:port"),
        ('modparam("jsonrpc", "listen", "srv:_a._tcp.example.org")', "nobody listens on srv records"),
        ('modparam("jsonrpc", "token", "secret")', "no '=' between the group and its token"),
        ('modparam("jsonrpc", "token", "a=file:/none")', "cannot read the token file /none: No such file"),
        (
            'modparam("jsonrpc", "listen", "tls:127.0.0.1:9998")\nmodparam("jsonrpc", "token", "deciders=b")',
            'needs "listen_certificate"',
        ),
    ],
)
def test_what_cannot_be_is_an_error_of_the_script(tmp_path: Path, parameters: str, said: str) -> None:
    path = tmp_path / "bad.cfg"
    path.write_text(script(ROUTES, servers="", parameters=parameters))
    command = [sys.executable, "-m", "sipwright", "check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize("has_certificate", [True, False])
def test_with_tls_and_certificates_of_services(
    tmp_path: Path, certificates: Certificates, has_certificate: bool
) -> None:
    address = f"tls:{HOST}:{free_port(socket.SOCK_STREAM)}"
    router = Router(tmp_path)
    text = router.text.replace(
        'modparam("jsonrpc", "timeout", 5000)',
        f"""modparam("jsonrpc", "timeout", 5000)
modparam("jsonrpc", "listen", "{address}")
modparam("jsonrpc", "listen_certificate", "{certificates.server.certfile}")
modparam("jsonrpc", "listen_private_key", "{certificates.server.keyfile}")
modparam("jsonrpc", "listen_ca_list", "{certificates.ca}")""",
    )
    router.server.rewrite(text)
    own = certificates.client
    tls = Tls(
        cafile=certificates.ca,
        certfile=own.certfile if has_certificate else None,
        keyfile=own.keyfile if has_certificate else None,
    )

    async def serve() -> None:
        server = Server()
        server.add_method("decide", lambda: "through TLS")
        async with Dialer(
            server, address, group="deciders", token="secret", tls=tls, reconnect_interval=0.05
        ) as dialer:
            await dialer.connected(2)
            await asyncio.to_thread(router.wait_until_seen, 1)
            with Load(router.server.address, [Ask()] * 10, 100) as load:
                await asyncio.to_thread(load.wait_for_all)
                assert load.statuses() == {"200 OPTIONS": 10}

    with router.server:
        if has_certificate:
            asyncio.run(serve())
        else:
            with pytest.raises(RpcConnectionError):
                asyncio.run(serve())
            router.server.wait_for_log("a service could not dial in from 127.0.0.1:")
