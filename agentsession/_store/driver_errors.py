"""Errors of database drivers: what they say about the connection, and notes that say how to fix them.

The codes are SQLSTATEs of PostgreSQL, and the numbers of MariaDB and MySQL.
"""

from __future__ import annotations

import re
from typing import Any

import peewee

from agentsession import info
from agentsession._store.declared import Declared

CONNECTION_CLASSES = frozenset({"08", "28", "3D", "40", "53", "54", "55", "57", "58"})
"""PostgreSQL's classes of errors that psycopg calls operational, at a statement or at the connection."""

CONFUSED = "InternalClientError"
"""asyncpg raises it, and ends the connection, if the server's farewell arrives before the statement."""

PREPARED = frozenset({"26000", "42P05"})
"""A prepared statement does not exist, or exists already."""

READ_ONLY, READ_ONLY_NUMBERS = "25006", frozenset({1290, 1836})
"""A write was sent to a server that is read-only."""

NO_TABLE: tuple[object, ...] = ("42P01", "42S02", 1146)
NO_COLUMN: tuple[object, ...] = ("42703", "42S22", 1054)
NO_TABLE_TEXT, NO_COLUMN_TEXT = "no such table", ("no such column", "has no column named")
"""SQLite has no codes: its errors are known by their text."""


def tells_of_a_loss(error: Exception) -> bool:
    """Return whether an asynchronous driver says that the connection is lost.

    Peewee maps an error of asyncpg by the name of its class or of its first base, which most do not match.
    """
    if isinstance(error, OSError) or type(getattr(error, "orig", error)).__name__ == CONFUSED:
        return True
    return _sqlstate(error)[:2] in CONNECTION_CLASSES


def tells_of_a_read_only_server(error: Exception) -> bool:
    """Return whether the server refused a write because it is read-only.

    After a failover the old server refuses writes on the connections that were open before.
    """
    number = next(iter(getattr(error, "orig", error).args), None)
    return _sqlstate(error) == READ_ONLY or (isinstance(number, int) and number in READ_ONLY_NUMBERS)


def tells_of_a_pooler(error: Exception) -> bool:
    """Return whether the server does not know a statement that the driver has prepared.

    A pooler in transaction mode causes this: it gives the driver another connection to the server.
    """
    return _sqlstate(error) in PREPARED


def _sqlstate(error: Exception) -> str:
    """Return PostgreSQL's code of an error of psycopg, psycopg2 or asyncpg; "" for all other errors."""
    driver = getattr(error, "orig", error)
    return str(getattr(driver, "sqlstate", None) or getattr(driver, "pgcode", None) or "")


def explain_missing(error: BaseException, declared: Declared) -> None:
    """Add a note to the error if a table of the model, or a column of one, is missing."""
    if not isinstance(error, peewee.DatabaseError):
        return
    model, message_model = declared.model, declared.message_model
    tables = [model] if message_model is None else [model, message_model[0]]
    names = ", ".join(table.__name__ for table in tables)
    code, text = _code(error), str(error).partition("\n")[0]  # PostgreSQL repeats the statement below
    if code in NO_TABLE or NO_TABLE_TEXT in text:
        for table in tables:
            if _names(text, table._meta.table_name):
                found = f"the database has no table {table._meta.table_name!r}"
                fix = f"call create_tables([{names}]) on the database, or run your migrations"
                _note(error, model, found, fix)
                return
    elif code in NO_COLUMN or any(each in text for each in NO_COLUMN_TEXT):
        found = f"a table of {names} lacks a column that the model declares"
        _note(error, model, found, "add it by a migration: create_tables changes no table that exists")


def explain_refused(error: BaseException, record: Any, own: tuple[str, ...]) -> None:
    """Add a note to the error if a new row was refused because one of its columns has no value.

    `own` are the attributes that the library sets.
    """
    text = str(error).partition("\n")[0]  # PostgreSQL shows the row below
    for field in record._meta.sorted_fields:
        has_value = field.null or field.default is not None or record.__data__.get(field.name) is not None
        if not has_value and field.name not in own and _names(text, field.column_name):
            found = f"the column {field.name!r} has no value"
            fix = f"pass attributes={{{field.name!r}: …}}, or declare the field with a default or null=True"
            _note(error, type(record), found, fix)
            return


def _names(text: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text) is not None


def _code(error: peewee.DatabaseError) -> object:
    original: Any = getattr(error, "orig", error)
    found = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return found or next(iter(original.args), None)


def _note(error: BaseException, model: Any, found: str, fix: str) -> None:
    note = f"[{info.qualified_name(model)}] {found}\n  Fix: {fix}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
