"""Tables on disk: owns what stands in the SQLite database that tables are loaded from and saved to.

The schema is that of Kamailio's htable: a row has the name of a key, whether it is one of an array, the value, whether
that is an integer, and when it expires in seconds since 1970. A database that Kamailio has written can be read, and the
other way round. With `cols` a table is made from any columns instead, and never saved.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sipwright.errors import ArgumentError
from sipwright.script.store import Item

# How long another process may be at the database.
LOCK_SECONDS = 30.0

Dumped = tuple[str, Item, float | None]

_match_integer = re.compile(r"\s*([-+]?\d+)").match


@dataclass(slots=True)
class Source:
    """Where a table comes from: the keys `dbtable`, `dbmode`, `cols`, `coldelim` and `colnull` of its definition."""

    dbtable: str = ""
    saves: bool = False
    cols: tuple[str, ...] = ()
    delimiter: str = ","
    null: str = "*"


@dataclass(slots=True)
class Columns:
    """The names of the columns."""

    key_name: str = "key_name"
    key_type: str = "key_type"
    value_type: str = "value_type"
    key_value: str = "key_value"
    expires: str = "expires"


def parse_url(text: str) -> Path:
    """Return the file of a `db_url`. ArgumentError: it is not of SQLite, or names no file.

    Kamailio: the path is counted from its working directory, which is `/` unless it was started with another one.
    """
    scheme, colon, rest = text.partition("://")
    if not colon or scheme != "sqlite":
        raise ArgumentError("tables are kept in SQLite only: 'sqlite:////path/of/the/file'", 0)
    path = rest.partition("/")[2].strip("/")
    if not path:
        raise ArgumentError("expected the path of a file, 'sqlite:////path/of/the/file'", len(text))
    return Path("/", path)


class Database:
    """The database of some tables.

    `keeps_moments` tells whether the moments when items expire are loaded and saved; `size_suffix` makes the key that
    has the size of an array. sqlite3.Error: what the database cannot do.
    """

    def __init__(self, path: Path, columns: Columns, *, keeps_moments: bool, size_suffix: str) -> None:
        self.path = path
        self._columns = columns
        self._keeps_moments = keeps_moments
        self._size_suffix = size_suffix

    def check(self, sources: Iterable[Source]) -> None:
        """Check what is there, and change nothing. ArgumentError: it cannot be used."""
        try:
            if self.path.exists():
                with self._opened(read_only=True) as db:
                    for source in sources:
                        self._check_table(db, source)
                return
        except (OSError, sqlite3.Error) as error:
            raise ArgumentError(f"htable: the database {self.path} cannot be read: {error}") from None
        if not self.path.parent.is_dir():
            raise ArgumentError(f"htable: there is no directory {self.path.parent} for the database {self.path}")
        if any(not source.saves for source in sources):
            raise ArgumentError(f"htable: there is no database {self.path}")

    def prepare(self, sources: Iterable[Source]) -> None:
        """Make the tables that are missing, and see that those that will be saved can be written."""
        with self._opened() as db, _transaction(db):
            for source in sources:
                db.execute(
                    f"CREATE TABLE IF NOT EXISTS {_quoted(source.dbtable)} (id INTEGER PRIMARY KEY NOT NULL,"
                    f" {_quoted(self._columns.key_name)} VARCHAR(64) DEFAULT '' NOT NULL,"
                    f" {_quoted(self._columns.key_type)} INTEGER DEFAULT 0 NOT NULL,"
                    f" {_quoted(self._columns.value_type)} INTEGER DEFAULT 0 NOT NULL,"
                    f" {_quoted(self._columns.key_value)} VARCHAR(128) DEFAULT '' NOT NULL,"
                    f" {_quoted(self._columns.expires)} INTEGER DEFAULT 0 NOT NULL)"
                )
            version = db.execute("PRAGMA user_version").fetchone()[0]
            # Writes, what was there: so file and directory can be written, too, when the server ends.
            db.execute(f"PRAGMA user_version = {version}")

    def load(self, source: Source, autoexpire: float | None, now: float) -> list[Dumped]:
        """Return keys, values and in how many seconds they expire; `now` is the time of day.

        What has no moment of its own expires in `autoexpire` seconds.
        """
        with self._opened(read_only=True) as db:
            if source.cols:
                return [(key, value, autoexpire) for key, value in _packed_rows(db, source)]
            return list(self._rows(db, source, autoexpire, now))

    def save(self, tables: Sequence[tuple[Source, Any]], now: float) -> None:
        """Replace tables by what is in their stores (each `source, store`) once the database is ours."""
        columns = self._columns
        names = (columns.key_name, columns.key_type, columns.value_type, columns.key_value, columns.expires)
        with self._opened() as db, _transaction(db):
            # Only now: whoever else saves at the same time has done so before, or will have what is newer.
            for source, store in tables:
                table = _quoted(source.dbtable)
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - quoted
                db.executemany(
                    f"INSERT INTO {table} ({', '.join(map(_quoted, names))}) VALUES (?, 0, ?, ?, ?)",  # noqa: S608
                    [
                        (_to_column(key), isinstance(value, int), _to_column(str(value)), self._moment(ttl, now))
                        for key, value, ttl in store.dump()
                    ],
                )

    # ---- reading

    def _rows(self, db: sqlite3.Connection, source: Source, autoexpire: float | None, now: float) -> Iterator[Dumped]:
        sizes: dict[str, int] = {}
        columns = self._columns
        names = [columns.key_name, columns.key_type, columns.value_type, columns.key_value]
        names += [columns.expires] if self._keeps_moments else []
        for row in _select(db, source.dbtable, names):
            key, value = _to_text(row[0]), row[3]
            is_array, is_integer, *moments = (_to_integer(row[at]) for at in (1, 2, *range(4, len(row))))
            ttl = autoexpire
            if moments and moments[0]:
                ttl = moments[0] - now
                if ttl <= 0:
                    continue
            if is_array:
                sizes[key] = sizes.get(key, 0) + 1
                key = f"{key}[{sizes[key] - 1}]"
            yield key, _to_integer(value) if is_integer else _to_text(value), ttl
        for key, size in sizes.items():
            yield key + self._size_suffix, size, autoexpire

    def _moment(self, ttl: float | None, now: float) -> int:
        return 0 if ttl is None or not self._keeps_moments else int(now + ttl)

    # ---- the database

    def _check_table(self, db: sqlite3.Connection, source: Source) -> None:
        found = {_to_text(row[1]).lower() for row in db.execute(f"PRAGMA table_info({_quoted(source.dbtable)})")}
        if not found:
            if source.saves:
                return
            raise ArgumentError(f"htable: the database {self.path} has no table '{source.dbtable}'")
        columns = self._columns
        needed = source.cols or (columns.key_name, columns.key_type, columns.value_type, columns.key_value)
        if not source.cols and (self._keeps_moments or source.saves):
            needed += (columns.expires,)
        missing = [name for name in needed if name.lower() not in found]
        if missing:
            raise ArgumentError(
                f"htable: table '{source.dbtable}' of the database {self.path} has no column '{missing[0]}'"
            )
        if not source.cols:
            # Reads all of it: a file that is damaged further on is found now, and not when a worker starts.
            for _ in _select(db, source.dbtable, needed):
                pass

    @contextmanager
    def _opened(self, *, read_only: bool = False) -> Iterator[sqlite3.Connection]:
        mode = "ro" if read_only else "rwc"
        name = self.path.absolute().as_uri()
        with closing(sqlite3.connect(f"{name}?mode={mode}", LOCK_SECONDS, isolation_level=None, uri=True)) as db:
            db.text_factory = bytes
            yield db


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _select(db: sqlite3.Connection, table: str, columns: Iterable[str]) -> Iterator[Any]:
    return db.execute(f"SELECT {', '.join(map(_quoted, columns))} FROM {_quoted(table)}")  # noqa: S608 - quoted


def _packed_rows(db: sqlite3.Connection, source: Source) -> Iterator[tuple[str, str]]:
    for key, *values in _select(db, source.dbtable, source.cols):
        texts = [source.null if value is None else _to_text(value) for value in values]
        yield _to_text(key), source.delimiter.join(texts)


def check_name(name: str, offset: int = 0) -> None:
    """Check the name of a table or column, at an offset. ArgumentError: none, or with what cannot be in one."""
    if not name or any(character in name for character in "[]\0"):
        raise ArgumentError(f"{name!r} is no name of a table or column", offset)


def _quoted(name: str) -> str:
    # Not in double quotes: in these SQLite takes the name of a column that is missing for a text.
    return f"[{name}]"


def _to_column(text: str) -> str | bytes:
    """Return a text as it is stored: bytes where it came from the wire and is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        is_from_the_wire = all("\udc80" <= character <= "\udcff" for character in text[error.start : error.end])
        return text.encode("utf-8", "surrogateescape" if is_from_the_wire else "replace")
    return text


def _to_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return "" if value is None else str(value)


def _to_integer(value: Any) -> int:
    """Return an integer that may be stored as a text. Kamailio: what follows the digits is not read."""
    found = _match_integer(_to_text(value))
    return int(found[1]) if found is not None else 0
