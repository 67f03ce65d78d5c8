"""The database of a model: its dialect, its open connection for one effect, its transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import peewee

from agentsession import info
from agentsession.errors import DslError, Problem
from agentsession.store import sqlite


def database_of(model: type[peewee.Model]) -> Any:
    """The database behind the model now; raises `DslError` where a proxy was never initialised."""
    database = model._meta.database
    while isinstance(database, peewee.Proxy):
        database = database.obj
    if database is None or getattr(database, "deferred", False):
        found = "the model's database is not there yet"
        raise _unusable(model, found, "initialize the DatabaseProxy, or call database.init(…), first")
    return database


def dialect_of(model: type[peewee.Model]) -> ModuleType:
    """The SQL dialect of the model's database; raises `DslError` for one that is not supported."""
    database = database_of(model)
    if not isinstance(database, peewee.SqliteDatabase):
        found = f"{type(database).__name__} is not supported"
        raise _unusable(model, found, 'use peewee.SqliteDatabase("chat.db")')
    return sqlite


@contextmanager
def connected(model: type[peewee.Model]) -> Iterator[None]:
    """A connection for one effect: the thread's own if it is open, else one that is closed again.

    An in-memory database lives in its connection, so that one stays open.
    """
    database = database_of(model)
    opened = database.connect(reuse_if_open=True)
    try:
        yield
    finally:
        if opened and not _in_memory(database):
            database.close()


def in_transaction(model: type[peewee.Model]) -> bool:
    """Is a transaction open on this thread's connection, by Peewee or by hand?"""
    database = database_of(model)
    if database.in_transaction():
        return True
    return not database.is_closed() and bool(getattr(database.connection(), "in_transaction", False))


def _in_memory(database: Any) -> bool:
    name = str(database.database)
    return name in ("", ":memory:") or "mode=memory" in name or name.startswith("file::memory:")


def _unusable(model: type[peewee.Model], found: str, fix: str) -> DslError:
    where = f"[{info.place(model)}] Meta -> database"
    return DslError((Problem(where, found, "sessions are stored in the model's table", fix),))
