"""The SQLite dialect: reading inside a JSON column, and changing it in one expression.

Written in SQL functions because Peewee's JSON mutators cannot be chained and store nothing where an array
is missing. Needs SQLite 3.38 or later.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from peewee import Cast, Expression, Field, Function, NodeList, fn

from agentsession._store.expression import Path, in_groups, plain, pointer
from agentsession.errors import UnsafeDatabase

PREFERS_FULL_REWRITE = True
"""Is a JSON text sooner written whole than changed in place? SQLite parses and renders it for each change."""


def now() -> Expression:
    """The database's clock in seconds since 1970, to the millisecond."""
    julian = fn.julianday(plain("now"))
    return (julian - plain(2440587.5)) * plain(86400.0)


def seconds(time: float) -> Any:
    """A time in seconds since 1970, as an expression like `now()`."""
    return plain(time)


def text(column: Field, *path: str) -> Function:
    """A text inside the JSON, NULL where it is absent."""
    return fn.json_extract(column, plain(pointer(path)))


def number(column: Field, *path: str) -> Cast:
    """An integer inside the JSON, NULL where it is absent."""
    return Cast(text(column, *path), "INTEGER")


def raw(column: Field) -> NodeList:
    """The JSON as it is stored, past the field's own conversion."""
    return NodeList((column,))


def is_json(column: Field) -> Any:
    """Whether the stored text is JSON; the JSON functions raise an error for any other."""
    return fn.json_valid(raw(column))


def text_equals(column: Field, json_text: str) -> Any:
    """Is this very text stored?"""
    return raw(column) == plain(json_text)


def patch(column: Field, sets: Mapping[Path, Any], appends: Iterable[Any], drop: int | None = None) -> Any:
    """The JSON with paths set, messages appended and the one at `drop`, behind the others, gone, one revision
    on.

    The edits of one json_set must not depend on each other: SQLite 3.40 silently drops one inside a value
    that was set or appended by an earlier one. So paths come before appends, and no path contains another.
    """
    arguments: list[Any] = []
    for path, value in sets.items():
        arguments += [plain(pointer(path)), value]
    for message in appends:
        arguments += [plain("$.messages[#]"), message]
    arguments += [plain("$.revision"), number(column, "revision") + plain(1)]
    edited: Any = column if drop is None else fn.json_remove(column, plain(pointer(("messages", drop))))
    for group in in_groups(arguments):
        edited = fn.json_set(edited, *group)
    return edited


def with_numbers(value: Any, numbers: Mapping[Path, Any]) -> Any:
    """A JSON object with numbers set from SQL."""
    pairs = [each for path, number in numbers.items() for each in (plain(pointer(path)), number)]
    return fn.json_set(value, *pairs) if pairs else value


def json_number(value: Any) -> Any:
    """A number of SQL as a JSON value."""
    return value


def document(json_text: Any) -> Function:
    """JSON text as a JSON value."""
    return fn.json(plain(json_text))


def equals_exactly(field: Any, value: Any) -> Any:
    """Is it this very value?"""
    return field == value


def to_datetime(time: datetime) -> datetime:
    """A time as a date-time column keeps it."""
    return time


def locked(model: Any, query: Any) -> Any:
    """The query as a read before a write, inside a transaction: none other may write in between.

    A transaction that began with a read cannot write once another has written, so it has to begin with a
    write, of no row. Where it has read before, `db.atomic("IMMEDIATE")` is the caller's.
    """
    key = model._meta.primary_key
    model.update({key: key}).where(plain(0)).execute()
    return query


def read_latest(query: Any) -> Any:
    """The query, of what is stored now and not when the caller's transaction began."""
    return query


def is_transaction_open(connection: Any) -> bool:
    """Is a transaction open on the driver's connection, or will the next statement open one?"""
    commits_itself = getattr(connection, "isolation_level", None) is None
    return not commits_itself or bool(getattr(connection, "in_transaction", False))


def is_closed(_: Any) -> bool:
    """Has the server ended the connection? A file ends none."""
    return False


def check(database: Any) -> None:
    """Warn about settings under which concurrent turns would fail or wait for each other."""
    if is_memory(database):
        return
    run = database.connection().cursor().execute
    (mode,), (busy,) = run("pragma journal_mode").fetchone(), run("pragma busy_timeout").fetchone()
    if mode.lower() == "wal" and busy > 0:
        return
    found = f"journal_mode is {mode}" if mode.lower() != "wal" else "there is no busy timeout"
    warnings.warn(
        f"SQLite database {database.database}: {found}, so readers and writers block each other and turns "
        'may fail with "database is locked". Fix: '
        'SqliteDatabase(…, pragmas={"journal_mode": "wal", "busy_timeout": 5000})',
        UnsafeDatabase,
        stacklevel=2,
    )


def is_memory(database: Any) -> bool:
    """Does the data live in the connection?"""
    name = str(database.database)
    return name in ("", ":memory:") or "mode=memory" in name or name.startswith("file::memory:")
