"""Several statements that are one write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import peewee


@contextmanager
def together(database: Any, *, inside: bool) -> Iterator[Callable[[], None]]:
    """All that is written in the block is stored, or nothing is. `inside`: in the caller's transaction.

    What is given is to be called before each further statement: Peewee's asynchronous databases replace a
    lost connection in the middle of a transaction, and would store the second half of it alone.
    """
    connection = database.connection()

    def still_there() -> None:
        is_stale = getattr(database.connection(), "stale", bool)()
        if database.connection() is not connection or is_stale:
            raise peewee.OperationalError("the connection was lost inside a transaction")

    with peewee.Database.savepoint(database) if inside else database.atomic():
        yield still_there
        still_there()
