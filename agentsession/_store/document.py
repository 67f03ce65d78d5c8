"""The document layout: the whole conversation in one JSON column, one guarded UPDATE per write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agentsession._json_values import JsonMap, compact
from agentsession._options import DOCUMENT, SessionOptions
from agentsession._store import format
from agentsession._store.connection import dialect_of
from agentsession._store.expression import Path
from agentsession._store.layout import Prepared, Read, Wanted
from agentsession._store.statement import given
from agentsession._turn.effects import Change
from agentsession.context import Context


class Document:
    has_rows = False

    def __init__(self, model: Any, options: SessionOptions, wanted: Wanted) -> None:
        self.dialect = dialect_of(model)
        self.column = model._meta.fields[options.context_attribute]
        self.wanted = wanted

    def read(self, text: str | None, place: str, _key: Any, _locked: bool, /) -> Read:
        context, map_ = (format.typed(text) if self.wanted.only_to_read else None), {}
        if context is None:
            map_ = format.decode(text, place)
            format.refuse_other_layout(map_, DOCUMENT, place)
            context = format.convert(map_, Context, place)
        messages, count = context.messages, len(context.messages)
        turns = 0
        if self.wanted.history is not None:
            turns = sum(message.role == "user" for message in messages)
        first = 0
        if self.wanted.is_page:
            end = count if self.wanted.before is None else min(count, self.wanted.before)
            first = 0 if self.wanted.last is None else max(0, end - self.wanted.last)
            messages = messages[first:end]
        found = msgspec.structs.replace(context, messages=messages, first=first, count=count)
        return Read(text, map_, found, turns)

    def prepared(self, map_: JsonMap, change: Change) -> Prepared:
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

        def value(numbers: Mapping[Path, Any]) -> Any:
            dialect = self.dialect
            changed = {path: dialect.document(given(name)) for path, name in sets.items()}
            changed["turn",] = dialect.with_numbers(changed["turn",], numbers)
            added = [dialect.document(given(name)) for name in appends]
            return dialect.patch(self.column, changed, added, drop)

        shape = None if change.metadata or change.drop else (*sets, len(appends))
        return Prepared(format.whole(map_, change), value, values, shape)

    def write(self, *_: Any) -> None:
        """All of it is in the context attribute."""
