"""The document layout: the whole conversation in one JSON column, one guarded UPDATE per write.

Two guards: who comes from outside writes where the revision is the one it read, the holder writes where
the claim is its own. A takeover gets a new claim id, so every later write of the old holder finds no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import peewee

from agentsession import info
from agentsession.context import Context, Turn
from agentsession.errors import LeaseLost, SessionNotFound
from agentsession.json_values import JsonMap, compact
from agentsession.options import SessionOptions
from agentsession.store import format
from agentsession.store.connection import connected, dialect_of
from agentsession.store.record import new_record, primary_key_of, refresh
from agentsession.turn.effects import Change, Loaded

RAW = "agentsession_raw"
NOW = "agentsession_now"


class DocumentSession:
    """One session during one action. `record` is the row as the caller gets it back."""

    def __init__(self, model: type[peewee.Model], options: SessionOptions, session: Any) -> None:
        self.model = model
        self.options = options
        self.dialect = dialect_of(model)
        self.meta: Any = model._meta
        self.column: peewee.Field = self.meta.fields[options.context_attribute]
        self.record: Any = session if isinstance(session, peewee.Model) else None
        self.key = primary_key_of(model, session)
        self.text: str | None = None
        self.map: JsonMap = {}
        self.turn: Turn | None = None

    @classmethod
    def new(
        cls, model: type[peewee.Model], options: SessionOptions, attributes: Mapping[str, Any] | None
    ) -> DocumentSession:
        """A session that is not stored yet; raises `InputInvalid` for attributes that do not fit."""
        return cls(model, options, new_record(model, options, {} if attributes is None else attributes))

    def load(self) -> Loaded:
        with connected(self.model):
            self.text, now = self._read_into_record() if self.record is None else self._read()
        where = f"{info.place(self.model)} {self.key} {self.column.name}"
        self.map = format.decode(self.text, where)
        return Loaded(format.convert(self.map, Context, where), now)

    def insert(self, change: Change) -> None:
        refresh(self.record, self.options, format.whole({}, change), change.turn.status, _now())
        with connected(self.model):
            self.record.save(force_insert=True)
        self.key = self.record._pk
        self._applied(change)

    def claim(self, seen: int | None, change: Change) -> bool:
        if not format.is_current(self.map):
            raw, text = self.dialect.raw(self.column), self.text
            untouched = raw.is_null() if text is None else raw == self.dialect.plain(text)
            return self._update(self._whole(change), untouched, change)
        unchanged = self.dialect.number(self.column, "revision") == self.dialect.plain(seen)
        return self._update(self._patch(change), unchanged, change)

    def save(self, change: Change, claim: str, lease: float) -> None:
        turn = self.dialect.lasting(compact(change.turn), lease)
        self._write_as_holder(self._patch(change, turn), claim, change)

    def finish(self, change: Change, claim: str) -> None:
        self._write_as_holder(self._patch(change), claim, change)

    def _write_as_holder(self, value: Any, claim: str, change: Change) -> None:
        mine = self.dialect.text(self.column, "turn", "claim") == self.dialect.plain(claim)
        if self._update(value, mine, change):
            return
        try:
            with connected(self.model):
                self._read()
        except SessionNotFound as gone:
            gone.found = "the row was deleted during its turn"
            gone.why, gone.fix = (
                "there is nothing to store the reply in",
                "`.result` holds the reply, if it came",
            )
            raise
        raise LeaseLost(
            "the turn was taken over by another process",
            where=f"{info.place(self.model)} {self.key}",
            why="its lease had run out, so this process no longer holds it; nothing more was stored",
            fix="read the session anew; `.result` holds the reply, if it came; a longer lease= avoids this",
        )

    def _update(self, value: Any, guard: Any, change: Change) -> bool:
        options, now = self.options, _now()
        values = {self.column: value}
        if options.status_attribute:
            values[self.meta.fields[options.status_attribute]] = change.turn.status
        if options.updated_attribute:
            values[self.meta.fields[options.updated_attribute]] = now
        with connected(self.model):
            rows = self.model.update(values).where(self.meta.primary_key == self.key, guard).execute()
        if rows:
            self._applied(change, now)
        return bool(rows)

    def _patch(self, change: Change, turn: Any = None) -> Any:
        document = self.dialect.document
        sets: dict[Any, Any] = {("turn",): turn or document(compact(change.turn))}
        for position, metadata in change.metadata.items():
            sets["messages", position, "metadata"] = document(compact(metadata))
        if change.instruction_args is not None:
            sets["instruction_args",] = document(compact(change.instruction_args))
        appends = [compact(message) for message in change.append]
        return self.dialect.patch(self.column, sets, appends)

    def _whole(self, change: Change) -> Any:
        return self.dialect.document(compact(format.whole(self.map, change)))

    def _applied(self, change: Change, now: datetime | None = None) -> None:
        self.map = format.whole(self.map, change)
        self.turn = change.turn
        if self.record is not None:
            refresh(self.record, self.options, self.map, change.turn.status, now)

    def _read_into_record(self) -> tuple[str | None, float]:
        fields = [field for field in self.meta.sorted_fields if field is not self.column]
        raw, now = self.dialect.raw(self.column).alias(RAW), self.dialect.now().alias(NOW)
        self.record = self._one(self.model.select(*fields, raw, now))
        return self.record.__dict__.pop(RAW), self.record.__dict__.pop(NOW)

    def _read(self) -> tuple[str | None, float]:
        raw, now = self.dialect.raw(self.column), self.dialect.now()
        text, seconds = self._one(self.model.select(raw, now).tuples())
        return text, seconds

    def _one(self, query: Any) -> Any:
        try:
            self.meta.primary_key.db_value(self.key)
        except (ValueError, TypeError, AttributeError):
            raise self._not_found() from None
        try:
            return query.where(self.meta.primary_key == self.key).get()
        except (peewee.DoesNotExist, OverflowError):
            raise self._not_found() from None

    def _not_found(self) -> SessionNotFound:
        return SessionNotFound(
            f"no row has the id {self.key!r}",
            where=info.place(self.model),
            why="the id is unknown, or the row was deleted",
            fix="check the id, or begin a session with start_session",
        )


def _now() -> datetime:
    """The time for the updated attribute: UTC, without a zone, as DateTimeField stores it."""
    return datetime.now(UTC).replace(tzinfo=None)
