"""What a database wrote, as the database itself tells it.

SQLite: the bytes by which the -wal file grew. An open read transaction keeps it from starting over. How often
it waits for the disk follows from its pragma, as its manual says: once a commit with synchronous=FULL, with
NORMAL at checkpoints only.
PostgreSQL: see `postgres_meter.py`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Protocol

import peewee as pw

from tests.benchmarks.places import file_of, is_sqlite, schema_of
from tests.benchmarks.postgres_meter import PostgresMeter

SYNCS_OF_A_COMMIT = {0: 0, 1: 0, 2: 1, 3: 1}
"""In WAL mode, by the value of `pragma synchronous`."""


class Meter(Protocol):
    def settle(self) -> None:
        """From here on all that is written can be seen."""

    def mark(self) -> Any:
        """Where the log of the database ends now."""

    def written_since(self, mark: Any) -> int:
        """Bytes in the log since then."""

    def syncs(self, connection: Any, commits: int) -> int | None:
        """Waits for the disk so far, of a connection that made so many commits; None if nobody knows."""

    def close(self) -> None: ...


class SqliteMeter:
    def __init__(self, file: str) -> None:
        self.wal = Path(f"{file}-wal")
        self.connection = sqlite3.connect(file, isolation_level=None)

    def settle(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("commit")
        self.connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        self.connection.execute("begin")
        self.connection.execute("select count(*) from sqlite_master").fetchall()

    def mark(self) -> int:
        return self.wal.stat().st_size

    def written_since(self, mark: int) -> int:
        return self.mark() - mark

    def syncs(self, connection: Any, commits: int) -> int | None:
        (synchronous,) = connection.execute("pragma synchronous").fetchone()
        return SYNCS_OF_A_COMMIT[synchronous] * commits

    def close(self) -> None:
        self.connection.close()


def meter_at(url: str) -> Meter:
    return SqliteMeter(file_of(url)) if is_sqlite(url) else PostgresMeter(schema_of(url))


def meter_of(database: Any) -> Meter:
    """The meter of a Peewee database that is connected."""
    if isinstance(database, pw.SqliteDatabase):
        return SqliteMeter(database.database)
    return PostgresMeter(database.execute_sql("select current_schema()").fetchone()[0])
