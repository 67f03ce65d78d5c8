"""Tools in the async driver: coroutine functions as tasks, others in threads."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from agentsession._drive.async_bridge import shielded
from agentsession._drive.heartbeat import LoopBeats
from agentsession._drive.tool_batch import Batch, News
from agentsession._drive.tool_threads import run_in_a_thread
from agentsession._store.transaction import leaving_none_open, refuse_open_transaction
from agentsession._turn.effects import Run, RunTools, ToolResult
from agentsession.events import Event

if TYPE_CHECKING:
    from agentsession._drive.performer import Performer


GRACE = 1.0
"""Seconds for which a cancelled tool is waited for."""


class AsyncBatch(Batch):
    """A task that is too late, or whose turn is left, is cancelled. A function that is no coroutine function
    runs in a thread, unless that could not see the session's data."""

    news: asyncio.Queue[News]

    def __init__(self, perform: Performer, effect: RunTools) -> None:
        super().__init__(perform, effect)
        self.loop = asyncio.get_running_loop()
        self.news = asyncio.Queue()
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.cancelled: set[str] = set()

    async def __aenter__(self) -> Self:
        self.beats = LoopBeats(self.perform.session, str, self.news.put_nowait)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Stop the beats; where the turn is left, the tools as well, as far as they let themselves."""
        try:
            await shielded(self.beats.stop())
            if error is not None and self.tasks:
                self.cancel(self.tasks)
                await shielded(asyncio.wait(self.tasks.values(), timeout=GRACE))
        except asyncio.CancelledError as cancelled:
            error = cancelled
        self.told(error)

    def cancel(self, calls: Iterable[str]) -> None:
        """Have these tools end. One that is cancelled by somebody else has failed."""
        for call in calls:
            if call in self.tasks:
                self.cancelled.add(call)
                self.tasks[call].cancel()

    def end_the_late(self) -> None:
        super().end_the_late()
        self.cancel(each.call for each in self.ended)

    async def more(self) -> list[Event]:
        """The events of what comes next."""
        while (run := self.next_call()) is not None:
            self.news.put_nowait(self.started(run))
            self._begin(run)
        if self.left() == 0:  # what has ended in time may not have had the chance to say so
            await asyncio.sleep(0)
        events = self.drain()
        self.end_the_late()
        if events or self.ended:
            return events
        try:
            async with asyncio.timeout(self.perform.pulse.within(self.left())):
                return self.heard(await self.news.get()) + self.drain()
        except TimeoutError:
            return []

    def _begin(self, run: Run) -> None:
        if run.tool.is_async or self.is_here:
            self.tasks[run.call] = asyncio.create_task(self._run(run))
        else:
            run_in_a_thread(self, run, self._tell_from_its_thread)

    async def _run(self, run: Run) -> None:
        began = time.perf_counter()
        try:
            with leaving_none_open(self.perform.model):
                value: Any = run.tool.call(run.arguments, self.context(run, self._tell_from_its_thread))
            if inspect.isawaitable(value):
                value = await value
                refuse_open_transaction(self.perform.model)
            ran = self.gave(run, value, began)
        except BaseException as error:
            if run.call in self.cancelled:
                raise
            ran = self.broke(run, error, began)
        self.news.put_nowait(ran)

    def _tell_from_its_thread(self, news: Event | ToolResult) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self.loop.call_soon_threadsafe(self.news.put_nowait, news)
