"""A session that is to be deleted."""

from __future__ import annotations

from agentsession.store.connection import connected
from agentsession.store.document import DocumentSession


class SessionToDelete(DocumentSession):
    def delete(self) -> None:
        """Delete the row, if it is the owner's; raises `SessionNotFound`."""
        try:
            with connected(self.model, kept=self.kept):
                deleted = self.model.delete().where(self._this()).execute()
        except OverflowError:
            deleted = 0
        if not deleted:
            raise self._not_found()
