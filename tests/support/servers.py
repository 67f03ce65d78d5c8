"""The databases that the tests run on: SQLite always, PostgreSQL and MariaDB where a server answers.

`AGENTSESSION_TEST_POSTGRES` and `AGENTSESSION_TEST_MARIADB` are URLs of databases in which the tests may
create schemas. With `AGENTSESSION_TEST_SERVERS=required` a server that does not answer is a failure.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import peewee as pw
from playhouse.pool import PooledMySQLDatabase, PooledPostgresqlDatabase, PooledSqliteDatabase

BACKENDS = ("sqlite", "postgres", "mariadb")
REQUIRED = os.environ.get("AGENTSESSION_TEST_SERVERS") == "required"
POSTGRES = os.environ.get("AGENTSESSION_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
MARIADB = os.environ.get("AGENTSESSION_TEST_MARIADB", "mysql://root@127.0.0.1:3306/test")


class Recording(pw.Database):
    """Keeps each statement that is executed."""

    statements: list[str]

    def execute_sql(self, sql: str, *args: Any, **keywords: Any) -> Any:
        self.__dict__.setdefault("statements", []).append(sql)
        return super().execute_sql(sql, *args, **keywords)


class SqliteRecording(Recording, pw.SqliteDatabase):
    pass


class PostgresRecording(Recording, pw.PostgresqlDatabase):
    pass


class MariaRecording(Recording, pw.MySQLDatabase):
    pass


POOLS = {"sqlite": PooledSqliteDatabase, "postgres": PooledPostgresqlDatabase, "mariadb": PooledMySQLDatabase}
PLAIN = {"sqlite": SqliteRecording, "postgres": PostgresRecording, "mariadb": MariaRecording}


def place_of(backend: str, folder: Path) -> str:
    """A place for the tables of one test, as a URL that a child process can open, too."""
    if backend == "sqlite":
        return f"sqlite:///{folder / 'chat.db'}"
    require(backend)
    name = f"agentsession_{uuid4().hex[:12]}"
    if backend == "postgres":
        admin("postgres").execute_sql(f"create schema {name}")
        return f"{POSTGRES}?schema={name}"
    admin("mariadb").execute_sql(f"create database {name} character set utf8mb4")
    return f"{MARIADB.rsplit('/', 1)[0]}/{name}"


def open_database(url: Any, pool: int = 0) -> Any:
    """A database object for a place; `pool`: the size of the pool, 0 for none. Behind a `#` stands the layout
    of the sessions in it."""
    url, _, layout = (str(url) if "://" in str(url) else f"sqlite:///{url}").partition("#")
    opened = _opened(url, pool)
    opened.layout = layout or "document"
    return opened


def _opened(url: str, pool: int) -> Any:
    backend = backend_of(url)
    options: dict[str, Any] = {"max_connections": pool, "timeout": 20} if pool else {}
    kind: Any = (POOLS if pool else PLAIN)[backend]
    if backend == "sqlite":
        pragmas = {"journal_mode": "wal", "busy_timeout": 5000, "synchronous": "off"}
        options |= {"check_same_thread": False} if pool else {}
        return kind(url.removeprefix("sqlite:///"), pragmas=pragmas, **options)
    server = urlsplit(url)
    options |= {"user": server.username, "host": server.hostname, "port": server.port}
    if server.password:
        options["password"] = server.password
    name = server.path.strip("/")
    if backend == "mariadb":  # for TLS, PyMySQL reads all certificates of the system at each connection
        return kind(name, mariadb=True, ssl_disabled=True, **options)
    schema = server.query.partition("=")[2]
    search = {"options": f"-c search_path={schema} -c synchronous_commit=off"} if schema else {}
    return kind(name, prefer_psycopg3=True, **search, **options)


def open_async_database(url: str, pool_size: int = 2) -> Any:
    """A database object of `playhouse.pwasyncio` for a place; to be closed with `await db.close_pool()`."""
    url, _, layout = url.partition("#")
    opened = _opened_async(url, pool_size)
    opened.layout = layout or "document"
    return opened


def _opened_async(url: str, pool_size: int) -> Any:
    from playhouse import pwasyncio

    backend = backend_of(url)
    if backend == "sqlite":
        pragmas = {"journal_mode": "wal", "busy_timeout": 5000, "synchronous": "off"}
        path = url.removeprefix("sqlite:///")
        return pwasyncio.AsyncSqliteDatabase(path, pragmas=pragmas, pool_size=pool_size)
    server = urlsplit(url)
    options: dict[str, Any] = {"user": server.username, "host": server.hostname, "port": server.port}
    options |= {"password": server.password} if server.password else {}
    name = server.path.strip("/")
    if backend == "mariadb":
        return pwasyncio.AsyncMySQLDatabase(name, mariadb=True, pool_size=pool_size, **options)
    schema = server.query.partition("=")[2]
    settings = {"search_path": schema, "application_name": schema, "synchronous_commit": "off"}
    settings = settings if schema else {}
    return pwasyncio.AsyncPostgresqlDatabase(name, pool_size=pool_size, server_settings=settings, **options)


def backend_of(url: str) -> str:
    return {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mariadb"}[url.partition(":")[0]]


def remove(url: str) -> None:
    """Drop what `place_of` made."""
    url = url.partition("#")[0]
    backend = backend_of(url)
    if backend == "postgres":
        admin(backend).execute_sql(f"drop schema {url.partition('=')[2]} cascade")
    elif backend == "mariadb":
        admin(backend).execute_sql(f"drop database {url.rsplit('/', 1)[1]}")


def require(backend: str) -> None:
    """Skip the test where there is no such server, or fail where it is required."""
    reason = unreachable(backend)
    if reason is None:
        return
    import pytest  # which the processes that tests start do without

    if REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def unreachable(backend: str) -> str | None:
    try:
        admin(backend).execute_sql("select 1")
    except (pw.OperationalError, pw.InterfaceError, pw.ImproperlyConfigured) as error:
        return f"no {backend} server answers: {' '.join(str(error).split())}"
    return None


@cache
def admin(backend: str) -> Any:
    """A connection of the test run's own."""
    return open_database(POSTGRES if backend == "postgres" else MARIADB)
