"""A forked child opens its own connections to the databases of the models.

Two processes that use one connection read each other's rows. Peewee does not notice a fork: the child would
use the connection that its parent has open, and those that lie in the parent's pool.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import peewee

from agentsession._store.connecting import is_asynchronous
from agentsession._store.connection import database_of, dialect_for, lives_in_a_connection, used_databases
from agentsession.errors import DslError

_models: WeakSet[type[peewee.Model]] = WeakSet()

_inherited: list[object] = []
"""Connections of the parent. They are kept, because to close one may end it on the server."""


def renew_in_children(model: type[peewee.Model]) -> None:
    """Let each forked child begin without the connections of the model's database."""
    _models.add(model)


def _after_in_child() -> None:
    databases = {id(database): database for database in used_databases()}
    for model in [*_models]:
        with suppress(DslError):  # the database is not there yet
            database = database_of(model)
            databases[id(database)] = database
    for database in databases.values():
        _forget_connections(database)


def _forget_connections(database: Any) -> None:
    """A database in memory stays: the child has a copy of it."""
    dialect = dialect_for(database)
    if dialect is None or lives_in_a_connection(database, dialect):
        return
    if is_asynchronous(database):
        _forget_loops(database)
        return
    state, blocks = database._state, [*database._state.ctx]
    _inherited.append((state.conn, *(getattr(database, name, None) for name in ("_connections", "_in_use"))))
    if database.thread_safe:  # another thread of the parent may have held the lock
        database._lock = threading.Lock()
    if hasattr(database, "_pool_lock"):
        database._pool_lock = threading.RLock()
        database._pool_available = threading.Condition(database._pool_lock)
    database.dispose()
    state.ctx[:] = blocks  # the child may leave the blocks in which its parent forked


def _forget_loops(database: Any) -> None:
    """The connections of `playhouse.pwasyncio` belong to tasks, and some to threads, of the parent."""
    state = database._state
    _inherited.append((database._pool, dict(state._states), [*state._orphaned_conns]))
    state._states.clear()
    state._orphaned_conns.clear()
    state._release_tasks.clear()
    database._pool, database._pool_lock = None, asyncio.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
