"""The sessions of a model, or of one owner, by their last activity; their contexts are not read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import peewee
from peewee import SQL, Case

from agentsession import _clock
from agentsession._options import SessionOptions
from agentsession._store.connection import LOST, connected, dialect_of, in_transaction
from agentsession._store.values import settled_value, target_of
from agentsession._turn_state import Turn

UNTIL, LEASE, NOW = "agentsession_until", "agentsession_lease", "agentsession_now"
"""Names of what is selected beside the columns."""


class Row(NamedTuple):
    """What a list shows of a session; `updated` is UTC, without a zone."""

    key: Any
    status: str | None
    updated: datetime | None


class Place(NamedTuple):
    """Where a page ends: the last row's time and key, by which the next begins wherever rows come and go."""

    updated: datetime | None
    key: Any


class SessionList:
    """`inside` is as in `StoredSession`."""

    def __init__(self, model: type[peewee.Model], options: SessionOptions, updated: str, owner: Any) -> None:
        self.model = model
        self.options = options
        self.owner = owner
        self.dialect = dialect_of(model)
        self.meta: Any = model._meta
        self.key: Any = self.meta.primary_key
        self.updated: Any = self.meta.fields[updated]
        self.inside = in_transaction(model)
        fake = _clock.fake.get()
        self.now: Any = self.dialect.now() if fake is None else self.dialect.seconds(fake.seconds)

    def place(self, updated: datetime | None, key: Any) -> Place:
        """Raises `ValueError` for one that no row can have."""
        if updated is not None and updated.tzinfo is not None:
            raise ValueError("times are UTC, without a zone")
        return Place(updated, settled_value(self.key, key))

    def page(self, limit: int, before: Place | None) -> list[Row]:
        """The newest first, those without a time last."""
        status = self.options.status_attribute
        columns = [self.key, self.updated] + ([self.meta.fields[status], *self._lease()] if status else [])
        query = self.model.select(*columns).limit(limit)
        query = query.order_by(self.updated.desc(nulls="last"), self.key.desc())
        if before is not None:
            query = query.where(self._follows(before))
        if self.owner is not None:
            owner: Any = self.options.owner_attribute
            query = query.where(self.dialect.equals_exactly(self.meta.fields[owner], self.owner))
        return [
            Row(record._pk, _status(record, status), _utc(record.__data__[self.updated.name]))
            for record in self._read(query)
        ]

    def _lease(self) -> list[Any]:
        """Of a running turn: when its lease ends, how long it is, and the database's clock."""
        context = self.meta.fields[self.options.context_attribute]
        is_running = self.meta.fields[self.options.status_attribute] == "running"
        is_running = is_running & self.dialect.is_json(context)
        texts = (self.dialect.text(context, "turn", name) for name in ("until", "lease"))
        until, lease = (Case(None, [(is_running, text)], None) for text in texts)
        return [until.alias(UNTIL), lease.alias(LEASE), self.now.alias(NOW)]

    def _follows(self, place: Place) -> Any:
        """A number stands in the statement itself, because a parameter has to fit the column."""
        is_number = isinstance(target_of(self.key), peewee.IntegerField)
        further = self.key < (SQL(str(place.key)) if is_number else place.key)
        if place.updated is None:
            return self.updated.is_null() & further
        same = (self.updated == place.updated) & further
        return (self.updated < place.updated) | same | self.updated.is_null()

    def _read(self, query: Any) -> list[Any]:
        try:
            with connected(self.model):
                return list(query)
        except LOST:
            if self.inside:
                raise
        with connected(self.model):
            return list(query.clone())


def _status(record: Any, name: str | None) -> str | None:
    """The status in the column, but `interrupted` where a running turn's lease is over."""
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
    """The time as the library writes it, whatever the model's own default wrote before the first turn."""
    time: datetime | None = datetime.fromisoformat(value) if isinstance(value, str) else value
    return time if time is None or time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
