from __future__ import annotations

import logging
from typing import Any

import pytest

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Variable


def test_a_line_without_level_is_an_error_line_with_the_prefix_of_scripts(load: Any) -> None:
    script = load("xlog")
    assert script.call("xlog", "hello\n") == 1
    assert script.services.lines == [("ERROR", "<script>: hello")]


@pytest.mark.parametrize(
    ("level", "name"),
    [
        ("L_ALERT", "ALERT"),
        ("L_ERR", "ERROR"),
        ("L_WARN", "WARNING"),
        ("L_NOTICE", "NOTICE"),
        ("2", "INFO"),
        (3, "DEBUG"),
    ],
)
def test_levels_have_kamailios_names_and_numbers(load: Any, level: str | int, name: str) -> None:
    script = load("xlog")
    script.call("xlog", level, "x")
    script.call("xlog", "LOG_LOCAL1", level, "y")
    assert script.services.lines == [(name, "<script>: x"), (name, "<script>: y")]


def test_each_level_has_a_function(load: Any) -> None:
    script = load("xlog", params=[("xlog", "prefix", "")])
    for name in ("xdbg", "xinfo", "xnotice", "xwarn", "xerr", "xcrit", "xbug", "xalert"):
        script.call(name, name)
    assert script.services.lines == [
        ("DEBUG", "xdbg"),
        ("INFO", "xinfo"),
        ("NOTICE", "xnotice"),
        ("WARNING", "xwarn"),
        ("ERROR", "xerr"),
        ("CRITICAL", "xcrit"),
        ("BUG", "xbug"),
        ("ALERT", "xalert"),
    ]


def test_the_text_of_a_level_that_is_off_is_not_put_together(load: Any) -> None:
    def explode(_ctx: object) -> str:
        raise AssertionError("the variable was read")

    script = load("xlog")
    script.services.log.setLevel("ERROR")
    assert script.call("xinfo", Variable("$x", explode)) == 1
    assert script.services.lines == []


def test_a_facility_goes_with_the_line_that_names_it_or_with_all(load: Any) -> None:
    def lines(*params: tuple[str, str, str]) -> list[int | None]:
        script = load("xlog", params=params)
        seen: list[int | None] = []

        def see(record: logging.LogRecord) -> bool:
            seen.append(getattr(record, "facility", None))
            return True

        script.services.log.addFilter(see)
        script.call("xlog", "LOG_LOCAL1", "L_ERR", "x")
        script.call("xlog", "L_ERR", "y")
        return seen

    assert lines() == [17, None]
    assert lines(("xlog", "log_facility", "LOG_LOCAL7")) == [17, 23]


def test_an_unknown_facility_is_an_error(load: Any) -> None:
    with pytest.raises(ArgumentError, match="'LOG_LOCAL9' is no log facility"):
        load("xlog").call("xlog", "LOG_LOCAL9", "L_ERR", "x")
    with pytest.raises(ArgumentError, match="'LOCAL1' is no log facility"):
        load("xlog", params=[("xlog", "log_facility", "LOCAL1")])


def test_an_unknown_level_is_an_error_that_names_the_levels(load: Any) -> None:
    with pytest.raises(ArgumentError, match="'L_ERROR' is no log level, which is one of L_ALERT, L_BUG"):
        load("xlog").call("xlog", "L_ERROR", "x")
