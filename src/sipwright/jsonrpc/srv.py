"""An srv name of a client (L2): asks for its records again when they expire, and tells who uses them.

When a question fails, the records that are known go on to hold, and it is asked again after `min_ttl` seconds, doubled
for each failure in a row up to a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from sipwright.jsonrpc.resolve import Resolver, SrvRecord

logger = logging.getLogger("sipwright.jsonrpc.client")

MAX_DELAY = 60.0


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
        self._min_ttl = min_ttl
        self._random = random
        self._users: list[Callable[[Sequence[SrvRecord]], object]] = []
        self._records: list[SrvRecord] = []
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, user: Callable[[Sequence[SrvRecord]], object]) -> None:
        """Tell a further user, from the next turn of the loop on; begin to ask with the first."""
        self._users.append(user)
        if self._task is None:
            self._task = self._loop.create_task(self._keep())
        elif self.is_resolved:
            self._loop.call_soon(self._tell_one, user)

    def stop(self) -> None:
        """Ask no more."""
        self._users.clear()
        if self._task is not None:
            self._task.cancel()

    async def _keep(self) -> None:
        while True:
            try:
                records, ttl = await self._resolver.resolve_srv(self.name)
            except OSError as error:
                delay = min(self._min_ttl * 2.0**self._failures, MAX_DELAY)
                self._failures = min(self._failures + 1, 30)
                self.last_failure = str(error)
                logger.warning("%s; asked again in %.1f s", error, delay)
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
                for user in list(self._users):
                    user(records)
            # Meanwhile the name may not be needed any more: then this is cancelled.
            await asyncio.sleep(delay)

    def _tell_one(self, user: Callable[[Sequence[SrvRecord]], object]) -> None:
        if user in self._users:
            user(self._records)
