"""The database of a model: its dialect, its open connection for one effect, its transaction."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any
from weakref import WeakSet

import peewee

from agentsession import info
from agentsession._store.connecting import is_asynchronous, opened, renewed
from agentsession._store.dialects import mysql, postgres, sqlite
from agentsession._store.driver_errors import (
    explain_missing,
    tells_of_a_loss,
    tells_of_a_pooler,
    tells_of_a_read_only_server,
)
from agentsession.errors import DslError, InputInvalid, Problem

DIALECTS: tuple[tuple[type[Any], ModuleType], ...] = (
    (peewee.SqliteDatabase, sqlite),
    (peewee.PostgresqlDatabase, postgres),
    (peewee.MySQLDatabase, mysql),
)

LOST = (peewee.OperationalError, peewee.InterfaceError)
"""What Peewee raises when a connection is lost, a server restarts, a lock times out."""

_checked: WeakSet[Any] = WeakSet()

_dialects: dict[type[Any], ModuleType] = {}


def used_databases() -> list[Any]:
    """The databases on which a session was read or stored in this process."""
    return [*_checked]


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
    dialect = dialect_for(database)
    if dialect is None:
        found = f"{type(database).__name__} is not supported"
        raise _unusable(model, found, "use a SqliteDatabase, PostgresqlDatabase or MySQLDatabase of peewee")
    return dialect


def dialect_for(database: Any) -> ModuleType | None:
    """The SQL dialect of a database; None for one that is not supported."""
    dialect = _dialects.get(type(database))
    if dialect is None:
        dialect = next((each for kind, each in DIALECTS if isinstance(database, kind)), None)
        if dialect is not None:
            _dialects[type(database)] = dialect
    return dialect


class connected:  # noqa: N801
    """A connection for one effect: the thread's or task's own if it is open, else one that is closed again.

    A connection that the caller has opened stays open, even if it had to be replaced because the server has
    ended it. An in-memory database lives in its connection, so that one stays open, too.
    """

    def __init__(self, model: type[peewee.Model]) -> None:
        self.model, self.database, self.dialect = model, database_of(model), dialect_of(model)
        self.opened = False

    def __enter__(self) -> None:
        try:
            self.opened = opened(self.database, self.dialect)
            if self.database not in _checked:
                self.dialect.check(self.database)
                _checked.add(self.database)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_stuck = isinstance(error, Exception) and self._is_stuck(error)
        if is_stuck:
            renewed(self.database, self.opened)
        elif self.opened and not lives_in_a_connection(self.database, self.dialect):
            self.database.close()
        explain_missing(error, self.model)
        if not isinstance(error, Exception):
            return
        if tells_of_a_pooler(error):
            raise _pooled(self.database) from error
        if is_stuck or (is_asynchronous(self.database) and tells_of_a_loss(error)):
            raise peewee.OperationalError(error, *error.args) from error

    def _is_stuck(self, error: Exception) -> bool:
        """Return whether nothing can be written on this connection, but perhaps on another one.

        A transaction of the caller's stays where it is.
        """
        return tells_of_a_read_only_server(error) and not has_transaction(self.database, self.dialect)


def is_async(model: type[peewee.Model]) -> bool:
    """Is it a database of `playhouse.pwasyncio`, whose connections belong to tasks?"""
    return is_asynchronous(database_of(model))


def refuse_async(model: type[peewee.Model], action: str) -> None:
    """Raise `InputInvalid` for a plain call on an asynchronous database, outside its `run`."""
    if not is_async(model) or _is_bridged():
        return
    raise InputInvalid(
        f"{action} was called on an asynchronous database",
        where=info.place(model),
        why="only a task can wait for it; nothing was read or stored",
        fix=f"await its async twin, a{action}(…), or await db.run({action}, …)",
    )


def is_connected(model: type[peewee.Model]) -> bool:
    """Has this thread, or task, a connection open?"""
    return not database_of(model).is_closed()


def in_transaction(model: type[peewee.Model]) -> bool:
    """Is a transaction open on this thread's or task's connection, by Peewee or by hand?"""
    return has_transaction(database_of(model), dialect_of(model))


def has_transaction(database: Any, dialect: Any) -> bool:
    """The same of a database."""
    if database.is_closed():
        return not is_asynchronous(database) and bool(database.in_transaction())
    if database.in_transaction():
        return True
    connection = database.connection()
    if is_asynchronous(database):
        if connection.stale():
            return False
        connection = connection.conn
    begun: bool = dialect.is_transaction_open(connection)
    return begun


def has_one_connection(model: type[peewee.Model]) -> bool:
    """Is there only one connection for all threads, or one that alone sees the data, as with `:memory:`?"""
    database = database_of(model)
    return not database.thread_safe or lives_in_a_connection(database, dialect_of(model))


def is_seen_here_only(model: type[Any] | None, *, inside: bool | None = None) -> bool:
    """Return whether only this thread, or task, sees the data of the model: it is in memory, or a transaction
    is open. `inside` says whether a transaction is open, where that is known. False for a model without a
    database that we support: nothing is known of its data."""
    if model is None or not issubclass(model, peewee.Model):
        return False
    try:
        return (in_transaction(model) if inside is None else inside) or has_one_connection(model)
    except DslError:
        return False


def lives_in_a_connection(database: Any, dialect: Any) -> bool:
    """Would the data go with the connection? An asynchronous database keeps its one in a pool."""
    return bool(dialect.is_memory(database)) and not is_asynchronous(database)


def refused_for_rows(database: Any, where: str) -> Problem | None:
    """The problem of a database for messages in rows, if any: `playhouse.sqliteq` has no transactions."""
    while isinstance(database, peewee.Proxy):
        database = database.obj
    module = sys.modules.get("playhouse.sqliteq")
    if module is None or not isinstance(database, module.SqliteQueueDatabase):
        return None
    return Problem(
        where,
        f"{type(database).__name__} has no transactions, and messages is 'rows'",
        "a message and its session are written in one transaction",
        "use peewee.SqliteDatabase or playhouse.pool.PooledSqliteDatabase, or leave messages='rows' out",
    )


def _is_bridged() -> bool:
    """Is this code run by an asynchronous database, which waits for it?"""
    from greenlet import getcurrent

    return getcurrent().parent is not None


def _unusable(model: type[peewee.Model], found: str, fix: str) -> DslError:
    where = f"[{info.place(model)}] Meta -> database"
    return DslError((Problem(where, found, "sessions are stored in the model's table", fix),))


def _pooled(database: Any) -> DslError:
    option = "statement_cache_size=0" if is_asynchronous(database) else "prepare_threshold=None"
    name = type(database).__name__
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


@contextmanager
def released(model: type[peewee.Model]) -> Iterator[None]:
    """Without the connection that the caller has open. In `with db.connection_context():` there is one again
    afterwards, elsewhere Peewee opens it where it is used. Inside a transaction nothing is done."""
    database = database_of(model)
    if not is_connected(model) or has_one_connection(model) or in_transaction(model):
        yield
        return
    blocks = list(database._state.ctx)
    database.close()
    try:
        yield
    finally:
        if blocks:
            try:
                database.connect(reuse_if_open=True)  # a provider of the user's may have opened one
            finally:
                database._state.ctx[:] = blocks  # Peewee forgets them with the connection
