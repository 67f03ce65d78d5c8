"""What a database wrote, as the database itself tells it.

SQLite: the bytes by which the -wal file grew. An open read transaction keeps it from starting over. How often
it waits for the disk follows from its pragma, as its manual says: once a commit with synchronous=FULL, with
NORMAL at checkpoints only.
PostgreSQL: the bytes of WAL, and the syncs of it, of the whole server: others can only add to them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Protocol

import peewee as pw

from tests import servers
from tests.benchmarks.places import file_of, is_sqlite

SYNCS_OF_A_COMMIT = {0: 0, 1: 0, 2: 1, 3: 1}
"""In WAL mode, by the value of `pragma synchronous`."""


class Meter(Protocol):
    is_shared: bool

    def settle(self) -> None:
        """Bring the database to where nothing but the turn itself will be written."""

    def written(self) -> int:
        """Bytes so far."""

    def syncs(self, connection: Any, commits: int) -> int | None:
        """Waits for the disk so far, of a connection that made so many commits; None if nobody knows."""

    def close(self) -> None: ...


class SqliteMeter:
    is_shared = False

    def __init__(self, file: str) -> None:
        self.wal = Path(f"{file}-wal")
        self.connection = sqlite3.connect(file, isolation_level=None)

    def settle(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("commit")
        self.connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        self.connection.execute("begin")
        self.connection.execute("select count(*) from sqlite_master").fetchall()

    def written(self) -> int:
        return self.wal.stat().st_size

    def syncs(self, connection: Any, commits: int) -> int | None:
        (synchronous,) = connection.execute("pragma synchronous").fetchone()
        return SYNCS_OF_A_COMMIT[synchronous] * commits

    def close(self) -> None:
        self.connection.close()


class PostgresMeter:
    is_shared = True

    def __init__(self) -> None:
        self.admin = servers.admin("postgres")

    def settle(self) -> None:
        """The first change of a page after a checkpoint brings the whole page into the WAL, so the caller
        has to let a turn pass."""
        self.admin.execute_sql("checkpoint")

    def written(self) -> int:
        return int(self._one("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))

    def syncs(self, connection: Any, commits: int) -> int | None:
        """The connection hands in its numbers once it is told to, since PostgreSQL 15."""
        if connection.info.server_version < 150000:
            return None
        connection.execute("select pg_stat_force_next_flush()")
        return int(self._one("select wal_sync from pg_stat_wal"))

    def close(self) -> None:
        """The connection is the test run's own."""

    def _one(self, sql: str) -> Any:
        return self.admin.execute_sql(sql).fetchone()[0]


def meter_at(url: str) -> Meter:
    return SqliteMeter(file_of(url)) if is_sqlite(url) else PostgresMeter()


def meter_of(database: Any) -> Meter:
    """The meter of a Peewee database."""
    return SqliteMeter(database.database) if isinstance(database, pw.SqliteDatabase) else PostgresMeter()
