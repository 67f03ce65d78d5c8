"""The dialect of MariaDB and MySQL: one SQL text, in functions that both have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

import peewee
from peewee import SQL, Cast, Expression, Field, Function, NodeList, fn

from agentsession._store.dialects.base import (
    PEEWEE_JSON_FIELD,
    Dialect,
    ErrorKind,
    Path,
    driver_error,
    json_path,
    parameter,
    target_of,
)
from agentsession.errors import DslError, Problem

UTF8 = "CHAR CHARACTER SET utf8mb4"

IN_TRANSACTION, AUTOCOMMIT = 1, 2
"""Flags of the client protocol's SERVER_STATUS."""

_KINDS: dict[object, ErrorKind] = {
    1290: "read_only",
    1836: "read_only",
    1146: "no_table",
    1054: "no_column",
}


class MySqlDialect(Dialect):
    database_class = peewee.MySQLDatabase
    prefers_full_rewrite = False
    json_fields = PEEWEE_JSON_FIELD

    def now(self) -> Expression:
        # From UTC, because the server's local time stands still for an hour in autumn.
        since = fn.TIMESTAMPDIFF(SQL("MICROSECOND"), SQL("'1970-01-01'"), fn.UTC_TIMESTAMP(SQL("6")))
        return since / parameter(1e6)

    def seconds(self, time: Any) -> Any:
        return parameter(time)

    def text(self, column: Any, *path: str) -> Function:
        return fn.JSON_UNQUOTE(fn.JSON_EXTRACT(column, parameter(json_path(path))))

    def number(self, column: Any, *path: str) -> Cast:
        return Cast(self.text(column, *path), "SIGNED")

    def raw(self, column: Field) -> NodeList:
        return NodeList((column,))  # a cast would be cut at the size of a packet

    def is_json(self, column: Field) -> Any:
        return fn.JSON_VALID(column)

    def text_equals(self, column: Field, json_text: str) -> Any:
        """Compare digests: a statement that held both texts could be too large for the server."""
        return fn.SHA2(self.raw(column), SQL("256")) == parameter(sha256(json_text.encode()).hexdigest())

    def patch(
        self, column: Field, sets: Mapping[Path, Any], appends: Iterable[Any], drop: int | None = None
    ) -> Function:
        value: Any = (
            column if drop is None else fn.JSON_REMOVE(column, parameter(json_path(("messages", drop))))
        )
        messages = [each for message in appends for each in (parameter("$.messages"), message)]
        if messages:
            value = fn.JSON_ARRAY_APPEND(value, *messages)
        arguments = [each for path, to in sets.items() for each in (parameter(json_path(path)), to)]
        revision = self.number(column, "revision") + parameter(1)
        return fn.JSON_SET(value, *arguments, parameter("$.revision"), revision)

    def set_numbers(self, value: Any, numbers: Mapping[Path, Any]) -> Any:
        pairs = [each for path, number in numbers.items() for each in (parameter(json_path(path)), number)]
        return fn.JSON_SET(value, *pairs) if pairs else value

    def json_number(self, value: Any) -> Any:
        return value

    def json_value(self, json_text: Any) -> Function:
        # Only MySQL has `CAST(… AS JSON)`, and only MariaDB has `JSON_COMPACT`.
        return fn.JSON_EXTRACT(parameter(json_text), parameter("$"))

    def equals_exactly(self, field: Any, value: Any) -> Any:
        """Compare texts byte by byte as well: the usual collations take 'ann', 'Ann' and 'ann ' for equal."""
        same = field == value
        if isinstance(target_of(field), (peewee.CharField, peewee.TextField)):
            same &= Cast(Cast(field, UTF8), "BINARY") == Cast(Cast(parameter(value), UTF8), "BINARY")
        return same

    def to_datetime(self, time: datetime) -> datetime:
        return time.replace(microsecond=0)  # DATETIME keeps whole seconds

    def lock(self, _: Any, query: Any) -> Any:
        # It also reads rows that are newer than the snapshot of a REPEATABLE READ transaction.
        return query.for_update()

    def read_latest(self, query: Any) -> Any:
        # In a REPEATABLE READ transaction only a read that locks sees the newest rows.
        return query.for_update()

    def is_transaction_open(self, connection: Any) -> bool:
        status = getattr(connection, "server_status", None)
        if status is None:
            return bool(getattr(connection, "in_transaction", False))
        return bool(status & (IN_TRANSACTION | AUTOCOMMIT) != AUTOCOMMIT)

    def is_closed(self, connection: Any) -> bool:
        return not getattr(connection, "open", True)

    def error_kind(self, error: Exception) -> ErrorKind | None:
        number = next(iter(driver_error(error).args), None)
        return _KINDS.get(number) if isinstance(number, int) else None

    def check_settings(self, database: Any) -> None:
        """Refuse a MariaDB server whose database object writes MySQL's JSON."""
        connection = database.connection()
        version = str(getattr(getattr(connection, "conn", connection), "server_version", ""))
        if "mariadb" in version.lower() and not database.mariadb:
            raise DslError(
                (
                    Problem(
                        f"[{type(database).__name__} {database.database}] mariadb",
                        f"the server is MariaDB ({version}), the database object is declared for MySQL",
                        "Peewee writes JSON with functions that MariaDB does not have",
                        f"{type(database).__name__}({database.database!r}, …, mariadb=True)",
                    ),
                )
            )

    def is_memory(self, _: Any) -> bool:
        return False
