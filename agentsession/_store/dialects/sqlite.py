"""The SQLite dialect. It needs SQLite 3.38 or later."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import peewee
from peewee import Cast, Expression, Field, Function, NodeList, fn

from agentsession._store.dialects.base import (
    PEEWEE_JSON_FIELD,
    Dialect,
    ErrorKind,
    Path,
    in_groups,
    json_path,
    parameter,
)
from agentsession.errors import UnsafeDatabase


class SqliteDialect(Dialect):
    database_class = peewee.SqliteDatabase
    prefers_full_rewrite = True  # SQLite parses and renders all of a JSON text for each change
    json_fields = PEEWEE_JSON_FIELD | {
        ("playhouse.sqlite_ext", "JSONField"): "",
        ("playhouse.sqlite_ext", "JSONBField"): "whose binary form a SELECT cannot read",
    }

    def now(self) -> Expression:
        julian = fn.julianday(parameter("now"))
        return (julian - parameter(2440587.5)) * parameter(86400.0)

    def seconds(self, time: Any) -> Any:
        return parameter(time)

    def text(self, column: Any, *path: str) -> Function:
        return fn.json_extract(column, parameter(json_path(path)))

    def number(self, column: Any, *path: str) -> Cast:
        return Cast(self.text(column, *path), "INTEGER")

    def raw(self, column: Field) -> NodeList:
        return NodeList((column,))

    def is_json(self, column: Field) -> Any:
        return fn.json_valid(self.raw(column))

    def text_equals(self, column: Field, json_text: str) -> Any:
        return self.raw(column) == parameter(json_text)

    def patch(
        self, column: Field, sets: Mapping[Path, Any], appends: Iterable[Any], drop: int | None = None
    ) -> Any:
        # The edits of one json_set must not depend on each other: SQLite 3.40 silently drops an edit inside a
        # value that an earlier edit has set or appended. So paths come before appends.
        arguments: list[Any] = []
        for path, value in sets.items():
            arguments += [parameter(json_path(path)), value]
        for message in appends:
            arguments += [parameter("$.messages[#]"), message]
        arguments += [parameter("$.revision"), self.number(column, "revision") + parameter(1)]
        edited: Any = (
            column if drop is None else fn.json_remove(column, parameter(json_path(("messages", drop))))
        )
        for group in in_groups(arguments):
            edited = fn.json_set(edited, *group)
        return edited

    def set_numbers(self, value: Any, numbers: Mapping[Path, Any]) -> Any:
        pairs = [each for path, number in numbers.items() for each in (parameter(json_path(path)), number)]
        return fn.json_set(value, *pairs) if pairs else value

    def json_number(self, value: Any) -> Any:
        return value

    def json_value(self, json_text: Any) -> Function:
        return fn.json(parameter(json_text))

    def equals_exactly(self, field: Any, value: Any) -> Any:
        return field == value

    def to_datetime(self, time: datetime) -> datetime:
        return time

    def lock(self, model: Any, query: Any) -> Any:
        # A transaction that began with a read cannot write once another one has written. An UPDATE of no row
        # makes it begin with a write. A caller that has read before needs `db.atomic("IMMEDIATE")`.
        key = model._meta.primary_key
        model.update({key: key}).where(parameter(0)).execute()
        return query

    def read_latest(self, query: Any) -> Any:
        return query

    def is_transaction_open(self, connection: Any) -> bool:
        commits_itself = getattr(connection, "isolation_level", None) is None
        return not commits_itself or bool(getattr(connection, "in_transaction", False))

    def is_closed(self, _: Any) -> bool:
        return False  # only a server ends connections

    def error_kind(self, error: Exception) -> ErrorKind | None:
        text = str(error)  # SQLite has no codes for these errors
        if "no such table" in text:
            return "no_table"
        return "no_column" if "no such column" in text or "has no column named" in text else None

    def check_settings(self, database: Any) -> None:
        """Warn about settings with which concurrent turns fail or block each other."""
        if self.is_memory(database):
            return
        run = database.connection().cursor().execute
        (mode,), (busy,) = run("pragma journal_mode").fetchone(), run("pragma busy_timeout").fetchone()
        if mode.lower() == "wal" and busy > 0:
            return
        found = f"journal_mode is {mode}" if mode.lower() != "wal" else "there is no busy timeout"
        warnings.warn(
            f"SQLite database {database.database}: {found}, so readers and writers block each other and "
            'turns may fail with "database is locked". Fix: '
            'SqliteDatabase(…, pragmas={"journal_mode": "wal", "busy_timeout": 5000})',
            UnsafeDatabase,
            stacklevel=2,
        )

    def is_memory(self, database: Any) -> bool:
        name = str(database.database)
        return name in ("", ":memory:") or "mode=memory" in name or name.startswith("file::memory:")
