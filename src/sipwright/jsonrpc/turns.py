"""Whose turn it is among servers (L0): the order of levels, the policies, and turns by weight; knows no servers.

Used by the asyncio client (`groups`) and by the one without (`sync_servers`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import gcd
from typing import Literal, TypeVar

from sipwright.errors import ArgumentError

T = TypeVar("T", bound=Hashable)

Policy = Literal["round_robin", "least_pending"]
POLICIES = ("round_robin", "least_pending")

# A level's place in the order, the lowest first: the negative priority, and the priority of the SRV record.
Level = tuple[int, int]

# How many turns a ring has at most: weights that would need more are rounded.
MAX_TURNS = 1024


def check_policy(policy: str) -> None:
    """Raise ArgumentError for a policy that there is not."""
    if policy not in POLICIES:
        raise ArgumentError(f"no policy is named {policy!r}, expected one of {', '.join(POLICIES)}")


def spread(weights: Sequence[tuple[T, int]]) -> list[T]:
    """Return a round in which each has turns in the proportion of its weight, as far apart as can be.

    Each turn is of the one that is furthest behind its share.
    """
    divisor = gcd(*(weight for _, weight in weights))
    total = sum(weight for _, weight in weights) // divisor
    scale = max(1.0, total / MAX_TURNS) * divisor
    shares = [(server, max(1, round(weight / scale))) for server, weight in weights]
    length = sum(share for _, share in shares)
    credit = dict.fromkeys((server for server, _ in shares), 0)
    turns = []
    for _ in range(length):
        for server, share in shares:
            credit[server] += share
        best = max(credit, key=credit.__getitem__)
        credit[best] -= length
        turns.append(best)
    return turns
