"""A session that is to be deleted."""

from __future__ import annotations

from typing import Any

from agentsession._options import ROWS
from agentsession._store.connection import connected
from agentsession._store.message_table import MessageTable
from agentsession._store.session_row import SessionRow
from agentsession._store.transaction import Together


class SessionToDelete(SessionRow):
    def delete(self) -> None:
        """Delete the row, if it is the owner's, and those of its messages; raises `SessionNotFound`."""

        def query() -> Any:
            return self.model.delete().where(self._this())

        with connected(self.model):
            if self.options.messages != ROWS:
                deleted = self.table.changed(("delete", *self._shape), query, self._found())
            else:
                with Together(self.table.database, inside=self.inside) as still_there:
                    still_there()
                    self._lock()
                    still_there()
                    MessageTable(self.model, self.column.name).clear(self.key)
                    still_there()
                    deleted = self.table.changed(("delete", *self._shape), query, self._found())
        if not deleted:
            raise self.not_found()

    def _lock(self) -> None:
        """The session before its messages, as every other write does."""

        def query() -> Any:
            found = self.model.select(self.meta.primary_key).where(self._this())
            return self.dialect.locked(self.model, found)

        if not self.table.rows(None, query, self._found()):
            raise self.not_found()
