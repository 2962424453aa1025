from __future__ import annotations

import pytest

from sipwright.errors import ArgumentError
from sipwright.modules.janssonrpcc.options import FOREVER, parse_options


def test_what_is_not_given_is_as_kamailio_has_it() -> None:
    for text in ("", None, ";"):
        options = parse_options(text)
        assert (options.route, options.retry, options.timeout) == ("", 0, 0.5)


def test_options_are_read() -> None:
    options = parse_options(" route = RESPONSE ; retry=2;timeout=100;")
    assert (options.route, options.retry, options.timeout) == ("RESPONSE", 2, 0.1)
    assert options.route_offset == 9
    assert parse_options("retry=-1").retry == FOREVER


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("route=A;retries=1", "unknown option 'retries', expected route=NAME, retry=N or timeout=MS", "retries=1"),
        ("route=A;idempotent", "unknown option 'idempotent'", "idempotent"),
        ("timeout=1;route=", "option 'route' needs the name of a route", ""),
        ("timeout=0", "option 'timeout' needs a number of milliseconds from 1, found '0'", "0"),
        ("timeout=1s", "option 'timeout' needs", "1s"),
        ("retry=-2", "option 'retry' needs a number of tries, or -1 for ever, found '-2'", "-2"),
        ("retry=;", "option 'retry' needs a number of tries", ";"),
    ],
)
def test_each_mistake_is_told_with_its_place(text: str, message: str, at: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_options(text)
    assert caught.value.message.startswith(message)
    assert caught.value.offset is not None
    assert text[caught.value.offset :] == at


def test_an_option_that_is_misspelt_has_a_suggestion() -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_options("timout=5")
    assert caught.value.suggestion == "timeout"
