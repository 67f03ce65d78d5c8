"""The user's functions (tools, hooks) and the database: a connection that they open is closed after them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import peewee

from agentsession._store.connecting import is_asynchronous
from agentsession._store.connection import dialect_for, has_transaction, lives_in_a_connection

LEFT_OPEN = "a transaction was left open; it is rolled back"


@contextmanager
def leaving_none_open(model: type[Any] | None) -> Iterator[None]:
    """Run the user's code without leaving a connection or a transaction to the model's database open.

    A transaction that it leaves open is rolled back. Its writes are lost then, so the block raises
    `OperationalError`, unless it has raised an error of its own. A connection and a transaction that were
    open before stay open.
    """
    database, dialect = _sync_database_of(model)
    if database is None or has_transaction(database, dialect):
        yield
        return
    was_closed, is_left = database.is_closed(), False
    try:
        yield
    finally:
        if not database.is_closed():
            is_left = _roll_back(database, dialect)
            if was_closed and not lives_in_a_connection(database, dialect):
                database.close()
    if is_left:
        raise peewee.OperationalError(LEFT_OPEN)


def refuse_open_transaction(model: type[Any] | None) -> None:
    """Raise `OperationalError` if a tool in a task of its own leaves a transaction open on an asynchronous
    database. Peewee rolls it back, and releases the connection, at the end of the task."""
    database = _database_of(model)
    if database is not None and is_asynchronous(database) and database.in_transaction():
        raise peewee.OperationalError(LEFT_OPEN)


def _roll_back(database: Any, dialect: Any) -> bool:
    """Roll back an open transaction; False if none is open."""
    if not has_transaction(database, dialect):
        return False
    while database.in_transaction():
        database.pop_transaction()
    with suppress(Exception):  # a lost connection has lost its transaction
        database.transaction().rollback(begin=False)
    return True


def _sync_database_of(model: type[Any] | None) -> tuple[Any, Any]:
    """The database and its dialect; None where there is none that threads could use."""
    database = _database_of(model)
    dialect = None if database is None else dialect_for(database)
    if dialect is None or is_asynchronous(database):
        return None, None
    return database, dialect


def _database_of(model: type[Any] | None) -> Any:
    """The database of a model; None where the class is not a model, or the database is not there yet."""
    database = getattr(getattr(model, "_meta", None), "database", None)
    while isinstance(database, peewee.Proxy):
        database = database.obj
    return database
