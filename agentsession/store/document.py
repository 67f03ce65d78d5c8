"""The document layout: the whole conversation in one JSON column, one guarded UPDATE per write.

Two guards: who comes from outside writes where the revision is the one it read, the holder writes where
the claim is its own. A takeover gets a new claim id, so every later write of the old holder finds no row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee

from agentsession import clock, info
from agentsession.context import Context, Turn
from agentsession.errors import SessionNotFound
from agentsession.json_values import JsonMap, compact, storable_text
from agentsession.options import SessionOptions
from agentsession.store import format
from agentsession.store.connection import LOST, connected, dialect_of, in_transaction, is_connected
from agentsession.store.expression import plain
from agentsession.store.record import primary_key_of, refresh
from agentsession.store.values import settled_value
from agentsession.turn.effects import Change, Loaded, Seen, Unacknowledged

RAW = "agentsession_raw"
NOW = "agentsession_now"

SMALL = 256 * 1024
"""Bytes of a document up to which each write of partial text is cheap."""


class DocumentSession:
    """One session during one action. `record` is the row as the caller gets it back.

    `owner` is the actor's value of the owner attribute, to which every query is limited. `kept` and `inside`:
    the caller had a connection open, and a transaction, when the action began.
    """

    def __init__(
        self, model: type[peewee.Model], options: SessionOptions, session: Any, owner: Any = None
    ) -> None:
        self.model = model
        self.options = options
        self.owner = owner
        self.dialect = dialect_of(model)
        self.meta: Any = model._meta
        self.column: peewee.Field = self.meta.fields[options.context_attribute]
        self.record: Any = session if isinstance(session, peewee.Model) else None
        self.key = primary_key_of(model, session)
        self.found_by: tuple[Any, Any] = (self.meta.primary_key, self.key)
        self.row: Any = None
        self.text: str | None = None
        self.map: JsonMap = {}
        self.turn: Turn | None = None
        self.kept = is_connected(model)
        self.inside = in_transaction(model)

    def load(self, change: Change | None = None, *, locking: bool = False) -> Loaded:
        """One read, tried again on a new connection if the first was lost.

        `change`: is this write, whose answer was lost, stored? `locking`: inside a transaction, no other may
        change the row before the write that follows.
        """
        try:
            self.text, now = self._read(locking)
        except LOST:
            if self.inside:
                raise
            self.text, now = self._read(locking)
        self.map = format.decode(self.text, self._place)
        context = format.convert(self.map, Context, self._place)
        stored = change is not None and format.holds(context, change)
        if change is not None and stored:
            self.turn = change.turn
            self.reflect()
        seen = context.revision if format.is_current(self.map) else self.text
        return Loaded(context, now, len(self.text.encode()) if self.text else 0, seen, stored)

    def claim(self, seen: Seen, change: Change) -> bool:
        if isinstance(seen, int):
            unchanged = self.dialect.number(self.column, "revision") == plain(seen)
            return self._update(self._patch(change), unchanged, change)
        untouched = self.column.is_null() if seen is None else self.dialect.holds(self.column, seen)
        upgraded = compact(format.whole(format.decode(seen, self._place), change))
        return self._update(self.dialect.document(upgraded), untouched, change)

    def save(self, change: Change, claim: str, lease: float) -> bool:
        turn = self.dialect.with_number(compact(change.turn), "until", self._now() + plain(lease))
        return self._update(self._patch(change, turn), self._held_under(claim), change)

    def finish(self, change: Change, claim: str) -> bool:
        return self._update(self._patch(change), self._held_under(claim), change)

    def extend(self, claim: str, lease: float, partial: str = "") -> bool:
        """Extend the lease while the model is asked, and keep what has come of its reply; from another
        thread, so nothing else is touched."""
        sets = {("turn", "until"): self.dialect.json_number(self._now() + plain(lease))}
        if partial:
            sets["turn", "partial"] = self.dialect.document(compact(storable_text(partial)))
        value = self.dialect.patch(self.column, sets, ())
        with connected(self.model):
            return bool(self._updating({self.column: value}, self._held_under(claim)).execute())

    @property
    def is_small(self) -> bool:
        """Is the document so small that partial text may be written often?"""
        return len(compact(self.map)) <= SMALL

    def reflect(self) -> None:
        """Bring the record's managed attributes to what was read last."""
        status, updated = self.options.status_attribute, self.options.updated_attribute
        values = self.row.__data__
        refresh(self.record, self.options, self.map, values.get(status), values.get(updated))

    @property
    def _place(self) -> str:
        return f"{info.place(self.model)} {self.key} {self.column.name}"

    def _held_under(self, claim: str) -> Any:
        return self.dialect.text(self.column, "turn", "claim") == plain(claim)

    def _update(self, value: Any, guard: Any, change: Change) -> bool:
        options, now = self.options, self.dialect.moment(clock.utc())
        values = {self.column: value}
        if options.status_attribute:
            values[self.meta.fields[options.status_attribute]] = change.turn.status
        if options.updated_attribute:
            values[self.meta.fields[options.updated_attribute]] = now
        with self._acknowledged(), connected(self.model, kept=self.kept):
            rows = self._updating(values, guard).execute()
        if rows:
            self.map = format.whole(self.map, change)
            self.turn = change.turn
            if self.record is not None:
                refresh(self.record, options, self.map, change.turn.status, now)
        return bool(rows)

    def _updating(self, values: dict[Any, Any], guard: Any) -> Any:
        return self.model.update(values).where(self._this(), guard)

    def _this(self) -> Any:
        """The row, if it is the owner's."""
        field, value = self.found_by
        try:
            this = self.dialect.exactly(field, settled_value(field, value))
        except ValueError:
            raise self._not_found() from None
        if self.owner is None:
            return this
        return this & self.dialect.exactly(self.meta.fields[self.options.owner_attribute], self.owner)

    @contextmanager
    def _acknowledged(self) -> Iterator[None]:
        """A database that goes away during a write leaves open whether it was done."""
        try:
            yield
        except LOST as error:
            if self.inside:
                raise
            raise Unacknowledged from error

    def _patch(self, change: Change, turn: Any = None) -> Any:
        document = self.dialect.document
        sets: dict[Any, Any] = {("turn",): turn or document(compact(change.turn))}
        for position, metadata in change.metadata.items():
            sets["messages", position, "metadata"] = document(compact(metadata))
        if change.instruction_args is not None:
            sets["instruction_args",] = document(compact(change.instruction_args))
        appends = [compact(message) for message in change.append]
        return self.dialect.patch(self.column, sets, appends, change.drop)

    def _now(self) -> Any:
        fake = clock.fake.get()
        return self.dialect.now() if fake is None else self.dialect.seconds(fake.seconds)

    def _read(self, locking: bool) -> tuple[str | None, float]:
        """The row without its context into `row`, and into `record` if there was none."""
        wanted = self.meta.sorted_fields
        if self.record is not None:
            wanted = [field for field in wanted if field.name in self.options.managed]
        columns = [field for field in wanted if field is not self.column]
        raw, now = self.dialect.raw(self.column).alias(RAW), self._now().alias(NOW)
        query = self.model.select(*columns, raw, now)
        with connected(self.model, kept=self.kept):
            if locking and self.inside:
                query = self.dialect.locked(self.model, query)
            self.row = self._one(query)
        if self.record is None:
            self.record, self.key = self.row, self.row._pk
            self.found_by = (self.meta.primary_key, self.key)
        return self.row.__dict__.pop(RAW), self.row.__dict__.pop(NOW)

    def _one(self, query: Any) -> Any:
        try:
            return query.where(self._this()).get()
        except (peewee.DoesNotExist, OverflowError):
            raise self._not_found() from None

    def _not_found(self) -> SessionNotFound:
        return SessionNotFound(
            f"no row has the id {self.key!r}",
            where=info.place(self.model),
            why="the id is unknown, or the row was deleted",
            fix="check the id, or begin a session with start_session",
        )
