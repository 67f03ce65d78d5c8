"""The database of a model: its dialect, its open connection for one effect, its transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from weakref import WeakSet

import peewee

from agentsession import info
from agentsession.errors import DslError, Problem
from agentsession.store import mysql, postgres, sqlite

DIALECTS: tuple[tuple[type[Any], ModuleType], ...] = (
    (peewee.SqliteDatabase, sqlite),
    (peewee.PostgresqlDatabase, postgres),
    (peewee.MySQLDatabase, mysql),
)

LOST = (peewee.OperationalError, peewee.InterfaceError)
"""What Peewee raises when a connection is lost, a server restarts, a lock times out."""

_checked: WeakSet[Any] = WeakSet()


def database_of(model: type[peewee.Model]) -> Any:
    """The database behind the model now; raises `DslError` where a proxy was never initialised."""
    database = model._meta.database
    while isinstance(database, peewee.Proxy):
        database = database.obj
    if database is None or getattr(database, "deferred", False):
        found = "the model's database is not there yet"
        raise _unusable(model, found, "initialize the DatabaseProxy, or call database.init(…), first")
    return database


def dialect_of(model: type[peewee.Model]) -> Any:
    """The SQL dialect of the model's database; raises `DslError` for one that is not supported."""
    database = database_of(model)
    for kind, dialect in DIALECTS:
        if isinstance(database, kind):
            return dialect
    found = f"{type(database).__name__} is not supported"
    raise _unusable(model, found, "use a SqliteDatabase, PostgresqlDatabase or MySQLDatabase of peewee")


@contextmanager
def connected(model: type[peewee.Model], *, kept: bool = False) -> Iterator[None]:
    """A connection for one effect: the thread's own if it is open, else one that is closed again.

    `kept`: the caller had one open when the action began, so one is left open, even if it had to be replaced
    because the server has ended it. An in-memory database lives in its connection, so that one stays open.
    """
    database, dialect = database_of(model), dialect_of(model)
    opened = _opened(database, dialect)
    try:
        if database not in _checked:
            dialect.check(database)
            _checked.add(database)
        yield
    finally:
        if opened and not kept and not dialect.is_memory(database):
            database.close()


def is_connected(model: type[peewee.Model]) -> bool:
    """Has this thread a connection open?"""
    return not database_of(model).is_closed()


def in_transaction(model: type[peewee.Model]) -> bool:
    """Is a transaction open on this thread's connection, by Peewee or by hand?"""
    database = database_of(model)
    if database.in_transaction():
        return True
    if database.is_closed():
        return False
    begun: bool = dialect_of(model).is_begun(database.connection())
    return begun


def has_one_connection(model: type[peewee.Model]) -> bool:
    """Is there only one connection for all threads, or one that alone sees the data, as with `:memory:`?"""
    database = database_of(model)
    return not database.thread_safe or bool(dialect_of(model).is_memory(database))


def _opened(database: Any, dialect: Any) -> bool:
    """Open the thread's connection; False where it was open. A dead one is replaced, outside transactions."""
    was_open = not database.is_closed()
    if was_open and (database.in_transaction() or not dialect.is_dead(database.connection())):
        return False
    blocks = database._state.ctx
    try:
        if was_open:
            getattr(database, "manual_close", database.close)()
        database.connect()
    finally:
        database._state.ctx = blocks  # Peewee forgets the caller's `with db.connection_context():`
    return not was_open


def _unusable(model: type[peewee.Model], found: str, fix: str) -> DslError:
    where = f"[{info.place(model)}] Meta -> database"
    return DslError((Problem(where, found, "sessions are stored in the model's table", fix),))
