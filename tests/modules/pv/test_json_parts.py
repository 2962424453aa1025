from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import ArgumentError

TEXT = '{"a":{"b":1.50},"l":[1,{"m":"x"}],"o":{"x":"y"},"n":null,"t":true}'


@pytest.mark.parametrize(
    ("path", "result"),
    [("a.b", "1.50"), ("l[1].m", "x"), ("t", "true"), ("n", ""), ("nope", ""), ("l[0]", "1")],
)
def test_members_are_found_by_their_path(load: Any, path: str, result: object) -> None:
    assert load("pv", "json").transform(TEXT, "json.parse", path) == result


def test_what_is_no_json_has_no_members(load: Any) -> None:
    assert load("pv", "json").transform("timeout", "json.parse", "a") == ""
    assert load("pv", "json").transform(None, "json.parse", "a") is None


def test_a_malformed_path_is_an_error_at_load(load: Any) -> None:
    with pytest.raises(ArgumentError):
        load("pv", "json").transform(TEXT, "json.parse", "a[")
