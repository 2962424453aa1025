"""What systemd is told, with a socket that takes its place."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipwright.workers.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        name = str(tmp_path / "notify") if request.param == "path" else f"@sipwright-test-{os.getpid()}"
        made.bind(name.replace("@", "\0"))
        made.setblocking(False)
        yield made, name


def test_each_state_is_told_in_the_words_of_sd_notify(manager: tuple[socket.socket, str]) -> None:
    made, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("2 workers")
    notifier.status("2 workers")
    notifier.status("1 worker")
    notifier.reloading()
    notifier.watchdog()
    notifier.stopping()
    told = [made.recv(1000).decode() for _ in range(5)]
    assert told[0] == f"READY=1\nMAINPID={os.getpid()}\nSTATUS=2 workers"
    assert told[1] == "STATUS=1 worker"
    assert told[2].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert told[3:] == ["WATCHDOG=1", "STOPPING=1\nSTATUS=stopping"]


def test_without_a_manager_nothing_is_sent_and_nothing_goes_wrong(tmp_path: Path) -> None:
    Notifier({}).ready("x")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("x")


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_wants(environment: dict[str, str], interval: float | None) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/nobody", **environment}).watchdog_interval == interval
