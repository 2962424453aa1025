"""The commands of a server, with workers that answer when the test says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from sipwright.engine.commands import CommandInfo
from sipwright.errors import ArgumentError
from sipwright.testing.clock import FakeClock
from sipwright.workers.control import Ask
from sipwright.workers.interface import Interface
from sipwright.workers.rounds import Outcome, result


@dataclass(frozen=True)
class FakeTarget:
    index: int
    pid: int


class FakeServer:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.timers = self.clock.timers
        self.workers: dict[int, Any] = {0: FakeTarget(0, 10), 1: FakeTarget(1, 11)}
        self.asked: list[tuple[Any, Ask]] = []
        self.reloads: list[Callable[[str | None], object]] = []
        self.is_reloadable = True
        self.level: int | None = None

    def script_path(self) -> str:
        return "route.cfg"

    def targets(self) -> Any:
        return self.workers

    def ask_worker(self, target: Any, message: Ask) -> None:
        self.asked.append((target, message))

    def worker_commands(self) -> list[CommandInfo]:
        return [
            CommandInfo("a.first", "Do it.\nAnd more.", "first", ["x", "y?"]),
            CommandInfo("a.all"),
            CommandInfo("core.beat"),
            CommandInfo("core.log_level"),
        ]

    def processes(self) -> list[dict[str, Any]]:
        return [{"worker": 0, "pid": 10}]

    def reload(self, done: Callable[[str | None], object], /) -> object:
        if not self.is_reloadable:
            raise ArgumentError("not with -D")
        self.reloads.append(done)
        return None

    def totals(self) -> dict[str, int]:
        return {"tm:live": 3, "tm:created": 9, "core:drops": 0}

    def set_log_level(self, level: int) -> None:
        self.level = level


class Asked:
    """An interface and the outcomes of what it was asked."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.interface = Interface(self.server, "1.2.3")
        self.outcomes: list[Any] = []

    def ask(self, method: str, params: bytes | None = None) -> None:
        self.interface.ask(method, params, self._take)

    def _take(self, outcome: Outcome) -> None:
        if outcome.fault is None:
            assert outcome.result is not None
            self.outcomes.append(json.loads(outcome.result))
        else:
            data = outcome.fault.data
            self.outcomes.append((outcome.fault.code, outcome.fault.message, data and json.loads(data)))

    def answer(self, value: Any) -> None:
        """Have every worker that was asked answer."""
        asked, self.server.asked = self.server.asked, []
        for target, message in asked:
            self.interface.answered(target, message.number, result(value))


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_what_a_worker_knows_is_asked_of_every_worker(asked: Asked) -> None:
    asked.ask("a.first", b"[1]")
    assert [(target.index, message.name, message.params) for target, message in asked.server.asked] == [
        (0, "a.first", b"[1]"),
        (1, "a.first", b"[1]"),
    ]
    asked.answer("done")
    assert asked.outcomes == ["done"]


def test_numbers_grow_and_an_answer_to_another_command_is_not_taken(asked: Asked) -> None:
    asked.ask("a.first", b"[1]")
    asked.ask("a.first", b"[2]")
    numbers = [message.number for _, message in asked.server.asked]
    assert numbers == [1, 1, 2, 2]
    for target in asked.server.workers.values():
        asked.interface.answered(target, 2, result("second"))
        asked.interface.answered(target, 99, result("unknown"))
    assert asked.outcomes == ["second"]


def test_a_worker_that_does_not_answer_is_named_and_nobody_hangs(asked: Asked) -> None:
    asked.ask("a.all")
    asked.interface.answered(FakeTarget(0, 10), 1, result("yes"))
    asked.server.clock.advance(4.9)
    assert asked.outcomes == []
    asked.server.clock.advance(0.2)
    [[first, second]] = asked.outcomes
    assert first["result"] == "yes"
    assert second == {"worker": 1, "pid": 11, "error": {"code": -32001, "message": "no answer within 5 s"}}
    asked.interface.answered(FakeTarget(1, 11), 1, result("late"))
    assert len(asked.outcomes) == 1


def test_a_worker_that_ends_is_not_waited_for(asked: Asked) -> None:
    asked.ask("a.first", b"[1]")
    asked.interface.answered(FakeTarget(0, 10), 1, result("yes"))
    asked.interface.ended(FakeTarget(1, 99))
    assert asked.outcomes == []
    asked.interface.ended(FakeTarget(1, 11))
    [(code, message, data)] = asked.outcomes
    assert (code, message) == (-32000, "worker 1 (pid 11): it ended before it answered")
    assert data["result"] == "yes"


def test_without_any_worker_there_is_an_answer_at_once(asked: Asked) -> None:
    asked.server.workers = {0: "it is being started again"}
    asked.ask("a.first", b"[1]")
    [(_, message, _)] = asked.outcomes
    assert message == "worker 0: it is being started again"


@pytest.mark.parametrize(
    ("method", "params", "code", "data"),
    [
        ("a.frist", None, -32601, "there is no command 'a.frist': did you mean 'a.first'?"),
        ("core.beat", None, -32601, "there is no command 'core.beat': did you mean 'core.reload'?"),
        ("core.ps", b"[1]", -32602, "'core.ps' takes nothing, not 1 parameters"),
        ("core.log_level", b"[4]", -32602, "level is a number from -5 to 3, not 4"),
        ("core.log_level", b'["info"]', -32602, "level is a number from -5 to 3, not 'info'"),
        ("stats.get", b"[1]", -32602, "names of counters are strings"),
        ("stats.get", b'{"name":"x"}', -32602, "'stats.get' has no parameter 'name', it takes names"),
    ],
)
def test_what_cannot_be_done_is_told_at_once(
    asked: Asked, method: str, params: bytes | None, code: int, data: str
) -> None:
    asked.ask(method, params)
    [(found, _, said)] = asked.outcomes
    assert found == code
    assert said.startswith(data.partition(": did")[0])
    assert asked.server.asked == []
    assert asked.server.level is None


def test_the_server_tells_of_itself(asked: Asked) -> None:
    for method in ("rpc.ping", "core.version", "core.ps", "core.uptime"):
        asked.ask(method)
    pong, version, processes, uptime = asked.outcomes
    assert pong == "pong"
    assert (version["sipwright"], version["script"]) == ("1.2.3", "route.cfg")
    assert processes == [{"worker": 0, "pid": 10}]
    assert 0 <= uptime["seconds"] < 5


def test_the_methods_are_listed_with_those_of_the_workers(asked: Asked) -> None:
    asked.ask("rpc.discover")
    [document] = asked.outcomes
    methods = {method["name"]: method for method in document["methods"]}
    assert "core.beat" not in methods
    assert methods["a.first"]["summary"] == "Do it."
    assert methods["a.first"]["description"] == "And more."
    assert [(param["name"], param["required"]) for param in methods["a.first"]["params"]] == [("x", True), ("y", False)]
    assert {"core.ps", "core.reload", "core.log_level", "stats.get", "rpc.discover"} < set(methods)


def test_counters_are_told_once_every_worker_has_written_its_own(asked: Asked) -> None:
    asked.ask("stats.get", b'["tm:"]')
    assert [message.name for _, message in asked.server.asked] == ["core.beat", "core.beat"]
    assert asked.outcomes == []
    asked.answer(None)
    asked.ask("stats.get", b'["core:drops","tm:live"]')
    asked.answer(None)
    asked.ask("stats.get", b'{"names":"tm:live"}')
    asked.answer(None)
    asked.ask("stats.get", b'["tm"]')
    asked.answer(None)
    assert asked.outcomes == [
        {"tm:created": 9, "tm:live": 3},
        {"core:drops": 0, "tm:live": 3},
        {"tm:live": 3},
        (-32602, "Invalid params", "there is no counter 'tm'"),
    ]


def test_counters_of_a_silent_worker_are_those_that_it_told_last(asked: Asked) -> None:
    asked.ask("stats.get", b'["tm:live"]')
    asked.interface.answered(FakeTarget(1, 11), 1, result(None))
    asked.server.clock.advance(6)
    assert asked.outcomes == [(-32001, "worker 0 (pid 10): no answer within 5 s", {"result": {"tm:live": 3}})]


def test_the_level_of_the_log_is_set_here_and_in_the_workers(asked: Asked) -> None:
    asked.ask("core.log_level", b"[3]")
    assert asked.server.level == 10
    assert {message.params for _, message in asked.server.asked} == {b"[3]"}
    asked.answer({"level": 3})
    asked.ask("core.log_level")
    assert {message.params for _, message in asked.server.asked} == {None}
    asked.answer({"level": 3})
    assert asked.outcomes == [{"level": 3}, {"level": 3}]


def test_a_reload_is_answered_when_it_is_over(asked: Asked) -> None:
    asked.ask("core.reload")
    asked.ask("core.reload")
    assert asked.outcomes == []
    asked.server.reloads[0](None)
    asked.server.reloads[1]("route.cfg:1:1: unknown")
    assert asked.outcomes[0] == {"script": "route.cfg"}
    assert asked.outcomes[1][1].endswith("nothing has changed: route.cfg:1:1: unknown")
    asked.ask("core.reload")
    asked.server.clock.advance(61)
    asked.server.reloads[2](None)
    assert len(asked.outcomes) == 3
    assert "longer than 60 s" in asked.outcomes[2][1]


def test_a_server_that_cannot_reload_says_so(asked: Asked) -> None:
    asked.server.is_reloadable = False
    asked.ask("core.reload")
    assert asked.outcomes == [(-32602, "Invalid params", "not with -D")]
