"""The row of a session: how it is found, whose it is, and how it is read."""

from __future__ import annotations

from typing import Any

import peewee

from agentsession import info
from agentsession._json_values import JsonMap
from agentsession._options import SessionOptions
from agentsession._store.connection import in_transaction
from agentsession._store.record import primary_key_of, record_of
from agentsession._store.statement import Table, given
from agentsession._store.values import column_value
from agentsession.errors import SessionNotFound


class SessionRow:
    """One row during one action. `record` is the row as the caller gets it back, `row` what was read last.

    `owner` is the actor's value of the owner attribute, to which every query is limited. `inside`: the
    caller had a transaction open when the action began.
    """

    def __init__(
        self, model: type[peewee.Model], options: SessionOptions, session: Any, owner: Any = None
    ) -> None:
        self.model = model
        self.options = options
        self.owner = owner
        self.table = Table(model)
        self.dialect, self.meta = self.table.dialect, self.table.meta
        self.column: peewee.Field = self.meta.fields[options.context_attribute]
        self.record: Any = session if isinstance(session, peewee.Model) else None
        self.key = primary_key_of(model, session)
        self.found_by: tuple[Any, Any] = (self.meta.primary_key, self.key)
        self._sought: Any = None
        self._values: JsonMap = {}
        self.row: dict[str, Any] = {}
        self.inside = in_transaction(model)

    def not_found(self) -> SessionNotFound:
        return SessionNotFound(
            f"no row has the id {self.key!r}",
            where=info.place(self.model),
            why="the id is unknown, or the row was deleted",
            fix="check the id, or begin a session with start_session",
        )

    @property
    def _place(self) -> str:
        return f"{info.place(self.model)} {self.key} {self.column.name}"

    @property
    def _shape(self) -> tuple[Any, ...]:
        return self.found_by[0].name, self.owner is None

    def _this(self) -> Any:
        """The row, if it is the owner's."""
        this = self.dialect.equals_exactly(self.found_by[0], given("key"))
        if self.owner is None:
            return this
        return this & self.dialect.equals_exactly(
            self.meta.fields[self.options.owner_attribute], given("owner")
        )

    def _found(self) -> JsonMap:
        """The values for `_this`; raises `SessionNotFound` for a key that no row can have."""
        if self._sought is not self.found_by:
            self._sought, self._values = self.found_by, self._column_values()
        return self._values

    def _column_values(self) -> JsonMap:
        field, value = self.found_by
        try:
            values = {"key": column_value(field, value)}
        except ValueError:
            raise self.not_found() from None
        if self.owner is not None:
            owner: Any = self.options.owner_attribute
            values["owner"] = column_value(self.meta.fields[owner], self.owner)
        return values

    def _read(self, locking: bool) -> tuple[str | None, float]:
        """The stored text and the time; the other columns into `row`, and into `record` if there was none."""
        is_new, context = self.record is None, self.column.name
        names = self.meta.sorted_field_names if is_new else self.options.managed
        fields = [self.meta.fields[name] for name in names if name != context]

        def query() -> Any:
            columns = (*fields, self.dialect.raw(self.column), self.table.now())
            found = self.model.select(*columns).where(self._this())
            return self.dialect.locked(self.model, found) if is_locked else found

        is_locked = locking and self.inside
        shape = None if is_locked else ("load", *names, *self._shape)
        found = self.table.rows(shape, query, self._found())
        if not found:
            raise self.not_found()
        *values, text, now = found[0]
        pairs = zip(fields, values, strict=True)
        self.row = {field.name: field.python_value(value) for field, value in pairs}
        if is_new:
            self.record = record_of(self.model, self.row)
            self.key = self.record._pk
            self.found_by = (self.meta.primary_key, self.key)
        return text, now
