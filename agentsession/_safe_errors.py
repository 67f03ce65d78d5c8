"""Errors without what users wrote: the texts of validation errors, and tracebacks without local variables.

Error trackers and loguru show the variables of every frame. The frames of a model call hold its key and its
messages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from agentsession.errors import StorageFailed

T = TypeVar("T")

MAX_SHOWN = 10
"""Number of errors in one description."""

MAX_DESCRIPTION = 2_000
"""Characters of a description of errors."""

_PACKAGE = __name__.partition(".")[0]

_STAND_IN = compile("frame = current_frame()", "", "exec")


def error_message(error: BaseException) -> str:
    """Return the message of an error, also if its `__str__` fails."""
    try:
        return str(error).strip() or "it gave no message"
    except BaseException:
        return "it gave no message"


def describe_validation(error: Exception) -> str:
    """Return the errors of a validation, each with its path and without the value."""
    if not isinstance(error, ValidationError):
        return type(error).__name__
    found = error.errors(include_url=False)
    errors = [f"{'.'.join(map(str, each['loc'])) or 'value'}: {_message(each)}" for each in found[:MAX_SHOWN]]
    more = [f"and {len(found) - MAX_SHOWN} more"] if len(found) > MAX_SHOWN else []
    return "; ".join([*errors, *more])[:MAX_DESCRIPTION]


def _message(error: Any) -> str:
    """Return the message of one error.

    Pydantic repeats an unknown tag, which is a value of the user, and does not say what it found in place of
    a model.
    """
    if error["type"] == "union_tag_invalid":
        return "the tag is not one of the expected ones"
    if error["type"] in ("model_type", "dataclass_type"):
        return f"expected a dict or {error['ctx']['class_name']}, found {describe_type(error['input'])}"
    return str(error["msg"])


def describe_type(value: Any) -> str:
    """Return the type of a value, for an error that must not repeat the value."""
    return "None" if value is None else f"a value of the type {type(value).__name__}"


def take_all(keywords: T) -> T:
    """Return a copy of a call's keywords, and clear the dict in its frame, which a traceback may keep.

    Use it where a function passes `**options` on: they may hold a client's key.
    """
    passed: Any = keywords  # a TypedDict has no `clear`
    copied = cast("T", dict(passed))
    passed.clear()
    return copied


def without_locals(error: BaseException) -> None:
    """Replace the frames in the tracebacks of an error, and of its causes, by frames without variables."""
    for link in chain(error):
        _replace_frames(link)


class OwnFramesEmptied:
    """A context manager that removes this package's variables from the tracebacks of an error.

    For `StorageFailed` it removes those of the database's driver, too. The variables of user functions stay.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        for link in chain(error):
            _replace_frames(link, _is_ours)
        if isinstance(error, StorageFailed) and error.__cause__ is not None:
            without_locals(error.__cause__)


own_frames_emptied = OwnFramesEmptied()


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, and every error that can be reached from it."""
    waiting, seen = [error], {id(error)}
    while waiting:
        link = waiting.pop()
        yield link
        members = link.exceptions if isinstance(link, BaseExceptionGroup) else ()
        for other in (link.__cause__, link.__context__, *members):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE


def _replace_frames(error: BaseException, is_hidden: Callable[[FrameType], bool] | None = None) -> None:
    entries: list[TracebackType] = []
    entry = error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    after: TracebackType | None = None
    for entry in reversed(entries):
        frame = entry.tb_frame
        if is_hidden is None or is_hidden(frame):
            frame = _stand_in(frame)
        after = TracebackType(after, frame, entry.tb_lasti, entry.tb_lineno)
    error.__traceback__ = after


def _stand_in(frame: FrameType) -> FrameType:
    """Return a frame with the file, the function and the positions of `frame`, and without variables.

    The frame itself is not cleared: it may still run, and clearing a suspended generator would close it.
    """
    code = frame.f_code
    module = str(frame.f_globals.get("__name__", ""))
    values: dict[str, Any] = {"current_frame": sys._getframe, "__name__": module}
    exec(_code_like(code), values)  # noqa: S102
    made: FrameType = values.pop("frame")
    del values["current_frame"], values["__builtins__"]
    return made


def _code_like(code: CodeType) -> CodeType:
    return _STAND_IN.replace(
        co_filename=code.co_filename,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_firstlineno=code.co_firstlineno,
        co_linetable=code.co_linetable,
    )
