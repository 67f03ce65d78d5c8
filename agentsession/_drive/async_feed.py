"""The events of an async stream, and the turn that goes on without a reader: as in `feed.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

from agentsession._drive.async_bridge import shielded
from agentsession._drive.backlog import Backlog
from agentsession._drive.feed import PATIENCE, may_run_on
from agentsession._drive.performer import Performer
from agentsession._drive.pulse import Ping
from agentsession._turn.effects import Outcome
from agentsession.events import Event


class AsyncFeed:
    """Runs the driver in the reader's task, or in a task of its own if the reader stops taking events."""

    def __init__(self, events: AsyncGenerator[Event | Outcome, None], perform: Performer) -> None:
        self._events: Any = events
        self._perform = perform
        self.pulse = perform.pulse
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._backlog = Backlog()
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._is_stepping = self._is_closing = False
        self._taken = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        if may_run_on(perform):
            self._timer = self._loop.call_later(PATIENCE / 2, self._check)

    @property
    def has_ended(self) -> bool:
        return self._events.ag_frame is None

    async def __anext__(self) -> Event | Outcome:
        if self._task is not None:
            return await self._from_the_backlog(self._task)
        self._is_stepping = True
        try:
            event: Event | Outcome = await anext(self._events)
        except BaseException:
            self._unwatch()
            raise
        finally:
            self._taken = time.monotonic()
            self._is_stepping = False
        if isinstance(event, Outcome):
            self._unwatch()
        return event

    async def aclose(self) -> None:
        """End the turn where it is."""
        self._is_closing = True
        self._unwatch()
        if self._task is not None:
            await shielded(self._interrupt(self._task))
        if self._is_stepping or not self._events.ag_running:  # else the end of the event loop closes it
            await self._events.aclose()
        self._error = None
        self._backlog.clear()

    async def _from_the_backlog(self, task: asyncio.Task[None]) -> Event | Outcome:
        while not self._backlog and not task.done():
            self._changed.clear()
            try:
                async with asyncio.timeout(self.pulse.every):
                    await self._changed.wait()
            except TimeoutError:
                return Ping()
            except asyncio.CancelledError:
                await self.aclose()
                raise
        if self._backlog:
            return self._backlog.take()
        error, self._error = self._error, None
        raise error or StopAsyncIteration

    async def _interrupt(self, task: asyncio.Task[None]) -> None:
        while not task.done():
            self._perform.interrupt()
            await asyncio.wait([task], timeout=1.0)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        is_patient = self._is_stepping or time.monotonic() - self._taken < PATIENCE
        if is_patient or not self._perform.has_asked:
            self._timer = self._loop.call_later(PATIENCE / 2, self._check)
        else:
            self._task = self._loop.create_task(self._run_on())

    async def _run_on(self) -> None:
        try:
            while not self._is_closing:
                event = await anext(self._events)
                if not isinstance(event, Ping):  # the reader waits for the backlog, and makes its own
                    self._backlog.add(event)
                    self._changed.set()
        except StopAsyncIteration:
            pass
        except asyncio.CancelledError:
            raise
        except BaseException as failure:
            self._error = failure
        finally:
            self._loop.call_soon(self._changed.set)  # when this task is done
