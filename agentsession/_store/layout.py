"""The interface of a layout: where the messages of a session are, and how they are read and changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from agentsession._json_values import JsonMap
from agentsession._options import SessionOptions
from agentsession._store.dialects.base import Path
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
        values: The values of the placeholders in that SQL.
        shape: Distinguishes this SQL from others of the layout; None if it is used only once.
        rows: The rows of the new messages.
    """

    map: JsonMap
    sql: Callable[[Mapping[Path, Any]], Any]
    values: JsonMap
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
