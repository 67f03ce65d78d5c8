"""Statements whose SQL text is built once, and run many times with other values.

For Peewee the text of a statement takes longer than the statement itself takes on SQLite.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import peewee

from agentsession import _clock
from agentsession._store.declared import Backend
from agentsession._store.dialects.base import parameter

MAX_STATEMENTS = 200
"""Statements that are kept for one model."""

FAKE_NOW = "agentsession_now"


class Placeholder:
    """Stands for a value in the parameters of a statement."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def placeholder(name: str) -> peewee.Value:
    """Return a parameter that gets its value when the statement is run. No field converts it."""
    return parameter(Placeholder(name))


class Statement:
    """The SQL text of a query and its parameters, some of which are placeholders."""

    def __init__(self, database: Any, query: Any) -> None:
        self.text, parameters = database.get_sql_context().sql(query).query()
        self._parameters = [*parameters]
        self._placeholders = [
            (position, each.name) for position, each in enumerate(parameters) if type(each) is Placeholder
        ]

    def run(self, database: Any, values: Mapping[str, Any]) -> Any:
        """Run the statement with these values for its placeholders, and return the cursor."""
        parameters = [*self._parameters]
        for position, name in self._placeholders:
            parameters[position] = values[name]
        return database.execute_sql(self.text, parameters)


_as_peewee_errors: Any = vars(peewee)["__exception_wrapper__"]

_statements_of: WeakKeyDictionary[Any, dict[Hashable, Statement]] = WeakKeyDictionary()


class Table:
    """The table of a model in one database, and the statements that are kept for it.

    Rows are read from the driver's cursor, which is faster than Peewee's.
    """

    def __init__(self, model: type[peewee.Model], backend: Backend) -> None:
        self.model = model
        self.meta: Any = model._meta
        self.backend = backend
        self.dialect = backend.dialect
        self._fake_clock = _clock.fake.get()
        self._statements = _statements_of.setdefault(model, {})
        is_real_clock = self._fake_clock is None
        self._key = (backend.database, self.meta.schema, self.meta.table_name, is_real_clock)

    def now(self) -> Any:
        """Return the database's clock in seconds since 1970, as an expression."""
        if self._fake_clock is None:
            return self.dialect.now()
        return self.dialect.seconds(placeholder(FAKE_NOW))

    def write(self, shape: Hashable | None, query: Callable[[], Any], values: Mapping[str, Any]) -> int:
        """Run a query and return the number of rows that it has changed."""
        return int(self.backend.database.rows_affected(self.run(shape, query, values)))

    def read(self, shape: Hashable | None, query: Callable[[], Any], values: Mapping[str, Any]) -> list[Any]:
        """Run a query and return its rows as tuples."""
        cursor = self.run(shape, query, values)
        with _as_peewee_errors:
            return list(cursor.fetchall())

    def run(self, shape: Hashable | None, query: Callable[[], Any], values: Mapping[str, Any]) -> Any:
        """Run a query and return the cursor.

        The query is built once for each `shape`. If the shape is None, it is built for this time only.
        """
        database = self.backend.database
        if self._fake_clock is not None:
            values = {FAKE_NOW: self._fake_clock.seconds, **values}
        if shape is None:
            return Statement(database, query()).run(database, values)
        key = (self._key, shape)
        statement = self._statements.get(key)
        if statement is None:
            if len(self._statements) >= MAX_STATEMENTS:
                self._statements.clear()
            statement = self._statements[key] = Statement(database, query())
        return statement.run(database, values)
