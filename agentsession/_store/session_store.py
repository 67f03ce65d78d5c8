"""A session as it is stored: one row, read at once, and changed by one guarded write after the other.

Two guards: who comes from outside writes where the revision is the one it read, the holder writes where
the claim is its own. A takeover gets a new claim id, so every later write of the old holder finds no row.
Where the messages are is the layout's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any

import msgspec
import peewee

from agentsession import _clock, info
from agentsession._json_values import JsonMap, compact, storable_text
from agentsession._options import ROWS, SessionOptions
from agentsession._store import format
from agentsession._store.connection import LOST, connected
from agentsession._store.document import Document
from agentsession._store.expression import Path
from agentsession._store.layout import ALL, Layout, Prepared, Wanted
from agentsession._store.record import refresh
from agentsession._store.rows import Rows
from agentsession._store.session_row import SessionRow
from agentsession._store.statement import given
from agentsession._store.transaction import Together
from agentsession._turn.effects import Change, Loaded, Seen, WriteUnconfirmed
from agentsession._turn_state import Turn
from agentsession.context import with_schema

SMALL = 256 * 1024
"""Bytes of a context up to which each write of partial text is cheap."""


class StoredSession(SessionRow):
    """One session during one action. `wanted` are the messages that the action needs; `map` is the context
    attribute as it was read or written last."""

    def __init__(
        self,
        model: type[peewee.Model],
        options: SessionOptions,
        session: Any,
        owner: Any = None,
        wanted: Wanted = ALL,
    ) -> None:
        super().__init__(model, options, session, owner)
        self.map: JsonMap = {}
        self._text = ""
        self.turn: Turn | None = None
        self.layout: Layout = layout_of(model, options, wanted)

    def load(self, change: Change | None = None, *, locking: bool = False) -> Loaded:
        """One read, tried again on a new connection if the first was lost.

        `change`: is this write, whose answer was lost, stored? `locking`: inside a transaction, no other may
        change the row before the write that follows.
        """
        try:
            loaded = self._load(locking)
        except LOST:
            if self.inside:
                raise
            loaded = self._load(locking)
        if change is None or not format.holds(loaded.context, change):
            return loaded
        self.turn = change.turn
        self.reflect()
        return msgspec.structs.replace(loaded, stored=True)

    def claim(self, seen: Seen, change: Change) -> bool:
        if isinstance(seen, int):
            return self._guarded("claim", change, {"seen": seen})
        prepared = self.layout.prepared(self.map, change)
        value = self.dialect.document(compact(prepared.after))
        return self._write(None, lambda: self._update(value, self._untouched(seen)), prepared, change, {})

    def save(self, change: Change, claim: str, lease: float) -> bool:
        return self._guarded("save", change, {"claim": claim, "lease": lease})

    def finish(self, change: Change, claim: str, wait: float | None = None) -> bool:
        """`wait`: the seconds after which the time for an approval is over."""
        if wait is not None:
            return self.save(change, claim, wait)
        return self._guarded("finish", change, {"claim": claim})

    def extend(self, claim: str, lease: float, partial: str = "") -> bool:
        """Extend the lease while the model is asked, and keep what has come of its reply; from another
        thread, so nothing else is touched."""

        def extended() -> Any:
            sets = {("turn", "until"): self.dialect.json_number(self.table.now() + given("lease"))}
            if partial:
                sets["turn", "partial"] = self.dialect.document(given("partial"))
            patched = self.dialect.patch(self.column, sets, ())
            return self.model.update({self.column: patched}).where(self._this(), self._guard("extend"))

        self._text = ""  # from now on another is stored
        values = {"claim": claim, "lease": lease, "partial": compact(storable_text(partial)), **self._found()}
        with connected(self.model):
            return bool(self.table.changed(("extend", bool(partial), *self._shape), extended, values))

    @property
    def is_small(self) -> bool:
        """Is the stored context so small that partial text may be written often?"""
        return len(compact(self.map)) <= SMALL

    def reflect(self) -> None:
        """Bring the record's managed attributes to what was read last."""
        status, updated = self.options.status_attribute, self.options.updated_attribute
        refresh(self.record, self.options, self.map, self.row.get(status or ""), self.row.get(updated or ""))

    def _guarded(self, kind: str, change: Change, values: JsonMap) -> bool:
        prepared = self.layout.prepared(self.map, change)
        is_known = self.dialect.PREFERS_FULL_REWRITE and kind != "save" and self._is_as_known(values)
        if is_known and self._rewritten(prepared, change):
            return True

        def query() -> Any:
            return self._update(prepared.value(self._numbers(kind)), self._guard(kind))

        shape = None if prepared.shape is None else (kind, prepared.shape, self.layout.has_rows)
        return self._write(shape, query, prepared, change, values)

    def _rewritten(self, prepared: Prepared, change: Change) -> bool:
        """Write all of it, if the very text is stored that is known: neither a heartbeat nor the user has
        changed it."""

        def query() -> Any:
            return self._update(given("whole"), self.dialect.raw(self.column) == given("text"))

        whole, text = compact(prepared.after), self._text
        if not self._write(("whole",), query, prepared, change, {"whole": whole, "text": text}):
            return False
        self._text = whole
        return True

    def _is_as_known(self, values: JsonMap) -> bool:
        """Would what is known to be stored pass the guard of this write?"""
        if not self._text:
            return False
        if "seen" in values:
            return bool(values["seen"] == self.map.get("revision"))
        return bool(values["claim"] == (self.map.get("turn") or {}).get("claim"))

    def _numbers(self, kind: str) -> dict[Path, Any]:
        """Of the turn: what only the database knows."""
        return {("until",): self.table.now() + given("lease")} if kind == "save" else {}

    def _guard(self, kind: str) -> Any:
        if kind == "claim":
            return self._untouched(0)
        return self.dialect.text(self.column, "turn", "claim") == given("claim")

    def _untouched(self, seen: Seen) -> Any:
        """Is what is stored still what was seen?"""
        if isinstance(seen, int):
            return self.dialect.number(self.column, "revision") == given("seen")
        return self.column.is_null() if seen is None else self.dialect.text_equals(self.column, seen)

    def _update(self, value: Any, guard: Any) -> Any:
        status, updated = self.options.status_attribute, self.options.updated_attribute
        values = {self.column: value}
        if status:
            values[self.meta.fields[status]] = given("status")
        if updated:
            values[self.meta.fields[updated]] = given("updated")
        return self.model.update(values).where(self._this(), guard)

    def _write(
        self,
        shape: Hashable | None,
        query: Callable[[], Any],
        prepared: Prepared,
        change: Change,
        values: JsonMap,
    ) -> bool:
        now = self.dialect.to_datetime(_clock.utc()) if self.options.updated_attribute else None
        values |= {**self._managed(change.turn.status, now), **prepared.values, **self._found()}
        shape = shape and (shape, *self._shape)
        try:
            with connected(self.model):
                rows = self._written(shape, query, values, change, prepared)
        except LOST as error:
            if self.inside:
                raise
            raise WriteUnconfirmed from error
        if rows:
            self.map = prepared.after
            self._text = ""
            self.turn = change.turn
            if self.record is not None:
                refresh(self.record, self.options, self.map, change.turn.status, now)
        return bool(rows)

    def _managed(self, status: str, updated: datetime | None) -> JsonMap:
        """The values of the status and updated attributes, as their fields store them."""
        of_status, of_updated = self.options.status_attribute, self.options.updated_attribute
        return {
            "status": self.meta.fields[of_status].db_value(status) if of_status else None,
            "updated": self.meta.fields[of_updated].db_value(updated) if of_updated else None,
        }

    def _written(
        self,
        shape: Hashable | None,
        query: Callable[[], Any],
        values: JsonMap,
        change: Change,
        prepared: Prepared,
    ) -> int:
        """The context and, where the layout has them elsewhere, the messages: all of it, or nothing."""
        if not self.layout.has_rows:
            return self.table.changed(shape, query, values)
        with Together(self.table.database, inside=self.inside) as still_there:
            still_there()
            rows = self.table.changed(shape, query, values)
            if rows:
                self.layout.write(self.key, change, prepared, still_there)
        return rows

    def _load(self, locking: bool) -> Loaded:
        """The row and what is wanted of its messages, as they were at one moment."""
        with connected(self.model):
            text, now = self._read(locking)
            read = self.layout.read(text, self._place, self.key, locking and self.inside)
        text, self.map = read.text, read.map
        is_lossless = text == compact(self.map)
        self._text = text if text and is_lossless else ""
        seen = read.context.revision if format.is_current(self.map) else text
        with_schema(read.context.messages, info.agent_options(self.model).input)
        size = read.size + (len(text.encode()) if text else 0)
        return Loaded(read.context, now, size, read.turns, seen)


def layout_of(model: Any, options: SessionOptions, wanted: Wanted) -> Layout:
    """The layout of a model's sessions, for one action."""
    kind = Rows if options.messages == ROWS else Document
    return kind(model, options, wanted)
