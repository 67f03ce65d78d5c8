"""A forked child opens its own connections to the databases of the models.

Two processes that use one connection read each other's rows. Peewee does not notice a fork: the child would
use the connection that its parent has open, and those in the parent's pool.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import peewee

from agentsession._store.connection import used_databases
from agentsession._store.declared import backend_for, database_of
from agentsession.errors import DslError

_models: WeakSet[type[peewee.Model]] = WeakSet()

_parents_connections: list[object] = []
"""They are kept, because to close one would end the parent's session on the server."""


def renew_in_children(model: type[peewee.Model]) -> None:
    """Let each forked child begin without the connections of the model's database."""
    _models.add(model)


def _after_in_child() -> None:
    databases = {id(database): database for database in used_databases()}
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
