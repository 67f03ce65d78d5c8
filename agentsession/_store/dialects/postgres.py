"""The PostgreSQL dialect, for JSONB columns.

psycopg sends the types of its parameters, asyncpg asks the server for them. A parameter has a cast where the
SQL around it does not determine its type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

import peewee
from peewee import SQL, Cast, Expression, Field, Function, fn

from agentsession._store.dialects.base import (
    MAX_INTEGER,
    PEEWEE_JSON_FIELD,
    Dialect,
    ErrorKind,
    Path,
    driver_error,
    in_groups,
    parameter,
    target_of,
)

OPEN = (1, 2, 3)
"""Transaction states: active, in a transaction, in a failed transaction (0 is idle, 4 a lost connection)."""

CONNECTION_CLASSES = frozenset({"08", "28", "3D", "40", "53", "54", "55", "57", "58"})
"""Classes of errors that psycopg calls operational, at a statement or at the connection. Peewee maps an error
of asyncpg by the name of its class or of its first base, which most do not match."""

CONFUSED = "InternalClientError"
"""asyncpg raises it, and ends the connection, if the server's farewell arrives before the statement."""

_KINDS: dict[str, ErrorKind] = {
    "25006": "read_only",
    "26000": "unknown_statement",
    "42P05": "unknown_statement",
    "42P01": "no_table",
    "42703": "no_column",
}


class PostgresDialect(Dialect):
    database_class = peewee.PostgresqlDatabase
    prefers_full_rewrite = False
    json_fields = PEEWEE_JSON_FIELD | {
        ("playhouse.postgres_ext", "BinaryJSONField"): "",
        ("playhouse.postgres_ext", "JSONField"): "whose type `json` cannot be changed in place",
    }

    def now(self) -> Function:
        return fn.date_part(SQL("'epoch'"), fn.clock_timestamp())

    def seconds(self, time: Any) -> Cast:
        return Cast(parameter(time), "double precision")

    def text(self, column: Any, *path: str) -> Function:
        return fn.jsonb_extract_path_text(column, *(SQL(f"'{part}'") for part in path))

    def number(self, column: Any, *path: str) -> Cast:
        return Cast(self.text(column, *path), "bigint")

    def raw(self, column: Field) -> Cast:
        return Cast(column, "TEXT")

    def is_json(self, _: Field) -> Any:
        return SQL("TRUE")  # a jsonb column holds nothing else

    def text_equals(self, column: Field, json_text: str) -> Any:
        digest = fn.sha256(fn.convert_to(self.raw(column), SQL("'UTF8'")))
        return fn.encode(digest, SQL("'hex'")) == parameter(sha256(json_text.encode()).hexdigest())

    def patch(
        self, column: Field, sets: Mapping[Path, Any], appends: Iterable[Any], drop: int | None = None
    ) -> Expression:
        """Replace keys of the map with one `||`; set the paths inside a key one by one."""
        new: dict[str | int, Any] = {}
        for (key, *inner), value in sets.items():
            if inner:
                outer = new.get(key, fn.jsonb_extract_path(column, SQL(f"'{key}'")))
                value = fn.jsonb_set(outer, _path(*inner), value)
            new[key] = value
        appended = [*appends]
        messages = new.get("messages", fn.jsonb_extract_path(column, SQL("'messages'")))
        if drop is not None:
            new["messages"] = messages = Expression(messages, "#-", _path(drop))
        for group in in_groups(appended):
            new["messages"] = messages = Expression(messages, "||", fn.jsonb_build_array(*group))
        new["revision"] = self.number(column, "revision") + parameter(1)
        pairs = (each for key, value in new.items() for each in (SQL(f"'{key}'"), value))
        return Expression(column, "||", fn.jsonb_build_object(*pairs))

    def set_numbers(self, value: Any, numbers: Mapping[Path, Any]) -> Any:
        for path, number in numbers.items():
            value = fn.jsonb_set(value, _path(*path), self.json_number(number))
        return value

    def json_number(self, value: Any) -> Function:
        return fn.to_jsonb(Cast(value, "double precision"))

    def json_value(self, json_text: Any) -> Cast:
        return Cast(parameter(json_text), "jsonb")

    def equals_exactly(self, field: Any, value: Any) -> Any:
        """Compare a number that is larger than any in the column without an error."""
        if isinstance(target_of(field), peewee.IntegerField):
            is_larger = isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER
            value = Cast(parameter(value), "numeric" if is_larger else "bigint")
        return field == value

    def to_datetime(self, time: datetime) -> datetime:
        return time

    def lock(self, _: Any, query: Any) -> Any:
        return query.for_update()

    def read_latest(self, query: Any) -> Any:
        return query

    def is_transaction_open(self, connection: Any) -> bool:
        if hasattr(connection, "is_in_transaction"):  # asyncpg
            return bool(connection.is_in_transaction())
        return connection.info.transaction_status in OPEN or not connection.autocommit

    def is_closed(self, connection: Any) -> bool:
        return bool(connection.closed)

    def error_kind(self, error: Exception) -> ErrorKind | None:
        driver = driver_error(error)
        # psycopg and asyncpg have `sqlstate`, psycopg2 has `pgcode`.
        code = str(getattr(driver, "sqlstate", None) or getattr(driver, "pgcode", None) or "")
        if type(driver).__name__ == CONFUSED or code[:2] in CONNECTION_CLASSES:
            return "lost"
        return _KINDS.get(code)

    def check_settings(self, _: Any) -> None:
        """Accept all settings."""

    def is_memory(self, _: Any) -> bool:
        return False


def _path(*parts: str | int) -> SQL:
    """Return a path as a literal. Its parts are names of the library's, never a user's."""
    return SQL(f"'{{{','.join(map(str, parts))}}}'")
