"""The document layout: the whole conversation in one JSON column, one guarded UPDATE for each write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agentsession._json_values import JsonMap, compact
from agentsession._options import DOCUMENT
from agentsession._store import format
from agentsession._store.declared import Declared
from agentsession._store.dialects.base import Path
from agentsession._store.layout import PreparedChange, Selection, SessionRead
from agentsession._store.statement import placeholder
from agentsession._turn.effects import Change
from agentsession.context import Context


class Document:
    has_rows = False

    def __init__(self, declared: Declared, selection: Selection) -> None:
        self.dialect = declared.backend.dialect
        self.column = declared.context_field
        self.selection = selection

    def read(self, text: str | None, where: str, _key: Any, _is_locked: bool, /) -> SessionRead:
        selection = self.selection
        context, map_ = (format.decode_document(text) if selection.only_to_read else None), {}
        if context is None:
            map_ = format.decode(text, where)
            format.refuse_other_layout(map_, DOCUMENT, where)
            context = format.convert(map_, Context, where)
        messages, count = context.messages, len(context.messages)
        turns = 0
        if selection.history_turns is not None:
            turns = sum(message.role == "user" for message in messages)
        first = 0
        if selection.is_page:
            end = count if selection.before is None else min(count, selection.before)
            first = 0 if selection.last is None else max(0, end - selection.last)
            messages = messages[first:end]
        selected = msgspec.structs.replace(context, messages=messages, first=first, count=count)
        return SessionRead(text, map_, selected, turns)

    def prepare(self, map_: JsonMap, change: Change) -> PreparedChange:
        # The context is changed key by key, so that what the user has stored beside is kept.
        sets: dict[Path, str] = {("turn",): "turn"}
        values = {"turn": compact(change.turn)}
        for number, (id_, metadata) in enumerate(change.metadata.items()):
            sets["messages", format.position(map_, id_), "metadata"] = f"metadata{number}"
            values[f"metadata{number}"] = compact(metadata)
        if change.instruction_args is not None:
            sets["instruction_args",] = "instruction_args"
            values["instruction_args"] = compact(change.instruction_args)
        appends = [f"append{number}" for number in range(len(change.append))]
        values |= zip(appends, map(compact, change.append), strict=True)
        drop = None if change.drop is None else format.position(map_, change.drop)

        def sql(numbers: Mapping[Path, Any]) -> Any:
            dialect = self.dialect
            new = {path: dialect.json_value(placeholder(name)) for path, name in sets.items()}
            new["turn",] = dialect.set_numbers(new["turn",], numbers)
            added = [dialect.json_value(placeholder(name)) for name in appends]
            return dialect.patch(self.column, new, added, drop)

        shape = None if change.metadata or change.drop else (*sets, len(appends))
        return PreparedChange(format.document_after(map_, change), sql, values, shape)

    def write_messages(self, *_: Any) -> None:
        """All messages are in the context attribute."""
