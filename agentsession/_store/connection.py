"""The connection of one effect, which is opened or replaced before the effect and closed after it.

A forked child opens its own connections: two processes that use one connection read each other's rows, and
Peewee does not notice a fork.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any
from weakref import WeakSet

import peewee

from agentsession._store.declared import Backend, Declared, backend_for, backend_of, database_of
from agentsession._store.error_notes import explain_missing, unknown_statement_error
from agentsession.errors import DslError

LOST = (peewee.OperationalError, peewee.InterfaceError)
"""What Peewee raises when a connection is lost, a server restarts, a lock times out."""

_checked: WeakSet[Any] = WeakSet()
"""The databases on which a session was read or stored in this process."""

_models: WeakSet[type[peewee.Model]] = WeakSet()
"""The session models, whose databases a forked child connects again."""

_parents_connections: list[object] = []
"""They are kept, because closing one would end the parent's session on the server."""


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
            raise unknown_statement_error(self.backend) from error
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


def renew_in_children(model: type[peewee.Model]) -> None:
    """Let each forked child begin without the connections of the model's database."""
    _models.add(model)


def _after_in_child() -> None:
    databases = {id(database): database for database in _checked}
    for model in [*_models]:
        with suppress(DslError):  # the database is not initialised yet
            database = database_of(model)
            databases[id(database)] = database
    for database in databases.values():
        _forget_connections(database)


def _forget_connections(database: Any) -> None:
    """Forget the connections of the parent. A database in memory stays: the child has a copy of it."""
    backend = backend_for(database)
    if backend is None or backend.lives_in_a_connection:
        return
    if backend.is_async:
        _forget_loops(database)
        return
    state, blocks = database._state, [*database._state.ctx]
    pool = (getattr(database, name, None) for name in ("_connections", "_in_use"))
    _parents_connections.append((state.conn, *pool))
    if database.thread_safe:  # another thread of the parent may have held the lock
        database._lock = threading.Lock()
    if hasattr(database, "_pool_lock"):
        database._pool_lock = threading.RLock()
        database._pool_available = threading.Condition(database._pool_lock)
    database.dispose()
    state.ctx[:] = blocks  # the child may leave the blocks in which its parent forked


def _forget_loops(database: Any) -> None:
    """Forget the connections of `playhouse.pwasyncio`, which belong to tasks and threads of the parent."""
    state = database._state
    _parents_connections.append((database._pool, dict(state._states), [*state._orphaned_conns]))
    state._states.clear()
    state._orphaned_conns.clear()
    state._release_tasks.clear()
    database._pool, database._pool_lock = None, asyncio.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
