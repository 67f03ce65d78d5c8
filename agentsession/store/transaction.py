"""Several statements that are one write."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import peewee

from agentsession.store.connection import is_asynchronous


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
        try:
            if error is None and self.connection is not None:
                self._still_there()
        except peewee.OperationalError as lost:
            self.block.__exit__(type(lost), lost, lost.__traceback__)
            raise
        self.block.__exit__(kind, error, trace)

    def _still_there(self) -> None:
        connection = self.database.connection()
        if connection is not self.connection or connection.stale():
            raise peewee.OperationalError("the connection was lost inside a transaction")


def _nothing() -> None:
    """A driver that waits where it is called replaces no connection."""
