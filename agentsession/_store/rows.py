"""The rows layout: each message in a row of its own, and the rest, the head, in the context attribute.

A write is the guarded UPDATE of the head and the INSERT of what was said, in one short transaction, so it
costs the same however long the conversation is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from agentsession._json_values import JsonMap, compact
from agentsession._options import ROWS, SessionOptions
from agentsession._store import format
from agentsession._store.expression import Path
from agentsession._store.layout import NOTHING, Prepared, Read, Wanted
from agentsession._store.message_table import MessageTable, Row, columns_of, messages_of, rewritten
from agentsession._store.statement import given
from agentsession._turn.effects import Change
from agentsession._turn.prompt_messages import count_hidden_turns
from agentsession.context import Context, Message


class Rows:
    """Where the messages of one session are, on a model that `@agent_message` belongs to."""

    has_rows = True

    def __init__(self, model: Any, options: SessionOptions, wanted: Wanted) -> None:
        self.rows = MessageTable(model, options.context_attribute)
        self.wanted = wanted
        self.found: list[Row] = []
        self.messages: tuple[Message, ...] = ()

    def read(self, text: str | None, place: str, key: Any, locked: bool, /) -> Read:
        map_ = self._head(text, place)
        self.rows.of_head, self.rows.locked = "revision", locked
        found = self._wanted(map_, key)
        if found and not locked and format.is_current(map_) and found[-1][-1] != map_["revision"]:
            self.rows.of_head = "text"
            found = self._wanted(map_, key)
            if found:
                text = found[-1][-1]
                map_ = self._head(text, place)
        if found and not (format.is_position(found[0][0]) and format.is_position(found[-1][0])):
            raise format.unreadable(place, "the `seq` of a message row is not a position")
        context = format.convert({**map_, "messages": ()}, Context, place)
        self.found, self.messages = found, messages_of(found, place)
        if found and self.wanted.before is None:  # rows may have been added by hand, or the head restored
            map_["count"] = max(map_.get("count", 0), found[-1][0] + 1)
        first, count = found[0][0] if found else 0, map_.get("count", 0)
        seen = msgspec.structs.replace(context, messages=self.messages, layout=ROWS, first=first, count=count)
        return Read(text, map_, seen, map_.get("turns", 0), map_.get("size", 0))

    def _head(self, text: str | None, place: str) -> JsonMap:
        map_ = format.decode(text, place)
        format.refuse_other_layout(map_, ROWS, place)
        return map_

    def prepared(self, map_: JsonMap, change: Change) -> Prepared:
        first = map_.get("count", 0) - (change.drop is not None)
        said = [msgspec.to_builtins(message) for message in change.append]
        rows = tuple(columns_of(message, first + number) for number, message in enumerate(said))
        size = sum(len(msgspec.json.encode(message)) for message in said)
        head = format.head(map_, change, said, size)
        own = [name for name in format.OF_A_CHANGE if name in head and head[name] is not map_.get(name)]

        def value(numbers: Mapping[Path, Any]) -> Any:
            dialect = self.rows.dialect
            sets: dict[Path, Any] = {(name,): dialect.document(given(name)) for name in own}
            sets["turn",] = dialect.with_numbers(sets["turn",], numbers)
            return dialect.patch(self.rows.column, sets, ())

        return Prepared(head, value, {name: compact(head[name]) for name in own}, tuple(own), rows)

    def write(self, key: Any, change: Change, prepared: Prepared, still_there: Callable[[], None], /) -> None:
        if change.drop is not None:
            still_there()
            self.rows.delete(key, self._seq(change.drop))
        for id_, metadata in change.metadata.items():
            still_there()
            self.rows.update(key, self._seq(id_), rewritten(metadata, self._row(id_)))
        if prepared.rows:
            still_there()
            self.rows.insert(key, prepared.rows)

    def _wanted(self, map_: JsonMap, key: Any) -> list[Row]:
        wanted = self.wanted
        if wanted == NOTHING:
            return []
        if wanted.is_page:
            return self.rows.page(key, wanted.last, wanted.before)
        hidden = 0 if wanted.history is None else count_hidden_turns(map_.get("turns", 0), wanted.history)
        if hidden == 0 or self.rows.locked:
            return self.rows.all(key)
        system = map_.get("system") if wanted.system else None
        return self.rows.latest(key, map_["turns"] - hidden, wanted.turn, system)

    def _seq(self, id_: str) -> int:
        """The position of a message, which may have the id of another, that it had in a document."""
        row = self._row(id_)
        return int(id_.rpartition(":")[2] if row is None else row[0])

    def _row(self, id_: str) -> Row | None:
        """The row of a message, if it was read."""
        for message, row in zip(reversed(self.messages), reversed(self.found), strict=True):
            if message.id == id_:
                return row
        return None
