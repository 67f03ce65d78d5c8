"""The SQL dialects. A database is added by a module with a `Dialect`, and its line in `DIALECTS`."""

from __future__ import annotations

from typing import Any

from agentsession._store.dialects.base import Dialect
from agentsession._store.dialects.mysql import MySqlDialect
from agentsession._store.dialects.postgres import PostgresDialect
from agentsession._store.dialects.sqlite import SqliteDialect

DIALECTS: tuple[Dialect, ...] = (SqliteDialect(), PostgresDialect(), MySqlDialect())


def dialect_for(database: Any) -> Dialect | None:
    """Return the dialect of a Peewee database; None if the database is not supported."""
    return next((each for each in DIALECTS if isinstance(database, each.database_class)), None)
