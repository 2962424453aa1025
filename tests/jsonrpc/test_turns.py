"""Turns by weight, without servers."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import ArgumentError
from sipwright.jsonrpc.turns import MAX_TURNS, check_policy, spread


def test_turns_are_in_the_proportion_of_the_weights_and_far_apart() -> None:
    assert spread([("a", 3), ("b", 1)]) == ["a", "a", "b", "a"]
    assert spread([("a", 300), ("b", 100)]) == ["a", "a", "b", "a"]


@given(st.lists(st.integers(1, 65535), min_size=1, max_size=8))
def test_a_round_has_a_bound_and_everybody_a_turn(weights: list[int]) -> None:
    turns = spread(list(enumerate(weights)))
    assert len(turns) <= MAX_TURNS + len(weights)
    count = Counter(turns)
    for index, weight in enumerate(weights):
        share = weight * len(turns) / sum(weights)
        assert count[index] >= 1
        # Whoever has a small share has a turn all the same, at the cost of the others.
        assert abs(count[index] - share) <= 1 + len(weights)


def test_a_policy_that_there_is_not_is_told() -> None:
    check_policy("least_pending")
    with pytest.raises(ArgumentError, match="no policy is named 'best', expected one of round_robin, least_pending"):
        check_policy("best")
