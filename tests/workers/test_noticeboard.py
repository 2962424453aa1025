"""Which notices hold, and for which workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sipwright.workers.control import Notice
from sipwright.workers.noticeboard import Noticeboard
from sipwright.workers.peering import channel
from sipwright.workers.process import WorkerProcess


@pytest.fixture
def processes() -> Iterator[list[WorkerProcess]]:
    """Three: two of one generation, one of the next; none of them was ever forked."""
    with ExitStack() as stack:
        made = []
        for index, generation in ((0, 0), (1, 0), (0, 1)):
            heir = channel()
            for end in heir:
                stack.callback(end.close)
            made.append(WorkerProcess(index, generation, 1, heir, 0.0))
        yield made


def test_a_passing_notice_goes_with_its_process(processes: list[WorkerProcess]) -> None:
    one, other, newer = processes
    board = Noticeboard()
    assert board.put(one, Notice("a:1", b"x"))
    assert not board.put(one, Notice("a:1", b"x"))
    assert not board.put(other, Notice("a:1", None)), "it is not that one's to take away"
    assert board.put(other, Notice("a:2", b"y"))
    assert board.seen_by(0) == board.seen_by(1) == {"a:1": b"x", "a:2": b"y"}
    assert [board.is_for(Notice("a:1", b"x"), process, one) for process in processes] == [False, True, True]
    assert list(board.left(one)) == ["a:1"]
    assert board.seen_by(1) == {"a:2": b"y"}
    assert board.put(other, Notice("a:2"))
    assert list(board.left(other)) == []
    assert newer.generation == 1


def test_a_lasting_notice_is_for_its_generation_and_outlives_its_process(processes: list[WorkerProcess]) -> None:
    one, other, newer = processes
    board = Noticeboard()
    notice = Notice("a:1", b"x", is_lasting=True)
    assert board.put(one, notice)
    assert not board.put(other, notice), "it says the same"
    assert [board.is_for(notice, process, one) for process in processes] == [False, True, False]
    assert list(board.left(one)) == []
    assert (board.seen_by(0), board.seen_by(1)) == ({"a:1": b"x"}, {})
    assert (board.lasting(0), board.lasting(1)) == (["a:1"], [])
    assert board.put(newer, Notice("a:1", b"new", is_lasting=True))
    board.forget({1})
    assert (board.seen_by(0), board.seen_by(1)) == ({}, {"a:1": b"new"})


def test_an_earlier_command_that_is_late_in_one_worker_changes_nothing(processes: list[WorkerProcess]) -> None:
    one, other, _ = processes
    board = Noticeboard()
    assert board.put(one, Notice("a:1", b"added", True, 1))
    assert board.put(one, Notice("a:1", None, True, 2))
    assert not board.put(other, Notice("a:1", b"added", True, 1))
    assert board.seen_by(0) == {}
    assert not board.put(other, Notice("a:1", None, True, 2))
    assert board.put(other, Notice("a:1", b"again", True, 3))
    assert board.seen_by(0) == {"a:1": b"again"}
