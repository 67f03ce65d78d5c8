"""What a tool has returned, or raised, as the result of its call."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import msgspec

from agentsession.errors import words
from agentsession.json_values import Json, storable_text
from agentsession.tools.halt import Halt
from agentsession.tools.result import rendered
from agentsession.turn.effects import Run, ToolResult

MAX_ERROR = 1_000
"""Characters of a tool's error that the model is told."""

_log = logging.getLogger("agentsession")


def returned(run: Run, value: Any, took: float, most_bytes: float) -> ToolResult:
    """A value that cannot be stored is an error, and one that cannot be shown is stored all the same: the
    tool has run."""
    call, tool = run.call, run.tool
    if isinstance(value, Halt):
        return ToolResult(call, tool.name, "completed", "", None, took, value)
    try:
        text = _fitting(tool.rendered(value), most_bytes)
    except Exception as error:
        _note(run, error)
        found = f"It has run, but {words(error)}"
        return ToolResult(call, tool.name, "failed", found, None, took, has_run=True)
    try:
        shown = tool.limited(value, text)
    except Exception as error:
        _note(run, error)
        shown = f"(It has run. Its result could not be shown: {type(error).__name__})"
    return ToolResult(call, tool.name, "completed", text, None if shown == text else shown, took)


def raised(run: Run, error: BaseException, took: float) -> ToolResult:
    _note(run, error)
    found = storable_text(f"{type(error).__name__}: {words(error)}"[:MAX_ERROR])
    return ToolResult(run.call, run.tool.name, "failed", found, None, took, None, error)


def reported(progress: Any) -> Json:
    """What a tool reports, as a JSON value; of what has none, the name of its type."""
    try:
        text = rendered(progress)
    except TypeError:
        return type(progress).__name__
    return text if isinstance(progress, str) else msgspec.json.decode(text)


def _fitting(text: str, most_bytes: float) -> str:
    size = len(text.encode())
    if size > most_bytes:
        raise ValueError(
            f"its result takes {size:,} bytes, and the limit (max_input_bytes) is {most_bytes:,}"
        )
    return text


def _note(run: Run, error: BaseException) -> None:
    """For the developer: where it was raised, and what it says only to those who log everything."""
    frames = traceback.extract_tb(error.__traceback__)
    where = (
        f" in {frames[-1].name}, line {frames[-1].lineno} of {Path(frames[-1].filename).name}"
        if frames
        else ""
    )
    _log.warning("the tool %s failed: %s%s", run.tool.name, type(error).__name__, where)
    _log.debug("the tool %s failed", run.tool.name, exc_info=error)
