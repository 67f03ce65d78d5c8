"""Opening a connection of a Peewee database, and replacing one."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import peewee


def opened(database: Any, dialect: Any) -> bool:
    """Open a connection; False where one was open. A dead one is replaced, outside transactions."""
    if database.is_closed():
        _connect(database)
        return True
    connection = database.connection()
    is_closed = connection.stale() if is_asynchronous(database) else dialect.is_closed(connection)
    if is_closed and database.in_transaction():
        raise peewee.OperationalError("the connection was lost inside a transaction")
    if is_closed:
        _replace(database, connection)
    return False


def _connect(database: Any) -> None:
    """Peewee leaves a connection open that it could not set up: one whose pragma failed, for example."""
    try:
        database.connect()
    except BaseException:
        if not database.is_closed():
            database.close()
        raise


def _replace(database: Any, dead: Any) -> None:
    """Open a connection in the place of a dead one.

    If that fails, the dead one stays in its place. So `is_closed()` says at every moment whether the caller
    still has to close a connection, and the library need not remember it: a caller who closes it while it
    cannot be replaced finds it closed afterwards. An asynchronous database closes a connection only once.
    """
    state, blocks = database._state, list(database._state.ctx)
    is_sync, close = not is_asynchronous(database), getattr(database, "manual_close", None)
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
        with suppress(Exception):  # a connection that is to be replaced need not be dead
            dead.close()


def renewed(database: Any, is_ours: bool) -> None:
    """Give up a connection that works, so that it does not go back to a pool, and open another one in its
    place. `is_ours`: the library has opened it, and opens the next one when it needs one."""
    if is_asynchronous(database):
        driver = database.connection().conn
        getattr(driver, "terminate", driver.close)()
    if not is_ours:
        _replace(database, database.connection())
    elif is_asynchronous(database):
        with suppress(Exception):  # asyncpg has taken it out of its pool already
            database.close()
    else:
        getattr(database, "manual_close", database.close)()


def is_asynchronous(database: Any) -> bool:
    """Is it one of `playhouse.pwasyncio`? Asked without importing what needs greenlet."""
    module = sys.modules.get("playhouse.pwasyncio")
    return module is not None and isinstance(database, module.AsyncDatabaseMixin)
