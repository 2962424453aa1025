"""The locks of htable. A lock of a key keeps out whoever else locks that key, in all workers; not who just uses it.

On Redis it keeps out other servers, too.

Kamailio's lock is of a slot of the table, that is of several keys, and also keeps out who only uses them.
"""

from __future__ import annotations

from sipwright.modules.htable.functions import TablePath
from sipwright.modules.htable.tables import Tables
from sipwright.script.context import Context
from sipwright.script.locks import Locks
from sipwright.script.module import function
from sipwright.script.services import Services


class TableLocks(Tables):
    """The functions that lock and unlock a key."""

    def child_init(self, services: Services) -> None:
        """Start with no locks."""
        super().child_init(services)
        self._locks = Locks(services)

    @function(suspends=True)
    async def sht_lock(self, ctx: Context, path: TablePath) -> int:
        """Lock a key, and wait for that up to 5 s; false when somebody else still has it then.

        A message may lock a key several times, and unlocks it as often. A lock that was forgotten comes free when its
        message has gone, and in any case 60 s after it was last taken.
        """
        table, key = self.tables.get(path[0]), path[1](ctx)
        if table is None:
            return -1
        remote, what = self.remote(table), f"sht_lock({path[0]}=>{key})"
        if remote is not None:
            return 1 if await self._locks.lock_remote(ctx, remote, key, what) else -1
        return 1 if await self._locks.lock(ctx, table.store, key, what) else -1

    @function()
    def sht_unlock(self, ctx: Context, path: TablePath) -> int:
        """Unlock a key; false when the lock was held for too long and somebody else has it."""
        table, key = self.tables.get(path[0]), path[1](ctx)
        if table is None:
            return -1
        held = self.remote(table) or table.store
        return 1 if self._locks.unlock(ctx, held, key, f"sht_unlock({path[0]}=>{key})") else -1
