"""What errors of the database mean for the user, and how to fix their causes."""

from __future__ import annotations

import re
from typing import Any

import peewee

from agentsession import info
from agentsession._store.declared import Backend, Declared
from agentsession.errors import DslError, Problem


def explain_missing(error: BaseException, declared: Declared) -> None:
    """Add a note to the error if a table of the model, or a column of one, is missing."""
    if not isinstance(error, peewee.DatabaseError):
        return
    model, message_model = declared.model, declared.message_model
    tables = [model] if message_model is None else [model, message_model[0]]
    names = ", ".join(table.__name__ for table in tables)
    kind = declared.backend.dialect.error_kind(error)
    text = str(error).partition("\n")[0]  # PostgreSQL repeats the statement below
    if kind == "no_table":
        for table in tables:
            if _mentions(text, table._meta.table_name):
                found = f"the database has no table {table._meta.table_name!r}"
                fix = f"call create_tables([{names}]) on the database, or run your migrations"
                _add_fix(error, model, found, fix)
                return
    elif kind == "no_column":
        found = f"a table of {names} lacks a column that the model declares"
        _add_fix(error, model, found, "add it by a migration: create_tables changes no table that exists")


def explain_refused(error: BaseException, record: Any, own: tuple[str, ...]) -> None:
    """Add a note to the error if a new row was refused because one of its columns has no value.

    `own` are the attributes that the library sets.
    """
    text = str(error).partition("\n")[0]  # PostgreSQL shows the row below
    for field in record._meta.sorted_fields:
        has_value = field.null or field.default is not None or record.__data__.get(field.name) is not None
        if not has_value and field.name not in own and _mentions(text, field.column_name):
            found = f"the column {field.name!r} has no value"
            fix = f"pass attributes={{{field.name!r}: …}}, or declare the field with a default or null=True"
            _add_fix(error, type(record), found, fix)
            return


def unknown_statement_error(backend: Backend) -> DslError:
    """Return the error for a statement that the server does not know, although the driver has prepared it."""
    option = "statement_cache_size=0" if backend.is_async else "prepare_threshold=None"
    name = type(backend.database).__name__
    return DslError(
        (
            Problem(
                f"[{name}] prepared statements",
                "the server does not know a statement that the driver has prepared, or knows another one",
                "a pooler (PgBouncer in transaction mode) may use another connection for each transaction",
                f"{name}(…, {option})",
            ),
        )
    )


def _mentions(text: str, name: str) -> bool:
    """Return whether the message of an error has the name of a table or a column in it."""
    return re.search(rf"\b{re.escape(name)}\b", text) is not None


def _add_fix(error: BaseException, model: Any, found: str, fix: str) -> None:
    """Add a note to the error, once."""
    note = f"[{info.qualified_name(model)}] {found}\n  Fix: {fix}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
