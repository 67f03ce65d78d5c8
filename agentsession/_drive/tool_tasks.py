"""Tool calls in the async driver: coroutine functions run as tasks, other functions in threads."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from agentsession._drive.async_bridge import shielded
from agentsession._drive.heartbeat import LoopBeats
from agentsession._drive.tool_batch import QueueItem, ToolBatch
from agentsession._drive.tool_threads import run_in_thread
from agentsession._store.transaction import leaving_none_open, refuse_open_transaction
from agentsession._turn.effects import Run, RunTools, ToolResult
from agentsession.events import Event

if TYPE_CHECKING:
    from agentsession._drive.performer import Performer

CANCEL_WAIT = 1.0
"""Seconds for which the driver waits for a cancelled tool."""


class AsyncToolBatch(ToolBatch):
    """A batch whose tasks are cancelled at their time limit, and when the caller leaves.

    A function that is not a coroutine function runs in a thread, unless a thread could not see the session's
    data.
    """

    queue: asyncio.Queue[QueueItem]

    def __init__(self, performer: Performer, effect: RunTools) -> None:
        super().__init__(performer, effect)
        self.loop = asyncio.get_running_loop()
        self.queue = asyncio.Queue()
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.cancelled: set[str] = set()

    async def __aenter__(self) -> Self:
        self.beats = LoopBeats(self.performer.session, str, self.queue.put_nowait)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Stop the beats. After an error, cancel the tools and wait for them for `CANCEL_WAIT` seconds."""
        try:
            await shielded(self.beats.stop())
            if error is not None and self.tasks:
                self.cancel(self.tasks)
                await shielded(asyncio.wait(self.tasks.values(), timeout=CANCEL_WAIT))
        except asyncio.CancelledError as cancelled:
            error = cancelled
        self.raise_interruption(error)

    def cancel(self, calls: Iterable[str]) -> None:
        """Cancel the tasks of these calls. A task that is cancelled otherwise counts as a failed call."""
        for call in calls:
            if call in self.tasks:
                self.cancelled.add(call)
                self.tasks[call].cancel()

    def end_late_calls(self) -> None:
        super().end_late_calls()
        self.cancel(each.call for each in self.results)

    async def next_events(self) -> list[Event]:
        """Start the calls that may start, and return the next events. Wait if there are none."""
        while (run := self.start_next()) is not None:
            self.queue.put_nowait(self.started(run))
            self._start(run)
        if self.remaining() == 0:  # a call that has ended in time gets the chance to put its result
            await asyncio.sleep(0)
        events = self.drain()
        self.end_late_calls()
        if events or self.results:
            return events
        try:
            async with asyncio.timeout(self.performer.pulse.within(self.remaining())):
                return self.accept(await self.queue.get()) + self.drain()
        except TimeoutError:
            return []

    def _start(self, run: Run) -> None:
        if run.tool.is_async or self.runs_here:
            self.tasks[run.call] = asyncio.create_task(self._run(run))
        else:
            run_in_thread(self, run, self._put_from_thread)

    async def _run(self, run: Run) -> None:
        began = time.perf_counter()
        try:
            with leaving_none_open(self.performer.model):
                value: Any = run.tool.call(run.arguments, self.context(run, self._put_from_thread))
            if inspect.isawaitable(value):
                value = await value
                refuse_open_transaction(self.performer.model)
            result = self.result_of(run, value, began)
        except BaseException as error:
            if run.call in self.cancelled:
                raise
            result = self.failure_of(run, error, began)
        self.queue.put_nowait(result)

    def _put_from_thread(self, item: Event | ToolResult) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self.loop.call_soon_threadsafe(self.queue.put_nowait, item)
