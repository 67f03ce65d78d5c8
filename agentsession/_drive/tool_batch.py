"""The tool calls of one step while they run, and the result that each one ends with.

The drivers differ in where a call runs (`tool_workers.py`).
"""

from __future__ import annotations

import logging
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4, uuid5

import msgspec

from agentsession._drive.stepper import is_interruption
from agentsession._json_values import Json, storable_text
from agentsession._safe_errors import error_message
from agentsession._store.declared import is_seen_here_only
from agentsession._store.identity import key_of_call
from agentsession._tools.definition import Tool
from agentsession._tools.result import MOST_BYTES, GivenUp, ResultEnded, rendered, without_iterators
from agentsession._tools.tool_context import Halt, ToolContext
from agentsession._turn.effects import ClaimLost, Interrupted, Run, RunTools, ToolResult
from agentsession._turn.model_io import timeout_text
from agentsession.events import Event, ToolProgress, ToolStarted

if TYPE_CHECKING:
    from agentsession._drive.performer import Performer

MAX_RUNNING = 16
"""Calls that run at the same time."""

MAX_TOOL_ERROR = 1_000
"""Characters of a tool's error that the model is shown."""

QueueItem: TypeAlias = Event | ToolResult | ClaimLost | GeneratorExit

_log = logging.getLogger("agentsession")


class ToolBatch:
    """The calls of one step: those that wait, those that run, and the results that nobody has taken yet."""

    queue: Any
    """What the driver waits for: the events and results of its calls, or a reason to stop."""

    def __init__(self, performer: Performer, effect: RunTools) -> None:
        self.performer = performer
        self.turn = effect.turn
        self.waiting = deque(effect.calls)
        self.running: dict[str, tuple[Run, float]] = {}
        """By key: each call, and the time at which its limit is over."""
        self.results: list[ToolResult] = []
        self._key_namespace = uuid4()
        session = performer.session
        in_transaction = None if session is None else session.in_caller_transaction
        self.runs_here = is_seen_here_only(performer.model, in_transaction=in_transaction)
        """Whether the calls run on the caller's thread, because no other one sees the data of the model."""

    def take_results(self) -> tuple[ToolResult, ...]:
        """Remove and return the results."""
        results = tuple(self.results)
        self.results.clear()
        return results

    def results_so_far(self) -> tuple[ToolResult, ...]:
        """Return the results, with those in the queue, after the caller has left.

        A lost claim in the queue is ignored.
        """
        self.drain(ignoring_errors=True)
        return tuple(self.results)

    def interrupt(self) -> None:
        self.queue.put_nowait(GeneratorExit())

    def raise_interruption(self, error: BaseException | None) -> None:
        """Raise `Interrupted` with the results so far if the error is an interruption."""
        if error is not None and is_interruption(error):
            raise Interrupted.by(error, ran=self.results_so_far()) from error

    # Starting calls, and reading the queue.

    def start_next(self) -> Run | None:
        """Return the next call if it may start now, and count it as running.

        A sequential tool runs alone, and no later call overtakes it.
        """
        if not self.waiting or len(self.running) >= MAX_RUNNING:
            return None
        is_alone = any(run.tool.sequential for run, _ in self.running.values())
        if is_alone or (self.waiting[0].tool.sequential and self.running):
            return None
        run = self.waiting.popleft()
        self.running[run.call] = run, time.monotonic() + self.time_limit(run)
        return run

    def time_limit(self, run: Run) -> float:
        """Return the seconds that the call may take."""
        return run.tool.timeout or self.performer.agent.tool_timeout

    def remaining(self) -> float | None:
        """Return the seconds until the first time limit of a running call, or None if no call runs."""
        deadline = min((end for _, end in self.running.values()), default=math.inf)
        remaining = max(deadline - time.monotonic(), 0.0)
        return None if remaining == math.inf else min(remaining, threading.TIMEOUT_MAX)

    def accept(self, item: QueueItem) -> list[Event]:
        """Keep a result, return an event, or raise a reason to stop.

        Results and progress of a call that has timed out are ignored.
        """
        if isinstance(item, (ClaimLost, GeneratorExit)):
            raise item
        if isinstance(item, ToolProgress) and item.call not in self.running:
            return []
        if isinstance(item, Event):
            return [item]
        if self.running.pop(item.call, None) is not None:
            self.results.append(item)
        return []

    def drain(self, *, ignoring_errors: bool = False) -> list[Event]:
        """Accept all items in the queue, and return their events."""
        events: list[Event] = []
        while not self.queue.empty():
            item = self.queue.get_nowait()
            if not (ignoring_errors and isinstance(item, BaseException)):
                events += self.accept(item)
        return events

    def end_late_calls(self) -> None:
        """End the calls whose time limit is over, with the result `timed_out`."""
        now = time.monotonic()
        for run, end in [*self.running.values()]:
            if end <= now:
                del self.running[run.call]
                self.results.append(self.timeout_of(run))

    # What a call gets, and what it ends with.

    def started(self, run: Run) -> ToolStarted:
        return ToolStarted(run.call, run.tool.name, run.plain_arguments)

    def context(self, run: Run, put: Callable[[Event], object]) -> ToolContext:
        """Return the context for the tool's function. `put` receives the progress that it reports."""
        performer, session = self.performer, self.performer.session

        def report(progress: Any) -> None:
            put(ToolProgress(run.call, run.tool.name, progress_value(progress)))

        key = key_of_call(session, run.call) if session else str(uuid5(self._key_namespace, run.call))
        return ToolContext(
            session_id=performer.session_id,
            actor=performer.actor,
            call=run.call,
            turn=self.turn,
            idempotency_key=key,
            _report=report,
        )

    def result_of(self, run: Run, value: Any, began: float) -> ToolResult:
        """Return the result of a call that has returned a value. The value is read within the time limit."""
        session = self.performer.session
        max_bytes = MOST_BYTES if session is None else session.options.max_input_bytes
        try:
            return result_of_value(run, value, _seconds_since(began), max_bytes, lambda: self.is_late(run))
        except GivenUp:
            return self.timeout_of(run)

    def failure_of(self, run: Run, error: BaseException, began: float) -> ToolResult:
        """Return the result of a call that has raised an error."""
        return result_of_error(run, error, _seconds_since(began))

    def timeout_of(self, run: Run) -> ToolResult:
        """Return the result of a call whose time limit is over."""
        limit = self.time_limit(run)
        return ToolResult(run.call, run.tool.name, "timed_out", timeout_text(limit), None, limit)

    def is_late(self, run: Run) -> bool:
        """Return whether the call's time limit is over. A call on the caller's thread has no limit."""
        _, end = self.running.get(run.call, (run, -math.inf))
        return not self.runs_here and time.monotonic() > end


def result_of_value(
    run: Run, value: Any, duration: float, max_bytes: float, is_given_up: Callable[[], bool]
) -> ToolResult:
    """Return the result of a call whose tool has returned `value`.

    The tool has run. So a value that cannot be stored becomes an error of the tool: it must not make the
    session unusable. A value that cannot be shown to the model is stored all the same. Raise `GivenUp` if
    `is_given_up()` becomes true while the value is read.
    """
    call, tool = run.call, run.tool
    try:
        if isinstance(value, Halt):
            halt = Halt(without_iterators(value.value, max_bytes, is_given_up))
            return ToolResult(call, tool.name, "completed", "", None, duration, halt)
        text = _checked_size(tool.rendered(value, max_bytes, is_given_up), max_bytes)
    except GivenUp:
        raise
    except Exception as error:
        _log_failure(run, _location_in_tool(tool, error), error)
        found = f"It has run, but {error_message(error)}"
        return ToolResult(call, tool.name, "failed", found, None, duration, has_run=True)
    try:
        for_model = tool.limited(value, text)
    except Exception as error:
        _log_failure(run, _location_in_tool(tool, error), error)
        for_model = f"(It has run. Its result could not be shown: {type(error).__name__})"
    return ToolResult(call, tool.name, "completed", text, None if for_model == text else for_model, duration)


def result_of_error(run: Run, error: BaseException, duration: float) -> ToolResult:
    """Return the result of a call whose tool has raised an error."""
    _log_failure(run, _location(error), error)
    found = storable_text(f"{type(error).__name__}: {error_message(error)}"[:MAX_TOOL_ERROR])
    return ToolResult(run.call, run.tool.name, "failed", found, None, duration, None, error)


def progress_value(progress: Any) -> Json:
    """Return what a tool reports as a JSON value, or the name of its type if it has no JSON form."""
    try:
        text = rendered(progress)
    except (TypeError, ResultEnded):
        return type(progress).__name__
    return text if isinstance(progress, str) else msgspec.json.decode(text)


def _checked_size(text: str, max_bytes: float) -> str:
    size = len(text.encode())
    if size > max_bytes:
        raise ValueError(f"its result takes {size:,} bytes, and the limit (max_input_bytes) is {max_bytes:,}")
    return text


def _seconds_since(began: float) -> float:
    return round(time.perf_counter() - began, 6)


def _log_failure(run: Run, location: str, error: BaseException) -> None:
    """Log where the error was raised. Its text may hold user data: it is logged at DEBUG only."""
    _log.warning("the tool %s failed: %s%s", run.tool.name, type(error).__name__, location)
    _log.debug("the tool %s failed", run.tool.name, exc_info=error)


def _location(error: BaseException) -> str:
    """Return where the error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return _location_text(frames[-1].name, frames[-1].lineno, frames[-1].filename) if frames else ""


def _location_in_tool(tool: Tool, error: BaseException) -> str:
    """Return the place in the tool's own file that an error of its result comes from.

    That is the innermost frame in the file (of a generator, for example), or else the tool's definition. The
    library's own line would not help the developer.
    """
    source = tool.source
    if source is None:
        return ""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == source.file]
    if frames:
        return _location_text(frames[-1].name, frames[-1].lineno, source.file)
    return _location_text(*source)


def _location_text(name: str, line: int | None, file: str) -> str:
    return f" in {name}, line {line} of {Path(file).name}"
