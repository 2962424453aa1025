"""The counters of all workers, in memory that they share."""

from __future__ import annotations

import os
import time

from sipwright.workers.scoreboard import HALF, PAST, Board, Scoreboard


def test_what_a_process_writes_another_one_reads() -> None:
    board = Scoreboard(3)
    pid = os.fork()
    if pid == 0:
        board.write(1, {"tm:live": 7})
        os._exit(0)
    os.waitpid(pid, 0)
    board.write(2, {"tm:live": 1})
    assert board.read(1) == {"tm:live": 7}
    assert list(board.others(2)) == [{}, {"tm:live": 7}]


def test_a_place_that_was_never_written_has_no_counters() -> None:
    assert Scoreboard(1).read(0) == {}


def test_more_than_fits_is_left_out() -> None:
    board = Scoreboard(1)
    board.write(0, {"x" * HALF: 1})
    assert board.read(0) == {}


def test_a_reader_never_sees_half_of_what_is_written() -> None:
    board = Scoreboard(1)
    ready, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(go, b"x")
        number = 0
        while True:
            number += 1
            board.write(0, {f"counter{i}": number for i in range(number % 40)})
    try:
        os.read(ready, 1)
        until, seen = time.monotonic() + 0.5, 0
        while time.monotonic() < until:
            counters = board.read(0)
            assert len(set(counters.values())) <= 1
            seen += bool(counters)
        assert seen > 100
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(go)


def test_counts_of_ended_processes_are_kept_and_their_gauges_are_not() -> None:
    board = Board(2)
    first, second = board.take_place(), board.take_place()
    assert len({first, second, PAST}) == 3
    board.scoreboard.write(first, {"tm:live": 3, "tm:created": 10})
    board.scoreboard.write(second, {"tm:live": 4, "tm:created": 20})
    assert board.totals() == {"tm:live": 7, "tm:created": 30}
    board.leave(first, {"tm:live": 3, "tm:created": 12})
    assert board.totals() == {"tm:live": 4, "tm:created": 32}
    assert board.take_place() == first


def test_too_many_processes_share_the_last_place() -> None:
    board = Board(1)
    places = [board.take_place() for _ in range(20)]
    assert len(set(places)) == board.scoreboard.places - 1
    for place in places:
        board.leave(place, {"tm:created": 1})
    assert board.totals() == {"tm:created": 20}
    assert len({board.take_place() for _ in range(board.scoreboard.places - 1)}) == board.scoreboard.places - 1
