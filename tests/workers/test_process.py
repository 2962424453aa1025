"""A worker process, as the supervisor has it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

import pytest

from sipwright.workers.control import Ask, Beat, FromSupervisor, FromWorker, Ready, Stop, pack
from sipwright.workers.peering import channel
from sipwright.workers.process import WorkerProcess, describe_end


def started(run: Callable[[socket.socket], int], *inherited: socket.socket) -> WorkerProcess:
    process = WorkerProcess(3, 0, 1, channel(), time.monotonic())
    process.fork(run, inherited)
    return process


def end_of(process: WorkerProcess) -> str:
    _, status = os.waitpid(process.pid, 0)
    process.close()
    return describe_end(status)


def said_by(process: WorkerProcess) -> list[FromWorker]:
    messages: list[FromWorker] = []
    deadline = time.monotonic() + 10
    while not process.has_hung_up:
        assert time.monotonic() < deadline
        messages += process.listen()
    return messages


def test_what_a_worker_says_is_heard_to_its_end() -> None:
    def run(control: socket.socket) -> int:
        control.sendall(pack(Ready()))
        control.sendall(pack(Beat({"tm:live": 1})))
        return 7

    process = started(run)
    assert said_by(process) == [Ready(), Beat({"tm:live": 1})]
    assert end_of(process) == "ended with status 7"


def test_a_worker_that_says_what_nobody_understands_is_not_listened_to_any_more() -> None:
    def run(control: socket.socket) -> int:
        control.sendall(pack(Ready()) + b"what?")
        control.recv(100)
        return 0

    process = started(run)
    deadline = time.monotonic() + 10
    while not process.has_hung_up:
        assert time.monotonic() < deadline
        process.listen()
    process.kill()
    assert end_of(process) == "was killed by SIGKILL"


def test_a_worker_hears_what_it_is_told_and_one_that_has_ended_is_told_nothing() -> None:
    process = started(lambda control: len(control.recv(1000)))
    process.tell(Stop(0.5))
    said_by(process)
    process.tell(Stop(0.5))
    assert end_of(process) == f"ended with status {len(pack(Stop(0.5)))}"


def test_a_worker_has_closed_what_is_the_supervisors_and_takes_its_signals_alone() -> None:
    ours, theirs = socket.socketpair()
    number = ours.fileno()

    def run(_control: socket.socket) -> int:
        try:
            os.fstat(number)
        except OSError:
            return signal.set_wakeup_fd(-1) + 1 + len(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        return 99

    process = started(run, ours)
    assert end_of(process) == "ended with status 0"
    # Here it is open still.
    os.fstat(number)
    ours.close()
    theirs.close()


def test_a_fault_in_a_worker_ends_it_and_nothing_of_the_supervisor_runs_in_it() -> None:
    def run(_control: socket.socket) -> int:
        raise RuntimeError("broken")

    try:
        process = started(run)
    except RuntimeError:
        os._exit(99)
    assert end_of(process) == "ended with status 1"


@pytest.mark.parametrize(
    ("status", "text"), [(0, "ended with status 0"), (256, "ended with status 1"), (9, "was killed by SIGKILL")]
)
def test_the_end_of_a_process_is_told_in_words(status: int, text: str) -> None:
    assert describe_end(status) == text


def test_what_a_worker_does_not_read_at_once_waits_and_is_whole() -> None:
    def run(control: socket.socket) -> int:
        control.recv(1)
        messages, asks = FromSupervisor(), 0
        while asks < 20:
            asks += sum(isinstance(message, Ask) for message in messages.feed(control.recv(1 << 20)))
        return asks

    process = started(run)
    # More than the socket takes, in pieces that it cannot take as a whole.
    process.control.send(b"!")
    for number in range(20):
        process.tell(Ask(number, "x.y", b'"' + b"x" * 100_000 + b'"'))
    assert (process.is_waiting, process.is_deaf) == (True, False)
    deadline = time.monotonic() + 10
    while process.is_waiting:
        assert time.monotonic() < deadline
        process.flush()
    assert end_of(process) == "ended with status 20"


def test_a_worker_that_reads_nothing_is_deaf() -> None:
    def run(control: socket.socket) -> int:
        time.sleep(30)
        return control.fileno()

    process = started(run)
    while not process.is_deaf:
        process.tell(Ask(1, "x.y", b'"' + b"x" * 1_000_000 + b'"'))
    process.kill()
    assert end_of(process) == "was killed by SIGKILL"
