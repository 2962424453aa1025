"""Notices as a worker sees them."""

from __future__ import annotations

from sipwright.engine.notices import Notices


def test_who_follows_is_told_what_there_is_and_what_changes() -> None:
    notices = Notices()
    notices.take("a:1", b"x")
    notices.take("b:1", b"y")
    told: list[tuple[str, bytes | None]] = []
    notices.follow("a:", lambda name, value: told.append((name, value)))
    notices.take("a:1", b"x")
    notices.take("a:1", b"z")
    notices.post("a:2", b"own")
    notices.take("b:1", None)
    notices.take("a:1", None)
    notices.take("a:9", None)
    assert told == [("a:1", b"x"), ("a:1", b"z"), ("a:2", b"own"), ("a:1", None)]


def test_what_is_posted_is_sent_with_the_number_of_the_command() -> None:
    notices, sent = Notices(), []
    notices.send = lambda *notice: sent.append(notice)
    notices.stamp = 5
    notices.post("a:1", b"x", lasting=True)
    notices.stamp = 0
    notices.post("a:1", None)
    # What others have posted is not sent back.
    notices.take("a:2", b"y")
    assert sent == [("a:1", b"x", True, 5), ("a:1", None, False, 0)]


def test_what_another_worker_still_says_of_an_earlier_command_is_not_taken() -> None:
    notices, told = Notices(), []
    notices.follow("a:", lambda name, value: told.append((name, value)))
    for number, value in ((1, b"added"), (2, None)):
        notices.stamp = number
        notices.post("a:1", value, lasting=True)
    notices.stamp = 0
    notices.take("a:1", b"added", 1)
    notices.take("a:1", None, 2)
    notices.take("a:1", b"again", 3)
    assert told == [("a:1", b"added"), ("a:1", None), ("a:1", b"again")]
