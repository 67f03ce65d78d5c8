"""The connection of one effect, which is opened or replaced before the effect and closed after it.

Errors of the database get a note that says how to fix them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any
from weakref import WeakSet

import peewee

from agentsession import info
from agentsession._store.declared import Backend, Declared, backend_of
from agentsession.errors import DslError, InputInvalid, Problem

LOST = (peewee.OperationalError, peewee.InterfaceError)
"""What Peewee raises when a connection is lost, a server restarts, a lock times out."""

_checked: WeakSet[Any] = WeakSet()


def used_databases() -> list[Any]:
    """Return the databases on which a session was read or stored in this process."""
    return [*_checked]


class connected:  # noqa: N801
    """A connection for one effect: the open one of the thread or task, or one that is closed afterwards.

    A connection that the caller has opened stays open, also if it had to be replaced because the server has
    ended it. The connection of an in-memory database stays open, because it holds the data.
    """

    def __init__(self, declared: Declared) -> None:
        self.declared = declared
        self.backend = declared.backend
        self.is_ours = False

    def __enter__(self) -> None:
        database = self.backend.database
        try:
            self.is_ours = _open(self.backend)
            if database not in _checked:
                self.backend.dialect.check_settings(database)
                _checked.add(database)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kind = self.backend.dialect.error_kind(error) if isinstance(error, Exception) else None
        # After a failover the old server refuses writes on the connections that were open before. A
        # transaction of the caller stays on its connection.
        is_stuck = kind == "read_only" and not self.backend.is_in_transaction
        if is_stuck:
            _give_up(self.backend, self.is_ours)
        elif self.is_ours and not self.backend.lives_in_a_connection:
            self.backend.database.close()
        if error is None:
            return
        explain_missing(error, self.declared)
        if not isinstance(error, Exception):
            return
        if kind == "unknown_statement":
            raise _pooled(self.backend) from error
        is_lost = self.backend.is_async and (kind == "lost" or isinstance(error, OSError))
        if is_stuck or is_lost:
            raise peewee.OperationalError(error, *error.args) from error


@contextmanager
def release_connection(model: type[peewee.Model]) -> Iterator[None]:
    """Close the caller's connection for a `with` block, and open it again at the end.

    An action closes the connections that it opens itself. It leaves the caller's connection open, also while
    the model replies, which may take minutes. A web application that opens a connection for each request runs
    a turn inside this context manager, so that the pool serves other requests meanwhile.

    The connection is opened again only inside `with database.connection_context():`, because Peewee opens it
    at its next use elsewhere. Nothing happens inside a transaction, for `:memory:`, and without an open
    connection.

    Args:
        model: The class with `@agent_session`. The connection is one of its database.

    Yields:
        None.

    Raises:
        peewee.OperationalError: At the end of the block, the connection cannot be opened again.

    Example:
        ```python
        from agentsession.actions import continue_session, release_connection

        with release_connection(ChatAgent):
            continue_session(ChatAgent, session.id, "And on Sundays?")
        ```
    """
    backend = backend_of(model)
    database = backend.database
    if not backend.is_connected or backend.has_one_connection or backend.is_in_transaction:
        yield
        return
    blocks = list(database._state.ctx)
    database.close()
    try:
        yield
    finally:
        if blocks:
            try:
                database.connect(reuse_if_open=True)  # user code in the block may have opened one
            finally:
                database._state.ctx[:] = blocks  # Peewee forgets them with the connection


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


def _open(backend: Backend) -> bool:
    """Return whether a connection had to be opened. Outside transactions, a dead one is replaced."""
    database = backend.database
    if database.is_closed():
        _connect(database)
        return True
    connection = database.connection()
    is_closed = connection.stale() if backend.is_async else backend.dialect.is_closed(connection)
    if is_closed and database.in_transaction():
        raise peewee.OperationalError("the connection was lost inside a transaction")
    if is_closed:
        _replace(backend, connection)
    return False


def _connect(database: Any) -> None:
    try:
        database.connect()
    except BaseException:
        if not database.is_closed():  # Peewee leaves a connection open whose pragma failed, for example
            database.close()
        raise


def _replace(backend: Backend, dead: Any) -> None:
    """Open a connection in the place of a dead one. If that fails, the dead one stays in its place.

    So `is_closed()` always says whether the caller has a connection to close, and the library does not have
    to remember it. An asynchronous database closes a connection only once.
    """
    database = backend.database
    state, blocks = database._state, list(database._state.ctx)
    is_sync, close = not backend.is_async, getattr(database, "manual_close", None)
    if close is not None:  # the connection gives its place in the pool to the next one
        close()
    elif is_sync:
        state.reset()
    else:
        database.close()
    try:
        _connect(database)
    except BaseException:
        if is_sync:
            state.set_connection(dead)
        raise
    finally:
        state.ctx[:] = blocks  # Peewee forgets the caller's `with db.connection_context():`
    if is_sync and close is None:
        with suppress(Exception):  # a connection that is to be replaced may still be alive
            dead.close()


def _give_up(backend: Backend, is_ours: bool) -> None:
    """Close a connection that works, so that it does not return to a pool.

    A connection of the caller (not `is_ours`) is replaced. The library opens its own when it needs one.
    """
    database = backend.database
    if backend.is_async:
        driver = database.connection().conn
        getattr(driver, "terminate", driver.close)()
    if not is_ours:
        _replace(backend, database.connection())
    elif backend.is_async:
        with suppress(Exception):  # asyncpg has taken it out of its pool already
            database.close()
    else:
        getattr(database, "manual_close", database.close)()


def _pooled(backend: Backend) -> DslError:
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
            if _names(text, table._meta.table_name):
                found = f"the database has no table {table._meta.table_name!r}"
                fix = f"call create_tables([{names}]) on the database, or run your migrations"
                _note(error, model, found, fix)
                return
    elif kind == "no_column":
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


def _note(error: BaseException, model: Any, found: str, fix: str) -> None:
    note = f"[{info.qualified_name(model)}] {found}\n  Fix: {fix}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
