"""What an error of a database driver tells about the connection, where Peewee does not say it."""

from __future__ import annotations

LOST_CLASSES = frozenset({"08", "28", "3D", "40", "53", "54", "55", "57", "58"})
"""PostgreSQL's classes of errors that psycopg calls operational, at a statement or at the connection."""

CONFUSED = "InternalClientError"
"""What asyncpg raises, and ends the connection, where the server's farewell came before the statement."""

PREPARED = frozenset({"26000", "42P05"})
"""PostgreSQL's errors for a prepared statement that does not exist, and for one that exists already."""


READ_ONLY, READ_ONLY_NUMBERS = "25006", frozenset({1290, 1836})
"""The errors for a write on a server that takes none: PostgreSQL's, and those of MariaDB and MySQL."""


def tells_of_a_loss(error: Exception) -> bool:
    """Does an asynchronous driver say that the connection is lost?

    Peewee knows an error of asyncpg by its class's name or its first base's, and most by neither.
    """
    if isinstance(error, OSError) or type(getattr(error, "orig", error)).__name__ == CONFUSED:
        return True
    return _sqlstate(error)[:2] in LOST_CLASSES


def tells_of_a_read_only_server(error: Exception) -> bool:
    """Return whether the server refused a write because it is read-only.

    After a failover the old server refuses writes on the connections that were open before.
    """
    number = next(iter(getattr(error, "orig", error).args), None)
    return _sqlstate(error) == READ_ONLY or (isinstance(number, int) and number in READ_ONLY_NUMBERS)


def tells_of_a_pooler(error: Exception) -> bool:
    """Return whether the server does not know a statement that the driver has prepared.

    A pooler in transaction mode causes this: it gives the driver another connection to the server.
    """
    return _sqlstate(error) in PREPARED


def _sqlstate(error: Exception) -> str:
    """PostgreSQL's code of an error of psycopg, psycopg2 or asyncpg; empty for all others."""
    driver = getattr(error, "orig", error)
    return str(getattr(driver, "sqlstate", None) or getattr(driver, "pgcode", None) or "")
