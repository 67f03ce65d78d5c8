"""The statements on a driver's connection: SQLite traces them, libpq logs what the server says of each."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Callable
from typing import Any

from psycopg.pq import Trace

DONE = re.compile(rb"^B\t\d+\tCommandComplete\t \"(\w+)", re.MULTILINE)
TRANSACTION = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")
READS = ("SELECT", "PRAGMA")


def verbs(connection: Any, act: Callable[[], object]) -> list[str]:
    """The first word of each statement that the act executes on this connection."""
    trace = _sqlite_verbs if isinstance(connection, sqlite3.Connection) else _postgres_verbs
    return [verb.upper() for verb in trace(connection, act)]


def commits(executed: list[str]) -> int:
    """How often something was made durable: by COMMIT, or by a write outside a transaction."""
    count, inside = 0, False
    for verb in executed:
        if verb in ("BEGIN", "COMMIT", "ROLLBACK"):
            inside = verb == "BEGIN"
            count += verb == "COMMIT"
        elif verb not in READS and not inside:
            count += 1
    return count


def statements(executed: list[str]) -> int:
    """Those that begin and end transactions are not counted."""
    return sum(verb not in TRANSACTION for verb in executed)


def _sqlite_verbs(connection: Any, act: Callable[[], object]) -> list[str]:
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    try:
        act()
    finally:
        connection.set_trace_callback(None)
    return [sql.split(maxsplit=1)[0] for sql in seen if not sql.startswith("--")]


def _postgres_verbs(connection: Any, act: Callable[[], object]) -> list[str]:
    with tempfile.TemporaryFile() as log:
        connection.pgconn.trace(log.fileno())
        connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        try:
            act()
        finally:
            connection.pgconn.untrace()
        log.seek(0)
        return [verb.decode() for verb in DONE.findall(log.read())]
