from __future__ import annotations

from sipwright.transaction.timers import TimerSettings


def test_defaults_are_those_of_the_rfc() -> None:
    timers = TimerSettings()
    assert (timers.t1, timers.t2, timers.t4, timers.trying) == (0.5, 4.0, 5.0, 0.2)
    assert {timers.b, timers.f, timers.h, timers.j, timers.l, timers.m, timers.timeout} == {32.0}
    assert timers.d >= 32.0
    assert timers.i == timers.k == 5.0
    assert timers.c >= 180.0


def test_derived_values_follow_from_t1_unless_they_are_set() -> None:
    timers = TimerSettings(t1=0.1, t4=1.0)
    assert timers.b == timers.f == timers.h == timers.j == timers.l == timers.timeout == 6.4
    assert timers.i == timers.k == 1.0
    timers = TimerSettings(t1=0.1, fr=30.0, fr_inv=120.0, wait=5.0)
    assert (timers.b, timers.f, timers.h, timers.c) == (30.0, 30.0, 30.0, 120.0)
    assert (timers.d, timers.j, timers.l, timers.m) == (5.0, 5.0, 5.0, 5.0)
    assert timers.timeout == 6.4
