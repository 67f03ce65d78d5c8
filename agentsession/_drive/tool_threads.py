"""Tool calls in the sync driver: each runs in a thread of its own."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from agentsession._drive.heartbeat import keep_alive
from agentsession._drive.stepper import is_raised_by_a_signal_handler
from agentsession._drive.tool_batch import QueueItem, ToolBatch
from agentsession._store.transaction import leaving_none_open
from agentsession._turn.effects import Run, RunTools, ToolResult
from agentsession.events import Event

if TYPE_CHECKING:
    from agentsession._drive.performer import Performer

Put = Callable[[Event | ToolResult], object]


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
