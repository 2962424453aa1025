"""The control interface of a running server, with real workers: what it tells, and what it changes in all of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sipwright.netstring import Decoder, encode
from tests.scenarios.ctl import Ctl
from tests.scenarios.load import Ask, Load
from tests.scenarios.processes import SipwrightProcess
from tests.scenarios.scripts import script

pytestmark = pytest.mark.scenario

ANSWER = script('route[SCENARIO] { xlog("L_DBG", "asked\\n"); sl_send_reply("200", "OK"); }', servers="")


def serving(tmp_path: Path, arguments: Sequence[str] = ("-n", "2"), text: str = ANSWER) -> tuple[SipwrightProcess, Ctl]:
    path = tmp_path / "c.sock"
    return SipwrightProcess(text, tmp_path, [*arguments, "--control", str(path)]), Ctl(path)


def test_it_is_there_while_the_server_runs_for_its_user_alone(tmp_path: Path) -> None:
    server, ctl = serving(tmp_path)
    with server:
        assert stat.S_IMODE(ctl.path.stat().st_mode) == 0o600
        status, out, _ = ctl.run()
        assert status == 0
        summaries = dict(line.split("  ", 1) for line in out.splitlines())
        assert summaries["core.log_level [LEVEL]"].lstrip().startswith("Tell the level of the log")
        assert {"core.ps", "core.reload", "stats.get", "jsonrpc.servers"} < {name.split()[0] for name in summaries}
        rows = ctl.ask("core.ps")
        assert [(row["worker"], row["state"]) for row in rows] == [(None, "serving"), (0, "ready"), (1, "ready")]
        assert rows[0]["pid"] == server.popen.pid
        assert {row["worker"]: row["pid"] for row in rows[1:]} == server.workers()
        status, out, _ = ctl.run("core.ps")
        assert out.splitlines()[0].split() == [
            "worker", "pid", "state", "generation", "age", "heard", "transactions", "suspended",
        ]  # fmt: skip
    assert not ctl.path.exists()
    status, _, err = ctl.run("core.ps")
    assert (status, err) == (1, f"sipwright: no server has its control socket at {ctl.path}\n")


def test_counters_are_those_of_now_and_of_all_workers(tmp_path: Path) -> None:
    server, ctl = serving(tmp_path)
    with server:
        before = ctl.ask("stats.get", "core:rcv_requests")["core:rcv_requests"]
        with Load(server.address, [Ask("OPTIONS", "now")] * 300, 2000, 3) as load:
            load.wait_for_all()
            assert ctl.ask("stats.get", "core:rcv_requests") == {"core:rcv_requests": before + 300}
        by_prefix = ctl.ask("stats.get", "core:", "tm:live")
        assert set(by_prefix) > {"core:rcv_requests", "tm:live"}
        assert all(name.startswith("core:") or name == "tm:live" for name in by_prefix)
        assert ctl.run("stats.get", "core:rcv_request")[0::2] == (
            1,
            "sipwright: stats.get: there is no counter 'core:rcv_request'\n",
        )


def test_the_level_of_the_log_changes_in_every_worker_also_in_one_that_is_started_later(tmp_path: Path) -> None:
    server, ctl = serving(tmp_path)

    def logged_by() -> set[str]:
        before = len(server.log)
        with Load(server.address, [Ask("OPTIONS", "now")] * 60, 1000, 3) as load:
            load.wait_for_all()
        time.sleep(0.1)
        lines = [line for line in server.log[before:].splitlines() if "asked" in line]
        return {line.split("[")[1][:2] for line in lines}

    with server:
        assert ctl.ask("core.log_level") == {"level": 2, "name": "INFO"}
        assert logged_by() == set()
        assert ctl.ask("core.log_level", 3) == {"level": 3, "name": "DEBUG"}
        assert logged_by() == {"w0", "w1"}
        os.kill(server.workers()[1], signal.SIGKILL)
        server.wait_for_log("was started in place of the one that died")
        server.wait_until(lambda: all(row.get("state") != "starting" for row in ctl.ask("core.ps")), "no new worker")
        assert logged_by() == {"w0", "w1"}
        server.reload()
        assert ctl.ask("core.log_level") == {"level": 2, "name": "INFO"}


def test_a_reload_is_answered_once_the_script_is_in_use_or_with_all_that_is_wrong(tmp_path: Path) -> None:
    server, ctl = serving(tmp_path)
    with server:
        before = server.workers()
        assert ctl.ask("core.reload") == {"script": str(server.config)}
        rows = [row for row in ctl.ask("core.ps") if row["state"] == "ready"]
        assert [row["generation"] for row in rows] == [1, 1]
        assert not {row["pid"] for row in rows} & set(before.values())
        server.rewrite(ANSWER.replace("sl_send_reply", "sl_send_replay"))
        status, _, err = ctl.run("core.reload")
        assert status == 1
        assert err.startswith("sipwright: core.reload: the script was not reloaded, nothing has changed: \n")
        assert "unknown function 'sl_send_replay'" in err
        assert "did you mean 'sl_send_reply'?" in err


def test_a_worker_that_hangs_is_named_and_nothing_hangs_with_it(tmp_path: Path) -> None:
    server, ctl = serving(tmp_path)
    with server:
        hung = server.workers()[1]
        os.kill(hung, signal.SIGSTOP)
        try:
            began = time.monotonic()
            status, _, err = ctl.run("stats.get", "tm:live")
            assert (status, err) == (1, f"sipwright: stats.get: worker 1 (pid {hung}): no answer within 5 s\n")
            assert time.monotonic() - began < 8
            # What the supervisor knows itself is there at once.
            assert len(ctl.ask("core.ps")) == 3
        finally:
            os.kill(hung, signal.SIGCONT)
        assert "tm:live" in ctl.ask("stats.get", "tm:live")


def test_a_worker_that_is_killed_while_it_is_asked_is_named(tmp_path: Path) -> None:
    server, ctl = serving(tmp_path)
    with server:
        hung = server.workers()[0]
        os.kill(hung, signal.SIGSTOP)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(10)
            client.connect(str(ctl.path))
            client.sendall(encode(b'{"jsonrpc":"2.0","id":1,"method":"core.log_level"}'))
            time.sleep(0.2)
            os.kill(hung, signal.SIGKILL)
            [payload] = Decoder().feed(client.recv(1 << 16))
        error = json.loads(payload)["error"]
        assert error["message"] == f"worker 0 (pid {hung}): it ended before it answered"
        assert error["data"]["result"] == {"level": 2, "name": "INFO"}


def test_one_process_serves_it_itself(tmp_path: Path) -> None:
    server, ctl = serving(tmp_path, ("-D",))
    with server:
        [row] = ctl.ask("core.ps")
        assert (row["worker"], row["pid"], row["state"]) == (0, server.popen.pid, "ready")
        assert ctl.ask("core.log_level", -1) == {"level": -1, "name": "ERROR"}
        assert ctl.ask("stats.get", "core:rcv_requests")["core:rcv_requests"] >= 1
        status, _, err = ctl.run("core.reload")
        assert (status, err) == (
            1,
            "sipwright: core.reload: a server that runs with -D cannot read its script anew: start it again\n",
        )
    assert not ctl.path.exists()


def test_servers_beside_one_another_have_sockets_of_their_own_and_are_told_apart(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    directory = tmp_path / "run"
    for path in (one, two):
        path.mkdir()
    first = SipwrightProcess(ANSWER, one, ["-n", "1", "-Y", str(directory)])
    second = SipwrightProcess(ANSWER, two, ["-n", "1", "-Y", str(directory)])
    ctl = Ctl(directory)
    with first:
        assert ctl.ask("core.version")["script"] == str(first.config)
        with second:
            status, _, err = ctl.run("core.version")
            assert status == 1
            assert err.startswith(f"sipwright: 2 servers run in {directory}, say which one is meant:\n")
            assert f"--control {directory}/control-{second.popen.pid}.sock  ({second.config})" in err
        first.kill()
    status, _, err = ctl.run("core.version")
    assert (status, f"no server runs in {directory}" in err) == (1, True)
    with second:
        # What the first one, which was killed, has left is gone.
        assert [path.name for path in directory.iterdir()] == [f"control-{second.popen.pid}.sock"]


def test_a_socket_that_is_taken_keeps_a_second_server_from_starting(tmp_path: Path) -> None:
    server, ctl = serving(tmp_path)
    with server:
        other = tmp_path / "other"
        other.mkdir()
        done = subprocess.run(
            [*SipwrightProcess(ANSWER, other, ["-n", "1"]).command, "--control", str(ctl.path)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 1
        assert f"cannot make the control socket {ctl.path}: another server listens there" in done.stderr
        assert len(ctl.ask("core.ps")) == 3


def test_the_script_says_where_and_none_is_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "by-script.sock"
    text = ANSWER.replace("children=1\n", f'children=1\ncontrol="unix:{path}"\n')
    with SipwrightProcess(text, tmp_path) as server:
        assert len(Ctl(path).ask("core.ps")) == 2
        server.rewrite(ANSWER)
        server.reload()
        assert "the new script wants the control interface elsewhere: that needs a restart" in server.log
        assert len(Ctl(path).ask("core.ps")) == 2
    with SipwrightProcess(text, tmp_path, ["--control", "none", "-Y", str(tmp_path / "run")]):
        assert not path.exists()
        assert list((tmp_path / "run").iterdir()) == []
