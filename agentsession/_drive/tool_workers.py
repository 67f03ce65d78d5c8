"""The tool calls of one step: in threads for the sync driver, in tasks of an event loop for the async one."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from agentsession._drive.heartbeat import LoopBeats, keep_alive
from agentsession._drive.stepper import is_raised_by_a_signal_handler, shielded
from agentsession._drive.tool_batch import QueueItem, ToolBatch
from agentsession._store.transaction import leaving_none_open, refuse_open_transaction
from agentsession._turn.effects import Run, RunTools, ToolResult
from agentsession.events import Event

if TYPE_CHECKING:
    from agentsession._drive.performer import Performer

Put = Callable[[Event | ToolResult], object]

CANCEL_WAIT = 1.0
"""Seconds for which the driver waits for a cancelled tool."""


class SyncToolBatch(ToolBatch):
    """A batch whose calls run in threads.

    Where other threads could not see the session's data (`:memory:`, an open transaction), the calls run one
    after the other on the caller's thread, without a time limit.
    """

    queue: SimpleQueue[QueueItem]

    def __init__(self, performer: Performer, effect: RunTools) -> None:
        super().__init__(performer, effect)
        self.queue = SimpleQueue()

    def __enter__(self) -> Self:
        self.stop_beats = keep_alive(self.performer.session, str, self.queue.put)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.stop_beats()
        self.raise_interruption(error)

    def next_events(self) -> list[Event]:
        """Start the calls that may start, and return the next events. Wait if there are none."""
        if self.runs_here:
            return self._run_one_here()
        while (run := self.start_next()) is not None:
            self.queue.put(self.started(run))
            run_in_thread(self, run, self.queue.put)
        events = self.drain()
        self.end_late_calls()
        if events or self.results:
            return events
        try:
            timeout = self.performer.pulse.within(self.remaining())
            return self.accept(self.queue.get(timeout=timeout)) + self.drain()
        except Empty:
            return []

    def _run_one_here(self) -> list[Event]:
        run = self.start_next()
        if run is None:
            raise AssertionError("the batch has no call left to run")
        events: list[Event] = [self.started(run)]
        self.results.append(run_here(self, run, events.append))
        self.running.clear()
        return events


def run_in_thread(batch: ToolBatch, run: Run, put: Put) -> None:
    """Run a call in a daemon thread.

    A call that does not end cannot be stopped, and must not keep the process from ending.
    """
    context = copy_context()

    def work() -> None:
        put(context.run(run_here, batch, run, put))

    try:
        threading.Thread(target=work, name="agentsession-tool", daemon=True).start()
    except RuntimeError as error:  # the system has no thread left
        put(batch.failure_of(run, error, time.perf_counter()))


def run_here(batch: ToolBatch, run: Run, put: Callable[[Any], object]) -> ToolResult:
    """Run a call on this thread. A coroutine gets an event loop of its own."""
    began = time.perf_counter()
    try:
        with leaving_none_open(batch.performer.model):
            value = run.tool.call(run.arguments, batch.context(run, put))
            if inspect.isawaitable(value):
                value = asyncio.run(_awaited(value))
            return batch.result_of(run, value, began)
    except BaseException as error:
        if threading.current_thread() is threading.main_thread() and (
            isinstance(error, KeyboardInterrupt) or is_raised_by_a_signal_handler(error)
        ):
            raise
        return batch.failure_of(run, error, began)


async def _awaited(value: Any) -> Any:
    return await value


if TYPE_CHECKING:
    from agentsession._drive.performer import Performer


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
