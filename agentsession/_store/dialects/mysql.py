"""The MariaDB and MySQL dialect, in functions that both have. They are those of `sqlite.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from peewee import SQL, Cast, CharField, Expression, Field, Function, NodeList, TextField, fn

from agentsession._store.expression import Path, plain, pointer
from agentsession._store.values import target_of
from agentsession.errors import DslError, Problem

UTF8 = "CHAR CHARACTER SET utf8mb4"

IN_TRANSACTION, AUTOCOMMIT = 1, 2
"""Flags of the client protocol's SERVER_STATUS."""


PREFERS_FULL_REWRITE = False


def now() -> Expression:
    """From UTC, since the server's local time stands still for an hour in autumn."""
    since = fn.TIMESTAMPDIFF(SQL("MICROSECOND"), SQL("'1970-01-01'"), fn.UTC_TIMESTAMP(SQL("6")))
    return since / plain(1e6)


def seconds(time: float) -> Any:
    return plain(time)


def text(column: Any, *path: str) -> Function:
    return fn.JSON_UNQUOTE(fn.JSON_EXTRACT(column, plain(pointer(path))))


def number(column: Any, *path: str) -> Cast:
    return Cast(text(column, *path), "SIGNED")


def raw(column: Field) -> NodeList:
    """A cast would be cut at the size of a packet."""
    return NodeList((column,))


def is_json(column: Field) -> Any:
    """Whether the stored text is JSON."""
    return fn.JSON_VALID(column)


def text_equals(column: Field, json_text: str) -> Any:
    """By its digest: a statement that held both texts could be too large for the server."""
    return fn.SHA2(raw(column), SQL("256")) == plain(sha256(json_text.encode()).hexdigest())


def patch(
    column: Field, sets: Mapping[Path, Any], appends: Iterable[Any], drop: int | None = None
) -> Function:
    value: Any = column if drop is None else fn.JSON_REMOVE(column, plain(pointer(("messages", drop))))
    messages = [each for message in appends for each in (plain("$.messages"), message)]
    if messages:
        value = fn.JSON_ARRAY_APPEND(value, *messages)
    arguments = [each for path, to in sets.items() for each in (plain(pointer(path)), to)]
    return fn.JSON_SET(value, *arguments, plain("$.revision"), number(column, "revision") + plain(1))


def with_numbers(value: Any, numbers: Mapping[Path, Any]) -> Any:
    pairs = [each for path, number in numbers.items() for each in (plain(pointer(path)), number)]
    return fn.JSON_SET(value, *pairs) if pairs else value


def json_number(value: Any) -> Any:
    return value


def document(json_text: Any) -> Function:
    """`CAST(… AS JSON)` is MySQL's alone, `JSON_COMPACT` MariaDB's."""
    return fn.JSON_EXTRACT(plain(json_text), plain("$"))


def equals_exactly(field: Any, value: Any) -> Any:
    """Texts are compared byte by byte as well: collations take 'ann', 'Ann' and 'ann ' for equal."""
    same = field == value
    if isinstance(target_of(field), (CharField, TextField)):
        same &= Cast(Cast(field, UTF8), "BINARY") == Cast(Cast(plain(value), UTF8), "BINARY")
    return same


def to_datetime(time: datetime) -> datetime:
    """DATETIME keeps whole seconds."""
    return time.replace(microsecond=0)


def locked(_: Any, query: Any) -> Any:
    """It also shows what is newer than the snapshot of a REPEATABLE READ transaction."""
    return query.for_update()


def read_latest(query: Any) -> Any:
    """In a REPEATABLE READ transaction only reads that lock see it."""
    return query.for_update()


def is_transaction_open(connection: Any) -> bool:
    status = getattr(connection, "server_status", None)
    if status is None:
        return bool(getattr(connection, "in_transaction", False))
    return bool(status & (IN_TRANSACTION | AUTOCOMMIT) != AUTOCOMMIT)


def is_closed(connection: Any) -> bool:
    return not getattr(connection, "open", True)


def check(database: Any) -> None:
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


def is_memory(_: Any) -> bool:
    return False
