"""Module htable: tables of keys and values that all messages share, `$sht(table=>key)`.

Tables are defined by the parameter `htable`. Keys may contain variables. Items expire where the table says so; what
has expired is missing at once, and is deleted by a sweep, which also runs `event_route[htable:expired:TABLE]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sipwright.modules.htable.functions import TableFunctions, TablePath
from sipwright.modules.htable.iterators import TableIterators
from sipwright.modules.htable.variables import TableVariables
from sipwright.script.context import Context
from sipwright.script.module import function


class Htable(TableVariables, TableFunctions, TableIterators):
    """Shared tables."""

    name = "htable"

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        self._held: set[tuple[str, str]] = set()

    # ---- locks: one worker handles one message at a time

    @function()
    def sht_lock(self, ctx: Context, path: TablePath) -> int:
        """Lock the slot of a key; false when a suspended script holds it."""
        lock = (path[0], path[1](ctx))
        if lock in self._held:
            self.services.log.warning("sht_lock(%s=>%s): a suspended script holds it, going on without it", *lock)
            return -1
        self._held.add(lock)
        return 1

    @function()
    def sht_unlock(self, ctx: Context, path: TablePath) -> int:
        """Release the slot of a key."""
        self._held.discard((path[0], path[1](ctx)))
        return 1
