"""A connection that an app holds for the length of a request, given back before the model is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import peewee

from agentsession.store.connection import database_of, has_one_connection, in_transaction, is_connected


@contextmanager
def released(model: type[peewee.Model]) -> Iterator[None]:
    """Without the connection that the caller has open. In `with db.connection_context():` there is one again
    afterwards, elsewhere Peewee opens it where it is used. Inside a transaction nothing is done."""
    database = database_of(model)
    if not is_connected(model) or has_one_connection(model) or in_transaction(model):
        yield
        return
    blocks = list(database._state.ctx)
    database.close()
    try:
        yield
    finally:
        if blocks:
            try:
                database.connect(reuse_if_open=True)  # a provider of the user's may have opened one
            finally:
                database._state.ctx[:] = blocks  # Peewee forgets them with the connection
