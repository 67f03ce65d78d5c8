"""What a tool has returned, or raised, as the result of its call."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from agentsession.errors import words
from agentsession.json_values import Json, storable_text
from agentsession.tools.definition import Tool
from agentsession.tools.halt import Halt
from agentsession.tools.result import GivenUp, ResultEnded, rendered, without_iterators
from agentsession.turn.effects import Run, ToolResult

MAX_ERROR = 1_000
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
    found = storable_text(f"{type(error).__name__}: {words(error)}"[:MAX_ERROR])
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
