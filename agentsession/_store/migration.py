"""A session that is moved from one layout to the other, by an outsider's guarded write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import peewee

from agentsession._json_values import JsonMap, compact
from agentsession._options import DOCUMENT, ROWS, Layout, SessionOptions
from agentsession._store import format
from agentsession._store.connection import connected
from agentsession._store.document import Document
from agentsession._store.layout import ALL
from agentsession._store.message_table import MessageTable, as_document, columns_of
from agentsession._store.rows import Rows
from agentsession._store.session_store import StoredSession
from agentsession._store.transaction import Together
from agentsession._turn.effects import Change, Seen, apply_change
from agentsession._turn.finish import ABANDONED, closing_change
from agentsession._turn.prompt_messages import latest_reply
from agentsession.context import VERSION, Context
from agentsession.errors import LayoutMismatch

Fate = Literal["moved", "busy", "there"]

AT_ONCE, SIZE = 200, 2**20
"""Messages, and characters, that one INSERT stores: MariaDB takes no more than a packet."""

TRIES = 3
"""How often a session that is changed meanwhile is tried."""


def sessions_to_move(model: type[peewee.Model], options: SessionOptions, batch: int) -> Iterator[Any]:
    """The keys of all sessions, read so many at a time. Which of them are there already, each tells itself: a
    condition in SQL would fail for all of them where one cannot be read."""
    meta: Any = model._meta
    key, column = meta.primary_key, meta.fields[options.context_attribute]
    after = None
    while True:
        query = model.select(key).where(column.is_null(False)).order_by(key).limit(batch)
        with connected(model):
            records = query if after is None else query.where(key > after)
            keys = [record.__data__[key.name] for record in records]
        yield from keys
        if len(keys) < batch:
            return
        after = keys[-1]


class SessionToMove(StoredSession):
    """`count`: the number of its messages, once it was read."""

    count = 0

    def move(self, to: Layout, *, dry_run: bool = False) -> Fate:
        """Move it, unless a turn is running. A turn that was left by its process is closed as interrupted,
        since its claim would count in the other layout no more."""
        kind = Document if to == ROWS else Rows
        self.layout = kind(self.model, self.options, ALL)
        for _ in range(TRIES):
            try:
                loaded = self.load()
            except LayoutMismatch:
                return "there"
            if format.layout_of(self.map) is None:
                return "there"
            turn = loaded.context.turn
            self.count = len(loaded.context.messages)
            if turn is not None and turn.is_held(loaded.now):
                return "busy"
            left = turn if turn is not None and turn.status == "running" else None
            ending = None if left is None else closing_change(loaded.context, left, ABANDONED)
            if dry_run or self._moved(to, loaded.seen, loaded.context, ending):
                return "moved"
        return "busy"

    def _moved(self, to: Layout, seen: Seen, context: Context, ending: Change | None) -> bool:
        document = self._document()
        if ending is not None:
            document, context = format.whole(document, ending), apply_change(context, ending)
        whole = format.head_of(document, latest_reply(context)) if to == ROWS else document
        messages = document["messages"]
        with connected(self.model):
            rows = MessageTable(self.model, self.column.name)
            with Together(self.table.database, inside=self.inside) as still_there:
                still_there()
                if not self._replace({**whole, "revision": document["revision"] + 1}, seen, ending):
                    return False
                if to != ROWS:
                    still_there()
                    rows.clear(self.key)
                for some in _portions(messages if to == ROWS else []):
                    still_there()
                    rows.insert(self.key, some)
        return True

    def _document(self) -> JsonMap:
        """All of it as one map."""
        map_ = {"revision": 0, "messages": [], "metadata": {}, "instruction_args": {}, **self.map}
        if isinstance(self.layout, Rows):
            map_ = format.without_head(map_) | {"messages": [as_document(row) for row in self.layout.found]}
        return map_ | {"v": VERSION, "layout": DOCUMENT}

    def _replace(self, map_: JsonMap, seen: Seen, ending: Change | None) -> bool:
        """Write the context attribute whole, if it is still as it was seen."""
        values: dict[Any, Any] = {self.column: self.dialect.document(compact(map_))}
        if ending is not None and self.options.status_attribute:
            values[self.meta.fields[self.options.status_attribute]] = ending.turn.status

        def query() -> Any:
            return self.model.update(values).where(self._this(), self._untouched(seen))

        return bool(self.table.changed(None, query, {"seen": seen, **self._found()}))


def _portions(messages: Sequence[JsonMap]) -> Iterator[list[JsonMap]]:
    """The rows of the messages, as many as one INSERT may store."""
    portion: list[JsonMap] = []
    size = 0
    for seq, message in enumerate(messages):
        row = columns_of(message, seq)
        taken = len(row["content"]) + len(row["metadata"])
        if portion and (len(portion) == AT_ONCE or size + taken > SIZE):
            yield portion
            portion, size = [], 0
        portion.append(row)
        size += taken
    if portion:
        yield portion
