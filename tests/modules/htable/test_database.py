"""Tables on disk: what is loaded when a server starts and saved when it ends. Rows mean what they mean to Kamailio."""

from __future__ import annotations

import logging
import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sipwright.errors import ArgumentError, StartError
from sipwright.modules.htable.database import parse_url
from sipwright.script.registry import Registry
from sipwright.script.settings import Settings
from sipwright.script.store import Item, Store
from sipwright.workers.shared import SharedStores
from tests.modules.conftest import FakeServices

COLUMNS = "key_name, key_type, value_type, key_value, expires"
TABLE = "t=>size=4;dbtable=kept;dbmode=1"
NOW = int(FakeServices().time)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tables.db"


class Server:
    """A server with one worker, and then another one; they share the stores."""

    def __init__(self, path: Path, *tables: str, **params: int | str) -> None:
        self.registry = Registry(Settings())
        self.registry.load_module("htable")
        for name, value in {"db_url": f"sqlite:///{path}", **params}.items():
            self.registry.set_param("htable", name, value)
        for table in tables or (TABLE,):
            self.registry.set_param("htable", "htable", table)
        self.registry.mod_init()
        self.services = FakeServices()

    def start(self) -> Server:
        """Start a worker."""
        self.registry.child_init(self.services)  # type: ignore[arg-type]
        return self

    def end(self) -> None:
        self.registry.mod_destroy(self.services.shared_store)

    def store(self, table: str = "t") -> Store:
        found: Store = self.services.shared_store(f"htable:{table}")
        return found

    def items(self, table: str = "t") -> dict[str, Item]:
        return dict(self.store(table).items())


def execute(path: Path, *statements: str) -> list[Any]:
    """Run statements, each in a transaction; return the rows of the last one."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        rows: list[Any] = []
        for statement in statements:
            rows = db.execute(statement).fetchall()
        return rows


def make_table(path: Path, *rows: tuple[Any, ...], table: str = "kept") -> None:
    """Make a table as `kamdbctl create` does."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            f"CREATE TABLE {table} (id INTEGER PRIMARY KEY NOT NULL, key_name VARCHAR(64) DEFAULT '' NOT NULL,"
            " key_type INTEGER DEFAULT 0 NOT NULL, value_type INTEGER DEFAULT 0 NOT NULL,"
            " key_value VARCHAR(128) DEFAULT '' NOT NULL, expires INTEGER DEFAULT 0 NOT NULL)"
        )
        db.executemany(f"INSERT INTO {table} ({COLUMNS}) VALUES (?, ?, ?, ?, ?)", rows)
        db.commit()


# ---- loading


def test_rows_are_loaded_as_kamailio_does(path: Path) -> None:
    make_table(
        path,
        ("s", 0, 0, "text", 0),
        ("i", 0, 1, "42", 0),
        ("bad", 0, 1, "-4x2", 0),
        ("none", 0, 1, "x", 0),
        ("arr", 1, 0, "a0", 0),
        ("arr2", 1, 1, "7", 0),
        ("arr", 1, 0, "a1", 0),
        ("", 0, 0, "of no name", 0),
        ("dup", 0, 0, "first", 0),
        ("dup", 0, 0, "last", 0),
    )
    assert Server(path).start().items() == {
        "s": "text",
        "i": 42,
        "bad": -4,
        "none": 0,
        "arr[0]": "a0",
        "arr[1]": "a1",
        "arr::size": 2,
        "arr2[0]": 7,
        "arr2::size": 1,
        "": "of no name",
        "dup": "last",
    }
    assert Server(path, array_size_suffix="-n").start().items()["arr-n"] == 2


def test_items_expire_at_the_moment_of_their_row_or_after_the_time_of_their_table(path: Path) -> None:
    make_table(path, ("old", 0, 0, "v", NOW - 1), ("new", 0, 0, "v", NOW + 60), ("any", 0, 0, "v", 0))
    server = Server(path, f"{TABLE};autoexpire=300", "u=>dbtable=kept").start()
    assert server.items() == {"new": "v", "any": "v"}
    assert [server.store().ttl("new"), server.store().ttl("any")] == [pytest.approx(60, abs=1), 300]
    assert [server.store("u").ttl("new"), server.store("u").ttl("any")] == [pytest.approx(60, abs=1), None]


def test_moments_can_be_left_out_as_in_kamailio(path: Path) -> None:
    make_table(path, ("old", 0, 0, "v", NOW - 1), ("new", 0, 0, "v", NOW + 60))
    server = Server(path, f"{TABLE};autoexpire=300", db_expires=0).start()
    assert [server.store().ttl("old"), server.store().ttl("new")] == [300, 300]
    server.end()
    assert execute(path, "SELECT expires FROM kept") == [(0,), (0,)]


def test_a_table_is_loaded_once_for_all_workers(path: Path) -> None:
    make_table(path, ("k", 0, 0, "stored", 0), ("gone", 0, 0, "stored", 0))
    server = Server(path).start()
    server.store().set("k", "changed", None, renew=True)
    server.store().delete("gone")
    server.start()
    assert server.items() == {"k": "changed"}


def test_columns_may_have_other_names(path: Path) -> None:
    names = {
        "key_name": "kname",
        "key_type": "ktype",
        "value_type": "vtype",
        "key_value": "kvalue",
        "expires": "expiry",
    }
    make_table(path, ("k", 0, 1, "5", NOW + 60))
    execute(path, *[f"ALTER TABLE kept RENAME COLUMN {old} TO {new}" for old, new in names.items()])
    server = Server(path, **{f"{old}_column": new for old, new in names.items()}).start()
    assert server.items() == {"k": 5}
    server.store().set("k", 6, None, renew=True)
    server.end()
    assert execute(path, "SELECT kname, ktype, vtype, kvalue, expiry FROM kept") == [("k", 0, 1, "6", 0)]


def test_any_columns_can_be_packed_into_values(path: Path) -> None:
    execute(
        path,
        "CREATE TABLE routes (prefix TEXT, gw TEXT, prio INTEGER, note TEXT)",
        "INSERT INTO routes VALUES ('49', 'gw1', 5, NULL), ('33', 'gw2', 7, '')",
    )
    server = Server(
        path,
        "a=>dbtable=routes;dbmode=1;cols='prefix,gw,prio,note';autoexpire=60",
        "b=>dbtable=routes;cols='prefix, gw, note';coldelim=|;colnull=none",
        "c=>dbtable=routes;cols='prefix,prio'",
    ).start()
    assert server.items("a") == {"49": "gw1,5,*", "33": "gw2,7,"}
    assert server.items("b") == {"49": "gw1|none", "33": "gw2|"}
    assert server.items("c") == {"49": "5", "33": "7"}
    assert server.store("a").ttl("49") == 60
    server.end()
    assert len(execute(path, "SELECT * FROM routes")) == 2


# ---- saving


def test_a_table_is_saved_when_the_server_ends_and_is_there_when_it_starts_again(path: Path) -> None:
    items: dict[str, Item] = {
        "text": "ä\n'\"",
        "empty": "",
        "": "of no name",
        "number": -(2**63),
        "looks like one": "17",
        "from the \udce4 wire": "\udcff",
        "nul": "a\0b",
        "long" * 500: "x" * 100_000,
    }
    server = Server(path).start()
    assert server.items() == {}
    server.store().load((key, value, None) for key, value in items.items())
    server.end()
    server.end()
    assert Server(path).start().items() == items


def test_a_character_that_cannot_be_stored_is_replaced(path: Path) -> None:
    server = Server(path).start()
    server.store().set("k", "\ud800", None, renew=True)
    server.end()
    assert Server(path).start().items() == {"k": "?"}


def test_moments_are_kept_by_the_time_of_day(path: Path) -> None:
    server = Server(path, f"{TABLE};autoexpire=100").start()
    server.store().load([("soon", 1, 30), ("never", 1, None)])
    server.end()
    rows = dict(execute(path, "SELECT key_name, expires FROM kept"))
    assert rows == {"soon": pytest.approx(time.time() + 30, abs=2), "never": 0}


def test_rows_that_are_not_in_the_table_any_more_go(path: Path) -> None:
    make_table(path, ("a", 0, 0, "v", 0), ("b", 0, 0, "v", 0), ("old", 0, 0, "v", 1))
    server = Server(path).start()
    server.store().delete("a")
    server.end()
    assert execute(path, "SELECT key_name FROM kept") == [("b",)]


def test_without_dbmode_a_table_is_only_loaded(path: Path) -> None:
    make_table(path, ("k", 0, 0, "v", 0))
    server = Server(path, "t=>dbtable=kept").start()
    server.store().set("k", "changed", None, renew=True)
    server.end()
    assert execute(path, "SELECT key_value FROM kept") == [("v",)]


def test_a_table_that_was_never_loaded_is_not_saved(path: Path) -> None:
    make_table(path, ("k", 0, 0, "v", 0))
    Server(path).end()
    assert execute(path, "SELECT key_value FROM kept") == [("v",)]


def test_a_check_of_the_script_makes_nothing_and_a_start_does(path: Path) -> None:
    server = Server(path)
    assert not path.exists()
    server.start()
    assert execute(path, "SELECT name FROM sqlite_schema") == [("kept",)]
    assert [row[1] for row in execute(path, "PRAGMA table_info(kept)")] == ["id", *COLUMNS.split(", ")]


def test_what_cannot_be_saved_is_told_and_what_was_there_stays(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_table(path, ("k", 0, 0, "v", 0))
    server = Server(path).start()
    execute(path, "CREATE TRIGGER no BEFORE INSERT ON kept BEGIN SELECT raise(ABORT, 'no more'); END")
    server.end()
    assert caplog.record_tuples == [
        ("sipwright", logging.ERROR, f"htable: tables were not saved to {path}: no more (t)")
    ]
    assert execute(path, "SELECT key_value FROM kept") == [("v",)]


def save(path: Path, stores: Path) -> None:
    shared = SharedStores(stores, time.monotonic, 16 << 20)
    Server(path).registry.mod_destroy(shared.open)
    shared.close()


def test_several_processes_may_save_at_once(path: Path, tmp_path: Path) -> None:
    shared = SharedStores(tmp_path / "stores", time.monotonic, 16 << 20)
    server = Server(path)
    server.services.shared_store = shared.open
    server.start()
    server.store().load((f"k{number}", number, 600 if number % 2 else None) for number in range(1000))
    shared.close()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=save, args=(path, tmp_path / "stores")) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert Server(path).start().items() == {f"k{number}": number for number in range(1000)}


# ---- mistakes


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/tables.db", "/var/lib/tables.db"),
        ("sqlite:///var/lib/tables.db", "/var/lib/tables.db"),
        ("sqlite://host/tables.db", "/tables.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    assert parse_url(url) == Path(path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://kamailio:secret@localhost/kamailio", "tables are kept in SQLite only: 'sqlite:////path/of/the/file'"),
        ("/var/lib/tables.db", "tables are kept in SQLite only"),
        ("sqlite:///", "expected the path of a file"),
        ("sqlite://", "expected the path of a file"),
    ],
)
def test_another_url_is_an_error(url: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Server(Path(), db_url=url)


def no_database(path: Path) -> None:
    path.write_bytes(b"x" * 5000)


def damaged(path: Path) -> None:
    make_table(path, *[(f"k{number}", 0, 0, "v" * 100, 0) for number in range(1000)])
    data = bytearray(path.read_bytes())
    data[20_000:40_000] = b"x" * 20_000
    path.write_bytes(data)


def without_column(path: Path) -> None:
    make_table(path)
    execute(path, "ALTER TABLE kept DROP COLUMN key_type")


def nothing(_path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "tables", "message"),
    [
        (no_database, [TABLE], "htable: the database {path} cannot be read: file is not a database"),
        (damaged, [TABLE], "htable: the database {path} cannot be read: database disk image is malformed"),
        (without_column, [TABLE], "htable: table 'kept' of the database {path} has no column 'key_type'"),
        (make_table, ["t=>dbtable=other"], "htable: the database {path} has no table 'other'"),
        (
            make_table,
            ["t=>dbtable=kept;cols='key_name,nope'"],
            "htable: table 'kept' of the database {path} has no column 'nope'",
        ),
        (nothing, ["t=>dbtable=kept"], "htable: there is no database {path}"),
        (
            nothing,
            ["a=>dbtable=kept;dbmode=1", "b=>dbtable=kept;dbmode=1"],
            "htable: two tables with dbmode=1 have the same dbtable, and only one would be left of them",
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_an_error_when_the_script_is_loaded(
    path: Path, prepare: Callable[[Path], None], tables: list[str], message: str
) -> None:
    prepare(path)
    with pytest.raises(ArgumentError) as caught:
        Server(path, *tables)
    assert caught.value.message == message.format(path=path)


def test_a_directory_that_is_missing_is_an_error_when_the_script_is_loaded(path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"there is no directory {path} for the database {path}/x/?"):
        Server(path / "x")


def test_a_dbtable_needs_a_url() -> None:
    registry = Registry(Settings())
    registry.load_module("htable")
    registry.set_param("htable", "htable", TABLE)
    with pytest.raises(ArgumentError, match="table 't' has a dbtable, and there is no modparam"):
        registry.mod_init()


def test_a_database_that_breaks_before_the_start_stops_it(path: Path) -> None:
    server = Server(path)
    no_database(path)
    with pytest.raises(StartError, match=f"table 't' cannot be loaded from {path}: file is not a database"):
        server.start()
    path.unlink()
    assert server.start().items() == {}


def test_kamailios_module_for_sqlite_may_be_loaded(path: Path) -> None:
    registry = Registry(Settings())
    registry.load_module("db_sqlite.so")
    registry.set_param("db_sqlite", "db_set_journal_mode", f"{path}=WAL;")
    assert registry.notes == ["module db_sqlite has no effect here"]
