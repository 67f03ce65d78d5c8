"""Several statements that are one write."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

import peewee

from agentsession._store.connecting import is_asynchronous


class Together:
    """A `with` block in which all that is written is stored, or nothing is. `inside`: in the caller's
    transaction.

    What it gives is to be called before each statement: Peewee's asynchronous databases replace a lost
    connection in the middle of a transaction, and would store the rest of it alone.
    """

    def __init__(self, database: Any, *, inside: bool) -> None:
        self.database = database
        self.block = peewee.Database.savepoint(database) if inside else database.atomic()
        self.connection: Any = None

    def __enter__(self) -> Callable[[], None]:
        self.block.__enter__()
        if not is_asynchronous(self.database):
            return _nothing
        self.connection = self.database.connection()
        return self._still_there

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or roll back after an error. The error is told even if the rollback fails as well."""
        raised = error if error is not None else self._lost()
        outside = sys.exception()
        try:
            self.block.__exit__(None if raised is None else type(raised), raised, trace)
        except Exception as failed:
            raised = raised or _first_of(failed, outside)
        if raised is not None and raised is not error:
            raise raised

    def _lost(self) -> peewee.OperationalError | None:
        """The error that says that the connection was lost; None while it is there."""
        try:
            if self.connection is not None:
                self._still_there()
        except peewee.OperationalError as lost:
            return lost
        return None

    def _still_there(self) -> None:
        connection = self.database.connection()
        if connection is not self.connection or connection.stale():
            raise peewee.OperationalError("the connection was lost inside a transaction")


def _nothing() -> None:
    """A driver that waits where it is called replaces no connection."""


def _first_of(failed: Exception, outside: BaseException | None) -> BaseException:
    """The error of a commit, where the rollback that Peewee makes after it has failed, too: SQLite has rolled
    back by itself if the disk is full. `outside` was raised before the commit."""
    first: BaseException = failed
    each = failed.__context__
    while each is not None and each is not outside:
        if isinstance(each, peewee.PeeweeException):
            first = each
        each = each.__context__
    return first
