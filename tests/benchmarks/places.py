"""Where the tables live: SQLite on disk and in memory, PostgreSQL where a server answers.

SQLite is in WAL mode with synchronous=NORMAL, for both sides; AGENTSESSION_BENCHMARK_SYNCHRONOUS=full makes
each commit wait for the disk.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import peewee as pw

from tests.support import servers

PRAGMAS: dict[str, Any] = {
    "journal_mode": "wal",
    "busy_timeout": 5000,
    "synchronous": os.environ.get("AGENTSESSION_BENCHMARK_SYNCHRONOUS", "normal").lower(),
}


@dataclass(frozen=True)
class Place:
    """`folder` is where the SQLite files go; without one it is the server."""

    key: str
    name: str
    folder: Path | None = None

    @property
    def missing(self) -> str | None:
        """Why nothing can be measured here."""
        if self.folder is None:
            return servers.unreachable("postgres")
        return None if os.access(self.folder, os.W_OK) else f"{self.folder} is no folder to write to"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a database that is gone afterwards."""
        if self.folder is not None:
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                yield f"sqlite:///{folder}/chat.db"
            return
        url = servers.place_of("postgres", Path())
        try:
            yield url
        finally:
            servers.remove(url)


PLACES = (
    Place("memory", "SQLite, memory-backed", Path("/dev/shm")),
    Place("disk", "SQLite, disk", Path(tempfile.gettempdir())),
    Place("postgres", "PostgreSQL"),
)


@contextmanager
def another_connection(url: str) -> Iterator[None]:
    """Held by nobody who works: whoever closes the last one of a SQLite file pays for a checkpoint."""
    if not is_sqlite(url):
        yield
        return
    with closing(sqlite3.connect(file_of(url))) as connection:
        connection.execute("select count(*) from sqlite_master").fetchall()
        yield


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite:")


def file_of(url: str) -> str:
    return url.removeprefix("sqlite:///")


def schema_of(url: str) -> str:
    return urlsplit(url).query.partition("=")[2]


def open_peewee(url: str) -> Any:
    if is_sqlite(url):
        return pw.SqliteDatabase(file_of(url), pragmas=PRAGMAS)
    server = urlsplit(url)
    options: dict[str, Any] = {"user": server.username, "host": server.hostname, "port": server.port}
    options |= {"password": server.password} if server.password else {}
    search = f"-c search_path={schema_of(url)}"
    return pw.PostgresqlDatabase(server.path.strip("/"), prefer_psycopg3=True, options=search, **options)
