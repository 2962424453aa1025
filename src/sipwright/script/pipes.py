"""Pipes: how many requests pass in an interval, for all workers together (Kamailio: modules ratelimit and pipelimit).

A pipe is a name, an algorithm and a limit. Intervals are those of the clock that all workers see; in each of them a
request gets a number within its pipe, which all workers count:

- TAILDROP: the first `limit` requests pass.
- RED: of an interval that comes after one with n times the limit (n rounded down), every nth request passes.
- NETWORK: while more than `limit` bytes wait in the receive buffers, nothing passes; looked at once an interval.
- FEEDBACK: so many percent of the requests are turned away that the machine's processors are busy to `limit` percent;
  adjusted once an interval.
- NOP: everything passes.
"""

from __future__ import annotations

from sipwright.errors import SipwrightError
from sipwright.script.cpuload import CpuLoad
from sipwright.script.services import Services

NOP = "NOP"
TAILDROP = "TAILDROP"
RED = "RED"
NETWORK = "NETWORK"
FEEDBACK = "FEEDBACK"
ALGORITHMS = (NOP, TAILDROP, RED, NETWORK, FEEDBACK)

# FEEDBACK: percent by which the drop rate changes in an interval for each percent that the load is off.
GAIN = 0.25
# Goes through 0 to 99 without a pattern that a few requests would see.
STEP = 37


class Pipes:
    """The requests in all pipes of one module. `name` is that of the module; its counts are in a store of that name.

    An interval has `seconds` seconds. A worker begins to count at most `max_pipes` pipes in one; requests in others
    pass, and `uncounted` says how many there were.
    """

    __slots__ = (
        "_begun",
        "_clock",
        "_cpu",
        "_drop_rates",
        "_former",
        "_max_pipes",
        "_now",
        "_over",
        "_queued",
        "_seconds",
        "_services",
        "_store",
        "_turn",
        "limited",
        "uncounted",
    )

    def __init__(self, services: Services, name: str, seconds: int, max_pipes: int) -> None:
        self._services = services
        self._clock = services.clock
        self._store = services.shared_store(f"{name}:counts")
        self._seconds = seconds
        self._max_pipes = max_pipes
        # The present interval, and how many pipes this worker has begun to count in it.
        self._now = 0
        self._begun = 0
        # Pipes that let nothing through any more in this interval, with their limit; what RED knows of the last one.
        self._over: dict[str, int] = {}
        self._former: dict[str, int] = {}
        # For NETWORK and FEEDBACK, from the first use on.
        self._queued: int | None = None
        self._cpu: CpuLoad | None = None
        # In percent, by the load that is wanted.
        self._drop_rates: dict[int, float] = {}
        self._turn = 0
        self.limited = 0
        self.uncounted = 0
        services.timers.start(seconds, self._tick)

    def passes(self, name: str, algorithm: str, limit: int) -> bool:
        """Tell whether a request may pass a pipe, and count it. `limit` is for one interval."""
        if algorithm == TAILDROP:
            passes = self._taildrop(name, limit)
        elif algorithm == RED:
            passes = self._red(name, limit)
        elif algorithm == NETWORK:
            passes = self._network(limit)
        elif algorithm == FEEDBACK:
            passes = self._feedback(limit)
        else:
            passes = True
        if not passes:
            self.limited += 1
        return passes

    def _taildrop(self, name: str, limit: int) -> bool:
        interval = self._interval()
        over = self._over.get(name)
        if over is not None and over >= limit:
            # What no longer passes need not be counted any more.
            return False
        number = self._count(name, interval)
        if number > limit:
            self._over[name] = limit
            return False
        return True

    def _red(self, name: str, limit: int) -> bool:
        interval = self._interval()
        number = self._count(name, interval)
        if number == 0 or limit <= 0:
            # Kamailio: without a limit there is no load.
            return True
        former = self._former.get(name)
        if former is None:
            former = self._former[name] = self._read(name, interval - 1)
        load = former // limit
        return load <= 1 or number % load == 0

    def _network(self, limit: int) -> bool:
        if self._queued is None:
            self._queued = self._read_queued()
        return self._queued <= limit

    def _feedback(self, limit: int) -> bool:
        if self._cpu is None:
            self._cpu = CpuLoad()
        rate = self._drop_rates.setdefault(limit, 0.0)
        self._turn = (self._turn + STEP) % 100
        return self._turn >= rate

    # ---- counting

    def _interval(self) -> int:
        interval = int(self._clock() / self._seconds)
        if interval != self._now:
            self._now = interval
            self._begun = 0
            self._over.clear()
            self._former.clear()
        return interval

    def _count(self, name: str, interval: int) -> int:
        """Count a request and return its number in the interval; 0 when it cannot be counted."""
        key = f"{interval}:{name}"
        try:
            if self._begun >= self._max_pipes and self._store.get(key) is None:
                self.uncounted += 1
                return 0
            # To the end of the next interval, which RED looks back from.
            number = self._store.add(key, 1, 0, 2 * self._seconds, renew=False) or 0
        except SipwrightError:
            # The store has logged it. Nothing is turned away because of a fault of ours.
            return 0
        if number == 1:
            self._begun += 1
        return number

    def _read(self, name: str, interval: int) -> int:
        try:
            number = self._store.get(f"{interval}:{name}")
        except SipwrightError:
            return 0
        return number if isinstance(number, int) else 0

    # ---- once an interval

    def _tick(self, _argument: object) -> None:
        self._services.timers.start(self._seconds, self._tick)
        if self._queued is not None:
            self._queued = self._read_queued()
        if self._cpu is not None:
            load = 100 * self._cpu.look()
            for limit, rate in self._drop_rates.items():
                self._drop_rates[limit] = min(100.0, max(0.0, rate + GAIN * (load - limit)))
        try:
            self._store.take_expired()
        except SipwrightError:
            # The store has logged it; they are there the next time.
            return

    def _read_queued(self) -> int:
        return self._services.statistics().get("core:udp_queued", 0)
