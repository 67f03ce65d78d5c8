"""The deletion of a session."""

from __future__ import annotations

from typing import Any

from agentsession._options import ROWS
from agentsession._store.connection import connected
from agentsession._store.message_table import MessageTable
from agentsession._store.session_row import SessionRow
from agentsession._store.transaction import Transaction


class SessionToDelete(SessionRow):
    def delete(self) -> None:
        """Delete the row of the session and those of its messages. Raises `SessionNotFound`."""

        def query() -> Any:
            return self.model.delete().where(self._is_row())

        shape = ("delete", *self._row_shape)
        with connected(self.declared):
            if self.options.messages != ROWS:
                deleted = self.table.write(shape, query, self._row_values())
            else:
                with Transaction(self.backend, inside=self.inside) as check:
                    check()
                    self._lock()
                    check()
                    MessageTable(self.declared).clear(self.key)
                    check()
                    deleted = self.table.write(shape, query, self._row_values())
        if not deleted:
            raise self.not_found()

    def _lock(self) -> None:
        """Lock the session before its messages, as every other write does."""

        def query() -> Any:
            found = self.model.select(self.meta.primary_key).where(self._is_row())
            return self.dialect.lock(self.model, found)

        if not self.table.read(None, query, self._row_values()):
            raise self.not_found()
