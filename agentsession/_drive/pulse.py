"""Signs of life of a stream whose model or tools are silent."""

from __future__ import annotations

import time

from agentsession.events import Event


class Ping(Event, frozen=True):
    """Says that the stream is alive. Only `sse()` asks for pings: an iterated stream has none."""

    def sse(self) -> str:
        """A comment, which every reader of server-sent events skips."""
        return ": ping\n\n"


class Pulse:
    """When the next ping is due. `every`: the seconds without an event after which one is; None: never.

    A driver waits on the reader's thread, so that no other thread can tell the reader that nothing comes.
    """

    every: float | None = None

    def __init__(self) -> None:
        self._last = time.monotonic()

    def within(self, seconds: float | None) -> float | None:
        """Return how long to wait for an event that may take `seconds` (None: any time)."""
        if self.every is None:
            return seconds
        left = max(self._last + self.every - time.monotonic(), 0.0)
        return left if seconds is None else min(left, seconds)

    def events(self, events: list[Event]) -> list[Event]:
        """Return the events, or a ping if there are none and one is due."""
        now = time.monotonic()
        if not events:
            if self.every is None or now < self._last + self.every:
                return events
            events = [Ping()]
        self._last = now
        return events
