"""The events of a stream that its reader has not taken yet, and the ping that keeps the stream alive."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby

from agentsession._turn.effects import Outcome
from agentsession.events import Event, PartialOutput, TextDelta, ThinkingDelta, ToolProgress

MAX_EVENTS = 1_000
"""Events that a backlog keeps before it merges them."""

MAX_DELTA = 16_384
"""Characters at which a merged delta is complete, so that a text is copied only a few times."""


class Ping(Event, frozen=True):
    """A sign of life. Only `sse()` and the web routers ask for pings: an iterated stream has none."""

    def sse(self) -> str:
        """Return a comment, which every reader of server-sent events skips."""
        return ": ping\n\n"


class Backlog:
    """The events that the reader of a stream has not taken yet, in bounded space.

    It keeps the text of all deltas, the latest partial output, the latest progress of each call, and every
    other event.
    """

    def __init__(self) -> None:
        self._events: deque[Event | Outcome] = deque()
        self._merge_at = MAX_EVENTS

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: Event | Outcome) -> None:
        """Add an event. A partial output replaces the last one, because each may be as large as the reply."""
        if isinstance(event, PartialOutput):
            self._events = deque(each for each in self._events if not isinstance(each, PartialOutput))
        self._events.append(event)
        if len(self._events) > self._merge_at:
            self._events = deque(_merged(self._events))
            self._merge_at = max(MAX_EVENTS, 2 * len(self._events))

    def take(self) -> Event | Outcome:
        """Remove and return the oldest event."""
        return self._events.popleft()

    def clear(self) -> None:
        self._events.clear()


def _merged(events: Iterable[Event | Outcome]) -> Iterator[Event | Outcome]:
    """Yield the events with consecutive deltas as one, and only the latest progress of each call."""
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
        if size >= MAX_DELTA:
            yield "".join(parts)
            parts, size = [], 0
    if parts:
        yield "".join(parts)
