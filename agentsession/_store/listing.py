"""The sessions of a model, or of one owner, ordered by their last activity. Their contexts are not read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import peewee
from peewee import SQL, Case

from agentsession import _clock
from agentsession._store.connection import LOST, connected
from agentsession._store.declared import Declared
from agentsession._store.dialects.base import target_of
from agentsession._store.identity import comparable_value
from agentsession._turn_state import Turn

UNTIL, LEASE, NOW = "agentsession_until", "agentsession_lease", "agentsession_now"
"""Names of what is selected beside the columns."""


class ListedRow(NamedTuple):
    """A session as a list shows it. `updated` is UTC, without a zone."""

    key: Any
    status: str | None
    updated: datetime | None


class Cursor(NamedTuple):
    """The end of a page: the time and the key of its last row. The next page begins after it, also if rows
    were added or removed meanwhile."""

    updated: datetime | None
    key: Any


class SessionList:
    """The sessions of one owner; all sessions if `owner` is None.

    Attributes:
        in_caller_transaction: Whether the caller had a transaction open when the action began.
    """

    def __init__(self, declared: Declared, updated: str, owner: Any) -> None:
        self.declared = declared
        self.model = declared.model
        self.options = declared.options
        self.backend = declared.backend
        self.owner = owner
        self.dialect = declared.backend.dialect
        self.meta: Any = declared.model._meta
        self.key: Any = self.meta.primary_key
        self.updated: Any = self.meta.fields[updated]
        self.in_caller_transaction = declared.in_caller_transaction
        fake = _clock.fake.get()
        self.now: Any = self.dialect.now() if fake is None else self.dialect.seconds(fake.seconds)

    def cursor(self, updated: datetime | None, key: Any) -> Cursor:
        """Return the end of a page. Raises `ValueError` for one that no row can have."""
        if updated is not None and updated.tzinfo is not None:
            raise ValueError("times are UTC, without a zone")
        return Cursor(updated, comparable_value(self.key, key))

    def page(self, limit: int, before: Cursor | None) -> list[ListedRow]:
        """Read the sessions after a page: the newest first, those without a time last."""
        status = self.options.status_attribute
        columns = [self.key, self.updated] + ([self.meta.fields[status], *self._lease()] if status else [])
        query = self.model.select(*columns).limit(limit)
        query = query.order_by(self.updated.desc(nulls="last"), self.key.desc())
        if before is not None:
            query = query.where(self._is_after(before))
        if self.owner is not None:
            query = query.where(self.dialect.equals_exactly(self.declared.owner_field, self.owner))
        return [
            ListedRow(record._pk, _status(record, status), _utc(record.__data__[self.updated.name]))
            for record in self._read(query)
        ]

    def _lease(self) -> list[Any]:
        """Return the columns of a running turn's lease: its end, its length, and the database's clock."""
        context = self.declared.context_field
        is_running = self.meta.fields[self.options.status_attribute] == "running"
        is_running = is_running & self.dialect.is_json(context)
        texts = (self.dialect.text(context, "turn", name) for name in ("until", "lease"))
        until, lease = (Case(None, [(is_running, text)], None) for text in texts)
        return [until.alias(UNTIL), lease.alias(LEASE), self.now.alias(NOW)]

    def _is_after(self, end: Cursor) -> Any:
        """Return the condition that a row is after the end of a page.

        A number is part of the SQL text, because a parameter must fit the column.
        """
        is_number = isinstance(target_of(self.key), peewee.IntegerField)
        is_further = self.key < (SQL(str(end.key)) if is_number else end.key)
        if end.updated is None:
            return self.updated.is_null() & is_further
        same_time = (self.updated == end.updated) & is_further
        return (self.updated < end.updated) | same_time | self.updated.is_null()

    def _read(self, query: Any) -> list[Any]:
        try:
            with connected(self.declared):
                return list(query)
        except LOST:
            if self.in_caller_transaction:
                raise
        with connected(self.declared):
            return list(query.clone())


def _status(record: Any, name: str | None) -> str | None:
    """Return the status in the column; `interrupted` for a running turn whose lease is over."""
    status: str | None = record.__data__.get(name)
    if status != "running":
        return status
    until, lease, now = (_number(getattr(record, name)) for name in (UNTIL, LEASE, NOW))
    return Turn("", status, until=until, lease=lease).as_of(now or 0.0).status


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _utc(value: Any) -> datetime | None:
    """Return the time as the library writes it. Before the first turn, the model's own default may have
    written another form."""
    time: datetime | None = datetime.fromisoformat(value) if isinstance(value, str) else value
    return time if time is None or time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
