"""A session that is not stored yet: one INSERT, which a key lets happen once, and those of its messages."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import peewee

from agentsession import _clock
from agentsession._options import SessionOptions
from agentsession._store.connection import LOST, connected
from agentsession._store.driver_errors import explain_refused
from agentsession._store.layout import Prepared
from agentsession._store.record import refresh
from agentsession._store.session_store import StoredSession
from agentsession._store.transaction import Together
from agentsession._turn.effects import Change, WriteUnconfirmed


class NewSession(StoredSession):
    """`insert` makes it a stored one. `key_field` is derived from the idempotency key, if there is one."""

    def __init__(
        self,
        model: type[peewee.Model],
        options: SessionOptions,
        record: Any,
        owner: Any = None,
        key_field: Any = None,
    ) -> None:
        super().__init__(model, options, record, owner)
        self.new, self.record = record, None
        self.key_field = key_field
        self._has_its_key = record._pk is not None
        if key_field is not None:
            self.found_by = (key_field, record.__data__[key_field.name])

    def insert(self, change: Change) -> bool:
        """Store the record; False if a row of the same idempotency key is there."""
        prepared = self.layout.prepared({}, change)
        self.map = prepared.after
        now = self.dialect.to_datetime(_clock.utc())
        refresh(self.new, self.options, self.map, change.turn.status, now)
        try:
            with connected(self.model):
                self._save(change, prepared)
        except LOST as error:
            if self.inside or not self._can_be_found:
                raise
            raise WriteUnconfirmed from error
        except peewee.IntegrityError:
            if self.key_field is not None and self._exists():
                return False
            if self._was_sent_twice(change):
                return True
            raise
        self.record, self.key, self.turn = self.new, self.new._pk, change.turn
        self.found_by = (self.meta.primary_key, self.key)
        return True

    @property
    def _can_be_found(self) -> bool:
        """Has it an id or a key before the database gives it one?"""
        return self.found_by[1] is not None

    def _save(self, change: Change, prepared: Prepared) -> None:
        """Inside a transaction a refused row must not undo what the caller did before."""
        with ExitStack() as stack:
            still_there = None
            if self.layout.has_rows or (self.inside and self.key_field is not None):
                still_there = stack.enter_context(Together(self.table.database, inside=self.inside))
            if still_there is not None:
                still_there()
            if not self._has_its_key:  # the database gave one, and then none of it was stored
                self.new._pk = None
            try:
                self.new.save(force_insert=True)
            except peewee.DatabaseError as error:
                explain_refused(error, self.new, self.options.managed)
                raise
            if self.layout.has_rows and still_there is not None:
                self.layout.write(self.new._pk, change, prepared, still_there)

    def _was_sent_twice(self, change: Change) -> bool:
        """Was the driver's repetition refused? In a failed transaction PostgreSQL reads nothing."""
        if self.key_field is not None or self.inside or not self._can_be_found:
            return False
        return self._exists() and self.load(change).stored

    def _exists(self) -> bool:
        def query() -> Any:
            found = self.model.select(self.meta.primary_key).where(self._this())
            return self.dialect.locked(self.model, found) if self.inside else found

        with connected(self.model):
            return bool(self.table.rows(None, query, self._found()))
