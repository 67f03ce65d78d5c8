"""A stream that nobody holds any more is closed, which ends its turn.

Python would do so by itself, but in a cycle of objects it may close the machine of the turn before its
driver, and at the end of an event loop it may be too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import Any
from weakref import finalize

_closing: dict[Any, asyncio.Task[None] | None] = {}
"""The generators that are not closed yet: held here when their event loop ends, so that it closes them."""


def close_when_dropped(stream: object, events: Generator[Any, None, None]) -> None:
    finalize(stream, events.close)


def aclose_when_dropped(stream: object, events: AsyncGenerator[Any, None]) -> None:
    finalize(stream, _close_on, asyncio.get_running_loop(), events)


def _close_on(loop: asyncio.AbstractEventLoop, events: AsyncGenerator[Any, None]) -> None:
    for closed in [each for each in list(_closing) if each.ag_frame is None]:
        _closing.pop(closed, None)
    if not loop.is_closed():
        _closing[events] = None
        loop.call_soon_threadsafe(_begin_to_close, events)


def _begin_to_close(events: AsyncGenerator[Any, None]) -> None:
    _closing[events] = asyncio.create_task(_close(events))


async def _close(events: AsyncGenerator[Any, None]) -> None:
    await events.aclose()
    _closing.pop(events, None)
