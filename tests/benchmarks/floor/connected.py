"""What both floors share: a driver's connection, the tables, and the messages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import msgspec
import psycopg

from tests.benchmarks.places import PRAGMAS, file_of, is_sqlite, schema_of
from tests.benchmarks.texts import Texts
from tests.support.servers import POSTGRES


class Message(msgspec.Struct):
    """The same columns, or keys, as a message of ours."""

    id: str
    turn: str
    role: str
    content: str | list[dict[str, Any]] | dict[str, Any]
    metadata: dict[str, Any]


class Floor:
    """Has the methods of a `Side`. No connection is held while the model is asked, unless one is open."""

    name = "floor"
    tables: ClassVar[tuple[str, ...]]

    def __init__(self, url: str, seed: int) -> None:
        self.url = url
        self.texts = Texts(seed)
        self.connection: Any = None
        self.is_sqlite = is_sqlite(url)
        with self.connected():
            for table in self.tables:
                self.run(self.typed(table))

    def connect(self) -> None:
        self.connection = open_sqlite(self.url) if self.is_sqlite else open_postgres(self.url)

    def disconnect(self) -> None:
        self.connection.close()
        self.connection = None

    @contextmanager
    def connected(self) -> Iterator[None]:
        opened = self.connection is None
        if opened:
            self.connect()
        try:
            yield
        finally:
            if opened:
                self.disconnect()

    def run(self, sql: str, values: Sequence[Any] = ()) -> Any:
        return self.connection.execute(sql, values)

    def typed(self, sql: str) -> str:
        """The statement as this database takes it; written for SQLite, with `json` where JSON is read."""
        if self.is_sqlite:
            return sql.replace("::text", "")
        sql = sql.replace("integer primary key", "bigserial primary key").replace(" json", " jsonb")
        return sql.replace("?", "%s").replace("begin immediate", "begin")

    def seeded(self, length: int) -> str:
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError

    def turn(self, key: str) -> None:
        raise NotImplementedError

    def read(self, key: str) -> Sequence[Any]:
        raise NotImplementedError


def open_sqlite(url: str) -> sqlite3.Connection:
    connection = sqlite3.connect(file_of(url), isolation_level=None)
    for name, value in PRAGMAS.items():
        connection.execute(f"pragma {name} = {value}")
    return connection


def open_postgres(url: str) -> psycopg.Connection:
    return psycopg.connect(POSTGRES, autocommit=True, options=f"-c search_path={schema_of(url)}")
