"""The databases that the tests run on: SQLite always, PostgreSQL and MariaDB where a server answers.

`AGENTSESSION_TEST_POSTGRES` and `AGENTSESSION_TEST_MARIADB` are URLs of databases in which the tests may
create schemas. With `AGENTSESSION_TEST_SERVERS=required` a server that does not answer is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import peewee as pw
from playhouse.pool import PooledMySQLDatabase, PooledPostgresqlDatabase, PooledSqliteDatabase

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


@dataclass(frozen=True, kw_only=True)
class DatabaseServer:
    """A database server of the tests.

    `url` is a database in which the tests may create schemas. `layout` is that of its tests in the short
    matrix. Each test has a schema of its own; where `has_schemas` is False, it has a database of its own.
    `asynchronous` is the name of a class of `playhouse.pwasyncio`. `options` and `async_options` return what
    the classes take for a schema ("" for none).
    """

    url: str
    layout: str
    plain: Any
    pool: Any
    asynchronous: str
    has_schemas: bool
    create: str
    drop: str
    options: Callable[[str], dict[str, Any]]
    async_options: Callable[[str], dict[str, Any]]

    def url_of(self, schema: str) -> str:
        return f"{self.url}?schema={schema}" if self.has_schemas else f"{self.url.rsplit('/', 1)[0]}/{schema}"


def _postgres_options(schema: str) -> dict[str, Any]:
    search = {"options": f"-c search_path={schema} -c synchronous_commit=off"} if schema else {}
    return {"prefer_psycopg3": True, **search}


def _async_postgres_options(schema: str) -> dict[str, Any]:
    settings = {"search_path": schema, "application_name": schema, "synchronous_commit": "off"}
    return {"server_settings": settings if schema else {}}


SERVERS = {
    "postgres": DatabaseServer(
        url=POSTGRES,
        layout="rows",
        plain=PostgresRecording,
        pool=PooledPostgresqlDatabase,
        asynchronous="AsyncPostgresqlDatabase",
        has_schemas=True,
        create="create schema {}",
        drop="drop schema {} cascade",
        options=_postgres_options,
        async_options=_async_postgres_options,
    ),
    "mariadb": DatabaseServer(
        url=MARIADB,
        layout="document",
        plain=MariaRecording,
        pool=PooledMySQLDatabase,
        asynchronous="AsyncMySQLDatabase",
        has_schemas=False,
        create="create database {} character set utf8mb4",
        drop="drop database {}",
        # for TLS, PyMySQL reads all certificates of the system at each connection
        options=lambda _: {"mariadb": True, "ssl_disabled": True},
        async_options=lambda _: {"mariadb": True},
    ),
}
"""The servers, by their names in the markers. The tests of the matrix run on each of them."""

BACKENDS = ("sqlite", *SERVERS)
PLAIN = (SqliteRecording, *(server.plain for server in SERVERS.values()))


def place_of(backend: str, folder: Path) -> str:
    """A place for the tables of one test, as a URL that a child process can open, too."""
    if backend == "sqlite":
        return f"sqlite:///{folder / 'chat.db'}"
    require(backend)
    schema = f"agentsession_{uuid4().hex[:12]}"
    admin(backend).execute_sql(SERVERS[backend].create.format(schema))
    return SERVERS[backend].url_of(schema)


def open_database(url: Any, pool: int = 0) -> Any:
    """A database object for a place; `pool`: the size of the pool, 0 for none. Behind a `#` stands the layout
    of the sessions in it."""
    url, _, layout = (str(url) if "://" in str(url) else f"sqlite:///{url}").partition("#")
    opened = _opened(url, pool)
    opened.layout = layout or "document"
    return opened


def _opened(url: str, pool: int) -> Any:
    options: dict[str, Any] = {"max_connections": pool, "timeout": 20} if pool else {}
    backend = backend_of(url)
    if backend == "sqlite":
        pragmas = {"journal_mode": "wal", "busy_timeout": 5000, "synchronous": "off"}
        options |= {"check_same_thread": False} if pool else {}
        kind: Any = PooledSqliteDatabase if pool else SqliteRecording
        return kind(url.removeprefix("sqlite:///"), pragmas=pragmas, **options)
    server = SERVERS[backend]
    name, schema, address = _parts(url)
    kind = server.pool if pool else server.plain
    return kind(name, **address, **server.options(schema), **options)


def _parts(url: str) -> tuple[str, str, dict[str, Any]]:
    """Return the name of the database, that of the schema, and the options of the address."""
    server = urlsplit(url)
    address: dict[str, Any] = {"user": server.username, "host": server.hostname, "port": server.port}
    address |= {"password": server.password} if server.password else {}
    return server.path.strip("/"), server.query.partition("=")[2], address


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
    name, schema, address = _parts(url)
    server = SERVERS[backend]
    kind = getattr(pwasyncio, server.asynchronous)
    return kind(name, pool_size=pool_size, **address, **server.async_options(schema))


def backend_of(url: str) -> str:
    scheme = url.partition(":")[0]
    return next((name for name, each in SERVERS.items() if each.url.startswith(f"{scheme}:")), "sqlite")


def remove(url: str) -> None:
    """Drop what `place_of` made."""
    backend = backend_of(url)
    if backend != "sqlite":
        name, schema, _ = _parts(url.partition("#")[0])
        admin(backend).execute_sql(SERVERS[backend].drop.format(schema or name))


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
    return open_database(SERVERS[backend].url)
