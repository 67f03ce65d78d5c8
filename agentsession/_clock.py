"""The clock of a turn: the host's and the database's, or in a test one that stands still."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from datetime import UTC, datetime


class FakeClock:
    """A clock that moves only when `advance` is called, or when a turn waits."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def advance(self, seconds: float) -> None:
        """Let time pass; a negative number sets the clock back."""
        self.seconds += seconds


fake: ContextVar[FakeClock | None] = ContextVar("fake", default=None)


def seconds() -> float:
    """Return the seconds since 1970 on the host's clock."""
    clock = fake.get()
    return time.time() if clock is None else clock.seconds


def utc() -> datetime:
    """Return the time for a date-time field: UTC, without a zone."""
    return datetime.fromtimestamp(seconds(), UTC).replace(tzinfo=None)


async def asleep(duration: float) -> None:
    """Sleep without blocking the event loop, or move the fake clock."""
    clock = fake.get()
    if clock is None:
        await asyncio.sleep(duration)
    else:
        clock.advance(duration)


def sleep(duration: float) -> None:
    """Sleep, or move the fake clock."""
    clock = fake.get()
    if clock is None:
        time.sleep(duration)
    else:
        clock.advance(duration)
