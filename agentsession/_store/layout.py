"""What the two layouts have in common: where the messages of a session are, and how they are changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from agentsession._json_values import JsonMap
from agentsession._store.expression import Path
from agentsession._turn.effects import Change
from agentsession.context import Context


@dataclass(frozen=True)
class Wanted:
    """Which messages an action needs: those of the last so many turns, and wherever they stand those of the
    turn with this id and the `system` message; or a page: the `last` so many before the position `before`.
    `only_to_read`: nothing is going to be written."""

    history: int | None = None
    turn: str | None = None
    system: bool = False
    last: int | None = None
    before: int | None = None
    only_to_read: bool = False

    @property
    def is_page(self) -> bool:
        return self.last is not None or self.before is not None


ALL = Wanted()
NOTHING = Wanted(last=0)


class Read(NamedTuple):
    """What was read of a session, and the text of its context attribute at that moment; all `turns` that
    there are, and the `size` in bytes of all messages that are elsewhere."""

    text: str | None
    map: JsonMap
    context: Context
    turns: int = 0
    size: int = 0


class Prepared(NamedTuple):
    """A change, ready to be written: the context attribute `after` it; the `value` that SQL gives to it, with
    numbers of the turn that are set in SQL, from named `values`; and the rows of the new messages.

    `shape`: what tells this value from others of its layout; None if it is for this time only."""

    after: JsonMap
    value: Callable[[Mapping[Path, Any]], Any]
    values: JsonMap
    shape: tuple[Any, ...] | None = ()
    rows: tuple[JsonMap, ...] = ()


class Layout(Protocol):
    """Where the messages of one session are, during one action."""

    has_rows: bool

    def read(self, text: str | None, place: str, key: Any, locked: bool, /) -> Read:
        """What is wanted of the session whose context attribute was this text; `locked`: and is until the end
        of the caller's transaction. Raises `LayoutMismatch` for
        one of the other layout, and `ContextUnreadable`."""
        ...

    def prepared(self, map_: JsonMap, change: Change) -> Prepared:
        """The change of a session whose context attribute is this map."""
        ...

    def write(self, key: Any, change: Change, prepared: Prepared, still_there: Callable[[], None], /) -> None:
        """Store what of the change is not in the context attribute."""
        ...
