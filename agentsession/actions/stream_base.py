"""What both kinds of streams have in common, and the finalizers that end the turn of a dropped stream.

A stream is one generator, and all else that lives across its events are plain objects. A cycle of objects
that is collected, or an event loop that ends, closes generators in any order; a machine that is closed before
its driver could store nothing. So a finalizer of the stream holds the generator, and closes it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar
from weakref import finalize

from agentsession._drive.feed import AsyncFeed, Feed
from agentsession._turn.effects import Outcome
from agentsession.actions.action import Action
from agentsession.context import Result
from agentsession.errors import NoResult
from agentsession.events import Event, TurnFinished

M = TypeVar("M")

_closing: dict[AsyncFeed, asyncio.Task[None] | None] = {}
"""The feeds that are being closed. They are referenced here so that the end of their event loop closes
them."""


class StreamBase(Generic[M]):
    """What both kinds of streams have in common."""

    _action: Action[M] | None = None
    _events: Any = None
    _finished: TurnFinished | None = None

    @property
    def session(self) -> M:
        """The record of the session. None for a call without a session.

        Raises:
            NoResult: The turn has not begun.
        """
        return self._claimed.record

    @property
    def result(self) -> Result[Any]:
        """The result of the turn, after its last event.

        Raises:
            NoResult: The turn has not finished, or did not complete.
        """
        if self._finished is None:
            fix = "iterate over it first; a turn that waits for an approval has a result once it was resumed"
            raise _no_result("the stream has not come to the end of a turn", fix)
        return self._finished.result

    @property
    def _claimed(self) -> Action[M]:
        if self._action is None:
            raise _no_result("the turn has not begun", "await the stream, or enter it with `async with`")
        return self._action

    def _seen(self, event: Event | Outcome) -> Event | None:
        seen = self._claimed.to_event(event)
        if isinstance(seen, TurnFinished):
            self._finished = seen
        return seen

    def ping_after(self, seconds: float | None) -> None:
        """Add an event named `ping` whenever `seconds` pass without an event; None adds none.

        The `sse()` of a ping is a comment, which readers of server-sent events skip. Call this for a web
        response that makes its own text of the events. The `sse()` of a stream calls it itself.

        Args:
            seconds: The time without an event, above 0.

        Raises:
            ValueError: `seconds` is not above 0.

        Example:
            ```python
            with session.stream_continue_session("Tell me more") as stream:
                stream.ping_after(15.0)
                for event in stream:
                    print(event.name)
            ```
        """
        if seconds is not None and not seconds > 0:
            raise ValueError(f"ping is {seconds!r}, not a number of seconds above 0, or None for no pings")
        self._events.pulse.every = seconds

    def _remember_no_result(self) -> None:
        if self._action is not None and self._finished is None:
            self._action.remember_no_result()


def close_when_dropped(stream: object, events: Feed) -> None:
    """End the turn of a stream when it is garbage-collected."""
    finalize(stream, events.drop)


def aclose_when_dropped(stream: object, events: AsyncFeed) -> None:
    """As `close_when_dropped`, on the event loop on which the stream began."""
    finalize(stream, _close_on, asyncio.get_running_loop(), events)


def _close_on(loop: asyncio.AbstractEventLoop, events: AsyncFeed) -> None:
    for closed in [each for each in list(_closing) if each.has_ended]:
        _closing.pop(closed, None)
    if not loop.is_closed():
        _closing[events] = None
        loop.call_soon_threadsafe(_begin_to_close, events)


def _begin_to_close(events: AsyncFeed) -> None:
    _closing[events] = asyncio.create_task(_close(events))


async def _close(events: AsyncFeed) -> None:
    await events.aclose()
    _closing.pop(events, None)


def _no_result(found: str, fix: str) -> NoResult:
    return NoResult(found, why="an absent result is an error, never a silent None", fix=fix)
