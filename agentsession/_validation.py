"""The text of a validation error, without the values."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

MAX_SHOWN = 10
"""Number of errors in one description."""

MAX_DESCRIPTION = 2_000
"""Characters of a description of errors."""


def describe(error: Exception) -> str:
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
