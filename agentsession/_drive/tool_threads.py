"""Tools in the sync driver: each call in a thread of its own."""

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
from agentsession._drive.interruption import is_raised_by_a_signal_handler
from agentsession._drive.tool_batch import Batch, News
from agentsession._store.transaction import leaving_none_open
from agentsession._turn.effects import Run, RunTools, ToolResult
from agentsession.events import Event

if TYPE_CHECKING:
    from agentsession._drive.performer import Performer

Tell = Callable[[Event | ToolResult], object]


class SyncBatch(Batch):
    """Where other threads could not see the session's data (`:memory:`, an open transaction), the calls run
    one after the other on the caller's thread, without a limit."""

    news: SimpleQueue[News]

    def __init__(self, perform: Performer, effect: RunTools) -> None:
        super().__init__(perform, effect)
        self.news = SimpleQueue()

    def __enter__(self) -> Self:
        self.stop = keep_alive(self.perform.session, str, self.news.put)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.stop()
        self.told(error)

    def more(self) -> list[Event]:
        """The events of what comes next."""
        if self.is_here:
            return self._one_here()
        while (run := self.next_call()) is not None:
            self.news.put(self.started(run))
            run_in_a_thread(self, run, self.news.put)
        events = self.drain()
        self.end_the_late()
        if events or self.ended:
            return events
        try:
            return self.heard(self.news.get(timeout=self.perform.pulse.within(self.left()))) + self.drain()
        except Empty:
            return []

    def _one_here(self) -> list[Event]:
        run = self.next_call()
        if run is None:
            raise AssertionError("a batch that has ended is not asked for more")
        events: list[Event] = [self.started(run)]
        self.ended.append(run_here(self, run, events.append))
        self.running.clear()
        return events


def run_in_a_thread(batch: Batch, run: Run, tell: Tell) -> None:
    """Run a call in a daemon thread: one that does not end cannot be stopped, and must hold up nobody."""
    context = copy_context()

    def work() -> None:
        tell(context.run(run_here, batch, run, tell))

    try:
        threading.Thread(target=work, name="agentsession-tool", daemon=True).start()
    except RuntimeError as error:  # there are too many threads already
        tell(batch.broke(run, error, time.perf_counter()))


def run_here(batch: Batch, run: Run, tell: Callable[[Any], object]) -> ToolResult:
    """Run a call on this thread; a coroutine on an event loop of its own."""
    began = time.perf_counter()
    try:
        with leaving_none_open(batch.perform.model):
            value = run.tool.call(run.arguments, batch.context(run, tell))
            if inspect.isawaitable(value):
                value = asyncio.run(_awaited(value))
            return batch.gave(run, value, began)
    except BaseException as error:
        if threading.current_thread() is threading.main_thread() and (
            isinstance(error, KeyboardInterrupt) or is_raised_by_a_signal_handler(error)
        ):
            raise
        return batch.broke(run, error, began)


async def _awaited(value: Any) -> Any:
    return await value
