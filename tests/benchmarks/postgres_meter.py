"""What a PostgreSQL server wrote for the tables of one schema, however much others write at the time.

The bytes are those of the WAL records of each transaction that changed one of these tables, without the
images of whole pages that the first change after a checkpoint brings. They are read by the extension
pg_walinspect, which comes with PostgreSQL 15 and is created in the tests' database. Waits for the disk are
told for the whole server only.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import peewee as pw

from tests.support import servers

FILES = """
with own as (
  select oid, reltoastrelid from pg_class where relnamespace = %s::regnamespace and relkind = 'r'
), tables as (select oid from own union select reltoastrelid from own where reltoastrelid <> 0)
select pg_relation_filenode(oid) from tables
union select pg_relation_filenode(indexrelid) from pg_index where indrelid in (select oid from tables)
"""

WRITTEN = """
with records as materialized (
  select xid, record_length - fpi_length as size, block_ref ~ %s as is_own
  from pg_get_wal_records_info(%s, pg_current_wal_flush_lsn())
)
select coalesce(sum(size), 0) from records
where is_own or xid in (select xid from records where is_own and xid <> '0')
"""


class PostgresMeter:
    def __init__(self, schema: str) -> None:
        self.admin = servers.admin("postgres")
        self.schema = schema
        self.own = ""

    def settle(self) -> None:
        files = [str(file) for (file,) in self.admin.execute_sql(FILES, (self.schema,))]
        self.own = rf"rel \d+/\d+/({'|'.join(files)})\M"

    def mark(self) -> str:
        return str(self._one("select pg_current_wal_insert_lsn()"))

    def written_since(self, mark: str) -> int:
        create_inspector()
        return int(self._one(WRITTEN, self.own, mark))

    def syncs(self, connection: Any, commits: int) -> int | None:
        """The connection hands in its numbers once it is told to, since PostgreSQL 15."""
        if connection.info.server_version < 150000:
            return None
        connection.execute("select pg_stat_force_next_flush()")
        return int(self._one("select wal_sync from pg_stat_wal"))

    def close(self) -> None:
        """The connection is the test run's own."""

    def _one(self, sql: str, *values: Any) -> Any:
        return self.admin.execute_sql(sql, values).fetchone()[0]


@cache
def create_inspector() -> None:
    try:
        servers.admin("postgres").execute_sql("create extension if not exists pg_walinspect")
    except pw.DatabaseError as error:
        raise RuntimeError("what is written can be counted with pg_walinspect only") from error
