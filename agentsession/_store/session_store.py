"""A stored session: one row, which is read in one step and changed by guarded writes.

There are two guards. A non-holder writes if the revision is still the one that it has read. The holder writes
if the claim in the row is its own. A takeover stores a new claim id, so the late write of an old holder finds
no row. No guard compares times: a wrong clock costs at most a takeover.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any

import msgspec

from agentsession import _clock
from agentsession._json_values import JsonMap, compact, storable_text
from agentsession._options import ROWS
from agentsession._store import format
from agentsession._store.connection import LOST, connected
from agentsession._store.declared import Declared
from agentsession._store.dialects.base import Path
from agentsession._store.identity import owner_of
from agentsession._store.layout import ALL_MESSAGES, Document, MessageLayout, PreparedChange, Selection
from agentsession._store.rows import Rows
from agentsession._store.session_row import SessionRow, refresh
from agentsession._store.statement import placeholder
from agentsession._store.transaction import Transaction
from agentsession._turn.effects import Change, Loaded, Seen, WriteUnconfirmed
from agentsession._turn.guarded_write import contains
from agentsession._turn_state import Turn
from agentsession.context import with_schema

SMALL = 256 * 1024
"""Bytes of a context up to which each write of partial text is cheap."""


def open_session(
    declared: Declared, session: Any, actor: Any, selection: Selection = ALL_MESSAGES
) -> StoredSession:
    """Return a stored session of this actor, by id or record. Nothing is read yet."""
    return StoredSession(declared, session, owner_of(declared, actor), selection)


def layout_of(declared: Declared, selection: Selection) -> MessageLayout:
    """Return the declared layout of a session, for one action."""
    kind = Rows if declared.options.messages == ROWS else Document
    return kind(declared, selection)


class StoredSession(SessionRow):
    """One session during one action.

    Attributes:
        map: The context attribute as it was read or written last.
        turn: The turn that the action has written last.
        layout: Where the messages are.
    """

    def __init__(
        self, declared: Declared, session: Any, owner: Any = None, selection: Selection = ALL_MESSAGES
    ) -> None:
        super().__init__(declared, session, owner)
        self.map: JsonMap = {}
        self.turn: Turn | None = None
        self.layout: MessageLayout = layout_of(declared, selection)
        self._text = ""  # the stored text of the context attribute, if it is known

    def load(self, change: Change | None = None, *, locking: bool = False) -> Loaded:
        """Read the session; once more on a new connection if the first one was lost.

        `change` is an unconfirmed write: the result says whether it is stored. `locking`: inside a
        transaction, nobody else changes the row before the write that follows.
        """
        try:
            loaded = self._load(locking)
        except LOST:
            if self.in_caller_transaction:
                raise
            loaded = self._load(locking)
        if change is None or not contains(loaded.context, change):
            return loaded
        self.turn = change.turn
        self.reflect()
        return msgspec.structs.replace(loaded, stored=True)

    def claim(self, seen: Seen, change: Change) -> bool:
        """Write as a non-holder, if what is stored is still what was seen. Returns whether it was."""
        if isinstance(seen, int):
            return self._store_change("claim", change, {"seen": seen})
        # A map of an older version may have no revision, so its text is compared, and all of it replaced.
        prepared = self.layout.prepare(self.map, change)
        value = self.dialect.json_value(compact(prepared.map))
        return self._run_update(
            None, lambda: self._update(value, self._is_unchanged(seen)), prepared, change, prepared.values()
        )

    def save(self, change: Change, claim: str, lease: float) -> bool:
        """Write as the holder and extend the lease. Returns False if the claim is not in the row."""
        return self._store_change("save", change, {"claim": claim, "lease": lease})

    def finish(self, change: Change, claim: str, wait: float | None = None) -> bool:
        """Write the end of the turn as the holder. Returns False if the claim is not in the row.

        `wait` is the number of seconds for which the turn waits for an approval.
        """
        if wait is not None:
            return self.save(change, claim, wait)
        return self._store_change("finish", change, {"claim": claim})

    def extend(self, claim: str, lease: float, partial: str = "") -> bool:
        """Extend the lease while the model is asked, and store the partial reply.

        Returns False if the claim is not in the row. Runs on another thread, so nothing else here changes.
        """

        def query() -> Any:
            until = self.table.now() + placeholder("lease")
            sets: dict[Path, Any] = {("turn", "until"): self.dialect.json_number(until)}
            if partial:
                sets["turn", "partial"] = self.dialect.json_value(placeholder("partial"))
            patched = self.dialect.patch(self.column, sets, ())
            return self.model.update({self.column: patched}).where(self._is_row(), self._guard("extend"))

        self._text = ""  # the stored text is another one now
        values = {"claim": claim, "lease": lease, "partial": compact(storable_text(partial))}
        with connected(self.declared):
            shape = ("extend", bool(partial), *self._row_shape)
            return bool(self.table.write(shape, query, {**values, **self._row_values()}))

    @property
    def is_small(self) -> bool:
        """Return whether the stored context is so small that partial text may be written often."""
        return len(compact(self.map)) <= SMALL

    def reflect(self) -> None:
        """Set the record's managed attributes to what was read last."""
        columns = self.columns
        status, updated = self.options.status_attribute or "", self.options.updated_attribute or ""
        refresh(self.record, self.options, self.map, columns.get(status), columns.get(updated))

    def _load(self, locking: bool) -> Loaded:
        """Read the row and the selected messages, as they were at one moment."""
        with connected(self.declared):
            text, now = self._read(locking)
            read = self.layout.read(text, self._where, self.key, locking and self.in_caller_transaction)
        text, self.map = read.text, read.map
        is_lossless = text == compact(self.map)
        self._text = text if text and is_lossless else ""
        seen = read.context.revision if format.is_current(self.map) else text
        with_schema(read.context.messages, self.declared.agent.input)
        size = read.size + (len(text.encode()) if text else 0)
        return Loaded(read.context, now, size, read.turns, seen)

    def _store_change(self, kind: str, change: Change, values: JsonMap) -> bool:
        """Store a change under the guard of this kind of write. Returns False if the guard finds no row."""
        prepared = self.layout.prepare(self.map, change)
        is_known = self.dialect.prefers_full_rewrite and kind != "save" and self._knows_row(values)
        if is_known and self._replace_text(prepared, change):
            return True

        def query() -> Any:
            numbers: dict[Path, Any] = {}
            if kind == "save":
                numbers["until",] = self.table.now() + placeholder("lease")
            return self._update(prepared.sql(numbers), self._guard(kind))

        shape = None if prepared.shape is None else (kind, prepared.shape, self.layout.has_rows)
        return self._run_update(shape, query, prepared, change, values | prepared.values())

    def _replace_text(self, prepared: PreparedChange, change: Change) -> bool:
        """Replace all of the context, if the known text is still stored. Returns False if it is not.

        For a long document on SQLite this is twice as fast as a change in SQL. It happens only if rendering
        the text again loses nothing of it, and neither a heartbeat nor the user has changed it.
        """

        def query() -> Any:
            return self._update(placeholder("new_text"), self.dialect.raw(self.column) == placeholder("text"))

        new_text = compact(prepared.map)
        values = {"new_text": new_text, "text": self._text}
        if not self._run_update(("replace",), query, prepared, change, values):
            return False
        self._text = new_text
        return True

    def _knows_row(self, values: JsonMap) -> bool:
        """Return whether the stored text is known, and would pass the guard of a write with these values."""
        if not self._text:
            return False
        if "seen" in values:
            return bool(values["seen"] == self.map.get("revision"))
        return bool(values["claim"] == (self.map.get("turn") or {}).get("claim"))

    def _guard(self, kind: str) -> Any:
        """Return the condition under which a write of this kind may change the row."""
        if kind == "claim":
            return self._is_unchanged(0)
        return self.dialect.text(self.column, "turn", "claim") == placeholder("claim")

    def _is_unchanged(self, seen: Seen) -> Any:
        """Return the condition that what is stored is still what was seen."""
        if isinstance(seen, int):
            return self.dialect.number(self.column, "revision") == placeholder("seen")
        return self.column.is_null() if seen is None else self.dialect.text_equals(self.column, seen)

    def _update(self, value: Any, guard: Any) -> Any:
        """Return the UPDATE of the context, status and updated attributes."""
        status, updated = self.options.status_attribute, self.options.updated_attribute
        values = {self.column: value}
        if status:
            values[self.meta.fields[status]] = placeholder("status")
        if updated:
            values[self.meta.fields[updated]] = placeholder("updated")
        return self.model.update(values).where(self._is_row(), guard)

    def _run_update(
        self,
        shape: Hashable | None,
        query: Callable[[], Any],
        prepared: PreparedChange,
        change: Change,
        values: JsonMap,
    ) -> bool:
        """Run an UPDATE of the row on a connection, and note what is stored now.

        Returns False if it found no row. Raises `WriteUnconfirmed` if the connection was lost outside a
        transaction of the caller.
        """
        now = self.dialect.to_datetime(_clock.utc()) if self.options.updated_attribute else None
        values |= {**self._managed_values(change.turn.status, now), **self._row_values()}
        shape = shape and (shape, *self._row_shape)
        try:
            with connected(self.declared):
                rows = self._write_all(shape, query, values, change, prepared)
        except LOST as error:
            if self.in_caller_transaction:
                raise
            raise WriteUnconfirmed from error
        if rows:
            self.map = prepared.map
            self._text = ""
            self.turn = change.turn
            if self.record is not None:
                refresh(self.record, self.options, self.map, change.turn.status, now)
        return bool(rows)

    def _write_all(
        self,
        shape: Hashable | None,
        query: Callable[[], Any],
        values: JsonMap,
        change: Change,
        prepared: PreparedChange,
    ) -> int:
        """Write the row and, in the same transaction, the messages that are elsewhere."""
        if not self.layout.has_rows:
            return self.table.write(shape, query, values)
        with Transaction(self.backend, nested=self.in_caller_transaction) as check:
            check()
            rows = self.table.write(shape, query, values)
            if rows:
                self.layout.write_messages(self.key, change, prepared, check)
        return rows

    def _managed_values(self, status: str, updated: datetime | None) -> JsonMap:
        """Return the values of the status and updated attributes, as their fields store them."""
        names, fields = self.options, self.meta.fields
        return {
            "status": fields[names.status_attribute].db_value(status) if names.status_attribute else None,
            "updated": fields[names.updated_attribute].db_value(updated) if names.updated_attribute else None,
        }
