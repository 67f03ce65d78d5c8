"""The PostgreSQL dialect, for JSONB columns. The functions are those of `sqlite.py`.

psycopg sends the types of its parameters, asyncpg asks the server for them: where the SQL around one does not
tell its type, there is a cast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from peewee import SQL, Cast, Expression, Field, Function, IntegerField, fn

from agentsession._store.expression import Path, in_groups, plain
from agentsession._store.values import LARGE, target_of

OPEN = (1, 2, 3)
"""Transaction states: active, in a transaction, in a failed transaction (0 is idle, 4 a lost connection)."""


PREFERS_FULL_REWRITE = False


def now() -> Function:
    return fn.date_part(SQL("'epoch'"), fn.clock_timestamp())


def seconds(time: float) -> Cast:
    return Cast(plain(time), "double precision")


def text(column: Any, *path: str) -> Function:
    return fn.jsonb_extract_path_text(column, *(SQL(f"'{part}'") for part in path))


def number(column: Any, *path: str) -> Cast:
    return Cast(text(column, *path), "bigint")


def raw(column: Field) -> Cast:
    return Cast(column, "TEXT")


def is_json(_: Field) -> Any:
    """A jsonb column holds nothing else."""
    return SQL("TRUE")


def text_equals(column: Field, json_text: str) -> Any:
    digest = fn.sha256(fn.convert_to(raw(column), SQL("'UTF8'")))
    return fn.encode(digest, SQL("'hex'")) == plain(sha256(json_text.encode()).hexdigest())


def patch(
    column: Field, sets: Mapping[Path, Any], appends: Iterable[Any], drop: int | None = None
) -> Expression:
    """One `||` puts the changed keys of the map over the old ones; a key's inner paths are set one by one."""
    changed: dict[str | int, Any] = {}
    for (key, *inner), value in sets.items():
        if inner:
            outer = changed.get(key, fn.jsonb_extract_path(column, SQL(f"'{key}'")))
            value = fn.jsonb_set(outer, _path(*inner), value)
        changed[key] = value
    appended = [*appends]
    messages = changed.get("messages", fn.jsonb_extract_path(column, SQL("'messages'")))
    if drop is not None:
        changed["messages"] = messages = Expression(messages, "#-", _path(drop))
    for group in in_groups(appended):
        changed["messages"] = messages = Expression(messages, "||", fn.jsonb_build_array(*group))
    changed["revision"] = number(column, "revision") + plain(1)
    pairs = (each for key, value in changed.items() for each in (SQL(f"'{key}'"), value))
    return Expression(column, "||", fn.jsonb_build_object(*pairs))


def with_numbers(value: Any, numbers: Mapping[Path, Any]) -> Any:
    for path, number in numbers.items():
        value = fn.jsonb_set(value, _path(*path), json_number(number))
    return value


def _path(*parts: str | int) -> SQL:
    """A path of our own names, as a literal."""
    return SQL(f"'{{{','.join(map(str, parts))}}}'")


def json_number(value: Any) -> Function:
    return fn.to_jsonb(Cast(value, "double precision"))


def document(json_text: Any) -> Cast:
    return Cast(plain(json_text), "jsonb")


def equals_exactly(field: Any, value: Any) -> Any:
    """A number may be larger than any in the column."""
    if isinstance(target_of(field), IntegerField):
        is_larger = isinstance(value, int) and not -LARGE <= value < LARGE
        value = Cast(plain(value), "numeric" if is_larger else "bigint")
    return field == value


def to_datetime(time: datetime) -> datetime:
    """A time as a date-time column keeps it."""
    return time


def locked(_: Any, query: Any) -> Any:
    return query.for_update()


def read_latest(query: Any) -> Any:
    return query


def is_transaction_open(connection: Any) -> bool:
    """asyncpg knows it by itself."""
    if hasattr(connection, "is_in_transaction"):
        return bool(connection.is_in_transaction())
    return connection.info.transaction_status in OPEN or not connection.autocommit


def is_closed(connection: Any) -> bool:
    return bool(connection.closed)


def check(_: Any) -> None:
    """Nothing that a server's settings could break is known."""


def is_memory(_: Any) -> bool:
    return False
