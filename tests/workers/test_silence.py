"""What counts as a worker's silence."""

from __future__ import annotations

from sipwright.workers.silence import Silence


def test_a_worker_is_silent_since_it_was_last_heard_of() -> None:
    silence = Silence(100.0, longest_gap=10.0)
    for now in (105.0, 110.0, 115.0):
        silence.look(now)
    assert silence.since(103.0, 115.0) == 12.0


def test_before_anybody_listened_nobody_was_silent() -> None:
    assert Silence(100.0, longest_gap=10.0).since(1.0, 104.0) == 4.0


def test_time_in_which_nobody_listened_is_no_silence() -> None:
    silence = Silence(100.0, longest_gap=10.0)
    silence.look(105.0)
    silence.look(400.0)
    assert silence.since(104.0, 400.0) == 0.0
    silence.look(405.0)
    assert silence.since(104.0, 405.0) == 5.0
    assert silence.since(404.0, 405.0) == 1.0


def test_listening_late_is_listening() -> None:
    silence = Silence(100.0, longest_gap=10.0)
    silence.look(110.0)
    assert silence.since(100.0, 110.0) == 10.0
