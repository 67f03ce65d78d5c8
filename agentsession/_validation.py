"""What a validation error says, without the values that were given."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

MAX_SHOWN = 10
"""Errors of one validation that are named."""

MAX_DESCRIPTION = 2_000
"""Characters of a description of errors."""


def describe(error: Exception) -> str:
    """A validation error without the values that were given."""
    if not isinstance(error, ValidationError):
        return type(error).__name__
    found = error.errors(include_url=False)
    shown = [f"{'.'.join(map(str, each['loc'])) or 'value'}: {_message(each)}" for each in found[:MAX_SHOWN]]
    more = [f"and {len(found) - MAX_SHOWN} more"] if len(found) > MAX_SHOWN else []
    return "; ".join([*shown, *more])[:MAX_DESCRIPTION]


def _message(error: Any) -> str:
    """What is wrong at one place; pydantic repeats an unknown tag, which is the user's, and does not say what
    it found in place of a model."""
    if error["type"] == "union_tag_invalid":
        return "the tag is none of the expected ones"
    if error["type"] in ("model_type", "dataclass_type"):
        return f"expected a dict or {error['ctx']['class_name']}, found {kind_of(error['input'])}"
    return str(error["msg"])


def kind_of(value: Any) -> str:
    """What a value is, without the value."""
    return "None" if value is None else f"a value of the type {type(value).__name__}"
