from __future__ import annotations

import logging.handlers

import pytest

from sipwright.errors import ArgumentError
from sipwright.script.loglevels import ALERT, FACILITIES, facility_of, level_of, number_of


def test_numbers_beyond_the_ends_mean_the_ends() -> None:
    assert level_of(-9) == ALERT
    assert level_of(9) == level_of(3) == logging.DEBUG


def test_a_level_has_the_number_that_logs_as_much() -> None:
    assert [level_of(number_of(level_of(number))) for number in range(-5, 4)] == [level_of(n) for n in range(-5, 4)]
    assert [number_of(level) for level in (1, 10, 15, 20, 40, 99)] == [3, 3, 2, 2, -1, -5]


def test_facilities_have_the_numbers_of_syslog() -> None:
    known = logging.handlers.SysLogHandler.facility_names
    assert {name: known[name.removeprefix("LOG_").lower()] for name in FACILITIES} == FACILITIES


def test_an_unknown_facility_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ArgumentError, match="'LOCAL1' is no log facility, which is one of LOG_KERN, ") as caught:
        facility_of("LOCAL1")
    assert caught.value.suggestion == "LOG_LOCAL1"
