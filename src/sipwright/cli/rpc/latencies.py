"""How long calls took: counts by time, so that a run of hours takes no more memory than one of a second.

Times are kept to three digits and better (a bucket is at most 1/1024 of its time wide), as HdrHistogram does it.
"""

from __future__ import annotations

from collections import Counter

_EXACT_BITS = 11  # times below 2048 µs are exact


class Latencies:
    """A histogram of times in seconds."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self.lowest = float("inf")
        self.highest = 0.0
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one time."""
        self.count += 1
        self.sum += seconds
        if seconds < self.lowest:
            self.lowest = seconds
        if seconds > self.highest:
            self.highest = seconds
        micros = int(seconds * 1e6)
        shift = micros.bit_length() - _EXACT_BITS
        # The first microsecond of its bucket stands for the bucket.
        self._buckets[micros if shift <= 0 else micros >> shift << shift] += 1

    @property
    def mean(self) -> float:
        """The mean in seconds, 0 for no calls."""
        return self.sum / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """Return the time in seconds within which so many percent of the calls ended (0 < percent <= 100)."""
        left = self.count * percent / 100
        for micros, count in sorted(self._buckets.items()):
            left -= count
            # Not exactly 0: the parts of a percent are not exact either.
            if left <= 1e-9:
                return min(max(micros / 1e6, self.lowest), self.highest)
        return self.highest if self.count else 0.0
