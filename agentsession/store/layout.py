"""What the two layouts have in common: where the messages of a session are, and how they are changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from agentsession.context import Context
from agentsession.json_values import JsonMap
from agentsession.store.expression import Path
from agentsession.turn.effects import Change


@dataclass(frozen=True)
class Wanted:
    """Which messages an action needs: those of the last so many turns, and wherever they stand those of the
    turn with this id and the `system` message; or a page: the `last` so many before the position `before`."""

    history: int | None = None
    turn: str | None = None
    system: bool = False
    last: int | None = None
    before: int | None = None

    @property
    def is_page(self) -> bool:
        return self.last is not None or self.before is not None


ALL = Wanted()
NOTHING = Wanted(last=0)


class Read(NamedTuple):
    """What was read of a session; all `turns` that there are, and the `size` in bytes of all messages that
    are not in the context attribute."""

    context: Context
    turns: int = 0
    size: int = 0


@dataclass(frozen=True)
class Patch:
    """A change of the context attribute: what is set, by its path, and appended to `messages`, both as names
    in `values`; and the position of the message that goes."""

    sets: Mapping[Path, str]
    values: JsonMap
    appends: tuple[str, ...] = ()
    drop: int | None = None
    shape: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", (*self.sets, len(self.appends)))

    @property
    def is_usual(self) -> bool:
        """Does it name no position, so that the same statement will serve again?"""
        return self.drop is None and not any(isinstance(part, int) for path in self.sets for part in path)


class Layout(Protocol):
    """Where the messages of one session are, during one action."""

    has_rows: bool

    def read(self, map_: JsonMap, key: Any, place: str) -> Read | None:
        """What is wanted of the session; None if the messages are no longer those of this map. Raises
        `LayoutMismatch` for a map of the other layout."""
        ...

    def patch(self, map_: JsonMap, change: Change) -> Patch:
        """The change, as one of the context attribute."""
        ...

    def changed(self, map_: JsonMap, change: Change) -> JsonMap:
        """The context attribute after the change, in full."""
        ...

    def write(self, key: Any, map_: JsonMap, change: Change, still_there: Callable[[], None]) -> None:
        """Store what of the change is elsewhere. `map_` is the context attribute before it."""
        ...
