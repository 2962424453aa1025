from __future__ import annotations

from sipwright.testing.clock import FakeClock


def test_timers_see_the_time_at_which_they_end() -> None:
    clock = FakeClock(100.0)
    times: list[float] = []

    def note(_argument: object) -> None:
        times.append(clock.time())
        if len(times) < 3:
            clock.start_timer(2.0, note, None)

    clock.start_timer(2.0, note, None)
    clock.advance(5.0)
    assert times == [102.0, 104.0]
    assert clock.now == 105.0


def test_run_goes_to_the_end_of_the_last_timer() -> None:
    clock = FakeClock()
    ended: list[str] = []
    clock.start_timer(32.0, ended.append, "J")
    clock.start_timer(5.0, ended.append, "I").cancel()
    clock.run()
    assert ended == ["J"]
    assert clock.now == 32.0
    assert len(clock.timers) == 0
