"""Module htable: tables of keys and values that all messages share, `$sht(table=>key)`.

Tables are defined by the parameter `htable`. Keys may contain variables. Items expire where the table says so; what
has expired is missing at once, and is deleted by a sweep, which also runs `event_route[htable:expired:TABLE]`.

A table is shared by all workers, or on Redis (`store`) by several servers. There, what reads it waits in place, and so
do all functions that name a table; an assignment does not.
"""

from __future__ import annotations

from sipwright.modules.htable.functions import TableFunctions
from sipwright.modules.htable.iterators import TableIterators
from sipwright.modules.htable.locking import TableLocks
from sipwright.modules.htable.variables import TableVariables


class Htable(TableIterators, TableLocks, TableFunctions, TableVariables):
    """Shared tables."""

    name = "htable"
