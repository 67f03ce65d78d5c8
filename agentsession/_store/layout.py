"""The layouts of a session: their interface, and the document layout.

A document is the whole conversation in one JSON column, with one guarded UPDATE for each write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from agentsession._json_values import JsonMap, compact
from agentsession._options import DOCUMENT, SessionOptions
from agentsession._store import format
from agentsession._store.declared import Declared
from agentsession._store.dialects.base import Path
from agentsession._store.statement import placeholder
from agentsession._turn.effects import Change
from agentsession.context import Context


@dataclass(frozen=True)
class Selection:
    """The messages that an action reads: all, those that a turn needs, or a page.

    Attributes:
        history_turns: The number of latest turns whose messages are read.
        turn: The id of a turn whose messages are read, too.
        system: Whether the system message is read, too.
        last: The number of messages of a page.
        before: The position at which a page ends.
        only_to_read: Whether nothing is written after the read.
    """

    history_turns: int | None = None
    turn: str | None = None
    system: bool = False
    last: int | None = None
    before: int | None = None
    only_to_read: bool = False

    @property
    def is_page(self) -> bool:
        return self.last is not None or self.before is not None


ALL_MESSAGES = Selection()
NO_MESSAGES = Selection(last=0)


def selection_for_turn(options: SessionOptions, turn: str | None = None) -> Selection:
    """Return what the model is shown, and the turn with this id."""
    return Selection(history_turns=options.history_turns, turn=turn, system=options.pin_instruction)


class SessionRead(NamedTuple):
    """What was read of a session at one moment.

    Attributes:
        text: The text of the context attribute.
        map: Its JSON map.
        context: Its typed form, with the selected messages.
        turns: The number of all turns.
        size: The size in bytes of all messages that are not in the context attribute.
    """

    text: str | None
    map: JsonMap
    context: Context
    turns: int = 0
    size: int = 0


class PreparedChange(NamedTuple):
    """A change, ready to be written.

    Attributes:
        map: The map of the context attribute after the change.
        sql: Returns the SQL value of the context attribute, given numbers of the turn that SQL computes.
        values: Returns the values of the placeholders in that SQL.
        shape: Distinguishes this SQL from others of the layout; None if it is used only once.
        rows: The rows of the new messages.
    """

    map: JsonMap
    sql: Callable[[Mapping[Path, Any]], Any]
    values: Callable[[], JsonMap]
    shape: tuple[Any, ...] | None = ()
    rows: tuple[JsonMap, ...] = ()


class MessageLayout(Protocol):
    """The messages of one session during one action."""

    has_rows: bool

    def read(self, text: str | None, where: str, key: Any, is_locked: bool, /) -> SessionRead:
        """Read the selected messages of the session whose context attribute has this text.

        `is_locked`: nobody changes the session before the end of the caller's transaction. Raises
        `LayoutMismatch` for a session in the other layout, and `ContextUnreadable`.
        """
        ...

    def prepare(self, map_: JsonMap, change: Change) -> PreparedChange:
        """Prepare the change of a session whose context attribute has this map."""
        ...

    def write_messages(
        self, key: Any, change: Change, prepared: PreparedChange, check: Callable[[], None], /
    ) -> None:
        """Store what the change does to messages that are not in the context attribute.

        `check` is called before each statement. It raises an error if the connection was lost.
        """
        ...


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
        parts: JsonMap = {"turn": change.turn}
        for number, (id_, metadata) in enumerate(change.metadata.items()):
            sets["messages", format.position(map_, id_), "metadata"] = f"metadata{number}"
            parts[f"metadata{number}"] = metadata
        if change.instruction_args is not None:
            sets["instruction_args",] = "instruction_args"
            parts["instruction_args"] = change.instruction_args
        for number, message in enumerate(change.append):
            parts[f"append{number}"] = message
        drop = None if change.drop is None else format.position(map_, change.drop)

        def sql(numbers: Mapping[Path, Any]) -> Any:
            dialect = self.dialect
            new = {path: dialect.json_value(placeholder(name)) for path, name in sets.items()}
            new["turn",] = dialect.set_numbers(new["turn",], numbers)
            added = [
                dialect.json_value(placeholder(f"append{number}")) for number in range(len(change.append))
            ]
            return dialect.patch(self.column, new, added, drop)

        def values() -> JsonMap:
            return {name: compact(value) for name, value in parts.items()}

        shape = None if change.metadata or change.drop else (*sets, len(change.append))
        return PreparedChange(format.document_after(map_, change), sql, values, shape)

    def write_messages(self, *_: Any) -> None:
        """All messages are in the context attribute."""
