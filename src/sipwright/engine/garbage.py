"""The cyclic garbage collector under load: owns when it looks at what.

Nothing on the main path leaves a reference cycle, so the collector finds nothing among live transactions, but it walks
all of them: with the default thresholds, 30,000 made each request half as dear again, and at a million (32 seconds of
completed ones) a single collection of the middle generation stopped the worker for 1.4 seconds. So the young
generation is large, what survives it under load is frozen (`gc.freeze`: no longer walked, still freed when the last
reference goes), and everything is looked through once when the load is over: that finds the cycles that a module or a
script may have made meanwhile.
"""

from __future__ import annotations

import gc

# Objects that may be made before the young generation is looked at: 10 ms each time, a few times a second under load.
THRESHOLDS = (100_000, 50, 1000)
# So many transactions are load: what they are made of is frozen once a second, which costs nothing. By their number and
# not by the collector's counts: those fall when old objects are freed, while the young generation grows.
LOADED_TRANSACTIONS = 20_000
# With so few transactions left, looking at everything takes as long as at the program itself.
IDLE_TRANSACTIONS = 1000


class Garbage:
    """Tends the collector: `start()` once the program is loaded, `tend(live)` once a second."""

    __slots__ = ("_is_frozen",)

    def __init__(self) -> None:
        self._is_frozen = False

    def start(self) -> None:
        """Put what is loaded out of the collector's sight."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)

    def tend(self, live: int) -> None:
        """Freeze what there is while there are many transactions; look through everything when few are left."""
        if live >= LOADED_TRANSACTIONS:
            gc.freeze()
            self._is_frozen = True
        elif self._is_frozen and live < IDLE_TRANSACTIONS:
            self._is_frozen = False
            gc.unfreeze()
            gc.collect()
            gc.freeze()
