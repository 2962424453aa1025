from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from sipwright.cli.rpc.bench import progress_bar
from sipwright.testing.fakerpc import FakeRpcServer, after, error, hang_up, never, result

Command = Callable[..., Any]


def figures(output: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(output.out)
    return content


def test_bench_makes_so_many_calls_and_shows_how_long_they_took(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("get", result("fine"))
    output = command("rpc", "bench", rpc.address, "get", "{'id': 1}", "--calls", "200", "--outstanding", "8")
    assert output.status == 0
    assert output.err == ""
    assert len(rpc.calls) == 200
    assert {json.dumps(call.params) for call in rpc.calls} == {'{"id": 1}'}
    assert f"get at {rpc.address}: 1 connection, 8 calls in flight" in output.out
    assert re.search(r"200 calls in \d+\.\d\d s: [\d,]+ a second", output.out)
    assert "200 results, 0 errors, 0 timeouts, 0 failures" in output.out
    assert re.search(r"p99.9 +\d+\.\d{3} ms", output.out)


def test_bench_calls_for_so_long_on_several_connections(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("get", after(0.002, result(1)))
    output = command("rpc", "bench", rpc.address, "get", "--seconds", "0.3", "--connections", "3", "--json")
    told = figures(output)
    assert output.status == 0
    assert rpc.connections_made == 3
    assert 0.3 <= told["seconds"] < 1
    assert told["calls"] == told["results"] == len(rpc.calls) > 100
    assert told["calls_per_second"] == pytest.approx(told["calls"] / told["seconds"], rel=0.01)
    times = told["latency_ms"]
    assert 2 <= times["min"] <= times["p50"] <= times["p90"] <= times["p99"] <= times["p99.9"] <= times["max"]


def test_bench_never_has_more_calls_in_flight_than_it_may(command: Command, rpc: FakeRpcServer) -> None:
    rpc.hold = 5  # answers only leave five at a time
    rpc.on("get", result(1))
    bench = ["rpc", "bench", rpc.address, "get", "--json"]
    told = figures(command(*bench, "--calls", "50", "--outstanding", "5", "--timeout", "2000"))
    assert told["results"] == 50
    # With one call less in flight there would never be five answers.
    told = figures(command(*bench, "--calls", "4", "--outstanding", "4", "--timeout", "50"))
    assert told["timeouts"] == 4


def test_calls_at_a_rate_are_made_at_their_times(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("get", result(1))
    told = figures(command("rpc", "bench", rpc.address, "get", "--calls", "40", "--rate", "200", "--json"))
    # The last of 40 is due after 39 / 200 s.
    assert 0.19 <= told["seconds"] < 0.6
    assert (told["results"], told["rate"]) == (40, 200)


def test_calls_that_could_not_be_made_in_time_count_from_when_they_were_due(
    command: Command, rpc: FakeRpcServer
) -> None:
    rpc.on("get", after(0.05, result(1)))
    arguments = ["--calls", "10", "--rate", "1000", "--outstanding", "1", "--json"]
    told = figures(command("rpc", "bench", rpc.address, "get", *arguments))
    # One after another takes 50 ms each, and the tenth was due after 9 ms.
    assert told["latency_ms"]["max"] >= 490
    assert told["latency_ms"]["min"] >= 50


def test_what_went_wrong_is_counted_by_its_text_and_status_1(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("get", *[error(404, "no such user")] * 3, *[result(1)] * 4, never())
    arguments = ["--calls", "8", "--outstanding", "1", "--timeout", "50"]
    output = command("rpc", "bench", rpc.address, "get", *arguments)
    assert output.status == 1
    assert "4 results, 3 errors, 1 timeouts, 0 failures" in output.out
    assert '3  {"code":404,"message":"no such user"}' in output.out
    assert "1  timeout" in output.out


def test_a_service_that_goes_away_is_not_asked_without_a_pause(command: Command, rpc: FakeRpcServer) -> None:
    rpc.on("get", hang_up())
    told = figures(command("rpc", "bench", rpc.address, "get", "--seconds", "0.3", "--outstanding", "2", "--json"))
    assert 2 <= told["failures"] == told["calls"] <= 14
    assert any("closed by the other end" in text for text in told["faults"])


def test_an_interrupted_run_shows_what_it_has(start: Callable[..., Any], rpc: FakeRpcServer) -> None:
    rpc.on("get", result(1))
    process = start("rpc", "bench", rpc.address, "get", "--seconds", "600", is_ready="")
    rpc.wait_for_calls_in_thread(10)
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert re.search(r"[\d,]+ calls in \d\.\d\d s", process.log)
    # What is no terminal has no progress bar.
    assert "\r" not in process.log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class HalfDone:
    progress = 0.5
    ended = 1234


def test_the_progress_bar_is_drawn_on_a_terminal_and_wiped_away() -> None:
    async def draw() -> str:
        terminal = Terminal()
        with progress_bar(HalfDone(), terminal):  # type: ignore[arg-type]
            await asyncio.sleep(0.01)
        return terminal.getvalue()

    text = asyncio.run(draw())
    assert text.startswith("\r[###############...............]  50%  1,234 calls")
    assert text.endswith("\r\033[K")


def test_progress_is_shown_on_a_terminal_and_the_figures_go_to_stdout(rpc: FakeRpcServer) -> None:
    rpc.on("get", result(1))
    words = [sys.executable, "-m", "sipwright", "rpc", "bench", rpc.address, "get", "--seconds", "0.5", "--json"]
    controller, terminal = pty.openpty()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        out, _ = process.communicate(timeout=20)
    shown = os.read(controller, 65536).decode()
    os.close(controller)
    assert json.loads(out)["results"] > 0
    assert re.search(r"\r\[#*\.+\] +\d+%  [\d,]+ calls", shown)
    assert shown.endswith("\r\033[K")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calls", "0"], "--calls is a number above 0"),
        (["--seconds", "-1"], "--seconds is a number above 0"),
        (["--seconds", "nan"], "--seconds is a number above 0"),
        (["--rate", "inf"], "--rate is a number above 0"),
        (["--connections", "0"], "--connections is a number above 0"),
        (["--outstanding", "0"], "--outstanding is a number above 0"),
        ([], "127.0.0.1:1: cannot connect: Connection refused"),
    ],
)
def test_bench_explains_a_mistake(command: Command, arguments: list[str], message: str) -> None:
    output = command("rpc", "bench", "127.0.0.1:1", "get", *arguments)
    assert output.status == 1
    assert message in output.err
    assert output.out == ""
