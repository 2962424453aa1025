"""An srv name of a client (L2): asks for its records again when they expire, and tells who uses them.

When a question fails, the records that are known go on to hold, and it is asked again after `min_ttl` seconds, doubled
for each failure in a row up to a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence

from sipwright.jsonrpc.resolve import Resolver, SrvRecord

logger = logging.getLogger("sipwright.jsonrpc.client")

MAX_DELAY = 60.0
# Seconds between two questions at the least, whatever the client says: others would keep the loop busy.
MIN_DELAY = 0.02


class SrvName:
    """One name. Each `user(records)` is told the records when they are known, and whenever they have changed.

    They are asked for again after their time to live, but at least `min_ttl` seconds. `last_failure` is why there are
    none, for a person.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        resolver: Resolver,
        *,
        min_ttl: float,
        random: Callable[[], float],
    ) -> None:
        self.name = name
        self.is_resolved = False
        self.last_failure = ""
        self._loop = loop
        self._resolver = resolver
        self._min_ttl = max(min_ttl, MIN_DELAY)
        self._random = random
        self._users: dict[Hashable, Callable[[Sequence[SrvRecord]], object]] = {}
        self._records: list[SrvRecord] = []
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, key: Hashable, user: Callable[[Sequence[SrvRecord]], object]) -> None:
        """Tell a further user, at once what is known already; begin to ask with the first."""
        self._users[key] = user
        if self._task is None:
            self._task = self._loop.create_task(self._keep())
        elif self.is_resolved:
            user(self._records)

    def remove(self, key: Hashable) -> None:
        """Tell a user no more; nothing when there is none of that key."""
        self._users.pop(key, None)

    def stop(self) -> None:
        """Ask no more."""
        self._users.clear()
        if self._task is not None:
            self._task.cancel()

    async def _keep(self) -> None:
        while True:
            try:
                records, ttl = await self._resolver.resolve_srv(self.name)
            except Exception as error:  # the boundary to the resolver, which may be anybody's
                if not isinstance(error, OSError):
                    self._loop.call_exception_handler(
                        {"message": f"error in the resolver of {self.name}", "exception": error}
                    )
                delay = min(self._min_ttl * 2.0**self._failures, MAX_DELAY)
                self._failures = min(self._failures + 1, 30)
                self.last_failure = str(error) or type(error).__name__
                logger.warning("%s; asked again in %.1f s", self.last_failure, delay)
                records = self._records
            else:
                self._failures = 0
                self.last_failure = "" if records else f"{self.name} has no SRV records"
                # A little earlier or later, so that not all workers ask at the same moment.
                delay = max(ttl, self._min_ttl) * (1 + self._random() / 20)
            records = sorted(records, key=lambda record: (record.priority, record.target, record.port, record.weight))
            if records != self._records or not self.is_resolved:
                self.is_resolved = True
                logger.info("%s: %s", self.name, ", ".join(f"{one.target}:{one.port}" for one in records) or "nothing")
                self._records = records
                for user in list(self._users.values()):
                    user(records)
            # Meanwhile the name may not be needed any more: then this is cancelled.
            await asyncio.sleep(delay)
