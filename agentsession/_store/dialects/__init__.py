"""The SQL dialects. A database is added by a module with a `Dialect`, and its entry in `DIALECTS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentsession._store.dialects.base import Dialect
from agentsession._store.dialects.mysql import MySqlDialect
from agentsession._store.dialects.postgres import PostgresDialect
from agentsession._store.dialects.sqlite import SqliteDialect

DIALECTS: Mapping[type[Any], Dialect] = {
    dialect.database_class: dialect for dialect in (SqliteDialect(), PostgresDialect(), MySqlDialect())
}
"""The dialect of each class of databases."""
