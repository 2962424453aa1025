"""Module pike: finds the addresses that requests come from too fast; what is done about them is the script's to say.

Requests are counted by source address, IPv4 or IPv6, in units of `sampling_time_unit` seconds. An address is blocked
from the request on that makes `reqs_density_per_unit` of them in one unit, for the rest of that unit and all of the
next one, and as long as each unit again has as many; blocked requests count, too. All workers count together, so that
it does not matter which of them gets a request.

Of an address that is blocked nothing more is counted in a unit than is needed to say so, and `pike_check_req()` answers
from the worker's own memory. Counts are kept for two units. Each worker begins to count at most `max_sources` addresses
in a unit: in a flood from more of them, made-up ones for instance, the others are let through.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

from sipwright.errors import SipwrightError
from sipwright.lang.namespace import RouteKind
from sipwright.script.context import Context
from sipwright.script.kinds import Str
from sipwright.script.loglevels import level_of
from sipwright.script.module import Module, Param, function
from sipwright.script.services import Services

ROUTES = RouteKind.REQUEST | RouteKind.ONREPLY | RouteKind.EVENT

PASS = 1
BLOCKED = -1
NEWLY_BLOCKED = -2


class Pike(Module):
    """Floods."""

    name = "pike"
    # Kamailio: how long the path to an address stays in its tree of bytes, which makes it find it sooner. Here every
    # address is counted from its first request on.
    ignored_params = ("remove_latency",)

    sampling_time_unit = Param(int, 2, minimum=1, doc="seconds over which the requests of an address are counted")
    reqs_density_per_unit = Param(int, 30, minimum=1, doc="with so many requests in one unit an address is blocked")
    pike_log_level = Param(int, 0, doc="level of the log lines about blocked addresses, one of Kamailio's, -5 to 3")
    max_sources = Param(int, 100_000, minimum=1, doc="addresses that a worker begins to count in one unit")

    def child_init(self, services: Services) -> None:
        """Open the counts that the workers share."""
        super().child_init(services)
        self._clock = services.clock
        self._store = services.shared_store("pike:sources")
        self._level = level_of(self.pike_log_level)
        # The present unit, and how many addresses this worker has begun to count in it.
        self._now = 0
        self._begun = 0
        # The last unit in which an address was found to have too many requests.
        self._full: dict[str, int] = {}
        # Those that this worker has reported and that are not free again.
        self._reported: dict[str, None] = {}
        self._blocked = self._detected = self._uncounted = 0
        services.add_statistics(self._statistics)
        services.timers.start(self.sampling_time_unit, self._sweep)

    @function(routes=ROUTES)
    def pike_check_req(self, ctx: Context) -> int:
        """Count the request for its source: 1 it may pass, -1 the source is blocked, -2 from this request on."""
        return self._check(ctx.source[0])

    @function(routes=ROUTES)
    def pike_check_ip(self, _ctx: Context, ipaddr: Str) -> int:
        """Count a request for an IP address: 1 it may pass, -1 it is blocked, -2 from this request on; -1 for no IP."""
        address = canonical(ipaddr)
        if address is None:
            self.services.log.error("pike_check_ip: %r is no IP address", ipaddr)
            return BLOCKED
        return self._check(address)

    def _check(self, address: str) -> int:
        unit = int(self._clock() / self.sampling_time_unit)
        full = self._full.get(address)
        if full == unit:
            self._blocked += 1
            return BLOCKED
        if unit != self._now:
            self._now = unit
            self._begun = 0
        density = self.reqs_density_per_unit
        try:
            was_full = full == unit - 1 or self._count(address, unit - 1) >= density
            count = self._add(address, unit)
        except SipwrightError:
            # The store has logged it. Kamailio: in case of an error nobody is blocked.
            return PASS
        if count < density:
            if was_full:
                self._blocked += 1
            return BLOCKED if was_full else PASS
        self._full[address] = unit
        self._blocked += 1
        if was_full or count > density:
            return BLOCKED
        # The one request that makes it so many, in whichever worker it is.
        self._detected += 1
        self._reported[address] = None
        self.services.log.log(
            self._level, "pike: blocking %s, %d requests within %d s", address, count, self.sampling_time_unit
        )
        return NEWLY_BLOCKED

    def _count(self, address: str, unit: int) -> int:
        count = self._store.get(f"{unit}:{address}")
        return count if isinstance(count, int) else 0

    def _add(self, address: str, unit: int) -> int:
        """Count a request and return how many there are in the unit; 0 when no more addresses are counted."""
        key = f"{unit}:{address}"
        if self._begun >= self.max_sources and self._store.get(key) is None:
            self._uncounted += 1
            return 0
        # To the end of the next unit, at whatever moment of this one it begins.
        count = self._store.add(key, 1, 0, 2 * self.sampling_time_unit, renew=False) or 0
        if count == 1:
            self._begun += 1
        return count

    def _sweep(self, _argument: object) -> None:
        """Forget what is over, and tell which addresses are free again."""
        self.services.timers.start(self.sampling_time_unit, self._sweep)
        unit = int(self._clock() / self.sampling_time_unit)
        self._full = {address: full for address, full in self._full.items() if full >= unit - 1}
        density = self.reqs_density_per_unit
        try:
            self._store.take_expired()
            for address in list(self._reported):
                if self._count(address, unit - 1) < density and self._count(address, unit) < density:
                    del self._reported[address]
                    self.services.log.log(self._level, "pike: %s is not blocked any more", address)
        except SipwrightError:
            # The store has logged it; what could not be done now is done next time.
            pass

    def _statistics(self) -> dict[str, int]:
        return {
            "pike:blocked_ips": self._detected,
            "pike:blocked_requests": self._blocked,
            "pike:uncounted_requests": self._uncounted,
        }


@lru_cache(maxsize=4096)
def canonical(text: str) -> str | None:
    """Return an IP address as sockets give it, None when the text is none; `[...]` around IPv6 is taken off."""
    try:
        return str(ip_address(text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text))
    except ValueError:
        return None
