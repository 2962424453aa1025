"""How long workers have said nothing: owns the rule that only time counts in which they could have been heard.

The supervisor may have been stopped itself, or the whole machine with it, as a virtual one is while it is moved. The
clock goes on meanwhile, and when it does, all workers seem to have been silent for as long.
"""

from __future__ import annotations


class Silence:
    """The silences of a supervisor's workers; times are in seconds.

    `look(now)` has to be called regularly. When more than `longest_gap` has passed since the last time, nobody has
    listened meanwhile.
    """

    __slots__ = ("_listening_since", "_longest_gap", "_looked")

    def __init__(self, now: float, longest_gap: float) -> None:
        self._longest_gap = longest_gap
        self._looked = self._listening_since = now

    def look(self, now: float) -> None:
        """Take note that somebody listens now."""
        if now - self._looked > self._longest_gap:
            self._listening_since = now
        self._looked = now

    def since(self, last_beat: float, now: float) -> float:
        """Return for how long a worker that was last heard of at `last_beat` has been silent."""
        return now - max(last_beat, self._listening_since)
