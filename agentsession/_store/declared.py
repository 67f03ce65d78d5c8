"""What a model was declared with, resolved once for an action, and the database behind it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

import peewee

from agentsession import _registry, info
from agentsession._options import AgentOptions, SessionOptions
from agentsession._store.dialects import DIALECTS
from agentsession._store.dialects.base import Dialect
from agentsession._workers import STATEMENTS
from agentsession.errors import DslError, InputInvalid, Problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backend:
    """A database with its dialect.

    `is_async`: it is a database of `playhouse.pwasyncio`, whose connections belong to tasks.
    """

    database: Any
    dialect: Dialect
    is_async: bool

    @property
    def is_connected(self) -> bool:
        """Return whether this thread, or task, has a connection open."""
        return not self.database.is_closed()

    @property
    def lives_in_a_connection(self) -> bool:
        """Return whether the data is lost when the connection is closed.

        An asynchronous database keeps its one connection to the memory in a pool.
        """
        return not self.is_async and self.dialect.is_memory(self.database)

    @property
    def has_one_connection(self) -> bool:
        """Return whether all threads share one connection, or only one sees the data, as with `:memory:`."""
        return not self.database.thread_safe or self.lives_in_a_connection

    @property
    def is_in_transaction(self) -> bool:
        """Return whether a transaction is open on this thread's or task's connection.

        It may have been opened by Peewee or by an SQL statement.
        """
        database = self.database
        if database.is_closed():
            return not self.is_async and bool(database.in_transaction())
        if database.in_transaction():
            return True
        connection = database.connection()
        if self.is_async:
            if connection.stale():
                return False
            connection = connection.conn
        return self.dialect.is_transaction_open(connection)


def backend_of(model: type[peewee.Model]) -> Backend:
    """Return the backend of the model at this moment.

    Raises `DslError` if a proxy or a deferred database is not initialised, or the database is not supported.
    """
    database = database_of(model)
    backend = backend_for(database)
    if backend is None:
        *others, last = (each.__name__ for each in DIALECTS)
        found = f"{type(database).__name__} is not supported"
        raise _unusable(model, found, f"use a {', '.join(others)} or {last} of peewee")
    return backend


def has_async_database(model: type[peewee.Model]) -> bool:
    """Return whether the database of a model is one of `playhouse.pwasyncio`.

    Its actions are the coroutines, such as `astart_session`.

    Args:
        model: The class with `@agent_session`.

    Returns:
        Whether it is asynchronous.

    Raises:
        DslError: The model has no database that the library supports.

    Example:
        ```python
        from agentsession.actions import has_async_database

        has_async_database(ChatAgent)
        ```
    """
    return backend_of(model).is_async


def backend_for(database: Any) -> Backend | None:
    """Return the backend of a Peewee database; None if the database is not supported.

    The dialect is that of its nearest class: a database may be a class of its own under PostgreSQL's.
    """
    for class_ in type(database).__mro__:
        if class_ in DIALECTS:
            return Backend(database, DIALECTS[class_], is_asynchronous(database))
    return None


def database_of(model: type[peewee.Model]) -> Any:
    """Return the database behind the model at this moment. Raises `DslError` if it is not initialised."""
    database = target_of_proxy(model._meta.database)
    if database is None or getattr(database, "deferred", False):
        found = "the model's database is not there yet"
        raise _unusable(model, found, "initialize the DatabaseProxy, or call database.init(…), first")
    return database


def target_of_proxy(database: Any) -> Any:
    """Return the database behind a proxy; None if the proxy is not initialised."""
    while isinstance(database, peewee.Proxy):
        database = database.obj
    return database


def is_asynchronous(database: Any) -> bool:
    """Return whether it is a database of `playhouse.pwasyncio`, without importing what needs greenlet."""
    module = sys.modules.get("playhouse.pwasyncio")
    return module is not None and isinstance(database, module.AsyncDatabaseMixin)


def is_seen_here_only(model: type[Any] | None, *, in_transaction: bool | None = None) -> bool:
    """Return whether only this thread, or task, sees the data of the model.

    It does if the data is in memory, or a transaction is open. `in_transaction` says whether a transaction
    is open, where that is known. Returns False for a class without a supported database.
    """
    if model is None or not issubclass(model, peewee.Model):
        return False
    try:
        backend = backend_of(model)
    except DslError:
        return False
    is_open = backend.is_in_transaction if in_transaction is None else in_transaction
    return is_open or backend.has_one_connection


def problem_with_rows(database: Any, where: str) -> Problem | None:
    """Return why the database cannot store messages in rows; None if it can."""
    database = target_of_proxy(database)
    module = sys.modules.get("playhouse.sqliteq")
    if module is None or not isinstance(database, module.SqliteQueueDatabase):
        return None
    return Problem(
        where,
        f"{type(database).__name__} has no transactions, and messages is 'rows'",
        "a message and its session are written in one transaction",
        "use peewee.SqliteDatabase or playhouse.pool.PooledSqliteDatabase, or leave messages='rows' out",
    )


def _unusable(model: type[peewee.Model], found: str, fix: str) -> DslError:
    where = f"[{info.qualified_name(model)}] Meta -> database"
    return DslError((Problem(where, found, "sessions are stored in the model's table", fix),))


@dataclass(frozen=True, eq=False)
class Declared:
    """A session model with its options, its message model and its database.

    It is made when an action begins and lives as long as the action, because a model may be bound to another
    database, and get its message model, between two actions. The database is looked up at its first use.
    """

    model: Any
    agent: AgentOptions
    options: SessionOptions

    @classmethod
    def of(cls, model: Any) -> Declared:
        """Resolve the options of a model. Raises `DslError` for a model without `@agent_session`."""
        options = info.session_options(model)
        return cls(model, info.agent_options(model), options)

    @cached_property
    def backend(self) -> Backend:
        """The model's database. Raises `DslError` if it is not initialised or not supported."""
        return backend_of(self.model)

    @cached_property
    def message_model(self) -> tuple[Any, str] | None:
        """The model of the messages and the name of its foreign key; None for a model without one."""
        return _registry.message_of(self.model)

    @cached_property
    def in_caller_transaction(self) -> bool:
        """Whether the caller had a transaction open when the action began."""
        return self.backend.is_in_transaction

    @property
    def name(self) -> str:
        """The model as errors name it: `module.Model`."""
        return info.qualified_name(self.model)

    @property
    def context_field(self) -> Any:
        return self.model._meta.fields[self.options.context_attribute]

    @property
    def owner_field(self) -> Any:
        """The field of the owner; None for a model without one."""
        name = self.options.owner_attribute
        return None if name is None else self.model._meta.fields[name]


def refuse_async(declared: Declared, action: str) -> None:
    """Raise `InputInvalid` if a plain action is called on an asynchronous database outside its `run`."""
    if not declared.backend.is_async or _is_bridged():
        return
    raise InputInvalid(
        f"{action} was called on an asynchronous database",
        where=declared.name,
        why="only a task can wait for it; nothing was read or stored",
        fix=f"await its async twin, a{action}(…), or await db.run({action}, …)",
    )


def _is_bridged() -> bool:
    """Return whether an asynchronous database runs this code on a greenlet."""
    from greenlet import getcurrent

    return getcurrent().parent is not None


class Stored(Protocol):
    """A stored session, or a list of sessions."""

    backend: Backend
    in_caller_transaction: bool


async def run_on_store(session: Stored, work: Callable[[], T]) -> T:
    """Run the work of an event loop where the session's database can be reached, and return its result.

    On an asynchronous Peewee database that is one of Peewee's greenlets. A caller's transaction, and
    `:memory:`, can be reached on the caller's thread only. All other work runs in a worker thread.
    """
    backend = session.backend
    if backend.is_async:
        return await backend.database.run(work)  # type: ignore[no-any-return]
    is_here = session.in_caller_transaction or backend.has_one_connection
    return work() if is_here else await STATEMENTS.run(work)
