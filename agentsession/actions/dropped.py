"""A stream that nobody holds any more is closed, which ends its turn.

Python would do so by itself, but in a cycle of objects it may close the machine of the turn before its
driver, and at the end of an event loop it may be too late."""

from __future__ import annotations

import asyncio
from weakref import finalize

from agentsession.drive.async_feed import AsyncFeed
from agentsession.drive.feed import Feed

_closing: dict[AsyncFeed, asyncio.Task[None] | None] = {}
"""The feeds that are not closed yet. They are held here so that the end of their event loop closes them."""


def close_when_dropped(stream: object, events: Feed) -> None:
    finalize(stream, events.drop)


def aclose_when_dropped(stream: object, events: AsyncFeed) -> None:
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
