"""A session that is not stored yet: one INSERT, which an idempotency key allows once, and its messages."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import peewee

from agentsession import _clock
from agentsession._store.connection import LOST, connected
from agentsession._store.declared import Declared
from agentsession._store.error_notes import explain_refused
from agentsession._store.identity import key_field_of, key_value, owner_of
from agentsession._store.layout import PreparedChange
from agentsession._store.record import new_record
from agentsession._store.session_row import refresh
from agentsession._store.session_store import StoredSession
from agentsession._store.transaction import Transaction
from agentsession._turn.effects import Change, WriteUnconfirmed


def new_session(
    declared: Declared, attributes: Mapping[str, Any] | None, actor: Any, key: str | None
) -> NewSession:
    """Return a session that is not stored yet. Raises `InputInvalid` for attributes that do not fit."""
    derived: dict[str, Any] = {}
    owner = owner_of(declared, actor)
    if declared.options.owner_attribute is not None:
        derived[declared.options.owner_attribute] = owner
    key_field: Any = None
    if key is not None:
        key_field = key_field_of(declared)
        derived[key_field.name] = key_value(declared, key_field, owner, key)
    return NewSession(declared, new_record(declared, attributes, derived), owner, key_field)


class NewSession(StoredSession):
    """A session that `insert` stores. `key_field` holds the value of the idempotency key, if there is one."""

    def __init__(self, declared: Declared, record: Any, owner: Any = None, key_field: Any = None) -> None:
        super().__init__(declared, record, owner)
        self.new, self.record = record, None
        self.key_field = key_field
        self._has_own_key = record._pk is not None
        if key_field is not None:
            self.found_by = (key_field, record.__data__[key_field.name])

    def insert(self, change: Change) -> bool:
        """Store the record. Returns False if a row of the same idempotency key exists."""
        prepared = self.layout.prepare({}, change)
        self.map = prepared.map
        now = self.dialect.to_datetime(_clock.utc())
        refresh(self.new, self.options, self.map, change.turn.status, now)
        try:
            with connected(self.declared):
                self._save(change, prepared)
        except LOST as error:
            if self.in_caller_transaction or not self._can_be_found:
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
        """Return whether the row has an id or a key before the database chooses one."""
        return self.found_by[1] is not None

    def _save(self, change: Change, prepared: PreparedChange) -> None:
        """Insert the row and its messages.

        Inside the caller's transaction a savepoint keeps a refused row from undoing what the caller did
        before.
        """
        with ExitStack() as stack:
            check = None
            if self.layout.has_rows or (self.in_caller_transaction and self.key_field is not None):
                check = stack.enter_context(Transaction(self.backend, nested=self.in_caller_transaction))
            if check is not None:
                check()
            if not self._has_own_key:  # an earlier try got a key from the database, and was not stored
                self.new._pk = None
            try:
                self.new.save(force_insert=True)
            except peewee.DatabaseError as error:
                explain_refused(error, self.new, self.options.managed)
                raise
            if self.layout.has_rows and check is not None:
                self.layout.write_messages(self.new._pk, change, prepared, check)

    def _was_sent_twice(self, change: Change) -> bool:
        """Return whether the row was refused because the driver has repeated the INSERT.

        In a failed transaction PostgreSQL reads nothing.
        """
        if self.key_field is not None or self.in_caller_transaction or not self._can_be_found:
            return False
        return self._exists() and self.load(change).stored

    def _exists(self) -> bool:
        def query() -> Any:
            found = self.model.select(self.meta.primary_key).where(self._is_row())
            return self.dialect.lock(self.model, found) if self.in_caller_transaction else found

        with connected(self.declared):
            return bool(self.table.read(None, query, self._row_values()))
