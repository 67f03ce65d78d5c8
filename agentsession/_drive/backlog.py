"""The events that the reader of a stream has not taken yet, in bounded space."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby

from agentsession._turn.effects import Outcome
from agentsession.events import Event, PartialOutput, TextDelta, ThinkingDelta, ToolProgress

MOST = 1_000
"""Events that are kept as they are."""

CHUNK = 16_384
"""Characters of a delta that is not joined with the next one, so that a text is copied only a few times."""


class Backlog:
    """Keeps the text of all deltas, the latest partial output, the latest progress of each call, and every
    other event."""

    def __init__(self) -> None:
        self._events: deque[Event | Outcome] = deque()
        self._most = MOST

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: Event | Outcome) -> None:
        """A partial output replaces the one before it, which may be as large as the whole reply."""
        if isinstance(event, PartialOutput):
            self._events = deque(each for each in self._events if not isinstance(each, PartialOutput))
        self._events.append(event)
        if len(self._events) > self._most:
            self._events = deque(_merged(self._events))
            self._most = max(MOST, 2 * len(self._events))

    def take(self) -> Event | Outcome:
        return self._events.popleft()

    def clear(self) -> None:
        self._events.clear()


def _merged(events: Iterable[Event | Outcome]) -> Iterator[Event | Outcome]:
    """The same with fewer events: deltas that follow each other become one."""
    events = list(events)
    latest = {each.call: each for each in events if isinstance(each, ToolProgress)}
    kept = (each for each in events if not isinstance(each, ToolProgress) or latest[each.call] is each)
    for kind, run in groupby(kept, key=type):
        if issubclass(kind, (TextDelta, ThinkingDelta)):
            yield from map(kind, _joined(each.text for each in run if isinstance(each, kind)))
        else:
            yield from run


def _joined(texts: Iterable[str]) -> Iterator[str]:
    parts: list[str] = []
    size = 0
    for text in texts:
        parts.append(text)
        size += len(text)
        if size >= CHUNK:
            yield "".join(parts)
            parts, size = [], 0
    if parts:
        yield "".join(parts)
