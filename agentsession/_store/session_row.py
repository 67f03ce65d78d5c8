"""The row of a session: the condition that finds it, how it is read and deleted, and the record of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import peewee

from agentsession._json_values import JsonMap
from agentsession._options import ROWS, SessionOptions
from agentsession._store.connection import connected
from agentsession._store.declared import Declared
from agentsession._store.identity import column_value, primary_key_of
from agentsession._store.message_table import MessageTable
from agentsession._store.record import CLAIM, SEEN
from agentsession._store.statement import Table, placeholder
from agentsession._store.transaction import Transaction
from agentsession.errors import SessionNotFound


class SessionRow:
    """One row during one action.

    Attributes:
        record: The row as the caller receives it.
        columns: The values of the columns that were read last, without the context.
        owner: The value of the owner attribute to which every query is limited; None without one.
        in_caller_transaction: Whether the caller had a transaction open when the action began.
    """

    def __init__(self, declared: Declared, session: Any, owner: Any = None) -> None:
        self.declared = declared
        self.model = declared.model
        self.options = declared.options
        self.backend = declared.backend
        self.owner = owner
        self.table = Table(declared.model, declared.backend)
        self.dialect, self.meta = self.table.dialect, self.table.meta
        self.column: peewee.Field = declared.context_field
        self.record: Any = session if isinstance(session, peewee.Model) else None
        self.key = primary_key_of(declared.model, session)
        self.found_by: tuple[Any, Any] = (self.meta.primary_key, self.key)
        self._converted: tuple[Any, Any] | None = None
        self._values: JsonMap = {}
        self.columns: dict[str, Any] = {}
        self.in_caller_transaction = declared.in_caller_transaction

    def not_found(self) -> SessionNotFound:
        return SessionNotFound(
            f"no row has the id {self.key!r}",
            where=self.declared.name,
            why="the id is unknown, or the row was deleted",
            fix="check the id, or begin a session with start_session",
        )

    def delete(self) -> None:
        """Delete the row of the session and those of its messages. Raises `SessionNotFound`."""

        def query() -> Any:
            return self.model.delete().where(self._is_row())

        shape = ("delete", *self._row_shape)
        with connected(self.declared):
            if self.options.messages != ROWS:
                deleted = self.table.write(shape, query, self._row_values())
            else:
                with Transaction(self.backend, nested=self.in_caller_transaction) as check:
                    check()
                    self._lock()
                    check()
                    MessageTable(self.declared).clear(self.key)
                    check()
                    deleted = self.table.write(shape, query, self._row_values())
        if not deleted:
            raise self.not_found()

    @property
    def _where(self) -> str:
        """The context attribute of the row, as errors name it."""
        return f"{self.declared.name} {self.key} {self.column.name}"

    @property
    def _row_shape(self) -> tuple[Any, ...]:
        """What distinguishes the SQL of `_is_row`."""
        return self.found_by[0].name, self.owner is None

    def _is_row(self) -> Any:
        """Return the condition that it is this row, and the owner's. Its values are `_row_values`."""
        is_row = self.dialect.equals_exactly(self.found_by[0], placeholder("key"))
        if self.owner is None:
            return is_row
        return is_row & self.dialect.equals_exactly(self.declared.owner_field, placeholder("owner"))

    def _row_values(self) -> JsonMap:
        """Return the values of `_is_row`. Raises `SessionNotFound` for a key that no row can have."""
        if self._converted is not self.found_by:
            field, value = self.found_by
            try:
                self._values = {"key": column_value(field, value)}
            except ValueError:
                raise self.not_found() from None
            if self.owner is not None:
                self._values["owner"] = column_value(self.declared.owner_field, self.owner)
            self._converted = self.found_by
        return self._values

    def _read(self, locking: bool) -> tuple[str | None, float]:
        """Read the row into `columns`, and into a new `record` if there is none.

        Returns the text of the context attribute and the database's clock. Inside a transaction, `locking`
        locks the row where the server can: a write follows, whose guard sees rows that are newer than the
        snapshot of a REPEATABLE READ transaction.
        """
        is_new, context = self.record is None, self.column.name
        names = self.meta.sorted_field_names if is_new else self.options.managed
        fields = [self.meta.fields[name] for name in names if name != context]
        is_locked = locking and self.in_caller_transaction

        def query() -> Any:
            columns = (*fields, self.dialect.raw(self.column), self.table.now())
            found = self.model.select(*columns).where(self._is_row())
            return self.dialect.lock(self.model, found) if is_locked else found

        shape = None if is_locked else ("load", *names, *self._row_shape)
        found = self.table.read(shape, query, self._row_values())
        if not found:
            raise self.not_found()
        *values, text, now = found[0]
        pairs = zip(fields, values, strict=True)
        self.columns = {field.name: field.python_value(value) for field, value in pairs}
        if is_new:
            self.record = loaded_record(self.model, self.columns)
            self.key = self.record._pk
            self.found_by = (self.meta.primary_key, self.key)
        return text, now

    def _lock(self) -> None:
        """Lock the session before its messages, as every other write does."""

        def query() -> Any:
            found = self.model.select(self.meta.primary_key).where(self._is_row())
            return self.dialect.lock(self.model, found)

        if not self.table.read(None, query, self._row_values()):
            raise self.not_found()


def loaded_record(model: type[peewee.Model], values: Mapping[str, Any]) -> Any:
    """Return a record as Peewee returns it from a query."""
    record: Any = model(__no_default__=1)
    record.__data__.update(values)
    return record


def refresh(
    record: Any, options: SessionOptions, map_: JsonMap, status: str | None, updated: datetime | None
) -> None:
    """Set the managed attributes to what is stored, without marking them as assigned by the user."""
    record.__data__[options.context_attribute] = map_
    record.__dict__.pop(SEEN, None)
    record.__dict__[CLAIM] = (map_.get("turn") or {}).get("claim")
    if options.status_attribute:
        record.__data__[options.status_attribute] = status
    if options.updated_attribute and updated is not None:
        record.__data__[options.updated_attribute] = updated
    record._dirty.difference_update(options.managed)
