"""The SQL dialects. A database is added by a module with a `Dialect`, and its line in `DIALECTS`."""

from __future__ import annotations

from agentsession._store.dialects.base import Dialect
from agentsession._store.dialects.mysql import MySqlDialect
from agentsession._store.dialects.postgres import PostgresDialect
from agentsession._store.dialects.sqlite import SqliteDialect

DIALECTS: tuple[Dialect, ...] = (SqliteDialect(), PostgresDialect(), MySqlDialect())
