"""Statements that are put together once and run many times.

Peewee spends more time on the text of a statement than a small database on its work. What differs from one
run to the next is `given` by name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import peewee

from agentsession import _clock
from agentsession._store.connection import database_of, dialect_of
from agentsession._store.expression import plain

MOST = 200
"""Statements that are kept for one model."""

NOW = "agentsession_now"


class Given:
    """Stands for a value in a statement."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def given(name: str) -> peewee.Value:
    """A parameter that is filled in when the statement is run, and that no field converts."""
    return plain(Given(name))


class Statement:
    """The text of a query, and its parameters, some of which are still `Given`."""

    def __init__(self, database: Any, query: Any) -> None:
        self.text, self.parameters = database.get_sql_context().sql(query).query()

    def run(self, database: Any, values: Mapping[str, Any]) -> Any:
        """The cursor."""
        return database.execute_sql(
            self.text, [values[each.name] if type(each) is Given else each for each in self.parameters]
        )


_as_peewee_errors: Any = vars(peewee)["__exception_wrapper__"]

_kept: WeakKeyDictionary[Any, dict[Hashable, Statement]] = WeakKeyDictionary()


class Table:
    """The table of a model in its database of now, and the statements that were run on it."""

    def __init__(self, model: type[peewee.Model]) -> None:
        self.model = model
        self.meta: Any = model._meta
        self.database = database_of(model)
        self.dialect = dialect_of(model)
        self._fake = _clock.fake.get()
        self._kept = _kept.setdefault(model, {})
        self._place = (self.database, self.meta.schema, self.meta.table_name, self._fake is None)

    def now(self) -> Any:
        """The database's clock in seconds since 1970."""
        return self.dialect.now() if self._fake is None else self.dialect.seconds(given(NOW))

    def run(self, shape: Hashable | None, query: Callable[[], Any], values: Mapping[str, Any]) -> Any:
        """The cursor of the query, which is the same for each `shape`; None: for this time only."""
        if self._fake is not None:
            values = {NOW: self._fake.seconds, **values}
        if shape is None:
            return Statement(self.database, query()).run(self.database, values)
        key = (self._place, shape)
        statement = self._kept.get(key)
        if statement is None:
            if len(self._kept) >= MOST:
                self._kept.clear()
            statement = self._kept[key] = Statement(self.database, query())
        return statement.run(self.database, values)

    def changed(self, shape: Hashable | None, query: Callable[[], Any], values: Mapping[str, Any]) -> int:
        """The number of rows that a write has changed."""
        return int(self.database.rows_affected(self.run(shape, query, values)))

    def rows(self, shape: Hashable | None, query: Callable[[], Any], values: Mapping[str, Any]) -> list[Any]:
        """The rows that a query finds, as tuples."""
        cursor = self.run(shape, query, values)
        with _as_peewee_errors:
            return list(cursor.fetchall())
