"""The tables of a script: owns their definitions, their stores, what is done once for a server, and the sweep.

A table with a `dbtable` is loaded from the database when the server starts, and with `dbmode=1` saved when it ends. A
table on a Redis server is shared with other servers; scripts wait for it, so its operations are in `RedisTable`.
"""

from __future__ import annotations

import difflib
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sipwright.errors import ArgumentError, StartError, StoreError
from sipwright.lang.namespace import Part, RouteKind
from sipwright.modules.htable.database import Columns, Database, check_name, parse_url
from sipwright.modules.htable.definition import parse_definition, parse_place
from sipwright.modules.htable.redis_table import RedisTable
from sipwright.modules.htable.table import Table
from sipwright.redis.addresses import RedisAddress
from sipwright.script.kinds import prepare_text
from sipwright.script.module import Module, Param, VariableUse
from sipwright.script.once import is_done, once
from sipwright.script.services import Services
from sipwright.script.store import Store

logger = logging.getLogger("sipwright")

# Where the context of an expired event has its item.
EXPIRED = "htable:expired"
# The store of what was done once; no table can have this name.
STARTED = "htable:/started"


def _define(module: Tables, text: str) -> None:
    table = parse_definition(text)
    module.tables[table.name] = table
    module.event_routes = (*module.event_routes, f"htable:expired:{table.name}")


def _take_store(module: Tables, text: str) -> None:
    module.place = parse_place(text)


def _take_url(module: Tables, text: str) -> None:
    module.database_path = parse_url(text)


def _take_column(_module: Tables, text: str) -> None:
    check_name(text)


def split_path(parts: Sequence[Part]) -> tuple[str, list[Part]]:
    """Split `table=>key` to the table's name and the parts of the key. ArgumentError: malformed."""
    head = parts[0] if parts else ""
    if not isinstance(head, str) or "=>" not in head:
        raise ArgumentError("expected table=>key, with the name of the table written out")
    name, _, key = head.partition("=>")
    return name.strip(), [key, *parts[1:]] if key else list(parts[1:])


class Tables(Module):
    """The parameters of the module, and what becomes of tables in a worker."""

    event_routes: tuple[str, ...] = ("htable:mod-init",)
    htable = Param(str, "", parse=_define, doc="a table, 'name=>size=8;autoexpire=3600;initval=0'; repeatable")
    store = Param(
        str,
        "local",
        parse=_take_store,
        doc="where those tables are that do not say it themselves by `store=`: `local`, shared by the workers of this "
        "server, or `redis://host:port/db`",
    )
    store_failure = Param(
        str, "null", choices=("null", "error"), doc="what reading gives while Redis is away, `error` ends the script"
    )
    store_timeout = Param(int, 1000, minimum=1, doc="milliseconds to an answer of Redis; then it counts as away")
    timer_interval = Param(int, 20, minimum=1, doc="seconds between sweeps for expired items")
    db_url = Param(
        str, "", parse=_take_url, doc="the database of tables with a `dbtable`, 'sqlite:////path/of/the/file'"
    )
    # Deviation: 0 in Kamailio, where what was banned for a minute before a restart is banned for ever after it.
    db_expires = Param(int, 1, minimum=0, maximum=1, doc="1: the moments when items expire are loaded and saved, too")
    key_name_column = Param(str, "key_name", parse=_take_column, doc="column of the names of keys")
    key_type_column = Param(str, "key_type", parse=_take_column, doc="column of what a key is, 1 for one of an array")
    value_type_column = Param(str, "value_type", parse=_take_column, doc="column of what a value is, 1 for an integer")
    key_value_column = Param(str, "key_value", parse=_take_column, doc="column of the values")
    expires_column = Param(str, "expires", parse=_take_column, doc="column of when items expire, in seconds since 1970")
    array_size_suffix = Param(str, "::size", doc="behind the name of an array: the key of its size")
    ignored_params = (
        "dmq_init_sync",
        "enable_dmq",
        "event_callback",
        "event_callback_mode",
        "fetch_rows",
        "timer_procs",
    )

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        self.tables: dict[str, Table] = {}
        self.place: RedisAddress | Literal["local"] = "local"
        self._remotes: dict[str, RedisTable] = {}
        self.database_path: Path | None = None
        self._database: Database | None = None

    # ---- life

    def mod_init(self) -> None:
        """Check the database. It is not changed: this is done when a script is only checked, too."""
        kept = self._kept()
        for table in kept:
            if self.remote(table) is not None:
                raise ArgumentError(f"htable: table '{table.name}' is on Redis, and cannot have a dbtable, too")
        if not kept:
            return
        if self.database_path is None:
            raise ArgumentError(
                f'htable: table \'{kept[0].name}\' has a dbtable, and there is no modparam("htable", "db_url", ...)'
            )
        saved = [table.source.dbtable for table in kept if table.source.saves]
        if len(set(saved)) < len(saved):
            raise ArgumentError(
                "htable: two tables with dbmode=1 have the same dbtable, and only one would be left of them"
            )
        columns = Columns(
            self.key_name_column,
            self.key_type_column,
            self.value_type_column,
            self.key_value_column,
            self.expires_column,
        )
        self._database = Database(
            self.database_path, columns, keeps_moments=self.db_expires != 0, size_suffix=self.array_size_suffix
        )
        self._database.check([table.source for table in kept])

    def child_init(self, services: Services) -> None:
        """Open the stores, load what is to be loaded, and start the sweep. StartError: it cannot be loaded."""
        super().child_init(services)
        for table in self.local_tables():
            table.store = services.shared_store(f"htable:{table.name}")
        self._start_remotes(services)
        for table in self._kept():
            once(services.shared_store(STARTED), f"load {table.name}", partial(self._load, table))
        services.timers.start(self.timer_interval, self._sweep)

    def ready(self) -> None:
        """Run the event route of the start, once for the server."""
        if self.services.find_route(RouteKind.EVENT, "htable:mod-init") is not None:
            run = partial(self.services.run_event_route, "htable:mod-init")
            once(self.services.shared_store(STARTED), "mod-init", run)

    def mod_destroy(self, shared_store: Callable[[str], Store]) -> None:
        """Save the tables that are to be saved, unless they were never loaded: then what is there is newer."""
        saved = [table for table in self._kept() if table.source.saves]
        if not saved or self._database is None:
            return
        started = shared_store(STARTED)
        loaded = [table for table in saved if is_done(started, f"load {table.name}")]
        if not loaded:
            return
        try:
            self._database.save([(table.source, shared_store(f"htable:{table.name}")) for table in loaded], time.time())
        except (sqlite3.Error, StoreError) as error:
            names = ", ".join(table.name for table in loaded)
            logger.error("htable: tables were not saved to %s: %s (%s)", self._database.path, error, names)

    def _start_remotes(self, services: Services) -> None:
        owner = secrets.token_hex(8)
        for table in self.tables.values():
            remote, address = self.remote(table), table.place or self.place
            if remote is not None:
                client = services.redis_client(address, command_timeout=self.store_timeout / 1000)
                remote.start(services, client, owner=owner, raises=self.store_failure == "error")
        if self._remotes:
            services.add_statistics(
                lambda: {"htable:redis_errors": sum(remote.failures.count for remote in self._remotes.values())}
            )

    def _kept(self) -> list[Table]:
        """Return the tables that are in a database."""
        return [table for table in self.tables.values() if table.source.dbtable]

    def _load(self, table: Table) -> None:
        database = self._database
        assert database is not None  # made by mod_init()
        try:
            if table.source.saves:
                database.prepare([table.source])
            table.store.load(database.load(table.source, table.autoexpire, self.services.wall_clock()))
        except sqlite3.Error as error:
            raise StartError(f"htable: table '{table.name}' cannot be loaded from {database.path}: {error}") from error

    def _sweep(self, _argument: object) -> None:
        for table in self.local_tables():
            for item in table.take_expired():
                self.services.run_event_route(f"htable:expired:{table.name}", {EXPIRED: item})
        self.services.timers.start(self.timer_interval, self._sweep)

    # ---- Redis

    def remote(self, table: Table) -> RedisTable | None:
        """Return the operations of a table that is on Redis; None: it is not."""
        if (table.place or self.place) == "local":
            return None
        remote = self._remotes.get(table.name)
        if remote is None:
            remote = self._remotes[table.name] = RedisTable(table)
        return remote

    def local_tables(self) -> list[Table]:
        """Return the tables that are not on Redis."""
        return [table for table in self.tables.values() if self.remote(table) is None]

    def is_any_remote(self) -> bool:
        """Tell whether a table is on Redis: then what names a table may have to wait."""
        return len(self.local_tables()) < len(self.tables)

    def event_route_note(self, name: str) -> str | None:
        """Tell that nobody hears of it when an item expires on Redis."""
        table = self.tables.get(name.removeprefix(f"{EXPIRED}:"))
        if table is None or self.remote(table) is None:
            return None
        return f"nothing runs event_route[{name}]: the table is on Redis, which does not tell when an item expires"

    # ---- names

    def table_and_key(self, use: VariableUse) -> tuple[Table, Callable[[Any], str]]:
        """Return the table of a variable and a function that gives the key. ArgumentError: there is none, an index."""
        if use.index is not None:
            raise ArgumentError(f"${use.name} takes no index")
        name, key = split_path(use.inner or ())
        table = self.tables.get(name)
        if table is None:
            close = difflib.get_close_matches(name, self.tables, n=1)
            raise ArgumentError(
                f'unknown table \'{name}\': define it with modparam("htable", "htable", "{name}=>size=8")',
                suggestion=close[0] if close else None,
            )
        if not key:
            raise ArgumentError(f"${use.name} needs a key behind '=>'")
        return table, prepare_text(key)
