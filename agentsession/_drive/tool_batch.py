"""The calls of one step while they run: which may begin, how long each may take, and what comes of them."""

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

from agentsession._drive.interruption import is_interruption
from agentsession._json_values import Json, storable_text
from agentsession._store.backend import is_seen_here_only
from agentsession._store.identity import key_of_call
from agentsession._tools.definition import Tool
from agentsession._tools.result import MOST_BYTES, GivenUp, ResultEnded, rendered, without_iterators
from agentsession._tools.tool_context import Halt, ToolContext
from agentsession._turn.effects import ClaimLost, Interrupted, Run, RunTools, ToolResult
from agentsession._turn.model_texts import timeout_text
from agentsession.errors import words
from agentsession.events import Event, ToolProgress, ToolStarted

if TYPE_CHECKING:
    from agentsession._drive.performer import Performer


MOST = 16
"""Calls that run at the same time."""

News: TypeAlias = Event | ToolResult | ClaimLost | GeneratorExit


class Batch:
    """What both drivers know of the calls. `ended` are those that have, and that nobody has taken yet; `news`
    is the driver's own queue of what comes. `is_here`: the calls run on the caller's thread, because no other
    thread sees the data of the model."""

    news: Any

    def __init__(self, perform: Performer, effect: RunTools) -> None:
        self.perform = perform
        self.turn = effect.turn
        self.waiting = deque(effect.calls)
        self.running: dict[str, tuple[Run, float]] = {}
        self.ended: list[ToolResult] = []
        self.whose = uuid4()
        session = perform.session
        inside = None if session is None else session.inside
        self.is_here = is_seen_here_only(perform.model, inside=inside)

    def taken(self) -> tuple[ToolResult, ...]:
        results = tuple(self.ended)
        self.ended.clear()
        return results

    def next_call(self) -> Run | None:
        """The call that may begin now, if there is one. Who wants to run alone is not overtaken."""
        if not self.waiting or len(self.running) >= MOST:
            return None
        is_alone = any(run.tool.sequential for run, _ in self.running.values())
        if is_alone or (self.waiting[0].tool.sequential and self.running):
            return None
        run = self.waiting.popleft()
        self.running[run.call] = run, time.monotonic() + self.seconds(run)
        return run

    def seconds(self, run: Run) -> float:
        """How long it may take."""
        return run.tool.timeout or self.perform.agent.tool_timeout

    def left(self) -> float | None:
        """Seconds until the first of those that run is too late."""
        ends = min((end for _, end in self.running.values()), default=math.inf)
        left = max(ends - time.monotonic(), 0.0)
        return None if left == math.inf else min(left, threading.TIMEOUT_MAX)

    def heard(self, news: News) -> list[Event]:
        """The events of what has come; nobody waits any more for a call that was too late."""
        if isinstance(news, (ClaimLost, GeneratorExit)):
            raise news
        if isinstance(news, ToolProgress) and news.call not in self.running:
            return []
        if isinstance(news, Event):
            return [news]
        if self.running.pop(news.call, None) is not None:
            self.ended.append(news)
        return []

    def interrupt(self) -> None:
        self.news.put_nowait(GeneratorExit())

    def drain(self, *, leaving: bool = False) -> list[Event]:
        """What has come meanwhile. Who leaves learns of no lost claim."""
        events: list[Event] = []
        while not self.news.empty():
            news = self.news.get_nowait()
            if not (leaving and isinstance(news, BaseException)):
                events += self.heard(news)
        return events

    def end_the_late(self) -> None:
        now = time.monotonic()
        for run, end in [*self.running.values()]:
            if end <= now:
                del self.running[run.call]
                self.ended.append(self.late(run))

    def started(self, run: Run) -> ToolStarted:
        return ToolStarted(run.call, run.tool.name, run.plain_arguments)

    def context(self, run: Run, tell: Callable[[Event], object]) -> ToolContext:
        perform, session = self.perform, self.perform.session

        def report(progress: Any) -> None:
            tell(ToolProgress(run.call, run.tool.name, reported(progress)))

        return ToolContext(
            session_id=perform.session_id,
            actor=perform.actor,
            call=run.call,
            turn=self.turn,
            idempotency_key=key_of_call(session, run.call) if session else str(uuid5(self.whose, run.call)),
            _report=report,
        )

    def gave(self, run: Run, value: Any, began: float) -> ToolResult:
        """The result of a call; its value is read until it is too late."""
        session = self.perform.session
        most = MOST_BYTES if session is None else session.options.max_input_bytes
        try:
            return returned(run, value, _took(began), most, lambda: self.is_given_up(run))
        except GivenUp:
            return self.late(run)

    def is_given_up(self, run: Run) -> bool:
        """Return whether nobody waits for the call any more. A call on the caller's thread has no limit."""
        _, end = self.running.get(run.call, (run, -math.inf))
        return not self.is_here and time.monotonic() > end

    def late(self, run: Run) -> ToolResult:
        took = self.seconds(run)
        return ToolResult(run.call, run.tool.name, "timed_out", timeout_text(took), None, took)

    def broke(self, run: Run, error: BaseException, began: float) -> ToolResult:
        return raised(run, error, _took(began))

    def came(self) -> tuple[ToolResult, ...]:
        """The results that have come until somebody leaves."""
        self.drain(leaving=True)
        return tuple(self.ended)

    def told(self, error: BaseException | None) -> None:
        """Raise what the machine is to know: who has left, with the results that had come."""
        if error is not None and is_interruption(error):
            raise Interrupted.by(error, ran=self.came()) from error


def _took(began: float) -> float:
    return round(time.perf_counter() - began, 6)


MAX_TOOL_ERROR = 1_000
"""Characters of a tool's error that the model is told."""

_log = logging.getLogger("agentsession")


def returned(
    run: Run, value: Any, took: float, most_bytes: float, is_given_up: Callable[[], bool]
) -> ToolResult:
    """A value that cannot be stored is an error, and one that cannot be shown is stored all the same: the
    tool has run. Raises `GivenUp` where the value is still read when nobody waits for it any more."""
    call, tool = run.call, run.tool
    try:
        if isinstance(value, Halt):
            halt = Halt(without_iterators(value.value, most_bytes, is_given_up))
            return ToolResult(call, tool.name, "completed", "", None, took, halt)
        text = _fitting(tool.rendered(value, most_bytes, is_given_up), most_bytes)
    except GivenUp:
        raise
    except Exception as error:
        _note(run, _place(tool, error), error)
        found = f"It has run, but {words(error)}"
        return ToolResult(call, tool.name, "failed", found, None, took, has_run=True)
    try:
        shown = tool.limited(value, text)
    except Exception as error:
        _note(run, _place(tool, error), error)
        shown = f"(It has run. Its result could not be shown: {type(error).__name__})"
    return ToolResult(call, tool.name, "completed", text, None if shown == text else shown, took)


def raised(run: Run, error: BaseException, took: float) -> ToolResult:
    _note(run, _last_place(error), error)
    found = storable_text(f"{type(error).__name__}: {words(error)}"[:MAX_TOOL_ERROR])
    return ToolResult(run.call, run.tool.name, "failed", found, None, took, None, error)


def reported(progress: Any) -> Json:
    """What a tool reports, as a JSON value; of what has none, the name of its type."""
    try:
        text = rendered(progress)
    except (TypeError, ResultEnded):
        return type(progress).__name__
    return text if isinstance(progress, str) else msgspec.json.decode(text)


def _fitting(text: str, most_bytes: float) -> str:
    size = len(text.encode())
    if size > most_bytes:
        raise ValueError(
            f"its result takes {size:,} bytes, and the limit (max_input_bytes) is {most_bytes:,}"
        )
    return text


def _note(run: Run, where: str, error: BaseException) -> None:
    """For the developer: where it was raised, and what it says only to those who log everything."""
    _log.warning("the tool %s failed: %s%s", run.tool.name, type(error).__name__, where)
    _log.debug("the tool %s failed", run.tool.name, exc_info=error)


def _last_place(error: BaseException) -> str:
    """Where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return _at(frames[-1].name, frames[-1].lineno, frames[-1].filename) if frames else ""


def _place(tool: Tool, error: BaseException) -> str:
    """The place in the tool's own file to which an error of its result leads: the innermost frame there (of a
    generator, say), else the definition of its function. The library's own line would say nothing."""
    source = tool.source
    if source is None:
        return ""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == source.file]
    return _at(frames[-1].name, frames[-1].lineno, source.file) if frames else _at(*source)


def _at(name: str, line: int | None, file: str) -> str:
    return f" in {name}, line {line} of {Path(file).name}"
