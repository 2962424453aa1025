"""The tables of a script: owns their definitions, their stores, and the sweep that takes out what has expired."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Part
from sipwright.modules.htable.definition import parse_definition
from sipwright.modules.htable.table import Table
from sipwright.script.kinds import prepare_text
from sipwright.script.module import Module, Param, VariableUse
from sipwright.script.services import Services

# Where the context of an expired event has its item.
EXPIRED = "htable:expired"


def _define(module: Tables, text: str) -> None:
    table = parse_definition(text)
    module.tables[table.name] = table
    module.event_routes = (*module.event_routes, f"htable:expired:{table.name}")


def _refuse_database(_module: Tables, _value: str) -> None:
    raise ArgumentError("tables cannot be loaded from a database here")


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
    timer_interval = Param(int, 20, minimum=1, doc="seconds between sweeps for expired items")
    db_url = Param(str, "", parse=_refuse_database, doc="refused: there is no database")
    ignored_params = (
        "array_size_suffix",
        "db_expires",
        "dmq_init_sync",
        "enable_dmq",
        "event_callback",
        "event_callback_mode",
        "expires_column",
        "fetch_rows",
        "key_name_column",
        "key_type_column",
        "key_value_column",
        "timer_procs",
        "value_type_column",
    )

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        self.tables: dict[str, Table] = {}

    def child_init(self, services: Services) -> None:
        """Open the stores, and start the sweep."""
        super().child_init(services)
        for table in self.tables.values():
            table.store = services.shared_store(f"htable:{table.name}")
        services.timers.start(self.timer_interval, self._sweep)

    def ready(self) -> None:
        """Run the event route of the start."""
        self.services.run_event_route("htable:mod-init")

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

    def _sweep(self, _argument: object) -> None:
        for table in self.tables.values():
            for item in table.take_expired():
                self.services.run_event_route(f"htable:expired:{table.name}", {EXPIRED: item})
        self.services.timers.start(self.timer_interval, self._sweep)
