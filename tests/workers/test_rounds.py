"""A command that all workers are asked, and the one answer that theirs become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sipwright.engine.commands import CommandInfo, Join
from sipwright.workers.rounds import Outcome, Part, Round, failed, join, result


def joined(how: Join, *outcomes: Outcome) -> Any:
    """Return what the answers of worker 0, 1 ... become, as (result, error)."""
    parts = {index: Part(100 + index, outcome) for index, outcome in enumerate(outcomes)}
    outcome = join(CommandInfo("x.y", join=how), parts)
    if outcome.fault is None:
        assert outcome.result is not None
        return json.loads(outcome.result)
    data = outcome.fault.data
    return outcome.fault.code, outcome.fault.message, None if data is None else json.loads(data)


def test_all_is_a_list_by_worker_with_the_errors_in_their_places() -> None:
    assert joined("all", result([1]), failed(-32000, "no", {"x": 1})) == [
        {"worker": 0, "pid": 100, "result": [1]},
        {"worker": 1, "pid": 101, "error": {"code": -32000, "message": "no", "data": {"x": 1}}},
    ]


def test_sum_adds_numbers_wherever_they_stand() -> None:
    assert joined("sum", result({"a": 1, "b": {"c": 1.5}}), result({"a": 2, "b": {"c": 1, "d": 4}})) == {
        "a": 3,
        "b": {"c": 2.5, "d": 4},
    }


@pytest.mark.parametrize("value", ["text", True, None, [1]])
def test_what_is_no_number_cannot_be_added(value: Any) -> None:
    code, _, data = joined("sum", result({"a": value}), result({"a": value}))
    assert (code, data) == (-32603, "the answers to 'x.y' cannot be added")


def test_first_is_the_answer_of_the_first_worker() -> None:
    assert joined("first", result("zero"), result("one")) == "zero"


@pytest.mark.parametrize("how", ["all", "sum", "first"])
def test_an_error_of_all_workers_is_the_error(how: Join) -> None:
    wrong = failed(-32602, "Invalid params", "no such server")
    assert joined(how, wrong, wrong) == (-32602, "Invalid params", "no such server")


def test_workers_that_fail_are_named_and_what_the_others_said_is_not_lost() -> None:
    code, message, data = joined("sum", result({"a": 1}), failed(-32001, "no answer within 5 s"), result({"a": 2}))
    assert (code, message) == (-32001, "worker 1 (pid 101): no answer within 5 s")
    assert data["result"] == {"a": 3}
    assert [row["worker"] for row in data["workers"]] == [1]


def test_different_errors_are_all_told() -> None:
    code, message, _ = joined("first", failed(-32602, "Invalid params", "this"), failed(-32001, "silent"))
    assert (code, message) == (-32000, "worker 0 (pid 100): Invalid params: this; worker 1 (pid 101): silent")


def test_a_round_ends_once_when_the_last_worker_has_answered() -> None:
    ended: list[Outcome] = []
    asked = Round(CommandInfo("x.y", join="first"), {0: 10, 1: 11}, ended.append)
    asked.take(1, 11, result("b"))
    # Not of this worker: of a process that was there before.
    asked.take(0, 9, result("old"))
    assert ended == []
    asked.take(0, 10, result("a"))
    asked.take(0, 10, result("again"))
    asked.give_up("late")
    assert ended == [Outcome(b'"a"')]


def test_a_round_that_is_given_up_names_who_was_waited_for() -> None:
    ended: list[Outcome] = []
    asked = Round(CommandInfo("x.y"), {0: 10, 1: 11}, ended.append)
    asked.absent(2, "it is being started again")
    asked.take(0, 10, result("a"))
    asked.give_up("no answer within 5 s")
    [outcome] = ended
    assert outcome.result is not None
    assert json.loads(outcome.result) == [
        {"worker": 0, "pid": 10, "result": "a"},
        {"worker": 1, "pid": 11, "error": {"code": -32001, "message": "no answer within 5 s"}},
        {"worker": 2, "pid": None, "error": {"code": -32001, "message": "it is being started again"}},
    ]
