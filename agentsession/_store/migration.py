"""The migration of a session from one layout to the other. It is a write of a non-holder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from agentsession._json_values import JsonMap, compact
from agentsession._options import DOCUMENT, ROWS, Layout
from agentsession._store import format
from agentsession._store.connection import connected
from agentsession._store.declared import Declared
from agentsession._store.layout import ALL_MESSAGES, Document
from agentsession._store.message_table import MessageTable, as_document, columns_of
from agentsession._store.rows import Rows, head_of, without_head
from agentsession._store.session_store import StoredSession
from agentsession._store.transaction import Transaction
from agentsession._turn.active_turn import apply_change
from agentsession._turn.effects import Change, Seen
from agentsession._turn.finish import ABANDONED, closing_change
from agentsession._turn.prompt_messages import latest_reply
from agentsession.context import VERSION, Context
from agentsession.errors import LayoutMismatch

Fate = Literal["moved", "busy", "there"]

MAX_ROWS, MAX_CHARACTERS = 200, 2**20
"""What one INSERT stores at most: one packet of MariaDB holds it."""

TRIES = 3
"""How often a session is tried that others change meanwhile."""


def sessions_to_move(declared: Declared, batch: int) -> Iterator[Any]:
    """Yield the keys of all sessions, which are read in batches.

    Those that are moved already are included: a condition in SQL would fail for all sessions if one of them
    cannot be read.
    """
    meta: Any = declared.model._meta
    key, column = meta.primary_key, declared.context_field
    after = None
    while True:
        query = declared.model.select(key).where(column.is_null(False)).order_by(key).limit(batch)
        with connected(declared):
            records = query if after is None else query.where(key > after)
            keys = [record.__data__[key.name] for record in records]
        yield from keys
        if len(keys) < batch:
            return
        after = keys[-1]


class SessionToMove(StoredSession):
    """A session that `move` stores in the other layout. `count` is the number of its messages, once read."""

    count = 0

    def move(self, to: Layout, *, dry_run: bool = False) -> Fate:
        """Move the session, unless a turn is running.

        A turn whose process has died is closed as interrupted, because its claim does not count in the other
        layout.
        """
        kind = Document if to == ROWS else Rows
        self.layout = kind(self.declared, ALL_MESSAGES)
        for _ in range(TRIES):
            try:
                loaded = self.load()
            except LayoutMismatch:
                return "there"
            if format.stored_layout(self.map) is None:
                return "there"
            turn = loaded.context.turn
            self.count = len(loaded.context.messages)
            if turn is not None and turn.is_held(loaded.now):
                return "busy"
            abandoned = turn if turn is not None and turn.status == "running" else None
            ending = None if abandoned is None else closing_change(loaded.context, abandoned, ABANDONED)
            if dry_run or self._store_in(to, loaded.seen, loaded.context, ending):
                return "moved"
        return "busy"

    def _store_in(self, to: Layout, seen: Seen, context: Context, ending: Change | None) -> bool:
        document = self._document()
        if ending is not None:
            document, context = format.document_after(document, ending), apply_change(context, ending)
        map_ = head_of(document, latest_reply(context)) if to == ROWS else document
        messages = document["messages"]
        with connected(self.declared):
            rows = MessageTable(self.declared)
            with Transaction(self.backend, nested=self.in_caller_transaction) as check:
                check()
                if not self._replace({**map_, "revision": document["revision"] + 1}, seen, ending):
                    return False
                if to != ROWS:
                    check()
                    rows.clear(self.key)
                for portion in _portions(messages if to == ROWS else []):
                    check()
                    rows.insert(self.key, portion)
        return True

    def _document(self) -> JsonMap:
        """Return the session as a document."""
        map_ = {"revision": 0, "messages": [], "metadata": {}, "instruction_args": {}, **self.map}
        if isinstance(self.layout, Rows):
            map_ = without_head(map_) | {"messages": [as_document(row) for row in self.layout.rows]}
        return map_ | {"v": VERSION, "layout": DOCUMENT}

    def _replace(self, map_: JsonMap, seen: Seen, ending: Change | None) -> bool:
        """Replace the context attribute, if it is still what was seen."""
        values: dict[Any, Any] = {self.column: self.dialect.json_value(compact(map_))}
        if ending is not None and self.options.status_attribute:
            values[self.meta.fields[self.options.status_attribute]] = ending.turn.status

        def query() -> Any:
            return self.model.update(values).where(self._is_row(), self._is_unchanged(seen))

        return bool(self.table.write(None, query, {"seen": seen, **self._row_values()}))


def _portions(messages: Sequence[JsonMap]) -> Iterator[list[JsonMap]]:
    """Yield the rows of the messages, in portions that one INSERT may store."""
    portion: list[JsonMap] = []
    size = 0
    for seq, message in enumerate(messages):
        row = columns_of(message, seq)
        added = len(row["content"]) + len(row["metadata"])
        if portion and (len(portion) == MAX_ROWS or size + added > MAX_CHARACTERS):
            yield portion
            portion, size = [], 0
        portion.append(row)
        size += added
    if portion:
        yield portion
