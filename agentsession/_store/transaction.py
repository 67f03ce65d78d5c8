"""Transactions: those of the library, and those that user code must not leave open."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import peewee

from agentsession._store.declared import Backend, backend_for, target_of_proxy

LEFT_OPEN = "a transaction was left open; it is rolled back"


class Transaction:
    """A `with` block whose statements are all stored, or none of them is.

    `nested`: the block is part of the caller's transaction. The block receives a function that it calls
    before each statement. The function raises `OperationalError` if the connection was lost: Peewee's
    asynchronous databases replace a lost connection in the middle of a transaction, and would store the rest
    of it alone.
    """

    def __init__(self, backend: Backend, *, nested: bool) -> None:
        self.backend = backend
        database = backend.database
        self.block = peewee.Database.savepoint(database) if nested else database.atomic()
        self.connection: Any = None

    def __enter__(self) -> Callable[[], None]:
        self.block.__enter__()
        if not self.backend.is_async:
            return _nothing
        self.connection = self.backend.database.connection()
        return self._require_connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or roll back after an error. The error is raised also if the rollback fails."""
        raised = error if error is not None else self._loss()
        outside = sys.exception()
        try:
            self.block.__exit__(None if raised is None else type(raised), raised, trace)
        except Exception as failed:
            raised = raised or _first_of(failed, outside)
        if raised is not None and raised is not error:
            raise raised

    def _loss(self) -> peewee.OperationalError | None:
        """Return the error that says that the connection was lost; None if it was not."""
        try:
            if self.connection is not None:
                self._require_connection()
        except peewee.OperationalError as lost:
            return lost
        return None

    def _require_connection(self) -> None:
        connection = self.backend.database.connection()
        if connection is not self.connection or connection.stale():
            raise peewee.OperationalError("the connection was lost inside a transaction")


def _nothing() -> None:
    """A synchronous driver does not replace a connection."""


def _first_of(failed: Exception, outside: BaseException | None) -> BaseException:
    """Return the error of a commit after which Peewee's rollback has failed, too.

    If the disk is full, SQLite has already rolled back by itself. `outside` was raised before the commit.
    """
    first: BaseException = failed
    each = failed.__context__
    while each is not None and each is not outside:
        if isinstance(each, peewee.PeeweeException):
            first = each
        each = each.__context__
    return first


@contextmanager
def leaving_none_open(model: type[Any] | None) -> Iterator[None]:
    """Run user code (a tool, a hook) without leaving a connection or a transaction to the database open.

    A transaction that it leaves open is rolled back. Its writes are lost then, so the block raises
    `OperationalError`, unless it has raised an error of its own. A connection and a transaction that were
    open before stay open.
    """
    backend = _backend_of(model)
    if backend is None or backend.is_async or backend.is_in_transaction:
        yield
        return
    was_connected, is_open = backend.is_connected, False
    try:
        yield
    finally:
        if backend.is_connected:
            is_open = _roll_back(backend)
            if not was_connected and not backend.lives_in_a_connection:
                backend.database.close()
    if is_open:
        raise peewee.OperationalError(LEFT_OPEN)


def refuse_open_transaction(model: type[Any] | None) -> None:
    """Raise `OperationalError` if a tool in a task of its own leaves a transaction open on an asynchronous
    database. Peewee rolls it back, and releases the connection, at the end of the task."""
    backend = _backend_of(model)
    if backend is not None and backend.is_async and backend.database.in_transaction():
        raise peewee.OperationalError(LEFT_OPEN)


def _roll_back(backend: Backend) -> bool:
    """Roll back an open transaction. Returns whether one was open."""
    if not backend.is_in_transaction:
        return False
    database = backend.database
    while database.in_transaction():
        database.pop_transaction()
    with suppress(Exception):  # a lost connection has lost its transaction
        database.transaction().rollback(begin=False)
    return True


def _backend_of(model: type[Any] | None) -> Backend | None:
    """Return the backend of a model; None for another class, or a database that is not there or supported."""
    return backend_for(target_of_proxy(getattr(getattr(model, "_meta", None), "database", None)))
