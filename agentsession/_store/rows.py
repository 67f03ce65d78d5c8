"""The rows layout: each message in a row of its own, and everything else, the head, in the context attribute.

A write is the guarded UPDATE of the head and the INSERT of the new messages, in one short transaction. It
costs the same however long the conversation is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from agentsession._json_values import JsonMap, compact
from agentsession._options import ROWS
from agentsession._store import format
from agentsession._store.declared import Declared
from agentsession._store.dialects.base import Path
from agentsession._store.layout import NO_MESSAGES, PreparedChange, Selection, SessionRead
from agentsession._store.message_table import (
    MessageRow,
    MessageTable,
    columns_of,
    messages_of,
    metadata_for_row,
)
from agentsession._store.statement import placeholder
from agentsession._turn.effects import Change
from agentsession._turn.prompt_messages import count_hidden_turns
from agentsession.context import Context, Message

OF_A_CHANGE = ("turn", "count", "turns", "size", "system", "reply", "instruction_args")
"""Keys of a head that a change may set. The user may set other keys meanwhile."""

HEAD = frozenset({"count", "turns", "size", "system", "reply"})
"""Keys that only the context of a session in rows has."""


class Rows:
    has_rows = True

    def __init__(self, declared: Declared, selection: Selection) -> None:
        self.table = MessageTable(declared)
        self.selection = selection
        self.rows: list[MessageRow] = []
        self.messages: tuple[Message, ...] = ()

    def read(self, text: str | None, where: str, key: Any, is_locked: bool, /) -> SessionRead:
        # Each message row comes with the revision of the head. If it is not the revision that was read, the
        # session was changed between the two statements, and the rows are read again with the text of the
        # head. A transaction for reading would cost two round trips.
        map_ = self._head(text, where)
        self.table.head_column, self.table.is_locked = "revision", is_locked
        rows = self._selected(map_, key)
        if rows and not is_locked and format.is_versioned(map_) and rows[-1][-1] != map_["revision"]:
            self.table.head_column = "text"
            rows = self._selected(map_, key)
            if rows:
                text = rows[-1][-1]
                map_ = self._head(text, where)
        if rows and not (format.is_position(rows[0][0]) and format.is_position(rows[-1][0])):
            raise format.unreadable(where, "the `seq` of a message row is not a position")
        context = format.convert({**map_, "messages": ()}, Context, where)
        self.rows, self.messages = rows, messages_of(rows, where)
        if rows and self.selection.before is None:  # rows may have been added by hand, or the head restored
            map_["count"] = max(map_.get("count", 0), rows[-1][0] + 1)
        first, count = rows[0][0] if rows else 0, map_.get("count", 0)
        selected = msgspec.structs.replace(
            context, messages=self.messages, layout=ROWS, first=first, count=count
        )
        return SessionRead(text, map_, selected, map_.get("turns", 0), map_.get("size", 0))

    def _head(self, text: str | None, where: str) -> JsonMap:
        map_ = format.decode(text, where)
        format.refuse_other_layout(map_, ROWS, where)
        return map_

    def prepare(self, map_: JsonMap, change: Change) -> PreparedChange:
        first = map_.get("count", 0) - (change.drop is not None)
        messages = [msgspec.to_builtins(message) for message in change.append]
        rows = tuple(columns_of(message, first + number) for number, message in enumerate(messages))
        size = sum(len(msgspec.json.encode(message)) for message in messages)
        head = _head_after(map_, change, messages, size)
        own = [name for name in OF_A_CHANGE if name in head and head[name] is not map_.get(name)]

        def sql(numbers: Mapping[Path, Any]) -> Any:
            dialect = self.table.dialect
            sets: dict[Path, Any] = {(name,): dialect.json_value(placeholder(name)) for name in own}
            sets["turn",] = dialect.set_numbers(sets["turn",], numbers)
            return dialect.patch(self.table.head_field, sets, ())

        def values() -> JsonMap:
            return {name: compact(head[name]) for name in own}

        return PreparedChange(head, sql, values, tuple(own), rows)

    def write_messages(
        self, key: Any, change: Change, prepared: PreparedChange, check: Callable[[], None], /
    ) -> None:
        if change.drop is not None:
            check()
            self.table.delete(key, self._seq(change.drop))
        for id_, metadata in change.metadata.items():
            check()
            self.table.update(key, self._seq(id_), metadata_for_row(metadata, self._row(id_)))
        if prepared.rows:
            check()
            self.table.insert(key, prepared.rows)

    def _selected(self, map_: JsonMap, key: Any) -> list[MessageRow]:
        selection = self.selection
        if selection == NO_MESSAGES:
            return []
        if selection.is_page:
            return self.table.page(key, selection.last, selection.before)
        hidden, turns = 0, map_.get("turns", 0)
        if selection.history_turns is not None:
            hidden = count_hidden_turns(turns, selection.history_turns)
        if hidden == 0 or self.table.is_locked:
            return self.table.all(key)
        system = map_.get("system") if selection.system else None
        return self.table.latest(key, turns - hidden, selection.turn, system)

    def _seq(self, id_: str) -> int:
        """Return the position of a message. A message that was moved from a document may have another id."""
        row = self._row(id_)
        return int(id_.rpartition(":")[2] if row is None else row[0])

    def _row(self, id_: str) -> MessageRow | None:
        """Return the row of a message; None if it was not read."""
        for message, row in zip(reversed(self.messages), reversed(self.rows), strict=True):
            if message.id == id_:
                return row
        return None


def _head_after(map_: JsonMap, change: Change, messages: Sequence[JsonMap], size: int) -> JsonMap:
    """Return the context of a session in rows after a change.

    `messages` are those that the change appends, as JSON; `size` is the number of their bytes.
    """
    roles = [message["role"] for message in messages]
    first = map_.get("count", 0) - (change.drop is not None)
    own: JsonMap = {
        "layout": ROWS,
        "count": first + len(roles),
        "turns": map_.get("turns", 0) + roles.count("user"),
        "size": map_.get("size", 0) + size,
    }
    if "system" in roles:
        own["system"] = first + roles.index("system")
    if change.turn.status == "completed" and "assistant" in roles:
        own["reply"] = messages[len(roles) - 1 - roles[::-1].index("assistant")]
    stored = format.map_after(map_, change, own)
    stored.pop("messages", None)
    return stored


def head_of(document: JsonMap, reply: Message | None) -> JsonMap:
    """Return the context of a document whose messages are moved to rows."""
    messages = document["messages"]
    roles = [message["role"] for message in messages]
    return {
        **{key: value for key, value in document.items() if key != "messages"},
        "layout": ROWS,
        "count": len(messages),
        "turns": roles.count("user"),
        "size": sum(len(msgspec.json.encode(message)) for message in messages),
        **({"system": roles.index("system")} if "system" in roles else {}),
        **({} if reply is None else {"reply": msgspec.to_builtins(reply)}),
    }


def without_head(map_: JsonMap) -> JsonMap:
    """Return the keys that a document may have, too."""
    return {key: value for key, value in map_.items() if key not in HEAD}
