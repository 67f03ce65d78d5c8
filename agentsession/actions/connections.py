"""The database of a model, as the caller of an action needs to know it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import peewee

from agentsession._store.connection import released
from agentsession._store.declared import backend_of


def has_async_database(model: type[peewee.Model]) -> bool:
    """Return whether the database of a model is one of `playhouse.pwasyncio`.

    Its actions are the coroutines, such as `astart_session`.

    Args:
        model: The class with `@agent_session`.

    Returns:
        Whether it is asynchronous.

    Raises:
        DslError: The model has no database that the library supports.

    Example:
        ```python
        from agentsession.actions import has_async_database

        has_async_database(ChatAgent)
        ```
    """
    return backend_of(model).is_async


def release_connection(model: type[peewee.Model]) -> AbstractContextManager[None]:
    """Return a context manager that closes the caller's connection, and opens it again at the end.

    An action closes the connections that it opens itself. It leaves the caller's connection open, also while
    the model replies, which may take minutes. A web application that opens a connection for each request runs
    a turn inside this context manager, so that the pool serves other requests meanwhile.

    The connection is opened again only inside `with database.connection_context():`, because Peewee opens it
    at its next use elsewhere. Nothing happens inside a transaction, for `:memory:`, and without an open
    connection.

    Args:
        model: The class with `@agent_session`. The connection is one of its database.

    Returns:
        The context manager.

    Raises:
        peewee.OperationalError: At the end of the block, the connection cannot be opened again.

    Example:
        ```python
        from agentsession.actions import continue_session, release_connection

        with release_connection(ChatAgent):
            continue_session(ChatAgent, session.id, "And on Sundays?")
        ```
    """
    return released(model)
